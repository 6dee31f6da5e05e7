package head

import (
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
)

// A stream's rows are told apart into runs by slots of time that are the same for
// every ingester: so replicas that hold the same rows of a slot have equal runs,
// and while new rows come only the newest slot differs.
const (
	slotWidth = int64(5 * time.Minute)
	// maxSlots bounds the runs of a stream in one answer, but for ranges of years:
	// over longer ranges slots are wider.
	maxSlots = 32
	// maxParts bounds what a sealed chunk remembers of its slots.
	maxParts = 128
)

// slotWidths are multiples of slotWidth that also divide the windows people ask
// for: a run that lies within one window need not be read to be counted.
var slotWidths = []int64{
	slotWidth, int64(15 * time.Minute), int64(time.Hour), int64(6 * time.Hour), int64(24 * time.Hour), int64(28 * 24 * time.Hour),
}

// runSet gathers runs by slot.
type runSet struct {
	width int64        // a multiple of slotWidth
	runs  []engine.Run // ascending, one a slot
	rows  uint64
}

// newRunSet returns a set for rows within a range of that length.
func newRunSet(length int64) *runSet {
	i := 0
	for i < len(slotWidths)-1 && length/slotWidths[i] >= maxSlots {
		i++
	}
	return &runSet{width: slotWidths[i]}
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
	r.rows += run.Rows
	s := r.slot(run.MinTime)
	// Rows mostly come in order.
	i := len(r.runs)
	for i > 0 && r.slot(r.runs[i-1].MinTime) > s {
		i--
	}
	if i == 0 || r.slot(r.runs[i-1].MinTime) != s {
		r.runs = slices.Insert(r.runs, i, run)
		return
	}
	join(&r.runs[i-1], run)
}

func join(to *engine.Run, run engine.Run) {
	to.MinTime, to.MaxTime = min(to.MinTime, run.MinTime), max(to.MaxTime, run.MaxTime)
	to.Rows += run.Rows
	to.Bytes += run.Bytes
	to.Digest += run.Digest
}

// fewRows is how many rows are not worth several runs: there may be many streams
// that have no more.
const fewRows = 256

// coarse returns the runs that are worth telling apart.
func (r *runSet) coarse() []engine.Run {
	if r.rows > fewRows || len(r.runs) < 2 {
		return r.runs
	}
	for _, run := range r.runs[1:] {
		join(&r.runs[0], run)
	}
	return r.runs[:1]
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

// scan adds those of the rows [from, to) with start <= time < end.
func (c *chunk) scan(set *runSet, from, to int, start, end int64) (any bool) {
	var run engine.Run // of rows of the slot [low, high) that were not added yet
	var low, high int64
	flush := func() {
		if run.Rows > 0 {
			set.add(run)
		}
		run = engine.Run{}
	}
	begin := uint32(0)
	if from > 0 {
		begin = c.rows.Lines.Ends[from-1]
	}
	for i := from; i < to; i++ {
		t, line := c.rows.Times[i], c.rows.Lines.Ends[i]-begin
		begin = c.rows.Lines.Ends[i]
		if t < start || t >= end {
			continue
		}
		if run.Rows == 0 || t < low || t >= high {
			flush()
			low = set.slot(t) * set.width
			high = low + set.width
			run.MinTime, run.MaxTime = t, t
		}
		any = true
		run.MinTime, run.MaxTime = min(run.MinTime, t), max(run.MaxTime, t)
		run.Rows++
		run.Bytes += uint64(line)
		run.Digest += c.rows.Hashes[i]
	}
	flush()
	return any
}
