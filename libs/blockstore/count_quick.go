package blockstore

import (
	"sort"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
)

// slotValues is the values of a column of which slots matter. What rows have in common is told
// by their numbers, as they are stored; few are ever printed.
type slotValues struct {
	view      *column.View
	low, high []byte         // of numbers of one byte or two; high may be nil
	steps     *column.Values // of numbers that are stored as steps
}

func valuesOf(b *lines.Body, n int) (s slotValues, err error) {
	info := &b.Columns()[n]
	if s.view, err = b.View(n); err != nil {
		return s, err
	}
	switch info.Kind {
	case column.Delta:
		s.steps, err = b.Values(n)
	case column.Int, column.Pad, column.Dict:
		switch p := s.view.Planes(); info.Width {
		case 1:
			s.low = p
		case 2:
			s.low, s.high = p[:info.N], p[info.N:]
		}
	}
	return s, err
}

// number returns number i, less the least one, or the place of value i among distinct ones. It
// is for those that have no low.
func (s *slotValues) number(i int) uint64 {
	if s.steps != nil {
		return s.steps.Number(i) - s.steps.Info().Min
	}
	return s.view.Code(i)
}

// quickTemplate is what it takes to count a row of a template whose result is known: the
// numbers of up to quickSlots slots are its place in a table.
type quickTemplate struct {
	steps []fieldStep
	table []int32 // nil: rows are looked up
	slots []quickSlot
}

type quickSlot struct {
	low, high   []byte // as slotValues has them
	column, nth int
	width       uint64
}

func (s *quickSlot) number(i int) uint64 {
	x := uint64(s.low[i])
	if s.high != nil {
		x |= uint64(s.high[i]) << 8
	}
	return x
}

const quickSlots = 4

// notAfter returns how many of ascending times are not after last.
func notAfter(times []int64, last int64) int {
	if n := len(times); n == 0 || times[n-1] <= last {
		return n
	}
	return sort.Search(len(times), func(i int) bool { return times[i] > last })
}

// span counts rows [from, to), which are one stream's, as row does one by one.
func (w *fieldCounter) span(from, to int) error {
	if w.quicks == nil {
		w.quicks = w.room.quicksOf(len(w.plan.templates))
		for i := range w.quicks {
			t := &w.plan.templates[i]
			w.quicks[i].steps = w.plan.steps[t.from:t.to]
		}
	}
	for ; w.next < from; w.next++ {
		w.pass(w.tids[w.next])
	}
	for from < to {
		end := to
		if w.times != nil {
			if !w.timed || w.times[from] > w.last {
				if err := w.flush(); err != nil {
					return err
				}
				w.bucket, w.last = w.counts.Bucket(w.times[from])
				w.timed = true
			}
			end = from + notAfter(w.times[from:to], w.last)
		}
		if err := w.sameBucket(from, end); err != nil {
			return err
		}
		from = end
	}
	return nil
}

// sameBucket counts rows of one bucket. The cursors are at the first.
func (w *fieldCounter) sameBucket(from, to int) error {
	cursors := w.cursors
	for i, tid := range w.tids[from:to] {
		q := &w.quicks[tid]
		e := int32(0)
		switch len(q.slots) {
		case 1:
			s := &q.slots[0]
			if x := s.number(cursors[s.column] + s.nth); x < uint64(len(q.table)) {
				e = q.table[x]
			}
		case 2:
			a, b := &q.slots[0], &q.slots[1]
			x, y := a.number(cursors[a.column]+a.nth), b.number(cursors[b.column]+b.nth)
			if x < a.width && y < b.width {
				e = q.table[x*b.width+y]
			}
		case 0:
			if q.table != nil {
				e = q.table[0]
			}
		default:
			e = w.known(q)
		}
		if e > w.first {
			r := &w.results[e-1]
			if r.rows == 0 && r.series >= 0 && w.bucket >= 0 {
				w.counted = append(w.counted, e-1)
				r.rows = 1
			} else if r.rows > 0 {
				r.rows++
			}
		} else {
			if err := w.lookup(int(tid), from+i); err != nil {
				return err
			}
			if q.table == nil {
				w.quicken(int(tid), q)
			}
		}
		for _, s := range q.steps {
			cursors[s.column] += int(s.n)
		}
	}
	w.rows += uint64(to - from)
	w.next = to
	return nil
}

// known returns what the table has of the row that the cursors are at.
func (w *fieldCounter) known(q *quickTemplate) int32 {
	code := uint64(0)
	for i := range q.slots {
		s := &q.slots[i]
		x := s.number(w.cursors[s.column] + s.nth)
		if x >= s.width {
			return 0
		}
		code = code*s.width + x
	}
	return q.table[code]
}

// quicken makes a template of which a row was looked up quick, if it can be.
func (w *fieldCounter) quicken(tid int, q *quickTemplate) {
	t := &w.plan.templates[tid]
	if t.full < 0 {
		return
	}
	shape, state := &w.plan.shapes[t.full], &w.shapes[t.full]
	if len(shape.slots) == 0 {
		q.table = w.direct[tid : tid+1]
		return
	}
	if state.table == nil || len(shape.slots) > quickSlots {
		return
	}
	if state.quick == nil {
		slots := make([]quickSlot, len(shape.slots))
		for i := range slots {
			s := &shape.slots[i]
			v := &w.values[s.column]
			if v.low == nil {
				return
			}
			slots[i] = quickSlot{v.low, v.high, s.column, s.nth, s.width}
		}
		state.quick = slots
	}
	q.table, q.slots = state.table, state.quick
}

// quick returns what is known of a row of which one number tells all, as shapeState
// has it.
func (w *fieldCounter) quick(tid uint16) int32 {
	t := &w.plan.templates[tid]
	if t.full < 0 || w.valued && t.value >= 0 {
		return 0
	}
	shape, table := &w.plan.shapes[t.full], w.shapes[t.full].table
	if len(shape.slots) != 1 || table == nil {
		return 0
	}
	if code, ok := w.codeOf(shape); ok {
		return table[code] // there is one for each
	}
	return 0
}

// codeOf returns the code of the row that the cursors are at.
func (w *fieldCounter) codeOf(shape *fieldShape) (code uint64, ok bool) {
	if shape.codes == 0 {
		return 0, false
	}
	for i := range shape.slots {
		s := &shape.slots[i]
		v, at := &w.values[s.column], w.cursors[s.column]+s.nth
		var x uint64
		switch {
		case v.high != nil:
			x = uint64(v.low[at]) | uint64(v.high[at])<<8
		case v.low != nil:
			x = uint64(v.low[at])
		default:
			x = v.number(at)
		}
		if x >= s.width {
			return 0, false // the column says otherwise
		}
		code = code*s.width + x
	}
	return code, true
}
