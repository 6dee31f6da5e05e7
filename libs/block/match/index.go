package match

import (
	"bytes"
	"encoding/binary"
	"sort"
	"sync"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
)

// index is what a section's templates say about where needles can be, made once for a
// section: which templates have the needle in literal text, and which have a slot between
// texts that a needle over it would need.
type index struct {
	section *lines.Section
	texts   text       // of all templates, end to end
	ends    []int      // where each ends
	tails   []edge     // literal text before slots
	heads   []edge     // literal text behind slots
	joints  []joint    // slots between a tail and a head
	slots   []uint32   // joints of all templates, end to end
	begin   []int      // where those of each template begin, and where the last ones end
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
	joints      []uint32
}

func (e *edge) of(fold bool) []byte {
	if fold {
		return e.lower
	}
	return e.text
}

// joint is slots of a column between the same edges.
type joint struct {
	column    uint32
	head      int // edge; -1: there is no text behind the slot
	templates []uint32
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
	tails, heads := edges{at: map[edgeKey]int{}}, edges{at: map[edgeKey]int{}}
	at := map[jointKey]int{}
	var pieces []template.Piece
	for i := range s.Table.Templates {
		t := &s.Table.Templates[i]
		x.texts.as = append(append(x.texts.as, t.Text...), separator)
		x.ends = append(x.ends, len(x.texts.as))
		for _, c := range t.Columns {
			x.columns[c] = appendLast(x.columns[c], uint32(i))
		}
		x.begin = append(x.begin, len(x.slots))
		always := false
		pieces = t.AppendPieces(pieces[:0])
		for k := range pieces[:len(pieces)-1] {
			key := jointKey{pieces[k].Column, -1, -1}
			if l := pieces[k].Literal; len(l) > 0 {
				key.tail = tails.add(l[max(0, len(l)-edgeLen):])
			} else {
				always = always || k > 0
			}
			if l := pieces[k+1].Literal; len(l) > 0 {
				key.head = heads.add(l[:min(edgeLen, len(l))])
			}
			j, ok := at[key]
			if !ok {
				j = len(x.joints)
				at[key] = j
				x.joints = append(x.joints, joint{column: key.column, head: key.head})
				if key.tail >= 0 {
					tails.list[key.tail].joints = append(tails.list[key.tail].joints, uint32(j))
				}
				if key.head >= 0 {
					heads.list[key.head].joints = append(heads.list[key.head].joints, uint32(j))
				}
			}
			x.slots = append(x.slots, uint32(j))
			x.joints[j].templates = appendLast(x.joints[j].templates, uint32(i))
		}
		if always {
			x.always = append(x.always, uint32(i))
		}
	}
	x.begin = append(x.begin, len(x.slots))
	x.tails, x.heads = tails.list, heads.list
	x.texts.lower = lower(nil, x.texts.as)
	return x
}

// appendLast appends a number if it is not the last one already.
func appendLast(l []uint32, n uint32) []uint32 {
	if len(l) > 0 && l[len(l)-1] == n {
		return l
	}
	return append(l, n)
}

type jointKey struct {
	column     uint32
	tail, head int
}

type edgeKey struct {
	bytes uint64
	n     int
}

type edges struct {
	at   map[edgeKey]int
	list []edge
}

func (e *edges) add(b []byte) int {
	var w [edgeLen]byte
	key := edgeKey{n: copy(w[:], b)}
	key.bytes = binary.LittleEndian.Uint64(w[:])
	i, ok := e.at[key]
	if !ok {
		i = len(e.list)
		e.at[key] = i
		e.list = append(e.list, edge{text: b, lower: lower(nil, b)})
	}
	return i
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
	r := run{index: x, needle: n}
	r.begins(func(t uint32) {
		if out == nil || out[t]&(acrossSlots|inLiteral) == 0 {
			if r.through(t) {
				mark(t, acrossSlots)
			}
		}
	})
	return out
}

// possible reports whether a value of a column can hold the text so.
func (x *index) possible(column uint32, w way, part []byte, fold bool) bool {
	s := x.section
	switch kind := &s.Table.Columns[column]; {
	case kind.IsTime:
		return fits(kind.Layout, w, part, fold)
	case s.Columns == nil:
		return true
	}
	return possible(&s.Columns[column], w, part, fold)
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
