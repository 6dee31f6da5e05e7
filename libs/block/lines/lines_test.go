package lines_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// block is what goes into one block.
type block struct {
	lines model.Strings
	times []int64
	runs  []uint32
}

func build(t fataler, level column.Level, blocks []block) []byte {
	t.Helper()
	return buildWith(t, lines.NewBuilder(level), blocks)
}

// buildPaged is build with payloads cut into pages wherever they can be.
func buildPaged(t fataler, level column.Level, blocks []block) []byte {
	t.Helper()
	b := lines.NewBuilder(level)
	b.SetSmallPages()
	return buildWith(t, b, blocks)
}

// buildRows is build with pages of rows wherever they can be.
func buildRows(t fataler, level column.Level, blocks []block) []byte {
	t.Helper()
	b := lines.NewBuilder(level)
	b.SetSmallRowPages()
	return buildWith(t, b, blocks)
}

// eachPaged runs a test for both sorts of pages.
func eachPaged(t *testing.T, test func(t *testing.T, build func(fataler, column.Level, []block) []byte)) {
	t.Run("values", func(t *testing.T) { test(t, buildPaged) })
	t.Run("rows", func(t *testing.T) { test(t, buildRows) })
}

func buildWith(t fataler, b *lines.Builder, blocks []block) []byte {
	t.Helper()
	for i := range blocks {
		if _, err := b.Add(&blocks[i].lines, blocks[i].times, blocks[i].runs); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	return b.Finish()
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// same checks that a section holds exactly these blocks.
func same(t fataler, section []byte, blocks []block) {
	t.Helper()
	s, err := lines.Open(section)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if len(s.Blocks) != len(blocks) {
		t.Fatalf("%d blocks of %d", len(s.Blocks), len(blocks))
	}
	for i := range blocks {
		var got model.Rows
		if err := s.Decode(i, &got); err != nil {
			t.Fatalf("decode: %v", err)
		}
		want := &blocks[i]
		if !slices.Equal(got.Times, want.times) {
			t.Fatalf("block %d: times differ", i)
		}
		if !slices.Equal(got.Lines.Ends, want.lines.Ends) || !bytes.Equal(got.Lines.Slab, want.lines.Slab) {
			for r := range want.times {
				if r >= got.Lines.Len() || !bytes.Equal(got.Lines.At(r), want.lines.At(r)) {
					t.Fatalf("block %d row %d:\n got %q\nwant %q", i, r, got.Lines.At(r), want.lines.At(r))
				}
			}
			t.Fatalf("block %d: too many lines", i)
		}
	}
}

func TestNastyLinesComeBackByteForByte(t *testing.T) {
	now := time.Date(2026, 2, 28, 23, 59, 59, 999e6, time.UTC).UnixNano()
	long := strings.Repeat("request 1234 took 0x1f ms; ", 40000) // 1 MiB
	nasty := []string{
		"", " ", "\n", "\x00", "\x01", "\x02", "\x03", "a\x00b 12", "\x01\x80 12", "\xff\xfe\xfd", "ü 12 ñ", "\xc3", "\r\n",
		long, long[:64<<10], long[:64<<10+1], strings.Repeat("7", 1<<20), strings.Repeat("7 ", 4096), strings.Repeat("7 ", 4097), strings.Repeat("x", 1<<20),
		"0", "00", "007", "18446744073709551615", "18446744073709551616", "9999999999999999999", "99999999999999999999",
		"0x", "0x0", "0xg1", "0xdeadBEEF", "1.2.3.4", "01.2.3.4", "1.2.3.4.5", "256.1.1.1", "1.2.3.4a", "1.2.3.", "1.2.3.4",
		"123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-4266141740001", "123E4567-e89b-12d3-a456-426614174000",
		"2026-02-28T23:59:59.999Z", "2026-02-29T23:59:59.999Z", "2026-02-28T23:59:60.000Z", "2026-02-28T24:00:00.000Z", "2026-03-01 00:00:00,123", "2025-02-28 23:59:59,123",
		"Feb 28 23:59:59 host x[1]: y", "Feb  8 23:59:59 host x[1]: y", "Mar  1 00:00:00 h", "Mar 01 00:00:00 h", "Feb 29 00:00:00 h", "feb 28 23:59:59 h",
		"Sat Feb 28 23:59:59 2026", "Sun Feb 28 23:59:59 2026", "I0228 23:59:59.123456 1 x.go:3]", "28/Feb/2026:23:59:59 +0000",
		"1772323199", "1772323199000", "0772323199", "260228 235959 1 x", "26/02/28 23:59:59 x", "02-28 23:59:59.123 1", "2026.02.28", "02.28 23:59:59 x",
		`{"a":1,"b":"x y 2","c":[1,2,3]}`, `"unclosed 12`, `\"12\"`, `a="b c d" 12`,
	}
	var b block
	for r := range 3 {
		for i, s := range nasty {
			b.lines.AppendString(s)
			b.times = append(b.times, now+int64(i)*1000)
			_ = r
		}
	}
	extremes := b
	extremes.times = slices.Clone(b.times)
	for i := range extremes.times {
		extremes.times[i] = []int64{math.MinInt64, math.MaxInt64, 0, -1, 1}[i%5]
	}
	blocks := []block{b, extremes, b}
	same(t, build(t, column.LevelDefault, blocks), blocks)
}

var words = []string{"GET", "error", "user", "id=", "pod-", "\"", "[", "]", "{\"k\":", ",", "=", " ", "\n", "0x", ".", "-", "127.0.0.1", "T", ":", "\xff", "\x01", "ü", "k8s", "a1b2c3d4"}

func drawLine(t *rapid.T, now int64) string {
	switch rapid.IntRange(0, 9).Draw(t, "shape") {
	case 0:
		return string(rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "bytes"))
	case 1:
		return rapid.StringN(0, 40, 100).Draw(t, "text")
	}
	var b strings.Builder
	for range rapid.IntRange(0, 14).Draw(t, "parts") {
		at := time.Unix(0, now+rapid.Int64Range(-int64(40*time.Hour), int64(40*time.Hour)).Draw(t, "off")).UTC()
		switch rapid.IntRange(0, 6).Draw(t, "part") {
		case 0:
			fmt.Fprint(&b, rapid.Uint64().Draw(t, "n"))
		case 1:
			fmt.Fprintf(&b, "%0*d", rapid.IntRange(1, 20).Draw(t, "digits"), rapid.IntRange(0, 999).Draw(t, "n"))
		case 2:
			fmt.Fprintf(&b, "%x", rapid.Uint64().Draw(t, "n"))
		case 3:
			b.WriteString(at.Format(rapid.SampledFrom([]string{time.RFC3339Nano, time.ANSIC, time.StampMicro, "2006-01-02 15:04:05,000", "0102 15:04:05.000000", "02/Jan/2006:15:04:05", "060102 150405", "01-02 15:04:05.000", "2006-01-02-15.04.05.000000"}).Draw(t, "layout")))
		default:
			b.WriteString(rapid.SampledFrom(words).Draw(t, "word"))
		}
	}
	return b.String()
}

func TestRandomRowsComeBackByteForByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var blocks []block
		for range rapid.IntRange(1, 4).Draw(t, "blocks") {
			var b block
			now := rapid.SampledFrom([]int64{0, 1772323199e9, 1709164800e9, 946684799e9, math.MaxInt64 - 1e9}).Draw(t, "now")
			n := rapid.IntRange(1, 60).Draw(t, "rows")
			shapes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return drawLine(t, now) }), 1, 20).Draw(t, "lines")
			for range n {
				// The same shapes again and again, with other numbers.
				s := rapid.SampledFrom(shapes).Draw(t, "line")
				if rapid.Bool().Draw(t, "vary") {
					s = strings.ReplaceAll(s, "1", fmt.Sprint(rapid.IntRange(0, 1<<20).Draw(t, "n")))
				}
				b.lines.AppendString(s)
				b.times = append(b.times, now+rapid.Int64Range(-1e9, 1e9).Draw(t, "time"))
			}
			if n > 2 && rapid.Bool().Draw(t, "two runs") {
				b.runs = []uint32{uint32(rapid.IntRange(1, n-1).Draw(t, "run")), uint32(n)}
			}
			blocks = append(blocks, b)
		}
		how := rapid.SampledFrom([]func(fataler, column.Level, []block) []byte{build, buildPaged, buildRows}).Draw(t, "pages")
		same(t, how(t, column.LevelFastest, blocks), blocks)
	})
}

func TestRangesComeBack(t *testing.T) {
	want := made(997)
	want.runs = []uint32{100, 500, 997}
	s, err := lines.Open(build(t, column.LevelFastest, []block{want}))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, 997).Draw(t, "from")
		to := rapid.IntRange(from, 997).Draw(t, "to")
		rows := model.Rows{Times: []int64{1}, Lines: model.Strings{Ends: []uint32{3}, Slab: []byte("abc")}} // appended to
		if err := s.DecodeRange(0, from, to, &rows); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(rows.Times[1:], want.times[from:to]) || rows.Lines.Len() != to-from+1 || string(rows.Lines.At(0)) != "abc" {
			t.Fatalf("rows %d to %d: %d times, %d lines", from, to, rows.Len(), rows.Lines.Len())
		}
		for i := from; i < to; i++ {
			if got := rows.Lines.At(i - from + 1); !bytes.Equal(got, want.lines.At(i)) {
				t.Fatalf("row %d: %q, want %q", i, got, want.lines.At(i))
			}
		}
	})
	for _, r := range [][2]int{{-1, 1}, {2, 1}, {0, 998}} {
		if s.DecodeRange(0, r[0], r[1], &model.Rows{}) == nil {
			t.Errorf("rows %d to %d: no error", r[0], r[1])
		}
	}
}

func TestTemplateExplosionsComeBackAndStayBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.IntN(253) + 3)
		}
		return string(b)
	}
	kinds := map[string]func(i int) string{
		"random bytes":  func(int) string { return text(rng.IntN(200)) },
		"random words":  func(int) string { return fmt.Sprintf("%s did %s to %s", word(rng), word(rng), word(rng)) },
		"quoted":        func(i int) string { return fmt.Sprintf(`%d "%s %s/%d (%s)" ok`, i, word(rng), word(rng), i, word(rng)) },
		"paths":         func(i int) string { return fmt.Sprintf("open /%s/%s%d/%s failed", word(rng), word(rng), i, word(rng)) },
		"long":          func(i int) string { return strings.Repeat(word(rng)+" ", 2000) },
		"words, quoted": func(i int) string { return fmt.Sprintf(`a="%s b %s" x=%s`, word(rng), word(rng), word(rng)) },
	}
	rows := 6000 // of a block
	if os.Getenv("WEIR_FEWER") != "" {
		rows = 2000
	}
	for name, line := range kinds {
		t.Run(name, func(t *testing.T) {
			var blocks []block
			for k := range 3 {
				var b block
				for i := 0; i < rows && len(b.lines.Slab) < 350*rows; i++ {
					b.lines.AppendString(line(i))
					b.times = append(b.times, int64(k*rows+i)*1e6)
				}
				blocks = append(blocks, b)
			}
			section := build(t, column.LevelFastest, blocks)
			same(t, section, blocks)
			s, _ := lines.Open(section)
			if n := len(s.Table.Templates); n > 20000 {
				t.Errorf("%d templates", n)
			}
		})
	}
}

func word(rng *rand.Rand) string {
	b := make([]byte, 3+rng.IntN(9))
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return string(b)
}

const samples = "../../../../shared/corpus/samples"

// sampleDir returns the directory of sample logs, or skips.
func sampleDir(t testing.TB) string {
	for _, d := range []string{os.Getenv("WEIR_SAMPLES"), samples} {
		if d != "" {
			if _, err := os.Stat(d); err == nil {
				return d
			}
		}
	}
	t.Skip("no sample logs here")
	return ""
}

// sample returns a sample log of at most limit bytes. Entries are a little younger
// than the times in their lines; those are in a file beside the log, or found.
func sample(t testing.TB, path string, limit int) block {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var stamps []string
	if s, err := os.ReadFile(strings.TrimSuffix(path, ".log") + ".ts"); err == nil {
		stamps = strings.Fields(string(s))
	}
	var b block
	var find timeFinder
	rng := rand.New(rand.NewPCG(3, 4))
	at := int64(1772323199e9)
	last := int64(math.MinInt64)
	for line := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		if len(b.lines.Slab)+len(line) > limit {
			break
		}
		if i := b.lines.Len(); i < len(stamps) {
			if at, err = strconv.ParseInt(stamps[i], 10, 64); err != nil {
				t.Fatal(err)
			}
		} else if v, ok := find.in(string(line)); ok {
			at = v
		}
		b.lines.Append(line)
		v := at + 1e6 + int64(rng.ExpFloat64()*30e6)
		if v <= last {
			v = last + 1 + int64(rng.ExpFloat64()*20e3)
		}
		last = v
		b.times = append(b.times, v)
	}
	return b
}

// timeFinder finds the times in the lines of one log.
type timeFinder struct{ layout string }

func (f *timeFinder) in(line string) (int64, bool) {
	try := []string{f.layout}
	if f.layout == "" {
		try = []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006/01/02 15:04:05", "02/Jan/2006:15:04:05", "Mon Jan 02 15:04:05 2006", "Jan _2 15:04:05", "01-02 15:04:05", "01.02 15:04:05", "06/01/02 15:04:05", "060102 150405", "0102 15:04:05"}
	}
	for _, l := range try {
		for i := 0; i+len(l) <= len(line) && i < 100; i++ {
			v, err := time.Parse(l, line[i:i+len(l)])
			if err != nil {
				continue
			}
			f.layout = l
			if v.Year() == 0 {
				v = v.AddDate(2026, 0, 0)
			}
			return v.UnixNano(), true
		}
	}
	return 0, false
}

func TestSamplesComeBackByteForByte(t *testing.T) {
	paths, _ := filepath.Glob(filepath.Join(sampleDir(t), "*.log"))
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			limit := 4 << 20
			if os.Getenv("WEIR_FEWER") != "" {
				limit = 1 << 20
			}
			b := sample(t, path, limit)
			blocks := []block{b, b}
			section := build(t, column.LevelDefault, blocks)
			same(t, section, blocks)
			s, _ := lines.Open(section)
			t.Logf("%d lines, %d bytes twice: %d bytes, %d templates", len(b.times), len(b.lines.Slab), len(section), len(s.Table.Templates))
		})
	}
}

// Every byte of a small section, changed: an error, or the same rows.
func TestDamagedSections(t *testing.T) {
	var b block
	for i := range 40 {
		b.lines.AppendString(fmt.Sprintf("worker %d finished job-%04x in %d ms from 10.0.0.%d", i%3, i*77, i*i, i))
		b.times = append(b.times, int64(i)*1e6)
	}
	section := build(t, column.LevelDefault, []block{b})
	for i := range section {
		for _, x := range []byte{1, 0x80, 0xff} {
			bad := slices.Clone(section)
			bad[i] ^= x
			s, err := lines.Open(bad)
			if err == nil && len(s.Blocks) > 0 {
				var rows model.Rows
				if err = s.Decode(0, &rows); err == nil && (!bytes.Equal(rows.Lines.Slab, b.lines.Slab) || !slices.Equal(rows.Times, b.times)) {
					t.Fatalf("byte %d: wrong lines", i)
				}
			}
			if err != nil && !errors.Is(err, column.ErrCorrupt) {
				t.Fatalf("byte %d: %v does not say that it is damage", i, err)
			}
		}
	}
	for n := range section {
		if _, err := lines.Open(section[:n]); err == nil {
			t.Fatalf("the first %d bytes pass for a section", n)
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	one := model.Strings{Ends: []uint32{1}, Slab: []byte("x")}
	b := lines.NewBuilder(column.LevelFastest)
	for name, add := range map[string]func() error{
		"no rows":       func() error { _, err := b.Add(&model.Strings{}, nil, nil); return err },
		"times missing": func() error { _, err := b.Add(&one, nil, nil); return err },
		"bad ends": func() error {
			_, err := b.Add(&model.Strings{Ends: []uint32{2}, Slab: []byte("x")}, []int64{1}, nil)
			return err
		},
		"bad runs": func() error { _, err := b.Add(&one, []int64{1}, []uint32{2}); return err },
		"too long": func() error {
			_, err := b.Add(&model.Strings{Ends: []uint32{lines.MaxBytes + 1}, Slab: make([]byte, lines.MaxBytes+1)}, []int64{1}, nil)
			return err
		},
	} {
		if add() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := b.Add(&one, []int64{1}, nil); err != nil {
		t.Fatal(err)
	}
	same(t, b.Finish(), []block{{lines: one, times: []int64{1}}})
}
