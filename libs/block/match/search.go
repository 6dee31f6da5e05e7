package match

import (
	"bytes"
	"encoding/binary"
)

// searcher finds a text in long ones. Where the text is long it looks at four bytes of
// as many as the text has, as a rule: the last ones of where the text could be, and goes
// on by as many as these four are before the text's end.
type searcher struct {
	text  []byte
	shift *[shifts]uint8 // by hash of four bytes; nil: the text is short
	most  int            // how much of the text is looked at first
}

const (
	shiftBits = 9
	shifts    = 1 << shiftBits

	// Shorter texts are not found quicker, and tables not made for shorter ones to look in.
	minSearched = 12
	minSlab     = 4096
)

func hashFour(b []byte) uint32 {
	return binary.LittleEndian.Uint32(b) * 0x9E3779B1 >> (32 - shiftBits)
}

// newSearcher returns a searcher for a text in something of a size.
func newSearcher(text []byte, size int) (s searcher) {
	s.text = text
	if len(text) < minSearched || size < minSlab || !frequent(text[0]) {
		return s
	}
	s.most = min(len(text), 200)
	s.shift = new([shifts]uint8)
	for i := range s.shift {
		s.shift[i] = uint8(s.most - 3)
	}
	for i := 0; i+4 <= s.most; i++ {
		s.shift[hashFour(text[i:])] = uint8(s.most - 4 - i)
	}
	return s
}

// frequent reports whether a byte is one that lines are full of: bytes.Index, which looks
// for the first byte of a text, is the quicker one for others.
func frequent(c byte) bool { return c-'0' < 10 || c-'a' < 26 || c == ' ' }

// index is bytes.Index of the text in b.
func (s *searcher) index(b []byte) int {
	if s.shift == nil {
		return bytes.Index(b, s.text)
	}
	for at, failed := s.most-4, 0; at+4 <= len(b); {
		d := int(s.shift[hashFour(b[at:])])
		if d > 0 {
			at += d
			continue
		}
		from := at - (s.most - 4)
		if bytes.HasPrefix(b[from:], s.text) {
			return from
		}
		at++
		if failed++; failed > 16+at/16 {
			// Of one thing again and again: bytes.Index takes no more time for it.
			i := bytes.Index(b[from+1:], s.text)
			if i >= 0 {
				i += from + 1
			}
			return i
		}
	}
	return -1
}
