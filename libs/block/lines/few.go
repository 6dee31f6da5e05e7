package lines

import (
	"sync"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

// maxFew is how many rows are printed without their columns being unpacked.
const maxFew = 256

// maxFewPaged is likewise for blocks with pages, of which few rows need few.
const maxFewPaged = 1024

// few reports whether so few of the block's rows are asked for that it is better not to
// unpack columns for them.
func (b *Body) few(rows int) bool {
	if b.paged != nil {
		return rows <= maxFewPaged && rows <= b.info.Rows/4
	}
	return rows <= maxFew && rows <= b.info.Rows/16
}

// printFew appends the lines and times of few rows, which ascend. It is Select that
// does not unpack columns, and so leaves little in memory.
func (b *Body) printFew(rows []uint32, dst *model.Rows) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := roomFor(b, dst); err != nil {
		return err
	}
	tids, err := b.fewTemplates(int(rows[0]))
	if err != nil {
		return err
	}
	var times []int64 // of rows from timesFrom on
	timesFrom := 0
	if b.views == nil {
		b.views = make([]*column.View, len(b.columns))
		b.memory += 8 * len(b.columns)
	}
	if b.fews++; b.fews > fewsToList && tids.n <= maxListed {
		b.invert()
		b.list()
	}
	w := fewWriters.Get().(*fewWriter)
	if err := w.begin(b, tids, rows); err != nil {
		return err
	}
	slab, ends, out := dst.Lines.Slab, grown(dst.Lines.Ends, len(rows)), grown(dst.Times, len(rows))
	limit := len(slab) + b.info.Bytes
	defer func() { b.ahead = nil }()
	if err := w.readAhead(rows); err != nil {
		return err
	}
	for _, r := range rows {
		if uint(int(r)-timesFrom) >= uint(len(times)) {
			if times, timesFrom, err = b.timesNear(int(r)); err != nil {
				return err
			}
		}
		time := times[int(r)-timesFrom]
		w.pass(int(r))
		if slab, err = w.append(slab, limit, time); err != nil {
			return err
		}
		ends = append(ends, uint32(len(slab)))
		out = append(out, time)
	}
	dst.Times, dst.Lines.Slab, dst.Lines.Ends = out, slab, ends
	w.end()
	return nil
}

// fewWriter prints rows one by one. What a block has many of, templates and columns, it
// looks at as far as the rows need it.
type fewWriter struct {
	body *Body
	tids *packedTemplates
	row  int // that the columns are at

	counts  []uint32 // of each template, rows passed; 0 but while they are counted
	known   []uint32 // of each template, its place in kinds, plus 1; 0: no row is of it
	places  []uint32 // of each column, its place in columns, plus 1; 0: no row has a value of it
	kinds   []fewTemplate
	pieces  []fewPiece
	columns []fewColumn
	text    []byte // of pieces that the values of constant columns were put in
	scratch []template.Piece
}

// fewTemplate is a template that rows are of.
type fewTemplate struct {
	number   uint16
	from, to int // of its pieces
}

// fewPiece is a piece of a template, with its column's place among those of the rows.
type fewPiece struct {
	template.Piece
	column int
}

// fewColumn is a column that rows have values in.
type fewColumn struct {
	number int    // in the block
	next   uint32 // value
	info   *column.Info
	values *column.Values // nil: it was not unpacked
	view   viewed         // that values were read of last
}

// viewed is a view of n of a column's values, from one on.
type viewed struct {
	view    *column.View
	from, n uint32
}

// fewWriters are kept for the next block, with room for as many templates and columns.
var fewWriters = sync.Pool{New: func() any { return new(fewWriter) }}

// maxKept is how many templates, columns or bytes the room of a writer that is kept is for.
const maxKept = 1 << 16

// end gives the writer back. One that failed is not: its lists are not clear.
func (w *fewWriter) end() {
	for _, k := range w.kinds {
		w.known[k.number] = 0
	}
	for _, c := range w.columns {
		w.places[c.number] = 0
	}
	clear(w.pieces) // they hold on to the section's texts
	clear(w.columns)
	clear(w.scratch[:cap(w.scratch)])
	w.body, w.tids = nil, nil
	w.kinds, w.pieces, w.columns, w.text = w.kinds[:0], w.pieces[:0], w.columns[:0], w.text[:0]
	if cap(w.counts) <= maxKept && cap(w.places) <= maxKept && cap(w.pieces) <= maxKept && cap(w.text) <= maxKept {
		fewWriters.Put(w)
	}
}

// zeros returns n zeros, given some.
func zeros(s []uint32, n int) []uint32 {
	if n <= cap(s) {
		return s[:n]
	}
	return make([]uint32, n)
}

// begin gets the writer ready for the rows of a block.
func (w *fewWriter) begin(b *Body, tids *packedTemplates, rows []uint32) error {
	w.body, w.tids = b, tids
	w.counts, w.known = zeros(w.counts, len(b.info.Templates)), zeros(w.known, len(b.info.Templates))
	w.places = zeros(w.places, len(b.columns))
	for _, r := range rows {
		if t := tids.at(int(r)); w.known[t] == 0 {
			if err := w.learn(t); err != nil {
				return err
			}
		}
	}
	w.seek(int(rows[0]))
	return nil
}

// learn gets a template ready. Values that are the same in all rows become part of its text.
func (w *fewWriter) learn(t uint16) error {
	b := w.body
	w.scratch = b.section.Table.Templates[b.info.Templates[t].Template].AppendPieces(w.scratch[:0])
	k := fewTemplate{number: t, from: len(w.pieces)}
	from := -1 // in w.text, the literal of the next piece
	for i := range w.scratch {
		p := fewPiece{Piece: w.scratch[i]}
		n := 0
		if p.Slot {
			n = b.place(p.Column)
		}
		same := p.Slot && b.columns[n].SameText()
		if same && from < 0 {
			from = len(w.text)
		}
		if from >= 0 {
			w.text = append(w.text, p.Literal...)
			if same {
				w.text = append(w.text, b.columns[n].Prefix...)
			}
			if len(w.text) > b.info.Bytes { // each template has a row
				return errTooLong(b.info)
			}
		}
		if same {
			continue
		}
		if from >= 0 {
			p.Literal = w.text[from:len(w.text):len(w.text)]
			from = -1
		}
		if p.Slot {
			if w.places[n] == 0 {
				w.columns = append(w.columns, fewColumn{number: n, info: &b.columns[n], values: b.openedAt(n)})
				w.places[n] = uint32(len(w.columns))
			}
			p.column = int(w.places[n]) - 1
		}
		w.pieces = append(w.pieces, p)
	}
	k.to = len(w.pieces)
	w.kinds = append(w.kinds, k)
	w.known[t] = uint32(len(w.kinds))
	return nil
}

// append appends the line of the row, and moves on.
func (w *fewWriter) append(slab []byte, limit int, time int64) ([]byte, error) {
	k := &w.kinds[w.known[w.tids.at(w.row)]-1]
	for i := k.from; i < k.to; i++ {
		s := &w.pieces[i]
		slab = append(slab, s.Literal...)
		if len(slab) > limit { // values that take no bytes may be long
			return slab, errTooLong(w.body.info)
		}
		if !s.Slot {
			break
		}
		c := &w.columns[s.column]
		i := int(c.next)
		c.next++
		v := c.values
		var view *column.View
		if v == nil {
			if uint32(i)-c.view.from >= c.view.n {
				var err error
				if c.view, err = w.viewOf(c, i); err != nil {
					return slab, err
				}
			}
			view, i = c.view.view, i-int(c.view.from)
		}
		if c.info.Kind == column.Signed {
			x := int64(0)
			if v != nil {
				x = v.Signed(i)
			} else {
				x = view.Signed(i)
			}
			at := s.Layout.Floor(time) - x
			if !s.Layout.InRange(at) {
				return slab, column.Corrupt("in-line time %d of row %d", at, w.row)
			}
			slab = s.Layout.Append(slab, at)
			continue
		}
		if v != nil {
			slab = v.Append(slab, i)
			continue
		}
		var err error
		if slab, err = view.Append(slab, i); err != nil {
			return slab, err
		}
	}
	w.row++
	return slab, nil
}

// viewOf returns a view that has value i of a column, which the row has.
func (w *fewWriter) viewOf(f *fewColumn, i int) (viewed, error) {
	b, c, n := w.body, f.info, f.number
	if view := b.views[n]; view != nil {
		return viewed{view, 0, uint32(c.N)}, nil
	}
	if p := b.paged[c.Frame]; p != nil && c.Size > 0 && b.frames[c.Frame] == nil && b.alone[c] == nil {
		if p.ofRows != nil {
			x, err := b.rowView(p, w.row, n)
			if err == nil && uint32(i)-x.from >= x.n {
				err = column.Corrupt("value %d of column %d is not in its page of rows", i, c.ID)
			}
			return x, err
		}
		return b.view(p, i)
	}
	p, err := b.payload(c)
	if err != nil {
		return viewed{}, err
	}
	return b.keepView(n, p)
}

// keepView makes a view of all values of a column.
func (b *Body) keepView(n int, payload []byte) (viewed, error) {
	c := &b.columns[n]
	view, err := column.NewView(c, payload)
	if err != nil {
		return viewed{}, err
	}
	b.views[n] = view
	b.memory += view.MemorySize()
	return viewed{view, 0, uint32(c.N)}, nil
}

// maxAhead is how many rows from the first to the last are close to each other.
const maxAhead = 1024

// readAhead reads what rows need together, if they are close to each other. The columns are
// at the first one.
func (w *fewWriter) readAhead(rows []uint32) error {
	b := w.body
	first, last := int(rows[0]), int(rows[len(rows)-1])
	if b.paged == nil || b.stored != nil || b.read == nil || last-first > maxAhead {
		return nil
	}
	n := make([]uint32, len(w.columns)) // values from the first row to the last
	for row := first; row <= last; row++ {
		w.counts[w.tids.at(row)]++
	}
	for row := first; row <= last; row++ {
		t := w.tids.at(row)
		rows := w.counts[t]
		if rows == 0 {
			continue
		}
		w.counts[t] = 0
		for _, id := range b.columnsOf(int(t)) {
			if at := w.places[b.place(id)]; at > 0 {
				n[at-1] += rows
			}
		}
	}
	var parts [][2]int
	need := func(p *pages, from, to int) { // values
		if p.head > 0 && p.dict == nil && p.times == nil {
			parts = append(parts, [2]int{p.at[0] - p.head, p.at[0]})
		}
		for k := from; k <= to; k++ {
			if p.column == nil && (p.rows == nil || p.rows[k] == nil) || p.column != nil && (p.views == nil || p.views[k] == nil) {
				parts = append(parts, [2]int{p.at[k], p.at[k+1]})
			}
		}
	}
	done := map[uint32]bool{}
	for i := range w.columns {
		c := &w.columns[i]
		k := c.info
		if k.Size == 0 || int(k.Frame) >= len(b.frames) || b.frames[k.Frame] != nil || c.values != nil || done[k.Frame] {
			continue
		}
		if p := b.paged[k.Frame]; p != nil && p.ofRows != nil {
			continue
		} else if p != nil {
			need(p, int(c.next)/p.count, int(c.next+n[i]-1)/p.count)
		} else {
			parts = append(parts, [2]int{b.offsets[k.Frame], b.offsets[k.Frame+1]})
		}
		done[k.Frame] = true
	}
	parts = append(parts, w.rowParts(first, last)...)
	p, err := b.timePages()
	if err != nil {
		return err
	}
	if p != nil {
		need(p, p.times.Part(first), p.times.Part(last))
	}
	return b.readAhead(parts)
}
