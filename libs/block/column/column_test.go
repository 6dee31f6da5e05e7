package column

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func slabOf(values []string) (slab []byte, refs []Ref) {
	slab = []byte("##") // values need not begin at 0
	for _, v := range values {
		refs = append(refs, MakeRef(uint32(len(slab)), uint32(len(v))))
		slab = append(slab, v...)
	}
	return slab, refs
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// roundTrip encodes values, passes the description through a directory, and checks
// that the values and the summary are right.
func roundTrip(t fataler, values []string) Info {
	t.Helper()
	slab, refs := slabOf(values)
	keep := slices.Clone(refs)
	var e Encoder
	info, payload := e.Encode([]byte("before"), slab, refs)
	payload = payload[len("before"):]
	if !slices.Equal(refs, keep) {
		t.Fatalf("refs were changed")
	}
	info.ID, info.Size = 7, uint32(len(payload))
	infos, rest, err := ParseInfos(append(AppendInfos(nil, []Info{info}), "rest"...))
	if err != nil || len(infos) != 1 || string(rest) != "rest" {
		t.Fatalf("directory: %d columns, rest %q, %v", len(infos), rest, err)
	}
	got := &infos[0]
	v, err := Open(got, payload)
	if err != nil {
		t.Fatalf("%v: %v", got.Kind, err)
	}
	if v.Len() != len(values) || got.ID != 7 {
		t.Fatalf("%d values of %d", v.Len(), len(values))
	}
	minLen, maxLen, class := math.MaxInt, 0, Class(0)
	for i, want := range values {
		if s := v.Append([]byte(">"), i); string(s) != ">"+want {
			t.Fatalf("%v column, value %d: %q, want %q", got.Kind, i, s[1:], want)
		}
		minLen, maxLen = min(minLen, len(want)), max(maxLen, len(want))
		for _, b := range []byte(want) {
			class |= ClassOf(b)
		}
	}
	if got.MinLen != minLen || got.MaxLen != maxLen || got.Classes != class {
		t.Fatalf("summary %d..%d %b, want %d..%d %b", got.MinLen, got.MaxLen, got.Classes, minLen, maxLen, class)
	}
	return *got
}

func numbered(n int, f func(i int) string) (out []string) {
	for i := range n {
		out = append(out, f(i))
	}
	return out
}

func TestKinds(t *testing.T) {
	scatter := func(i int) uint64 { return uint64(i+1) * 0x9E3779B97F4A7C15 }
	for _, c := range []struct {
		name   string
		values []string
		want   Kind
		sub    Kind
	}{
		{"one", []string{"x"}, Const, 0},
		{"empty", []string{"", "", ""}, Const, 0},
		{"equal", []string{"a b", "a b"}, Const, 0},
		{"numbers", []string{"1", "0", "999"}, Int, 0},
		{"19 digits", []string{"9999999999999999999", "0"}, Int, 0},
		{"20 digits", []string{"99999999999999999999", "0"}, Bytes, 0},
		{"past 64 bits", []string{"18446744073709551616", "18446744073709551615"}, Hex, 0},
		{"rising", numbered(100, func(i int) string { return fmt.Sprint(1e15 + float64(i*i)) }), Bytes, 0},
		{"ids", numbered(100, func(i int) string { return fmt.Sprint(1000000000 + i*7) }), Delta, 0},
		{"padded", []string{"001", "010", "999"}, Pad, 0},
		{"zeros of two lengths", []string{"01", "1"}, Bytes, 0},
		{"zeros of two long lengths", []string{"00001", "001"}, Bytes, 0},
		{"hex", []string{"00ff", "beef"}, Hex, 0},
		{"odd hex", []string{"00ffa", "beef1"}, Hex, 0},
		{"upper hex", []string{"00FF", "BEEF"}, Hex, 0},
		{"both cases", []string{"00fF", "BEEF"}, Bytes, 0},
		{"ip", []string{"1.2.3.4", "255.255.255.255", "0.0.0.0"}, IPv4, 0},
		{"not quite ip", []string{"1.2.3.4", "255.255.255.256"}, Bytes, 0},
		{"ip with a leading zero", []string{"1.2.3.4", "01.2.3.4"}, Bytes, 0},
		{"uuid", []string{"123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-00000000000f"}, UUID, 0},
		{"prefix", []string{"job-1", "job-22"}, Int, 0},
		{"prefix, padded", []string{"blk_007", "blk_123"}, Pad, 0},
		{"prefix, padded to two lengths", []string{"blk_007", "blk_12"}, Bytes, 0},
		{"dict", numbered(64, func(i int) string { return fmt.Sprintf("w %d", i%4) }), Dict, Int},
		{"dict of bytes", numbered(64, func(i int) string { return string(rune('a'+i%4)) + "/" }), Dict, Bytes},
		{"dict of ips", numbered(64, func(i int) string { return fmt.Sprintf("10.0.0.%d", i%4) }), Dict, IPv4},
		{"dict with a long prefix", numbered(64, func(i int) string { return fmt.Sprintf("%s %d", strings.Repeat("x", 100), i%4) }), Dict, Int},
		{"wide dict", numbered(4096, func(i int) string { return fmt.Sprintf("%x!", scatter(i%600)) }), Dict, Bytes},
		{"bytes", []string{"\x00", "", "\xff\xfe"}, Bytes, 0},
		{"long and short", []string{strings.Repeat("y", 70000), ""}, Bytes, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := roundTrip(t, c.values)
			if c.name == "rising" {
				return // its form is the printer's affair
			}
			if got.Kind != c.want || c.want == Dict && got.Values.Kind != c.sub {
				t.Errorf("encoded as %v %v", got.Kind, got.Values)
			}
		})
	}
}

func TestPrefixesDoNotEndInDigits(t *testing.T) {
	if got := roundTrip(t, []string{"job-1002", "job-1001"}); got.Kind != Int || string(got.Prefix) != "job-" {
		t.Errorf("%v behind %q", got.Kind, got.Prefix)
	}
}

// What no encoder writes is refused, not guessed at.
func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		info    Info
		payload string
	}{
		"no values":             {Info{Kind: Const}, ""},
		"unknown kind":          {Info{Kind: kinds, N: 1}, ""},
		"lengths crossed":       {Info{Kind: Bytes, N: 1, MinLen: 2, MaxLen: 1}, "ab"},
		"const with payload":    {Info{Kind: Const, N: 1, MinLen: 1, MaxLen: 1, Prefix: []byte("x")}, "x"},
		"const of other length": {Info{Kind: Const, N: 1, MinLen: 2, MaxLen: 2, Prefix: []byte("x")}, ""},
		"int too short":         {Info{Kind: Int, N: 3, Width: 1}, "ab"},
		"int too long":          {Info{Kind: Int, N: 3, Width: 1}, "abcd"},
		"pad overflows":         {Info{Kind: Pad, N: 1, MinLen: 2, MaxLen: 2, Width: 1}, "\xc8"},
		"pad base overflows":    {Info{Kind: Pad, N: 1, MinLen: 2, MaxLen: 2, Min: 200}, ""},
		"pad of no digits":      {Info{Kind: Pad, N: 1, MinLen: 1, MaxLen: 1, Prefix: []byte("x")}, ""},
		"pad of 20 digits":      {Info{Kind: Pad, N: 1, MinLen: 20, MaxLen: 20}, ""},
		"hex of nothing":        {Info{Kind: Hex, N: 1}, ""},
		"steps missing":         {Info{Kind: Delta, N: 3}, "ab"},
		"step unfinished":       {Info{Kind: Delta, N: 1}, "\x80"},
		"steps too many":        {Info{Kind: Delta, N: 1}, "ab"},
		"bytes missing":         {Info{Kind: Bytes, N: 2, MinLen: 1, MaxLen: 3, Width: 1}, "\x00\x02abc"},
		"bytes too many":        {Info{Kind: Bytes, N: 2, MinLen: 1, MaxLen: 3, Width: 1}, "\x00\x02abcde"},
		"bytes of one length":   {Info{Kind: Bytes, N: 2, MinLen: 2, MaxLen: 2}, "abcde"},
		"huge length":           {Info{Kind: Bytes, N: 1, MinLen: 0, MaxLen: 3, Width: 8}, "\xff\xff\xff\xff\xff\xff\xff\xffa"},
		"lengths missing":       {Info{Kind: Bytes, N: 1 << 27, Width: 8}, "abc"},
		"dict without values":   {Info{Kind: Dict, N: 1, Width: 1}, "\x00"},
		"dict of dict":          {Info{Kind: Dict, N: 1, Width: 1, Values: &Info{Kind: Dict, N: 1}}, "\x00"},
		"dict without width":    {Info{Kind: Dict, N: 1, Values: &Info{Kind: Int, N: 1}}, ""},
		"dict index too high":   {Info{Kind: Dict, N: 2, Width: 1, IndexAt: 2, Values: &Info{Kind: Int, N: 2, Width: 1, MinLen: 1, MaxLen: 1}}, "ab\x01\x02"},
		"dict of more values":   {Info{Kind: Dict, N: 2, Width: 1, IndexAt: 0, Values: &Info{Kind: Int, N: 1 << 28}}, "\x01\x01"},
		"dict offset behind":    {Info{Kind: Dict, N: 1, Width: 1, IndexAt: 5, Values: &Info{Kind: Int, N: 1}}, "a"},
	} {
		if _, err := Open(&c.info, []byte(c.payload)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseInfosRefuses(t *testing.T) {
	one := Info{ID: 3, Kind: Int, N: 2, MinLen: 1, MaxLen: 1, Width: 1, Max: 9, Prefix: []byte("p")}
	good := AppendInfos(nil, []Info{one})
	for i := range good {
		if _, _, err := ParseInfos(good[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("the first %d bytes pass for a directory: %v", i, err)
		}
	}
	for name, infos := range map[string][]Info{
		"same number twice": {one, one},
		"dict of dicts":     {{Kind: Dict, Values: &Info{Kind: Dict}}},
		"unknown kind":      {{Kind: kinds}},
		"width 9":           {{Width: 9}},
		"unknown class":     {{Classes: allClasses + 1}},
	} {
		if _, _, err := ParseInfos(AppendInfos(nil, infos)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func drawValue(t *rapid.T, shape int) string {
	switch shape {
	case 0:
		return string(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes"))
	case 1:
		return fmt.Sprint(rapid.Uint64().Draw(t, "n"))
	case 2:
		return fmt.Sprintf("%0*d", rapid.IntRange(1, 21).Draw(t, "digits"), rapid.IntRange(0, 99999).Draw(t, "n"))
	case 3:
		return fmt.Sprintf("%08x", rapid.Uint32().Draw(t, "n"))
	case 4:
		return fmt.Sprintf("id_%0*d", rapid.IntRange(1, 3).Draw(t, "digits"), rapid.IntRange(0, 300).Draw(t, "n"))
	case 5:
		var b [4]uint8
		for i := range b {
			b[i] = rapid.Uint8().Draw(t, "part")
		}
		return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3])
	case 6:
		x := rapid.Uint64().Draw(t, "n")
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", uint32(x), uint16(x), uint16(x>>8), uint16(x>>16), x&(1<<48-1))
	case 7:
		return fmt.Sprint(1700000000 + rapid.IntRange(0, 3000).Draw(t, "n"))
	}
	return rapid.SampledFrom([]string{"", "a", "on", "off", "0", "00"}).Draw(t, "word")
}

func TestColumnsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.IntRange(0, 8).Draw(t, "shape")
		values := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			if rapid.IntRange(0, 200).Draw(t, "stray") == 0 {
				return drawValue(t, rapid.IntRange(0, 8).Draw(t, "other"))
			}
			return drawValue(t, shape)
		}), 1, 60).Draw(t, "values")
		for range rapid.IntRange(0, 3).Draw(t, "again") {
			values = append(values, values...)
		}
		roundTrip(t, values)
	})
}

func TestSignedComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-300, 300)), 1, 50).Draw(t, "values")
		var e Encoder
		info, payload := e.EncodeSigned(nil, values)
		infos, _, err := ParseInfos(AppendInfos(nil, []Info{info}))
		if err != nil {
			t.Fatal(err)
		}
		v, err := Open(&infos[0], payload)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range values {
			if v.Signed(i) != want {
				t.Fatalf("value %d: %d, want %d", i, v.Signed(i), want)
			}
		}
	})
}

func TestTimesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]int64{1, 1e3, 1e6, 1e9, 60e9}).Draw(t, "unit")
		step := rapid.SampledFrom([]*rapid.Generator[int64]{rapid.Just(int64(5)), rapid.Int64Range(0, 1000), rapid.Int64Range(-5, 100), rapid.Int64(),
			rapid.Int64Range(-3, int64(1)<<rapid.IntRange(1, 62).Draw(t, "bits")-4)}).Draw(t, "steps")
		n := rapid.IntRange(0, 700).Draw(t, "n")
		times := make([]int64, n)
		at := rapid.SampledFrom([]int64{0, -1, 1700000000, math.MinInt64, math.MaxInt64}).Draw(t, "start")
		for i := range times {
			times[i] = at * unit
			at += step.Draw(t, "step")
		}
		var runs []uint32
		if n > 0 && rapid.Bool().Draw(t, "runs") {
			longest := rapid.SampledFrom([]uint32{50, 300}).Draw(t, "longest")
			for e := uint32(0); int(e) < n; {
				e = min(uint32(n), e+rapid.Uint32Range(0, longest).Draw(t, "run"))
				runs = append(runs, e)
			}
		}
		b := AppendTimes([]byte("x"), times, runs)
		got, err := DecodeTimes([]int64{42}, b[1:], n, runs)
		if err != nil || !slices.Equal(got[1:], times) {
			t.Fatalf("got %v, %v, want %v", got, err, times)
		}
	})
}

// Steps of every width come back, in groups that are and are not the last.
func TestTimesOfEachWidth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for width := range 64 {
		times := make([]int64, 1000)
		for i := range times[1:] {
			times[i+1] = times[i] + 3 + int64(rng.Uint64()>>(64-width))
		}
		got, err := DecodeTimes(nil, AppendTimes(nil, times, nil), len(times), nil)
		if err != nil || !slices.Equal(got, times) {
			t.Errorf("%d bits: %v, or other times", width, err)
		}
	}
}

func TestTimesAreSmall(t *testing.T) {
	even := make([]int64, 1280)
	for i := range even {
		even[i] = 1772323199e9 + int64(i)*1e6
	}
	if n := len(AppendTimes(nil, even, nil)); n > 50 {
		t.Errorf("even milliseconds take %d bytes", n)
	}
}

func TestFrames(t *testing.T) {
	c := NewCompressor(LevelDefault)
	for _, payload := range [][]byte{nil, []byte("x"), []byte("\x00\x01\x02 short"), bytes.Repeat([]byte("abcd"), 10000)} {
		f := c.AppendFrame([]byte("before"), payload)[len("before"):]
		got, err := ReadFrame(f, len(payload))
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("%d bytes come back as %d, %v", len(payload), len(got), err)
		}
		if n, err := FrameLen(f); err != nil || n != len(payload) {
			t.Fatalf("length %d, %v", n, err)
		}
		if len(f) > len(payload)+frameOverhead+5 {
			t.Fatalf("%d bytes take %d", len(payload), len(f))
		}
		if _, err := ReadFrame(f, len(payload)-1); err == nil {
			t.Fatal("a frame over the limit was read")
		}
		for i := range f {
			for bit := range 8 {
				bad := slices.Clone(f)
				bad[i] ^= 1 << bit
				if _, err := ReadFrame(bad, len(payload)); err == nil {
					t.Fatalf("byte %d bit %d of a frame of %d changed, unnoticed", i, bit, len(payload))
				}
			}
			if _, err := ReadFrame(f[:i], len(payload)); err == nil {
				t.Fatalf("a frame of %d cut to %d was read", len(f), i)
			}
		}
	}
}

func TestIsUUID(t *testing.T) {
	is := regexp.MustCompile("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
	rapid.Check(t, func(t *rapid.T) {
		s := []byte(rapid.StringMatching("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").Draw(t, "text") + " behind")
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			s[rapid.IntRange(0, UUIDLen-1).Draw(t, "place")] = rapid.SampledFrom([]byte("-09afgAF/:`\x00\x1f\x7f\x80\xb0\xe1\xff")).Draw(t, "byte")
		}
		s = s[:rapid.SampledFrom([]int{len(s), UUIDLen, UUIDLen - 1}).Draw(t, "length")]
		if got, want := IsUUID(s), is.Match(s); got != want {
			t.Fatalf("%q: %t, want %t", s, got, want)
		}
		if len(s) >= UUIDLen && IsUUID(s) {
			key, _ := packUUID(s[:UUIDLen])
			if got := appendUUID(nil, s); !bytes.Equal(got, key[:]) {
				t.Fatalf("%q: %x, want %x", s, got, key)
			}
		}
	})
}

func TestPackHex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching("([0-9a-f]{0,40}|[0-9A-F]{0,40})").Draw(t, "digits")
		want, err := hex.DecodeString((s + "0")[:(len(s)+1)/2*2])
		if err != nil {
			t.Fatal(err)
		}
		if got := packHex(nil, []byte(s)); !bytes.Equal(got, want) {
			t.Fatalf("%s: %x", s, got)
		}
	})
}

// A dictionary is for values that recur, and, where it is to be for few of them, often.
func TestDictionaryOfFewDistinct(t *testing.T) {
	for _, c := range []struct {
		n, distinct int
		dict, few   bool
	}{
		{15, 2, false, false},
		{16, 8, true, true},
		{16, 9, false, false},
		{100, 16, true, true},
		{100, 17, true, false},
		{100, 51, false, false},
		{2000, 250, true, true},
		{2000, 251, true, false},
		{2000, 500, true, false},
		{2000, 501, false, false},
	} {
		values := numbered(c.n, func(i int) string { return fmt.Sprintf("value %c", rune('0'+i%c.distinct)) })
		slab, refs := slabOf(values)
		for _, few := range []bool{false, true} {
			var e Encoder
			e.FewDistinct(few)
			want := c.dict
			if few {
				want = c.few
			}
			if info, _ := e.Encode(nil, slab, refs); (info.Kind == Dict) != want {
				t.Errorf("%d distinct of %d values, few: %v: %v", c.distinct, c.n, few, info.Kind)
			}
		}
	}
}
