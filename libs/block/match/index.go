package match

import (
	"bytes"
	"sort"
	"sync"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
)

// index is what a section's templates say about where needles can be, made once for a
// section: which templates have the needle in literal text, and which have text before
// or behind a slot that a needle over both would need.
type index struct {
	section *lines.Section
	texts   text       // of all templates, end to end
	ends    []int      // where each ends
	tails   []edge     // literal text before slots
	heads   []edge     // literal text behind slots
	always  []uint32   // templates that have slots with nothing between
	columns [][]uint32 // templates that use a column
}

// text is searched in either case.
type text struct{ as, lower []byte }

func (t *text) of(fold bool) []byte {
	if fold {
		return t.lower
	}
	return t.as
}

// edge is literal text next to a slot, up to edgeLen bytes of it.
type edge struct {
	text, lower []byte
	templates   []uint32
}

func (e *edge) of(fold bool) []byte {
	if fold {
		return e.lower
	}
	return e.text
}

const (
	edgeLen   = 8
	separator = 2 // in no template's text but that of whole lines
)

func indexOf(s *lines.Section) *index {
	return s.Derived(func() any { return newIndex(s) }).(*index)
}

func newIndex(s *lines.Section) *index {
	x := &index{section: s, columns: make([][]uint32, len(s.Table.Columns))}
	tails, heads := edges{at: map[string]int{}}, edges{at: map[string]int{}}
	for i := range s.Table.Templates {
		t := &s.Table.Templates[i]
		x.texts.as = append(append(x.texts.as, t.Text...), separator)
		x.ends = append(x.ends, len(x.texts.as))
		for _, c := range t.Columns {
			if l := x.columns[c]; len(l) == 0 || l[len(l)-1] != uint32(i) {
				x.columns[c] = append(l, uint32(i))
			}
		}
		always := false
		pieces := t.Pieces()
		for k := range pieces {
			lit := pieces[k].Literal
			if len(lit) == 0 {
				always = always || k > 0 && pieces[k].Slot
				continue
			}
			if pieces[k].Slot {
				tails.add(lit[max(0, len(lit)-edgeLen):], uint32(i))
			}
			if k > 0 {
				heads.add(lit[:min(edgeLen, len(lit))], uint32(i))
			}
		}
		if always {
			x.always = append(x.always, uint32(i))
		}
	}
	x.tails, x.heads = tails.list, heads.list
	x.texts.lower = lower(nil, x.texts.as)
	return x
}

type edges struct {
	at   map[string]int
	list []edge
}

func (e *edges) add(b []byte, t uint32) {
	i, ok := e.at[string(b)]
	if !ok {
		i = len(e.list)
		e.at[string(b)] = i
		e.list = append(e.list, edge{text: b, lower: lower(nil, b)})
	}
	l := e.list[i].templates
	if len(l) == 0 || l[len(l)-1] != t {
		e.list[i].templates = append(l, t)
	}
}

// How templates come into question for a needle.
const (
	inLiteral = 1 << iota // it is in literal text: every line holds it
	acrossSlots
	inSlot // a slot could hold all of it
)

// candidates says of every template how it comes into question; nil: none does in any
// way but inSlot.
func (x *index) candidates(n *needle) []byte {
	var out []byte
	mark := func(t uint32, how byte) {
		if out == nil {
			out = make([]byte, len(x.ends))
		}
		out[t] |= how
	}
	for _, t := range x.always {
		mark(t, acrossSlots)
	}
	texts := x.texts.of(n.fold)
	for p := 0; p < len(texts); {
		i := bytes.Index(texts[p:], n.text)
		if i < 0 {
			break
		}
		t := sort.SearchInts(x.ends, p+i+1)
		if x.literal(uint32(t), n) {
			mark(uint32(t), inLiteral)
			p = x.ends[t]
		} else {
			p += i + 1
		}
	}
	var begins, ends [256]bool // bytes that the needle has behind, or before, another one
	for i, c := range n.text {
		begins[c] = begins[c] || i > 0
		ends[c] = ends[c] || i < len(n.text)-1
	}
	for i := range x.tails {
		e := &x.tails[i]
		if b := e.of(n.fold); ends[b[len(b)-1]] && tailFits(b, n.text) {
			for _, t := range e.templates {
				mark(t, acrossSlots)
			}
		}
	}
	for i := range x.heads {
		e := &x.heads[i]
		if b := e.of(n.fold); begins[b[0]] && headFits(b, n.text) {
			for _, t := range e.templates {
				mark(t, acrossSlots)
			}
		}
	}
	return out
}

// literal reports whether the needle is in literal text of a template: a needle with
// bytes that are marks may be found in its text otherwise.
func (x *index) literal(t uint32, n *needle) bool {
	for _, c := range n.text {
		if c <= lastMark || c >= 0x80 {
			m := &x.section.Table.Templates[t]
			for _, p := range m.Pieces() {
				if n.in(p.Literal) {
					return true
				}
			}
			return false
		}
	}
	return true
}

// tailFits reports whether a slot can follow within the needle on text that ends in b.
func tailFits(b, needle []byte) bool {
	for p := 1; p < len(needle); p++ {
		m := min(p, len(b))
		if needle[p-1] == b[len(b)-1] && string(b[len(b)-m:]) == string(needle[p-m:p]) {
			return true
		}
	}
	return false
}

// headFits reports whether text that begins with b can follow on a slot within the needle.
func headFits(b, needle []byte) bool {
	for p := 1; p < len(needle); p++ {
		m := min(len(needle)-p, len(b))
		if needle[p] == b[0] && string(b[:m]) == string(needle[p:p+m]) {
			return true
		}
	}
	return false
}

// slot is a slot of a template.
type slot struct {
	before []byte // literal text
	column uint32
	nth    int // of the template's slots of the column
	isTime bool
	layout template.Layout
}

// slotList is the slots of a template and the text behind the last one; its memory is
// used again.
type slotList struct {
	slots  []slot
	last   []byte
	pieces []template.Piece
}

var slotLists = sync.Pool{New: func() any { return new(slotList) }}

func (l *slotList) set(t *template.Template) {
	l.pieces = t.AppendPieces(l.pieces[:0])
	n := len(l.pieces) - 1
	l.slots, l.last = l.slots[:0], l.pieces[n].Literal
	for i := range l.pieces[:n] {
		p := &l.pieces[i]
		l.slots = append(l.slots, slot{before: p.Literal, column: p.Column, nth: nthOf(t, i), isTime: p.IsTime, layout: p.Layout})
	}
}

// nthOf returns how many slots of the same column a template has before slot i.
func nthOf(t *template.Template, i int) (n int) {
	for _, c := range t.Columns[:i] {
		if c == t.Columns[i] {
			n++
		}
	}
	return n
}
