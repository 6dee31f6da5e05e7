package block

import (
	"encoding/binary"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// Metadata is mostly told by the line: what was derived from it by the template, and ids
// that the line holds as well by one of its slots.

// rowLines is what is known of the lines of rows.
type rowLines struct {
	templates []int64 // of each row, as its place in the block's list
	slots     func() slotReader
}

// slotReader is lines.SlotReader, as far as tables ask it.
type slotReader interface {
	Next() int
	Holds(slot int, value []byte) bool
}

// count returns how many templates there are.
func (l *rowLines) count() int { return int(slices.Max(l.templates)) + 1 }

// byTemplate returns which templates have a value, and the values, if all rows of a
// template have the same one or none.
func (c *tableColumn) byTemplate(n int, rows *rowLines) (bitmap []byte, of []column.Ref) {
	if rows == nil || c.class != classDerived {
		return nil, nil
	}
	templates, count := rows.templates, rows.count()
	const unknown, none = ^column.Ref(0), ^column.Ref(1)
	known := make([]column.Ref, count)
	for i := range known {
		known[i] = unknown
	}
	k := 0
	for row := range n {
		ref := none
		if k < len(c.rows) && c.rows[k] == uint32(row) {
			ref = c.refs[k]
			k++
		}
		t := templates[row]
		switch old := known[t]; {
		case old == unknown:
			known[t] = ref
		case (old == none) != (ref == none) || old != none && old != ref && string(old.Of(c.slab)) != string(ref.Of(c.slab)):
			return nil, nil
		}
	}
	bitmap = make([]byte, (count+7)/8)
	for t, ref := range known {
		if ref != none && ref != unknown {
			bitmap[t>>3] |= 1 << (t & 7)
			of = append(of, ref)
		}
	}
	return bitmap, of
}

// slotted is how many bytes values have at least, on average and all together, that are
// looked for in lines: shorter ones take next to nothing as a column of their own.
const (
	slottedEach = 8
	slottedAll  = 256
)

// bySlot returns the slot of each template, counted from 1, that the values are in; 0:
// rows of the template have none. nil: they are not, all of them, in one slot of their
// row's template.
func (c *tableColumn) bySlot(n int, rows *rowLines) []uint32 {
	if rows == nil || rows.slots == nil || len(c.slab) < max(slottedAll, slottedEach*len(c.refs)) {
		return nil
	}
	const unknown = ^uint32(0)
	out := make([]uint32, rows.count())
	for i := range out {
		out[i] = unknown
	}
	k, slots := 0, rows.slots()
	for row := range n {
		count := slots.Next()
		var value []byte
		if k < len(c.rows) && c.rows[k] == uint32(row) {
			value = c.refs[k].Of(c.slab)
			k++
		}
		slot := &out[rows.templates[row]]
		if *slot == unknown {
			*slot = 0
			for i := range count {
				if value != nil && slots.Holds(i, value) {
					*slot = uint32(i + 1)
					break
				}
			}
		}
		if *slot == 0 != (value == nil) || value != nil && !slots.Holds(int(*slot-1), value) {
			return nil
		}
	}
	for len(out) > 0 && (out[len(out)-1] == 0 || out[len(out)-1] == unknown) {
		out = out[:len(out)-1]
	}
	return out
}

// slotValues is lines.Body, as far as tables ask it.
type slotValues interface {
	SlotValues(slots []uint32) (*column.Values, []uint32, error)
	MemorySize() int
}

// openSlots opens a column whose values are in the lines. present says in which slots.
func (t *table) openSlots(v *tableValues, c *column.Info, present []byte) error {
	if t.lines == nil || c.Size != 0 {
		return corrupt("values in lines, %d bytes of others", c.Size)
	}
	slots := make([]uint32, 0, min(len(present), t.templates))
	for len(present) > 0 {
		x, n := binary.Uvarint(present)
		if n <= 0 || x > template.MaxSlots || len(slots) == t.templates {
			return corrupt("slots of templates")
		}
		present = present[n:]
		slots = append(slots, uint32(x))
	}
	var err error
	if v.values, v.rows, err = t.lines.SlotValues(slots); err != nil {
		return err
	}
	if v.values.Len() != c.N {
		return corrupt("%d values in lines, not %d", v.values.Len(), c.N)
	}
	return nil
}
