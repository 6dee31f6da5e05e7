package block

import "github.com/weir-logs/weir/libs/model"

// Run is the rows of a stream within one interval of time. A stream's runs ascend and
// do not touch, and hold all of its rows.
type Run struct {
	MinTime, MaxTime int64 // of the first and the last row
	Rows             uint64
	Bytes            uint64 // of lines
	Digest           uint64 // sum of the rows' hashes modulo 2^64
}

// runRows is how many rows are worth a run of their own, on average.
const runRows = 256

func (r *Run) join(o Run) {
	r.MaxTime = o.MaxTime
	r.Rows += o.Rows
	r.Bytes += o.Bytes
	r.Digest += o.Digest
}

// addRow adds a row to runs by the narrowest slots.
func addRow(runs []Run, from int, t int64, bytes int, hash uint64) []Run {
	row := Run{t, t, 1, uint64(bytes), hash}
	if n := len(runs); n > from && sameSlot(runs[n-1].MinTime, t, model.SlotWidths[0]) {
		runs[n-1].join(row)
		return runs
	}
	return append(runs, row)
}

func sameSlot(a, b, width int64) bool { return model.Slot(a, width) == model.Slot(b, width) }

// coarse joins the runs of a stream until they are worth telling apart, and returns
// how many are left: one for few rows, otherwise those of the narrowest slots that
// hold enough rows.
func coarse(runs []Run) int {
	rows := uint64(0)
	for i := range runs {
		rows += runs[i].Rows
	}
	for _, width := range model.SlotWidths[1:] {
		if uint64(len(runs)-1)*runRows < rows {
			return len(runs)
		}
		runs = runs[:joinSlots(runs, func(a, b Run) bool { return sameSlot(a.MinTime, b.MinTime, width) })]
	}
	if uint64(len(runs)-1)*runRows >= rows {
		return joinSlots(runs, func(a, b Run) bool { return true })
	}
	return len(runs)
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
