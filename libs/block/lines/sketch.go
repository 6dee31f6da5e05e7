package lines

import (
	"encoding/binary"
	"math/bits"

	"github.com/weir-logs/weir/libs/block/column"
)

// A sketch is which four bytes follow each other in a frame, as bits by their hash. It
// takes an eighth to a sixteenth of the frame, and tells of most texts of a dozen bytes that the frame
// does not have them: to look is what takes most of a query for a rare text.
type sketch struct {
	asked uint64 // number of the search that asked first; 0: none did
	shift int
	bits  []uint64
}

const (
	minSketched = 1 << 8 // shorter frames are soon searched
	maxSketched = 1 << 23
	sketchGram  = 4
)

// FrameMay reports whether the frame that column i of Columns is in may hold a text. It
// errs on the side of true; the first search that asks of a frame is told so, however often
// it asks. search is the number of the search in this body, which it is given when it asks
// with 0: most bodies are searched once, and a sketch for many texts of one search does not
// pay.
func (b *Body) FrameMay(i int, text []byte, search *uint64) (bool, error) {
	c := &b.columns[i]
	if c.Size == 0 || len(text) < sketchGram {
		return true, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if int(c.Frame) >= len(b.frames) {
		return false, at(b.block, column.Corrupt("frame %d of %d", c.Frame, len(b.frames)))
	}
	if b.sketches == nil {
		b.sketches = make([]sketch, len(b.frames))
		b.memory += 40 * len(b.frames)
	}
	if *search == 0 {
		b.searches++
		*search = b.searches
	}
	s := &b.sketches[c.Frame]
	if s.asked == 0 {
		s.asked = *search
	}
	if s.bits == nil {
		if s.asked == *search {
			return true, nil
		}
		p, err := b.frame(c.Frame)
		if err != nil {
			return false, at(b.block, err)
		}
		if len(p) < minSketched || len(p) > maxSketched {
			return true, nil
		}
		s.fill(p)
		b.memory += 8 * len(s.bits)
	}
	return s.may(text), nil
}

// fill makes the sketch of a frame, of minSketched bytes or more.
func (s *sketch) fill(p []byte) {
	width := bits.Len(uint(len(p))) - 1 // one to two bytes a bit
	s.shift = 32 - width
	s.bits = make([]uint64, 1<<width>>6)
	for i := 0; i+sketchGram <= len(p); i++ {
		h := s.hash(p[i:])
		s.bits[h>>6] |= 1 << (h & 63)
	}
}

func (s *sketch) hash(b []byte) uint32 {
	return binary.LittleEndian.Uint32(b) * 0x9E3779B1 >> s.shift
}

// may reports whether the frame may hold a text of sketchGram bytes or more.
func (s *sketch) may(text []byte) bool {
	for i := 0; i+sketchGram <= len(text); i++ {
		if h := s.hash(text[i:]); s.bits[h>>6]>>(h&63)&1 == 0 {
			return false
		}
	}
	return true
}
