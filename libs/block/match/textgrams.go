package match

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
)

// textGrams is which four bytes follow each other in the texts of an index, in any case, as
// bits by their hash: most needles are in no template, and to look takes most of what it
// takes to know that. They are made for the second needle.
type textGrams struct {
	asked atomic.Int32
	made  sync.Once
	ready atomic.Bool
	shift int
	bits  []uint64
}

const (
	textGram      = 4
	minTextGrams  = 1 << 12 // shorter texts are soon searched
	mostTextGrams = 20      // logarithm of bits
)

func textGramsWidth(n int) int { return min(bits.Len(uint(n)), mostTextGrams) }

// textGramsSize returns how many bytes of memory they take for n bytes of text.
func textGramsSize(n int) int {
	if n < minTextGrams {
		return 0
	}
	return 1 << textGramsWidth(n) >> 3
}

// may reports whether text may hold a needle, in any case. It errs on the side of true. Text
// is always the same.
func (g *textGrams) may(text, needle []byte) bool {
	if len(needle) < textGram || len(text) < minTextGrams {
		return true
	}
	if !g.ready.Load() {
		if g.asked.Add(1) < 2 {
			return true
		}
		g.made.Do(func() { g.fill(text) })
		if !g.ready.Load() {
			return true // there was a panic
		}
	}
	for i := 0; i+textGram <= len(needle); i++ {
		if h := g.hash(needle[i:]); g.bits[h>>6]>>(h&63)&1 == 0 {
			return false
		}
	}
	return true
}

func (g *textGrams) fill(text []byte) {
	width := textGramsWidth(len(text))
	g.shift, g.bits = 32-width, make([]uint64, 1<<width>>6)
	for i := 0; i+textGram <= len(text); i++ {
		h := g.hash(text[i:])
		g.bits[h>>6] |= 1 << (h & 63)
	}
	g.ready.Store(true)
}

// hash is the same for letters in any case.
func (g *textGrams) hash(b []byte) uint32 {
	return (binary.LittleEndian.Uint32(b) | 0x20202020) * 0x9E3779B1 >> g.shift
}
