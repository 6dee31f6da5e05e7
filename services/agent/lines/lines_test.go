package lines

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// feed cuts data that arrives in pieces of the given sizes, as a reader does who
// reads again what was not used.
func feed(data []byte, limit int, pieces []int, flushAt map[int]bool) (out []string, st State, rest int) {
	avail, off := 0, 0
	step := func(flush bool) {
		for {
			r := Next(data[off:avail], st, limit, flush)
			if r.Emit {
				l := string(r.Line)
				if r.Cut {
					l += Mark
				}
				out = append(out, l)
			}
			off += r.N
			st = r.State
			if r.N == 0 {
				return
			}
		}
	}
	for i, n := range pieces {
		avail = min(avail+n, len(data))
		step(false)
		if flushAt[i] {
			step(true)
		}
	}
	avail = len(data)
	step(false)
	return out, st, avail - off
}

// naive is the plain meaning: split at newlines, strip a carriage return, cut.
func naive(data []byte, limit int) (out []string) {
	for {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return out
		}
		l := string(data[:i])
		data = data[i+1:]
		l = strings.TrimSuffix(l, "\r")
		if len(l) > limit {
			keep := l[:limit-len(Mark)]
			for k := keep; len(keep)-len(k) < utf8.UTFMax && k != ""; k = k[:len(k)-1] {
				// The character behind k is valid and would be split.
				if _, n := utf8.DecodeRuneInString(l[len(k):]); utf8.ValidString(k) && (k == keep || n > len(keep)-len(k)) {
					keep = k
					break
				}
			}
			l = keep + Mark
		}
		out = append(out, l)
	}
}

func TestTable(t *testing.T) {
	for _, c := range []struct {
		data  string
		limit int
		flush bool
		want  []string
		rest  int
	}{
		{"a\nb\r\n\n\r\nc", 20, false, []string{"a", "b", "", ""}, 1},
		{"c", 20, true, []string{"c"}, 0},
		{"c\r", 20, true, []string{"c"}, 1},
		{"\r", 20, true, nil, 1},
		{"a\rb\n", 20, false, []string{"a\rb"}, 0},
		{"12345678901234567890\r\n", 20, false, []string{"12345678901234567890"}, 0},
		{"123456789012345678901\n", 20, false, []string{"123456789012" + Mark}, 0},
		{"12345678901é345678901\n", 20, false, []string{"12345678901" + Mark}, 0},
		{"\xff2345678901é345678901\n", 20, false, []string{"\xff2345678901\xc3" + Mark}, 0},
	} {
		flush := map[int]bool{}
		if c.flush {
			flush[0] = true
		}
		got, _, rest := feed([]byte(c.data), c.limit, []int{len(c.data)}, flush)
		if !reflect.DeepEqual(got, c.want) || rest != c.rest {
			t.Errorf("%q: got %q and %d left, want %q and %d", c.data, got, rest, c.want, c.rest)
		}
	}
}

func TestFlushedLineGoesOn(t *testing.T) {
	got, st, rest := feed([]byte("half\r\nab"+"cd\nx\r"+"y\n"), 20, []int{5, 3, 5, 2}, map[int]bool{0: true, 1: true, 2: true})
	want := []string{"half", "ab", "cd", "x", "\ry"}
	if !reflect.DeepEqual(got, want) || st != Start || rest != 0 {
		t.Errorf("got %q, state %d, %d left; want %q", got, st, rest, want)
	}
}

// Pieces do not matter, and the result is the naive one.
func TestPieces(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(MinLimit, 40).Draw(rt, "limit")
		data := []byte(strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{
			"a", "bc", "\n", "\r", "\r\n", "é", "世", "\xff", "0123456789012345678901234567890123456789",
		})).Draw(rt, "data"), ""))
		got, _, _ := feed(data, limit, rapid.SliceOf(rapid.IntRange(0, 9)).Draw(rt, "pieces"), nil)
		if got, want := got, naive(data, limit); !slicesPrefix(got, want) {
			rt.Fatalf("%q: got %q, want %q", data, got, want)
		}
	})
}

// slicesPrefix: all complete lines, and at most one cut one whose end is not
// there yet.
func slicesPrefix(got, want []string) bool {
	if len(got) == len(want)+1 && strings.HasSuffix(got[len(want)], Mark) {
		got = got[:len(want)]
	}
	return len(got) == len(want) && (len(got) == 0 || reflect.DeepEqual(got, want))
}

func FuzzNext(f *testing.F) {
	f.Add([]byte("a\nb\r\nc"), 20, uint8(0), uint8(3))
	f.Add([]byte("0000000000000000\xb400000000\n"), 112, uint8(0), uint8(1)) // a stray byte where it is cut
	f.Add([]byte("0123456789012345678901234567890123456789\nx\n"), 20, uint8(2), uint8(7))
	f.Fuzz(func(t *testing.T, data []byte, limit int, flushEvery, piece uint8) {
		limit = MinLimit + int(uint(limit)%100)
		var pieces []int
		flush := map[int]bool{}
		for i := 0; i*int(piece%16+1) < len(data); i++ {
			pieces = append(pieces, int(piece%16+1))
			if flushEvery > 0 && i%int(flushEvery) == 0 {
				flush[i] = true
			}
		}
		got, _, rest := feed(data, limit, pieces, flush)
		n := 0
		for _, l := range got {
			if len(l) > limit {
				t.Fatalf("line of %d bytes, limit %d", len(l), limit)
			}
			n += len(l)
		}
		if flushEvery == 0 {
			if want := naive(data, limit); !slicesPrefix(got, want) {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		if rest > limit+1 {
			t.Fatalf("%d bytes held back, limit %d", rest, limit)
		}
	})
}
