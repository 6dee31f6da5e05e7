package match

import (
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// way is how a value holds a text.
type way uint8

const (
	exact way = iota
	prefix
	suffix
	contains
)

// want is a condition on one slot of a template.
type want struct {
	column uint32
	nth    int // of the template's slots of the column
	way    way
	text   []byte
	at     int // where in the needle
}

// alignment is one way for a needle to lie across a template: all wants must hold.
type alignment struct {
	needle int // of the term
	wants  []want
	grams  uint32 // of the needle, that slots must hold which are no in-line times
}

const alignSteps = 20000

// align lists the ways in which the needle can run over slots and the literal text
// between them, but not those within one slot. It fails when there are too many.
func align(n *needle, slots []slot, last []byte, possible func(*slot, way, []byte) bool) (out [][]want, ok bool) {
	b := n.text
	steps := alignSteps + 50*len(slots)
	var cur []want
	after := func(i int) []byte {
		if i+1 < len(slots) {
			return slots[i+1].before
		}
		return last
	}
	add := func(i int, w way, from, to int) bool {
		s, part := &slots[i], b[from:to]
		if !possible(s, w, part) {
			return false
		}
		cur = append(cur, want{s.column, s.nth, w, part, from})
		return true
	}
	done := func() {
		out = append(out, append([]want(nil), cur...))
		cur = cur[:len(cur)-1]
	}
	// b[pos:] begins at slot i; whole: so does the slot's value.
	var at func(i, pos int, whole bool)
	at = func(i, pos int, whole bool) {
		if i >= len(slots) || steps < 0 {
			return
		}
		steps--
		if whole && add(i, prefix, pos, len(b)) {
			done()
		}
		w := suffix
		if whole {
			w = exact
		}
		next := after(i)
		if len(next) == 0 && i+1 >= len(slots) {
			return
		}
		for e := pos + 1; e < len(b); e++ {
			if steps--; steps < 0 {
				return
			}
			if len(next) > 0 && next[0] != b[e] && !n.fold {
				continue
			}
			rest := b[e:]
			if len(rest) <= len(next) {
				if n.equal(next[:len(rest)], rest) && add(i, w, pos, e) {
					done()
				}
			} else if n.equal(next, rest[:len(next)]) && add(i, w, pos, e) {
				at(i+1, e+len(next), true)
				cur = cur[:len(cur)-1]
			}
		}
	}
	for i := range slots {
		l := slots[i].before
		for k := 1; k <= len(l) && k < len(b); k++ {
			if (l[len(l)-1] == b[k-1] || n.fold) && n.equal(l[len(l)-k:], b[:k]) {
				at(i, k, true)
			}
		}
		at(i, 0, false)
	}
	return out, steps >= 0 && len(out) <= alignSteps/4
}

// fits reports whether a time of the layout can hold the text so.
func fits(l template.Layout, w way, part []byte, fold bool) bool {
	return fitsAfter(nil, l, w, part, fold)
}

// fitsAfter is fits of times that all begin with the same text.
func fitsAfter(begin []byte, l template.Layout, w way, part []byte, fold bool) bool {
	shape := l.Shape()
	if len(part) > len(shape) {
		return false
	}
	from, to := 0, len(shape)-len(part)
	switch w {
	case exact:
		if to > 0 {
			return false
		}
	case prefix:
		to = 0
	case suffix:
		from = to
	}
	for ; from <= to; from++ {
		if fitsAt(begin, shape, from, part, fold) {
			return true
		}
	}
	return false
}

// fitsAt reports whether a time can hold the text at a place.
func fitsAt(begin, shape []byte, place int, part []byte, fold bool) bool {
	for i, c := range part {
		if at := place + i; at < len(begin) {
			if b := begin[at]; b != c && !(fold && b-'A' < 26 && b|0x20 == c) {
				return false
			}
		} else if !fitsByte(shape[at], c, fold) {
			return false
		}
	}
	return true
}

func fitsByte(shape, c byte, fold bool) bool {
	switch shape {
	case '9':
		return c-'0' < 10
	case 'A':
		return (c|0x20)-'a' < 26
	case '_':
		return c == ' ' || c-'0' < 10
	}
	return c == shape || fold && shape-'A' < 26 && c == shape|0x20
}

// possible reports whether a column with such a summary can hold the text so. It errs
// on the side of true.
func possible(s *column.Summary, w way, part []byte, fold bool) bool {
	if len(part) > s.MaxLen || w == exact && len(part) < s.MinLen || !classesAllow(s.Classes, part, fold) {
		return false
	}
	if (w == exact || len(part) == s.MaxLen) && s.Plain {
		x, ok := column.ParseUint(part)
		return ok && x >= s.Min && x <= s.Max
	}
	return true
}

func classesAllow(have column.Class, part []byte, fold bool) bool {
	var need column.Class
	for _, c := range part {
		need |= column.ClassOf(c)
	}
	if !fold {
		return need&^have == 0
	}
	either := func(c column.Class) bool { return need&c == 0 || have&c != 0 }
	return either(column.Digit) && either(column.Other) && either(column.Low|column.Up) && either(column.LowHex|column.UpHex)
}
