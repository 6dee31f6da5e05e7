package lines

import (
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// SlotReader tells of the values of slots of the block added last, row by row.
type SlotReader struct {
	b      *Builder
	text   []byte
	slots  []template.Slot // of the rows that are text, from this one on
	counts []int32
	parts  []walkedPart // from this one on; none: all is text
	row    int
	left   int      // rows of the part
	cursor []uint32 // of the part's columns, one of these
	starts map[*taker][]uint32
	places []uint32 // of the row's slots, among these; nil: it is text
	own    []template.Slot
	buf    []byte
}

// walkedPart is a part that was taken over, and where its values begin: behind those of the
// part of the same block before, if start is nil; or, without a taker, rows of text.
type walkedPart struct {
	t        *taker
	from, to int
	start    []uint32
}

// RowSlots returns what tells of the rows of the block added last. It is before the first
// row, and valid as long as the lines that were added are, until the next Add.
func (b *Builder) RowSlots() *SlotReader {
	r := &SlotReader{b: b, text: b.text, parts: b.carry.walked}
	r.slots, r.counts = b.analyzer.Slots()
	return r
}

// Next moves to the next row and returns how many slots it has.
func (r *SlotReader) Next() int {
	if t := r.b.rows[r.row]; len(r.parts) == 0 {
		r.own, r.slots = r.slots[:r.counts[t]], r.slots[r.counts[t]:]
		r.row++
		return len(r.own)
	}
	if r.left == 0 {
		if r.row > 0 {
			for _, c := range r.places {
				r.cursor[c]++
			}
			r.parts = r.parts[1:]
		}
		p := &r.parts[0]
		r.left = p.to - p.from
		r.places = r.places[:0]
		if p.start != nil {
			if r.starts == nil {
				r.starts = map[*taker][]uint32{}
			}
			r.starts[p.t] = append(r.starts[p.t][:0], p.start...)
		}
		r.cursor = r.starts[p.t] // the walk changes it
	}
	p := &r.parts[0]
	row := p.to - r.left
	r.left--
	r.row++
	if p.t == nil {
		n := len(r.b.analyzer.Columns(r.b.rows[r.row-1]))
		r.own, r.slots = r.slots[:n], r.slots[n:]
		return n
	}
	for _, c := range r.places { // of the row before
		r.cursor[c]++
	}
	r.places = r.places[:0]
	for _, id := range p.t.body.columnsOf(int(p.t.tids[row])) {
		r.places = append(r.places, uint32(p.t.body.place(id)))
	}
	return len(r.places)
}

// Holds reports whether a slot of the row holds the value.
func (r *SlotReader) Holds(slot int, value []byte) bool {
	if len(r.parts) == 0 || r.parts[0].t == nil {
		s := r.own[slot]
		return !s.IsTime() && int(s.Len()) == len(value) && string(r.text[s.Start():s.End()]) == string(value)
	}
	c := r.places[slot]
	v, at := r.parts[0].t.values[c], r.cursor[c]
	for _, o := range r.places[:slot] {
		if o == c {
			at++
		}
	}
	if i := v.Info(); i.Kind == column.Signed || len(value) < i.MinLen || len(value) > i.MaxLen {
		return false
	}
	r.buf = v.Append(r.buf[:0], int(at))
	return string(r.buf) == string(value)
}

// SlotValues returns the values that rows have in a slot of their template: slots says,
// by the template's place in the Templates of the block's info, which slot, counted from
// 1; 0, and whatever is beyond the end of slots: rows of the template have no value. rows
// are those that have one, nil: all. The values are shared.
func (b *Body) SlotValues(slots []uint32) (values *column.Values, rows []uint32, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	values, rows, err = b.slotValues(slots)
	return values, rows, at(b.block, err)
}

func (b *Body) slotValues(slots []uint32) (*column.Values, []uint32, error) {
	templates := b.info.Templates
	if len(slots) > len(templates) {
		return nil, nil, column.Corrupt("slots of %d templates, there are %d", len(slots), len(templates))
	}
	total, only := 0, -1 // how many values; the column that all are of, -1: none yet, -2: several
	wanted := make([]bool, len(b.columns))
	for t, slot := range slots {
		if slot == 0 {
			continue
		}
		cols := b.columnsOf(t)
		if int64(slot) > int64(len(cols)) {
			return nil, nil, column.Corrupt("slot %d of a template with %d", slot, len(cols))
		}
		c := b.place(cols[slot-1])
		if b.columns[c].Kind == column.Signed {
			return nil, nil, column.Corrupt("slot %d of a template is for times", slot)
		}
		total += int(templates[t].Rows)
		wanted[c] = true
		if only == -1 {
			only = c
		} else if only != c {
			only = -2
		}
	}
	if total == 0 {
		return nil, nil, column.Corrupt("no template has a slot with values")
	}
	tids, err := b.rowTemplates()
	if err != nil {
		return nil, nil, err
	}
	has := make([]bool, len(templates))
	for t, slot := range slots {
		has[t] = slot != 0
	}
	var rows []uint32
	if total < len(tids) {
		rows = make([]uint32, 0, total)
		for row, t := range tids {
			if has[t] {
				rows = append(rows, uint32(row))
			}
		}
	}
	// Mostly they are a column, no value of it is left out, and none comes twice.
	if only >= 0 && b.columns[only].N == total {
		v, err := b.values(only)
		return v, rows, err
	}
	v, err := b.gather(slots, wanted, total)
	return v, rows, err
}

// gather makes a column of the values in slots of rows.
func (b *Body) gather(slots []uint32, wanted []bool, total int) (*column.Values, error) {
	opened := make([]*column.Values, len(b.columns))
	for c, is := range wanted {
		if is {
			var err error
			if opened[c], err = b.values(c); err != nil {
				return nil, err
			}
		}
	}
	// Of each template, the wanted columns that its slots have.
	places := make([][]int32, len(b.info.Templates))
	for t := range places {
		for _, id := range b.columnsOf(t) {
			c := b.place(id)
			if !wanted[c] {
				c = -1
			}
			places[t] = append(places[t], int32(c))
		}
	}
	next := make([]int, len(b.columns))
	text, ends := []byte(nil), make([]uint32, 0, total)
	for _, t := range b.tids {
		slot := -1
		if int(t) < len(slots) {
			slot = int(slots[t]) - 1
		}
		for k, c := range places[t] {
			if c < 0 {
				continue
			}
			if k == slot {
				// It is part of the row's line.
				if text = opened[c].Append(text, next[c]); len(text) > b.info.Bytes {
					return nil, errTooLong(b.info)
				}
				ends = append(ends, uint32(len(text)))
			}
			next[c]++
		}
	}
	return column.Texts(text, ends), nil
}
