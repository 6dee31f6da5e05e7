package match

import (
	"bytes"
	"math"
	"sort"
	"sync"

	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
)

// index is what a section's templates say about where needles can be, made once for a
// section: which templates have the needle in literal text, and which have a slot between
// texts that a needle over it would need.
type index struct {
	section *lines.Section
	text    []byte        // of all templates, end to end
	lower   func() []byte // the same in lower case
	grams   textGrams     // of it
	ends    []int         // where that of each ends
	tails   edges         // literal text before slots
	heads   edges         // literal text behind slots
	joints  []joint       // slots between a tail and a head
	slots   []uint32      // joints of all templates, end to end
	nth     []uint32      // of each of slots, how many of its template's slots of its column are before it
	begin   []int         // where those of each template begin, and where the last ones end
	always  []uint32      // templates that have slots with nothing between
	jointed lists         // templates by joint
	columns lists         // templates by column that they use
	briefs  []brief       // of columns
	around  []uint8       // hexadecimal digits that can be next to a value of a column; anyMore: any number
}

const anyMore = 255

// in returns the texts, in lower case if that is what needles are in.
func (x *index) in(fold bool) []byte {
	if fold {
		return x.lower()
	}
	return x.text
}

// edges are literal texts next to slots, up to edgeLen bytes of each.
type edges struct {
	list   []edge
	joints lists // by edge
}

// edge is text of the index.
type edge struct{ at, n int32 }

func (e edge) of(text []byte) []byte { return text[e.at : e.at+e.n] }

// joint is slots of a column between the same edges.
type joint struct {
	column     uint32
	tail, head int32 // edges; -1: there is no text
}

const edgeLen = 8

// Prepare works out what every needle is asked of a section's templates, if no program did: the
// section keeps it, and it counts for its memory.
func Prepare(s *lines.Section) { indexOf(s) }

func indexOf(s *lines.Section) *index {
	return s.Derived(func() (any, int) {
		x := newIndex(s)
		return x, x.size()
	}).(*index)
}

// size returns about how many bytes of memory the index takes, without the text in lower case,
// which counts once it is there.
func (x *index) size() int {
	n := 512 + textGramsSize(len(x.text)) + 8*(len(x.ends)+len(x.begin)) + 4*(2*len(x.slots)+len(x.always)) + 12*len(x.joints) + 4*len(x.briefs) + len(x.around)
	for _, e := range []*edges{&x.tails, &x.heads} {
		n += 8*len(e.list) + e.joints.size()
	}
	return n + x.jointed.size() + x.columns.size()
}

func newIndex(s *lines.Section) *index {
	all := s.Table.Templates
	x := &index{section: s, text: s.Table.Texts(), ends: make([]int, len(all)), begin: make([]int, len(all)+1), around: make([]uint8, len(s.Table.Columns))}
	x.lower = sync.OnceValue(func() []byte {
		s.Grow(len(x.text))
		return lower(nil, x.text)
	})
	at := 0
	for i := range all {
		at += len(all[i].Text)
		x.ends[i] = at
		x.begin[i+1] = x.begin[i] + len(all[i].Columns)
	}
	x.slots, x.nth = make([]uint32, 0, x.begin[len(all)]), make([]uint32, 0, x.begin[len(all)])
	seen := make([]uint32, len(s.Table.Columns)) // slots of each, of a template
	j := newJointer(x.text)
	for i := range all {
		t := &all[i]
		base, always := x.ends[i]-len(t.Text), false
		literal := 0 // where the text before the slot begins
		from, to := template.NextSlot(t.Text, 0)
		for k := 0; from < len(t.Text); k++ {
			after, behind := template.NextSlot(t.Text, to)
			always = always || k > 0 && from == literal
			around := digitsAround(t.Text[literal:from], t.Text[to:after], k == 0, after == len(t.Text))
			x.around[t.Columns[k]] = max(x.around[t.Columns[k]], around)
			x.slots = append(x.slots, j.add(t.Columns[k], base+from, min(edgeLen, from-literal), base+to, min(edgeLen, after-to)))
			x.nth = append(x.nth, seen[t.Columns[k]])
			seen[t.Columns[k]]++
			literal, from, to = to, after, behind
		}
		for _, c := range t.Columns {
			seen[c] = 0
		}
		if always {
			x.always = append(x.always, uint32(i))
		}
	}
	x.joints, x.tails, x.heads = j.finish()
	x.briefs = briefsOf(s)
	x.jointed = invert(len(x.joints), len(all), func(i int) []uint32 { return x.slots[x.begin[i]:x.begin[i+1]] })
	x.columns = invert(len(s.Table.Columns), len(all), func(i int) []uint32 { return all[i].Columns })
	return x
}

// How templates come into question for a needle.
const (
	inLiteral = 1 << iota // it is in literal text: every line holds it
	acrossSlots
	inShortSlot // a slot could hold all of it, and its runs of digits are short
	inMidSlot   // or not long
	inLongSlot  // or of any length
	inTimeSlot  // that is of in-line times; one of those above is set, too

	inSlot = inShortSlot | inMidSlot | inLongSlot
)

// digitsAround returns how many hexadecimal digits can be next to a value in a slot, between
// two texts: nothing is before the first one, or behind the last one, if that is said.
func digitsAround(before, behind []byte, first, last bool) uint8 {
	n, m := 0, 0
	for n < len(before) && hexDigit(before[len(before)-1-n]) {
		n++
	}
	for m < len(behind) && hexDigit(behind[m]) {
		m++
	}
	if n == len(before) && !first || m == len(behind) && !last || n+m >= anyMore {
		return anyMore
	}
	return uint8(n + m)
}

func hexDigit(c byte) bool { return c-'0' < 10 || c|0x20-'a' < 6 }

// mostIn returns how long values of a column are at most in the section.
func (x *index) mostIn(column uint32) int {
	if x.section.Columns == nil {
		return math.MaxInt32
	}
	return x.section.Columns[column].MaxLen
}

// slotOf returns of what sort slots are whose values are of a column and have most bytes at
// most: how long the runs of hexadecimal digits can be that these lie in.
func (x *index) slotOf(column uint32, most int) (how byte) {
	if kind := &x.section.Table.Columns[column]; kind.IsTime {
		most = longestRun(kind.Layout.Shape())
		how = inTimeSlot
	}
	switch around := int(x.around[column]); {
	case around == anyMore || most > grams.MidRun-around:
		return how | inLongSlot
	case most > grams.ShortRun-around:
		return how | inMidSlot
	}
	return how | inShortSlot
}

// longestRun returns how many hexadecimal digits times of a shape have at most next to each
// other.
func longestRun(shape []byte) (most int) {
	n := 0
	for _, c := range shape {
		n++
		if c != 'A' && c != '_' && !hexDigit(c) { // '9' is one
			n = 0
		}
		most = max(most, n)
	}
	return most
}

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
	texts := x.in(n.fold)
	if !x.grams.may(x.text, n.text) {
		texts = nil
	}
	for p := 0; p < len(texts); {
		i := bytes.Index(texts[p:], n.text)
		if i < 0 {
			break
		}
		t := sort.SearchInts(x.ends, p+i+1)
		// Texts have nothing between them: the needle may be in none.
		if p+i+len(n.text) <= x.ends[t] && x.literal(uint32(t), n) {
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

func (l *slotList) set(x *index, number uint32) {
	l.pieces = x.section.Table.Templates[number].AppendPieces(l.pieces[:0])
	n := len(l.pieces) - 1
	l.slots, l.last = l.slots[:0], l.pieces[n].Literal
	for i := range l.pieces[:n] {
		p := &l.pieces[i]
		l.slots = append(l.slots, slot{before: p.Literal, column: p.Column, nth: x.nthOf(number, i), isTime: p.IsTime, layout: p.Layout})
	}
}

// nthOf returns how many slots of the same column a template has before a slot.
func (x *index) nthOf(number uint32, slot int) int { return int(x.nth[x.begin[number]+slot]) }
