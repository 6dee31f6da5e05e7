package match

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// A searcher finds what bytes.Index does.
func TestSearcher(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SampledFrom([]string{"a", "ab", "0123456789abcdef", "\x00\xff\x80z"}).Draw(t, "letters")
		text := func(name string, least, most int) []byte {
			n := rapid.IntRange(least, most).Draw(t, name)
			seed := rapid.Uint64().Draw(t, name+" seed")
			out := make([]byte, n)
			for i := range out {
				seed = seed*6364136223846793005 + 1442695040888963407
				out[i] = letters[int(seed>>33)%len(letters)]
			}
			return out
		}
		slab, wanted := text("slab", 0, 6000), text("wanted", 1, 300)
		for range rapid.IntRange(0, 3).Draw(t, "copies") {
			if len(wanted) <= len(slab) {
				copy(slab[rapid.IntRange(0, len(slab)-len(wanted)).Draw(t, "at"):], wanted)
			}
		}
		s := newSearcher(wanted, minSlab)
		for p := 0; p <= len(slab); {
			got, want := s.index(slab[p:]), bytes.Index(slab[p:], wanted)
			if got != want {
				t.Fatalf("%q from %d: found at %d, it is at %d", wanted, p, got, want)
			}
			if want < 0 {
				break
			}
			p += want + 1
		}
	})
}

// So it does in text that is nothing but beginnings of what is wanted.
func TestSearcherAmongBeginnings(t *testing.T) {
	wanted := append(bytes.Repeat([]byte("x0"), 30), bytes.Repeat([]byte("0"), 40)...)
	for _, end := range []int{0, 5000, 9000} {
		slab := bytes.Repeat([]byte("0"), 9000)
		copy(slab[end:], wanted)
		s := newSearcher(wanted, len(slab))
		if s.shift == nil {
			t.Fatal("no table")
		}
		if got, want := s.index(slab), bytes.Index(slab, wanted); got != want {
			t.Fatalf("found at %d, it is at %d", got, want)
		}
	}
}
