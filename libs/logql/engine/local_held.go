package engine

import (
	"unsafe"

	"github.com/weir-logs/weir/libs/model"
)

// What a scan holds of each stream, in bytes.
const (
	waitingSize  = int(unsafe.Sizeof(waiting{}))
	scanTaskSize = int(unsafe.Sizeof(scanTask{})) + taskSize
	// cursorSize is that of a cursor with its reader and its processor, but for rows.
	cursorSize = 1024
)

// heldBatch is rows that cursors stand in.
type heldBatch struct {
	size, cursors int
}

// hold counts the rows that a cursor has come to, and those no more that it has left. Rows
// that a store has anyway are no memory of the query: it counts those that were decoded for
// it, once for all cursors that share them.
func (sc *scan) hold(c *cursor) error {
	if b := sc.batches[c.counted]; b != nil {
		if b.cursors--; b.cursors == 0 {
			sc.held.give(b.size)
			delete(sc.batches, c.counted)
		}
	}
	if c.counted = c.rows; c.rows == nil || c.src.examiner == nil {
		return nil
	}
	b := sc.batches[c.rows]
	if b == nil {
		b = &heldBatch{size: rowsSize(c.rows)}
		if err := sc.held.reserve(b.size); err != nil {
			return err
		}
		if sc.batches == nil {
			sc.batches = map[*model.Rows]*heldBatch{}
		}
		sc.batches[c.rows] = b
	}
	b.cursors++
	return nil
}

// rowsSize is the bytes that rows take, with what it takes to count them.
func rowsSize(rows *model.Rows) int {
	n := 256 + 8*(cap(rows.Times)+cap(rows.BatchTimes)+cap(rows.Hashes)) + 4*cap(rows.Positions) + stringsSize(&rows.Lines)
	for _, columns := range [][]model.Column{rows.Metadata, rows.Derived} {
		for i := range columns {
			n += int(unsafe.Sizeof(model.Column{})) + 4*cap(columns[i].Rows) + stringsSize(&columns[i].Values)
		}
	}
	return n
}

func stringsSize(s *model.Strings) int { return 4*cap(s.Ends) + cap(s.Slab) }
