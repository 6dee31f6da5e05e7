package lines

import (
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

// maxFew is how many rows are printed without their columns being unpacked.
const maxFew = 256

// few reports whether so few of the block's rows are asked for that it is better not to
// unpack columns for them.
func (b *Body) few(rows int) bool { return rows <= maxFew && rows <= b.info.Rows/16 }

// printFew appends the lines and times of few rows, which ascend. It is Select that
// does not unpack columns, and so leaves little in memory.
func (b *Body) printFew(rows []uint32, dst *model.Rows) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := roomFor(b, dst); err != nil {
		return err
	}
	tids, err := b.rowTemplates()
	if err != nil {
		return err
	}
	var times []int64 // of rows from timesFrom on
	timesFrom := 0
	if b.views == nil {
		b.views = make([]*column.View, len(b.columns))
		b.memory += 8 * len(b.columns)
	}
	w := fewWriter{body: b, tids: tids, cursors: make([]uint32, len(b.columns)), counts: make([]uint32, len(b.info.Templates))}
	w.use(rows)
	slab, ends, out := dst.Lines.Slab, grown(dst.Lines.Ends, len(rows)), grown(dst.Times, len(rows))
	limit := len(slab) + b.info.Bytes
	w.begin(int(rows[0]))
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
		if slab, err = w.append(slab, time); err != nil {
			return err
		}
		if len(slab) > limit {
			return errTooLong(b.info)
		}
		ends = append(ends, uint32(len(slab)))
		out = append(out, time)
	}
	dst.Times, dst.Lines.Slab, dst.Lines.Ends = out, slab, ends
	return nil
}

// fewWriter prints rows one by one.
type fewWriter struct {
	body    *Body
	tids    []uint16
	row     int      // that the cursors are at
	cursors []uint32 // of each column, its next value
	used    []int32  // columns that are printed
	counts  []uint32 // of each template, rows passed
	counted bool     // once
	pieces  [][]template.Piece
}

// invert finds which templates have values in each column. Call with mu held.
func (b *Body) invert() {
	if b.usersAt != nil {
		return
	}
	b.usersAt = make([]int32, len(b.columns)+1)
	n := 0
	for t := range b.info.Templates {
		cols := b.columnsOf(t)
		n += len(cols)
		for _, id := range cols {
			b.usersAt[b.place(id)]++
		}
	}
	at := int32(0)
	for c, k := range b.usersAt {
		b.usersAt[c] = at
		at += k
	}
	b.users = make([]uint16, n)
	next := slices.Clone(b.usersAt)
	for t := range b.info.Templates {
		for _, id := range b.columnsOf(t) {
			c := b.place(id)
			b.users[next[c]] = uint16(t)
			next[c]++
		}
	}
	b.memory += 4*len(b.usersAt) + 2*n
}

// use notes which columns rows have values in.
func (w *fewWriter) use(rows []uint32) {
	columns := make([]bool, len(w.cursors))
	for _, r := range rows {
		t := w.tids[r]
		if w.counts[t] > 0 {
			continue
		}
		w.counts[t] = 1
		for _, id := range w.body.columnsOf(int(t)) {
			if c := w.body.place(id); !columns[c] {
				columns[c] = true
				w.used = append(w.used, int32(c))
			}
		}
	}
	clear(w.counts)
}

// begin sets the cursors for the first row, from the nearer end of the block.
func (w *fewWriter) begin(row int) {
	back := row > len(w.tids)/2
	if back {
		for _, c := range w.used {
			w.cursors[c] = uint32(w.body.columns[c].N)
		}
		w.count(row, len(w.tids), true)
	} else {
		w.count(0, row, false)
	}
	w.row = row
}

// count moves the cursors by the values that rows have.
func (w *fewWriter) count(from, to int, back bool) {
	for _, t := range w.tids[from:to] {
		w.counts[t]++
	}
	if !w.counted && w.body.usersAt == nil {
		// Whoever counts once need not know which templates use a column.
		w.counted = true
		for t, n := range w.counts {
			if n == 0 {
				continue
			}
			if back {
				n = -n
			}
			for _, id := range w.body.columnsOf(t) {
				w.cursors[w.body.place(id)] += n
			}
		}
		clear(w.counts)
		return
	}
	w.body.invert()
	for _, c := range w.used {
		n := uint32(0)
		for _, t := range w.body.users[w.body.usersAt[c]:w.body.usersAt[c+1]] {
			n += w.counts[t]
		}
		if back {
			n = -n
		}
		w.cursors[c] += n
	}
	clear(w.counts)
}

// pass moves to a later row.
func (w *fewWriter) pass(row int) {
	if row-w.row > len(w.counts)/8 {
		w.count(w.row, row, false)
		w.row = row
	}
	for ; w.row < row; w.row++ {
		for _, id := range w.body.columnsOf(int(w.tids[w.row])) {
			w.cursors[w.body.place(id)]++
		}
	}
}

// append appends the line of the row, and moves on.
func (w *fewWriter) append(slab []byte, time int64) ([]byte, error) {
	b := w.body
	t := w.tids[w.row]
	if w.pieces == nil {
		w.pieces = make([][]template.Piece, len(b.info.Templates))
	}
	if w.pieces[t] == nil {
		w.pieces[t] = b.section.Table.Templates[b.info.Templates[t].Template].Pieces()
	}
	for _, s := range w.pieces[t] {
		slab = append(slab, s.Literal...)
		if !s.Slot {
			break
		}
		n := b.place(s.Column)
		i := int(w.cursors[n])
		w.cursors[n]++
		v := b.opened[n]
		var view *column.View
		if v == nil {
			var err error
			if view, i, err = b.viewOf(n, i); err != nil {
				return slab, err
			}
		}
		if b.columns[n].Kind == column.Signed {
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

// seldom is how many rows a template has in a block at most that Printer does not get
// ready, which takes as long as to print some lines.
const seldom = 4

// plain is append for a template that is not got ready.
func (p *Printer) plain(slab []byte, limit, row int) ([]byte, error) {
	b, n := p.body, len(slab)
	m := &b.section.Table.Templates[b.info.Templates[p.tids[row]].Template]
	p.scratch = m.AppendPieces(p.scratch[:0])
	for i := range p.scratch {
		s := &p.scratch[i]
		slab = append(slab, s.Literal...)
		if s.Slot {
			k := b.place(s.Column)
			v, err := p.valuesOf(k)
			if err != nil {
				return slab[:n], err
			}
			at, begin := int(p.cursors[k]), len(slab)
			p.cursors[k]++
			if s.IsTime {
				t := s.Layout.Floor(p.times[row]) - v.Signed(at)
				if !s.Layout.InRange(t) {
					return slab[:n], column.Corrupt("in-line time %d of row %d", t, row)
				}
				slab = s.Layout.Append(slab, t)
			} else {
				slab = v.Append(slab, at)
			}
			if p.noting {
				p.slots = append(p.slots, template.SlotOf(begin, len(slab)))
			}
		}
		if len(slab) > limit {
			return slab[:n], errTooLong(b.info)
		}
	}
	p.row = row + 1
	return slab, nil
}

// valuesOf returns the values of a column by its place.
func (p *Printer) valuesOf(k int) (*column.Values, error) {
	if p.values == nil {
		p.values = make([]*column.Values, len(p.columns))
		p.memory += 8 * len(p.columns)
	}
	if v := p.values[k]; v != nil {
		return v, nil
	}
	b := p.body
	b.mu.Lock()
	defer b.mu.Unlock() // a panic must not lock others out
	v, err := b.values(k)
	p.values[k] = v
	return v, err
}

// viewOf returns a view that has value i of a column, and the value's number there.
func (b *Body) viewOf(n, i int) (*column.View, int, error) {
	if view := b.views[n]; view != nil {
		return view, i, nil
	}
	c := &b.columns[n]
	if p := b.paged[c.Frame]; p != nil && c.Size > 0 && b.frames[c.Frame] == nil {
		return b.view(p, i)
	}
	p, err := b.payload(c)
	if err != nil {
		return nil, 0, err
	}
	view, err := column.NewView(c, p)
	if err != nil {
		return nil, 0, err
	}
	b.views[n] = view
	b.memory += view.MemorySize()
	return view, i, nil
}

// maxAhead is how many rows from the first to the last are close to each other.
const maxAhead = 1024

// readAhead reads what rows need together, if they are close to each other. The cursors are
// at the first one.
func (w *fewWriter) readAhead(rows []uint32) error {
	b := w.body
	first, last := int(rows[0]), int(rows[len(rows)-1])
	if b.paged == nil || b.stored != nil || b.read == nil || last-first > maxAhead {
		return nil
	}
	for _, t := range w.tids[first : last+1] {
		w.counts[t]++
	}
	n := make([]uint32, len(w.cursors))
	for t, rows := range w.counts {
		if rows > 0 {
			for _, id := range b.columnsOf(t) {
				n[b.place(id)] += rows
			}
		}
	}
	clear(w.counts)
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
	for _, c := range w.used {
		k := &b.columns[c]
		if k.Size == 0 || int(k.Frame) >= len(b.frames) || b.frames[k.Frame] != nil || b.opened[c] != nil || done[k.Frame] {
			continue
		}
		if p := b.paged[k.Frame]; p != nil {
			need(p, int(w.cursors[c])/p.count, int(w.cursors[c]+n[c]-1)/p.count)
		} else {
			parts = append(parts, [2]int{b.offsets[k.Frame], b.offsets[k.Frame+1]})
		}
		done[k.Frame] = true
	}
	p, err := b.timePages()
	if err != nil {
		return err
	}
	if p != nil {
		need(p, p.times.Part(first), p.times.Part(last))
	}
	return b.readAhead(parts)
}
