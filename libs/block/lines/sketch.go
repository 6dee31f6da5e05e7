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
	size  int    // of the frame; 0: not known
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
// it asks. search is the number of the search of this row group, which it is given when it asks
// with 0: most row groups are searched once, and a sketch for many texts of one search does not
// pay.
func (b *Body) FrameMay(i int, text []byte, search *uint64) (bool, error) {
	c := &b.columns[i]
	if c.Size == 0 || len(text) < sketchGram {
		return true, nil
	}
	if int(c.Frame) >= len(b.frames) {
		return false, at(b.block, column.Corrupt("frame %d of %d", c.Frame, len(b.frames)))
	}
	s, first := b.learned.sketch(c.Frame, len(b.frames), search)
	if first {
		return true, nil
	}
	if s.bits == nil && (s.size == 0 || s.size >= minSketched && s.size <= maxSketched) {
		p, err := b.Frame(i)
		if err != nil {
			return false, err
		}
		if s.size = len(p); s.size >= minSketched && s.size <= maxSketched {
			s.fill(p)
		}
		b.learned.keep(c.Frame, s)
	}
	return s.bits == nil || s.may(text), nil
}

// FrameSize returns how many bytes the frame has that column i of Columns is in. It reads the
// frame if FrameMay never did.
func (b *Body) FrameSize(i int) (int, error) {
	if c := &b.columns[i]; c.Size > 0 {
		if n := b.learned.frameSize(c.Frame); n > 0 {
			return n, nil
		}
	}
	p, err := b.Frame(i)
	return len(p), err
}

func (l *learned) frameSize(frame uint32) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(frame) >= len(l.sketches) {
		return 0
	}
	return l.sketches[frame].size
}

// sketch returns the sketch of a frame of some, if there is one, for a search. first: the
// search is the first one.
func (l *learned) sketch(frame uint32, frames int, search *uint64) (_ sketch, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sketches == nil {
		l.sketches = make([]sketch, frames)
		l.memory += 48 * frames
	}
	if *search == 0 {
		l.searches++
		*search = l.searches
	}
	s := &l.sketches[frame]
	if s.asked == 0 {
		s.asked = *search
	}
	return *s, s.bits == nil && s.asked == *search
}

// keep keeps the sketch of a frame, unless another search did.
func (l *learned) keep(frame uint32, s sketch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if of := &l.sketches[frame]; of.bits == nil {
		of.size, of.shift, of.bits = s.size, s.shift, s.bits
		l.memory += 8 * len(s.bits)
	}
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
