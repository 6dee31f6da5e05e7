package block

import (
	"time"

	"github.com/weir-logs/weir/libs/model"
)

// Run is the rows of a stream within one interval of time. A stream's runs ascend and
// do not touch, and hold all of its rows.
type Run struct {
	MinTime, MaxTime int64 // of the first and the last row
	Rows             uint64
	Bytes            uint64 // of lines
	Digest           uint64 // sum of the rows' hashes modulo 2^64
}

// slot is a width of slots of time, and how many rows are worth a run by it, on average.
type slot struct {
	width int64
	rows  uint64
}

// wide are the slots of all blocks, narrow those of Options.NarrowRuns.
var wide, narrow []slot

func init() {
	for _, width := range []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, time.Minute} {
		narrow = append(narrow, slot{int64(width), 512})
	}
	for _, width := range model.SlotWidths {
		wide = append(wide, slot{width, fewRows})
	}
	narrow = append(narrow, wide...)
}

func (w *Writer) slots() []slot {
	if w.opts.NarrowRuns {
		return narrow
	}
	return wide
}

func (r *Run) join(o Run) {
	r.MaxTime = o.MaxTime
	r.Rows += o.Rows
	r.Bytes += o.Bytes
	r.Digest += o.Digest
}

// addRow adds a row to runs by slots of a width.
func addRow(runs []Run, from int, t int64, bytes int, hash uint64, width int64) []Run {
	row := Run{t, t, 1, uint64(bytes), hash}
	if n := len(runs); n > from && sameSlot(runs[n-1].MinTime, t, width) {
		runs[n-1].join(row)
		return runs
	}
	return append(runs, row)
}

// sameSlot reports whether two times, of which b is the later one, are in one slot.
func sameSlot(a, b, width int64) bool {
	return uint64(b)-uint64(a) < uint64(width) && (a == b || model.Slot(a, width) == model.Slot(b, width))
}

// fewRows are so few that they are one run.
const fewRows = 256

// coarse joins the runs of a stream, which are by the narrowest slots, until they are
// worth telling apart, and returns how many are left: one for few rows, otherwise those of
// the narrowest slots that hold enough rows.
func coarse(runs []Run, slots []slot) int {
	rows := uint64(0)
	for i := range runs {
		rows += runs[i].Rows
	}
	if rows <= fewRows {
		slots = nil
	}
	for i, s := range slots {
		if i > 0 {
			runs = runs[:joinSlots(runs, func(a, b Run) bool { return sameSlot(a.MinTime, b.MinTime, s.width) })]
		}
		if uint64(len(runs)-1)*s.rows < rows {
			return len(runs)
		}
	}
	return joinSlots(runs, func(a, b Run) bool { return true })
}

func joinSlots(runs []Run, same func(a, b Run) bool) int {
	n := 0
	for _, r := range runs[1:] {
		if same(runs[n], r) {
			runs[n].join(r)
			continue
		}
		n++
		runs[n] = r
	}
	return n + 1
}
