package head

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
)

// A stream's rows are told apart into runs by slots of time that are the same for
// every ingester: so replicas that hold the same rows of a slot have equal runs,
// and while new rows come only the newest slot differs.
const (
	slotWidth = int64(5 * time.Minute)
	// maxSlots bounds the runs of a stream in one answer: over longer ranges slots
	// are wider.
	maxSlots = 32
	// maxParts bounds what a sealed chunk remembers of its slots.
	maxParts = 128
)

// runSet gathers runs by slot.
type runSet struct {
	width int64 // a multiple of slotWidth
	slots map[int64]*engine.Run
	last  *engine.Run // of slot at
	at    int64
}

// newRunSet returns a set for rows within a range of that length.
func newRunSet(length int64) *runSet {
	r := &runSet{width: slotWidth, slots: map[int64]*engine.Run{}}
	for length/r.width >= maxSlots {
		r.width *= 2
	}
	return r
}

func (r *runSet) slot(t int64) int64 {
	s := t / r.width
	if t%r.width < 0 {
		s--
	}
	return s
}

// add adds rows that lie within one slot.
func (r *runSet) add(run engine.Run) {
	s := r.slot(run.MinTime)
	if r.last == nil || s != r.at {
		r.last, r.at = r.slots[s], s
		if r.last == nil {
			r.last = &engine.Run{MinTime: run.MinTime, MaxTime: run.MaxTime}
			r.slots[s] = r.last
		}
	}
	r.last.MinTime, r.last.MaxTime = min(r.last.MinTime, run.MinTime), max(r.last.MaxTime, run.MaxTime)
	r.last.Rows += run.Rows
	r.last.Bytes += run.Bytes
	r.last.Digest += run.Digest
}

// runs returns what was gathered, ascending.
func (r *runSet) runs() []engine.Run {
	out := make([]engine.Run, 0, len(r.slots))
	for run := range maps.Values(r.slots) {
		out = append(out, *run)
	}
	slices.SortFunc(out, func(a, b engine.Run) int { return cmp.Compare(a.MinTime, b.MinTime) })
	return out
}

// addTo adds the chunk's rows with start <= time < end to a set, and tells whether
// there are any.
func (c *chunk) addTo(set *runSet, start, end int64, sorted bool) bool {
	if c.minTime >= start && c.maxTime < end {
		if set.slot(c.minTime) == set.slot(c.maxTime) {
			set.add(engine.Run{MinTime: c.minTime, MaxTime: c.maxTime, Rows: uint64(c.rows.Len()), Bytes: c.bytes, Digest: c.digest})
			return true
		}
		if c.parts != nil {
			for _, p := range c.parts {
				set.add(p)
			}
			return true
		}
	}
	from, to := 0, c.rows.Len()
	if sorted {
		from, to = between(&c.rows, start, end)
	}
	return c.scan(set, from, to, start, end)
}

// scan adds those of the rows [from, to) with start <= time < end one by one.
func (c *chunk) scan(set *runSet, from, to int, start, end int64) (any bool) {
	for i := from; i < to; i++ {
		t := c.rows.Times[i]
		if t < start || t >= end {
			continue
		}
		any = true
		set.add(engine.Run{MinTime: t, MaxTime: t, Rows: 1, Bytes: uint64(len(c.rows.Lines.At(i))), Digest: c.rows.Hashes[i]})
	}
	return any
}
