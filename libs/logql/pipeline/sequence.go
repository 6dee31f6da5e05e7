package pipeline

import (
	"bytes"
	"regexp/syntax"
	"unicode/utf8"
)

// sequence is a regex of ASCII characters and classes, each once or in a greedy
// run whose end the next element decides, so that matching needs no way back.
type sequence struct {
	items []sequenceItem
	// literal, if any, stands at a fixed distance from the start of every match.
	literal []byte
	offset  int
	other   lineTest // asked when this way of matching gets too slow
}

type sequenceItem struct {
	set  [256]bool
	many bool // a run of one or more
	opt  bool // a run of none or more
}

// maxSequence bounds the number of items.
const maxSequence = 64

// newSequence returns the sequence that tells exactly whether a line matches re,
// which other tells too; nil if there is none.
func newSequence(re *syntax.Regexp, other lineTest) *sequence {
	s := &sequence{other: other}
	if !s.add(re) {
		return nil
	}
	// For whether there is a match, runs at either end count once or not at all.
	for len(s.items) > 0 && s.items[0].opt {
		s.items = s.items[1:]
	}
	for len(s.items) > 0 && s.items[len(s.items)-1].opt {
		s.items = s.items[:len(s.items)-1]
	}
	if len(s.items) == 0 {
		return nil
	}
	s.items[0].many = false
	s.items[len(s.items)-1].many = false
	for i := range s.items {
		if s.items[i].many || s.items[i].opt {
			// What ends the run must not be able to go on with it.
			for j := i + 1; ; j++ {
				if !disjoint(&s.items[i].set, &s.items[j].set) {
					return nil
				}
				if !s.items[j].opt {
					break
				}
			}
		}
	}
	s.findLiteral()
	return s
}

func disjoint(a, b *[256]bool) bool {
	for c := range a {
		if a[c] && b[c] {
			return false
		}
	}
	return true
}

func (s *sequence) add(re *syntax.Regexp) bool {
	if len(s.items) > maxSequence {
		return false
	}
	switch re.Op {
	case syntax.OpCapture:
		return s.add(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if !s.add(sub) {
				return false
			}
		}
		return true
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			var item sequenceItem
			if r >= utf8.RuneSelf {
				return false
			}
			item.set[r] = true
			if c := byte(r) | 0x20; re.Flags&syntax.FoldCase != 0 && c >= 'a' && c <= 'z' {
				if c == 'k' || c == 's' {
					return false // letters outside ASCII fold to them
				}
				item.set[c], item.set[c&^0x20] = true, true
			}
			s.items = append(s.items, item)
		}
		return len(s.items) <= maxSequence
	case syntax.OpCharClass:
		var item sequenceItem
		for i := 0; i < len(re.Rune); i += 2 {
			if re.Rune[i+1] >= utf8.RuneSelf {
				return false
			}
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				item.set[r] = true
			}
		}
		s.items = append(s.items, item)
		return true
	case syntax.OpPlus, syntax.OpStar:
		n := len(s.items)
		if !s.add(re.Sub[0]) || len(s.items) != n+1 || s.items[n].many || s.items[n].opt {
			return false
		}
		s.items[n].many, s.items[n].opt = re.Op == syntax.OpPlus, re.Op == syntax.OpStar
		return true
	}
	return false
}

// findLiteral looks for the longest run of single characters in front of all runs.
func (s *sequence) findLiteral() {
	var run []byte
	for i := range s.items {
		c, n := byte(0), 0
		for b, in := range s.items[i].set {
			if in {
				c, n = byte(b), n+1
			}
		}
		if n != 1 || s.items[i].opt {
			run = nil
		} else {
			run = append(run, c)
			if len(run) > len(s.literal) {
				s.literal, s.offset = bytes.Clone(run), i+1-len(run)
			}
		}
		if s.items[i].many || s.items[i].opt {
			break
		}
	}
}

func (s *sequence) match(line []byte) bool {
	budget := 4*len(line) + 64
	for start := 0; start < len(line); start++ {
		if len(s.literal) > 0 {
			at := start + s.offset
			if at > len(line) {
				return false
			}
			n := bytes.Index(line[at:], s.literal)
			if n < 0 {
				return false
			}
			start += n
		} else {
			for start < len(line) && !s.items[0].set[line[start]] {
				start++
			}
		}
		end, ok := s.at(line, start)
		if ok {
			return true
		}
		if budget -= end - start; budget < 0 {
			return s.other(line)
		}
	}
	return false
}

// at matches at i and returns how far it looked.
func (s *sequence) at(line []byte, i int) (int, bool) {
	for k := range s.items {
		it := &s.items[k]
		if !it.opt {
			if i >= len(line) || !it.set[line[i]] {
				return i, false
			}
			i++
		}
		if it.many || it.opt {
			for i < len(line) && it.set[line[i]] {
				i++
			}
		}
	}
	return i, true
}
