package template

import (
	"fmt"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// Analyzer learns the templates of the lines of one section, or of one after the other.
// It is for one goroutine at a time.
type Analyzer struct {
	tok    tokenizer
	begun  bool
	learn  bool // look for layouts in the next block
	merger *merger
	ids    columnIDs // by context
	cols   []Column
	limit  int // of columns
	lines  int

	contexts []slotContext // scratch
	colsSlab slab[uint32]

	refs   []column.Ref
	ints   []int64
	places []int
	sums   []int // scratch
	block  Block
	slots  []Slot  // of merged templates
	counts []int32 // of slots, by merged template
}

// Column is a column of the section.
type Column struct {
	// IsTime tells that the values are in-line times of the layout: entry times,
	// floored to its unit, less the times.
	IsTime bool
	Layout Layout
}

// Values are the values of one column in one block, in the order of their rows.
type Values struct {
	Column uint32       // of the section
	Refs   []column.Ref // within the lines' slab
	Deltas []int64      // instead, if the column is one of times
}

// Block is what Analyze makes of the lines of one block.
type Block struct {
	Rows      []uint32 // template of each row, as a number of the section
	Templates []Count  // those in use, the most frequent first
	Columns   []Values // those in use, ascending
	RawRows   int      // rows kept whole
}

// Count is a template and how many rows of a block have it.
type Count struct {
	Template, Rows uint32
}

// NewAnalyzer returns an analyzer for a new section.
func NewAnalyzer() *Analyzer {
	a := &Analyzer{limit: maxColumns}
	a.Reset()
	return a
}

// Reset forgets all that was learnt, for another section.
func (a *Analyzer) Reset() {
	a.begun, a.lines = false, 0
	a.ids.reset()
	a.cols, a.merger = a.cols[:0], newMerger()
}

// Next begins another section, of which no block was analyzed yet, with what was learnt
// from lines of the last: templates, words that vary, layouts of times. Of too many
// templates none are kept, of too many words nothing: of more than so many quarters of what
// a section may have, so that it has room to learn. Columns are numbered anew.
func (a *Analyzer) Next(quarters int) {
	a.next(maxRaws/4*quarters, maxText/4*quarters, maxContexts/4*quarters)
}

func (a *Analyzer) next(raws, text, contexts int) {
	t, m := &a.tok, a.merger
	if !a.begun || len(m.words.all)+len(m.quoted.all) > contexts {
		a.Reset()
		return
	}
	a.learn, a.lines = true, 0
	a.ids.reset()
	a.cols = a.cols[:0]
	if len(t.raws) > raws || t.text > text || len(m.out) > maxFinals/maxRaws*raws || m.text > maxFinalText/maxText*text {
		found := t.layouts
		t.reset(found)
		a.merger = &merger{words: m.words, quoted: m.quoted, active: m.active, kinds: map[uint64]*kind{}, buf: m.buf}
		return
	}
	for i := range m.out {
		m.out[i].cols = nil
	}
}

// Lend gives the memory that only serves while a block is analyzed to another analyzer.
// What a's last call of Analyze returned becomes invalid.
func (a *Analyzer) Lend(to *Analyzer) {
	t, o := &a.tok, &to.tok
	o.rows, o.slots, o.deltas, o.buf = t.rows, t.slots, t.deltas, t.buf
	t.rows, t.slots, t.deltas, t.buf = nil, nil, nil, nil
	to.refs, to.ints, to.places, to.sums, to.slots, to.counts, to.block = a.refs, a.ints, a.places, a.sums, a.slots, a.counts, a.block
	a.refs, a.ints, a.places, a.sums, a.slots, a.counts, a.block = nil, nil, nil, nil, nil, nil, Block{}
}

// MemorySize returns about how many bytes of memory what was learnt takes.
func (a *Analyzer) MemorySize() int {
	t, m := &a.tok, a.merger
	n := 8<<10 + 4*len(t.table) + 128*len(t.raws) + t.text + 64*len(m.out) + 4*len(m.index) + m.text + 32*cap(a.ids.contexts) + 4*len(a.ids.table) + 96*len(m.kinds)
	for i := range t.raws {
		n += 24 * len(t.raws[i].spans)
	}
	for i := range m.tokens {
		n += 64*cap(m.tokens[i]) + 40*cap(m.quotes[i]) + 56
	}
	for _, c := range []*contexts{&m.words, &m.quoted} {
		for i := range c.all {
			n += 64 + 8*cap(c.all[i].shapes)
		}
	}
	return n
}

// Analyze cuts the lines of the section's next block, whose entries have these
// times, into templates and values. The result is valid until the next call. Lines
// are at most 1 GiB together.
//
// kinds, if they are not nil, say of lines up to the given ends what they are likely to
// be like: words of lines of different kinds are not compared with each other.
func (a *Analyzer) Analyze(lines *model.Strings, times []int64, ends []uint32, kinds []uint64) (*Block, error) {
	if lines.Len() != len(times) || len(lines.Slab) > 1<<30 {
		return nil, fmt.Errorf("%d lines of %d bytes with %d times", lines.Len(), len(lines.Slab), len(times))
	}
	t := &a.tok
	if !a.begun {
		t.reset(nil)
		a.learn = true
		a.begun = true
	}
	if a.learn {
		t.extend(learnLayouts(lines, times))
		a.learn = false
	}
	t.begin()
	start := uint32(0)
	t.kind = 0
	for i, end := range lines.Ends {
		for ; len(kinds) > 0 && len(ends) > 0 && int(ends[0]) <= i; ends, kinds = ends[1:], kinds[1:] {
		}
		if len(kinds) > 0 {
			t.kind = kinds[0]
		}
		t.line(lines.Slab[start:end], start, times[i])
		start = end
	}
	a.lines += len(times)
	a.merger.merge(t.raws, a.lines)
	a.assign()
	a.scatter(lines)
	return &a.block, nil
}

// Whole is Analyze that learns nothing: all lines are kept as they are. A section's blocks
// may be analyzed one way or the other.
func (a *Analyzer) Whole(lines *model.Strings) (*Block, error) {
	n := lines.Len()
	if n == 0 || len(lines.Slab) > 1<<30 {
		return nil, fmt.Errorf("%d lines of %d bytes", n, len(lines.Slab))
	}
	t := &a.tok
	if !a.begun {
		t.reset(nil)
		a.learn, a.begun = true, true
	}
	t.begin()
	t.raws[0].rows = n
	a.lines += n
	a.merger.merge(t.raws, a.lines)
	a.assign()
	raw := t.raws[0].final
	b := &a.block
	a.refs, b.Rows = grow(a.refs, n), grow(b.Rows, n)
	a.slots, a.counts = grow(a.slots, n), grow(a.counts, len(a.merger.out))
	clear(a.counts)
	a.counts[raw] = 1
	start := uint32(0)
	for i, end := range lines.Ends {
		b.Rows[i], a.refs[i], a.slots[i] = uint32(raw), column.MakeRef(start, end-start), Slot(start)<<32|Slot(end-start)
		start = end
	}
	b.Templates = append(b.Templates[:0], Count{uint32(raw), uint32(n)})
	b.Columns = append(b.Columns[:0], Values{Column: a.merger.out[raw].cols[0], Refs: a.refs})
	b.RawRows = n
	return b, nil
}

// Learn makes the analyzer look for in-line times of further layouts in the next block,
// as it does in a section's first: its lines may be of another kind than those before.
func (a *Analyzer) Learn() { a.learn = true }

// Slots returns where the values of the block that was analyzed last are: those of all
// rows one behind the other, in the order of the templates' slots; and how many there are
// in a row of each template. All is valid until the next call of Analyze.
func (a *Analyzer) Slots() (slots []Slot, counts []int32) { return a.slots, a.counts }

// Layouts returns the layouts of in-line times that the section's lines have.
func (a *Analyzer) Layouts() []Layout { return a.tok.layouts }

// slotContext is what decides a slot's column.
type slotContext struct {
	hash uint64
	time bool
	lay  Layout
	nth  uint64 // within a template
}

const rawContext = 0x1c5a3d

// columnIDs numbers contexts.
type columnIDs struct {
	contexts []slotContext
	table    []uint32 // open addressing, number+1
}

func (x *columnIDs) reset() {
	x.contexts = x.contexts[:0]
	clear(x.table)
}

// key returns a hash: of what is a time the layout is in c.hash.
func (c *slotContext) key() uint64 { return salted(c.hash + c.nth*0xD6E8FEB86659FD93) }

// id returns the number of a context, and whether it is a new one, the next.
func (x *columnIDs) id(c slotContext) (id uint32, fresh bool) {
	if len(x.contexts)*2 >= len(x.table) {
		x.table = make([]uint32, max(256, 4*len(x.contexts)))
		for i := range x.contexts {
			at := x.contexts[i].key() & uint64(len(x.table)-1)
			for x.table[at] != 0 {
				at = (at + 1) & uint64(len(x.table)-1)
			}
			x.table[at] = uint32(i + 1)
		}
	}
	at := c.key() & uint64(len(x.table)-1)
	for ; x.table[at] != 0; at = (at + 1) & uint64(len(x.table)-1) {
		if k := x.table[at] - 1; x.contexts[k] == c {
			return k, false
		}
	}
	x.contexts = append(x.contexts, c)
	x.table[at] = uint32(len(x.contexts))
	return uint32(len(x.contexts) - 1), true
}

// slotContexts returns the contexts of a template's slots: the last bytes of
// literal text before a slot, and where that says little, the slot before.
// They are appended to out, which is empty.
func slotContexts(out []slotContext, text []byte) []slotContext {
	var seen map[slotContext]uint64 // if there are many
	prev, lit := uint64(0), 0
	for p := 0; p < len(text); p++ {
		mark := text[p]
		if mark > markRaw {
			continue
		}
		before := text[lit:p]
		letters := 0
		for k := len(before) - 1; k >= 0 && letters < 3; k-- {
			if column.ClassOf(before[k])&(column.Digit|column.Other) == 0 {
				letters++
			}
		}
		c := slotContext{hash: hashText(before[max(0, len(before)-8):])}
		if letters < 3 {
			c.hash = mix(prev, c.hash)
		}
		switch mark {
		case markTime:
			c.time, c.lay = true, Layout(text[p+1]-layoutBase)
			c.hash = mix(c.hash, 1000+uint64(c.lay))
			p++
		case markRaw:
			c.hash = rawContext
		}
		prev = c.hash
		n := uint64(0)
		if len(out) < 32 {
			for i := range out {
				if o := &out[i]; o.hash == c.hash && o.time == c.time && o.lay == c.lay {
					n++
				}
			}
		} else {
			if seen == nil {
				seen = map[slotContext]uint64{}
				for _, o := range out {
					o.nth = 0
					seen[o]++
				}
			}
			n = seen[c]
			seen[c] = n + 1
		}
		c.nth = n
		out = append(out, c)
		lit = p + 1
	}
	return out
}

// maxColumns is how many columns a section has at most, but for that of raw lines: half of
// those that readers accept.
const maxColumns = column.MaxColumns / 2

// assign gives the slots of the templates in use columns. Rows of templates for which
// there is no room are raw.
func (a *Analyzer) assign() {
	raw := &a.merger.out[a.tok.raws[0].final]
	for i := range a.merger.out {
		f := &a.merger.out[i]
		if f.rows > 0 && f.cols == nil && !a.place(f) {
			raw.rows += f.rows
			f.rows = 0
		}
	}
	if raw.rows > 0 && raw.cols == nil { // it was passed before
		a.place(raw)
	}
}

// place gives the slots of a template columns; false: there may be no room for them.
func (a *Analyzer) place(f *finalTemplate) bool {
	a.contexts = slotContexts(a.contexts[:0], f.text)
	contexts := a.contexts
	if isRaw := len(contexts) == 1 && contexts[0].hash == rawContext; !isRaw && len(a.cols)+len(contexts) > a.limit {
		return false
	}
	f.cols = a.colsSlab.take(len(contexts))
	for i, c := range contexts {
		id, fresh := a.ids.id(c)
		if fresh {
			a.cols = append(a.cols, Column{IsTime: c.time, Layout: c.lay})
		}
		f.cols[i] = id
	}
	return true
}

// scatter gathers the values of every column.
func (a *Analyzer) scatter(lines *model.Strings) {
	t, finals := &a.tok, a.merger.out
	b := &a.block
	counts := grow(a.sums, len(a.cols))
	a.sums = counts
	clear(counts)
	b.Templates = b.Templates[:0]
	for i := range finals {
		f := &finals[i]
		if f.rows == 0 {
			continue
		}
		b.Templates = append(b.Templates, Count{uint32(i), uint32(f.rows)})
		for _, c := range f.cols {
			counts[c] += f.rows
		}
	}
	sortCounts(b.Templates)
	refs, ints := 0, 0
	next := grow(a.places, len(a.cols)) // place in refs or ints of each column's next value
	a.places = next
	for c, n := range counts {
		if a.cols[c].IsTime {
			next[c] = ints
			ints += n
		} else {
			next[c] = refs
			refs += n
		}
	}
	a.refs, a.ints = grow(a.refs, refs), grow(a.ints, ints)
	b.Columns = b.Columns[:0]
	for c, n := range counts {
		if n == 0 {
			continue
		}
		v := Values{Column: uint32(c)}
		if at := next[c]; a.cols[c].IsTime {
			v.Deltas = a.ints[at : at+n : at+n]
		} else {
			v.Refs = a.refs[at : at+n : at+n]
		}
		b.Columns = append(b.Columns, v)
	}
	b.Rows = grow(b.Rows, len(t.rows))
	a.slots, a.counts = a.slots[:0], grow(a.counts, len(finals))
	for i := range finals {
		a.counts[i] = int32(len(finals[i].cols))
	}
	slot, deltas := 0, t.deltas
	start := uint32(0)
	b.RawRows = t.raws[0].rows
	for i, end := range lines.Ends {
		r := &t.raws[t.rows[i]]
		b.Rows[i] = uint32(r.final)
		cols := finals[r.final].cols
		slots := t.slots[slot : slot+r.slots]
		slot += r.slots
		if cols == nil { // there was no room: it is raw
			raw := t.raws[0].final
			b.Rows[i] = uint32(raw)
			b.RawRows++
			at := &next[finals[raw].cols[0]]
			a.refs[*at] = column.MakeRef(start, end-start)
			*at++
			a.slots = append(a.slots, Slot(start)<<32|Slot(end-start))
			for _, v := range slots {
				if v&timeFlag != 0 {
					deltas = deltas[1:]
				}
			}
			start = end
			continue
		}
		if r.same {
			cols = cols[:len(slots)]
			a.slots = append(a.slots, slots...)
			for k, v := range slots {
				at := &next[cols[k]]
				if v&timeFlag == 0 {
					a.refs[*at] = column.Ref(v)
				} else {
					a.ints[*at] = deltas[0]
					deltas = deltas[1:]
				}
				*at++
			}
			start = end
			continue
		}
		for k, s := range r.spans {
			at := &next[cols[k]]
			if s.whole {
				from, to := start, start
				if s.start >= 0 {
					from = slots[s.start].End()
				}
				if s.end >= 0 {
					to = slots[s.end].End()
				}
				from += s.startOff
				a.refs[*at] = column.MakeRef(from, to+s.endOff-from)
				a.slots = append(a.slots, Slot(a.refs[*at]))
			} else if v := slots[s.start]; v&timeFlag == 0 {
				a.refs[*at] = column.Ref(v)
				a.slots = append(a.slots, v)
			} else {
				a.ints[*at] = deltas[0]
				deltas = deltas[1:]
				a.slots = append(a.slots, v)
			}
			*at++
		}
		start = end
	}
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}
