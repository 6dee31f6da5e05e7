package block

import (
	"fmt"
	"slices"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// Carried is a row group whose rows are taken over by the writer of another block as they
// are stored, without their lines being printed. For one goroutine at a time.
type Carried struct {
	reader  *Reader
	group   *RowGroup
	lengths []uint32 // of the lines

	// All but the lines of the rows from first on: of many streams, where they are small.
	page  model.Rows
	first int
	sizes []uint32 // of these rows' metadata; nil: there is none
	list  []uint32
}

// Carry gets a row group ready for that.
func (r *Reader) Carry(g *RowGroup) (*Carried, error) {
	lengths, err := g.Body.Lengths()
	if err != nil {
		return nil, r.error(g.Number, err)
	}
	return &Carried{reader: r, group: g, lengths: lengths}, nil
}

// Number is that of the row group.
func (c *Carried) Number() int { return c.group.Number }

// carriedRows is how many rows are read at a time.
const carriedRows = 4096

// load makes the page one that has a row.
func (c *Carried) load(row int) (err error) {
	if row >= c.first && row < c.first+c.page.Len() {
		return nil
	}
	c.list, c.first = c.list[:0], row
	for ; row < min(c.first+carriedRows, len(c.lengths)); row++ {
		c.list = append(c.list, uint32(row))
	}
	Empty(&c.page)
	if err = c.reader.Append(&c.page, c.group, c.list, false, true); err == nil {
		c.sizes, err = metadataSizes(&c.page)
	}
	return err
}

// Carry adds rows [from, to) of a row group of another block, which are the stream's.
// They come where Add would have them. All rows of the stream come like this, and
// CarryRuns says which runs they are.
func (w *Writer) Carry(ls model.Labels, c *Carried, from, to int) error {
	if w.err == nil {
		w.err = w.carry(ls, c, from, to)
	}
	return w.err
}

// CarryRuns says that the rows which are carried next are those of runs, which ascend and
// are behind all others of the stream. Their digests are taken on trust: Verify shows
// whether the rows have them.
func (w *Writer) CarryRuns(ls model.Labels, runs []Run) error {
	if w.err == nil {
		w.err = w.carryRuns(ls, runs)
	}
	return w.err
}

func (w *Writer) carryRuns(ls model.Labels, runs []Run) error {
	if !w.started || !w.labels.Equal(ls) {
		if err := w.begin(ls); err != nil {
			return err
		}
		w.carries = true
	}
	if !w.carries {
		return fmt.Errorf("some rows of %s are carried, others are not", ls)
	}
	for _, r := range runs {
		if n := len(w.runs); n > 0 && w.runs[n-1].MaxTime >= r.MinTime {
			return fmt.Errorf("runs of %s do not ascend: one from %d after one to %d", ls, r.MinTime, w.runs[n-1].MaxTime)
		}
		w.runs = append(w.runs, r)
		w.announced.join(r)
	}
	return nil
}

func (w *Writer) carry(ls model.Labels, c *Carried, from, to int) error {
	if !w.started || !w.carries || !w.labels.Equal(ls) {
		return fmt.Errorf("rows of %s are carried, of which no runs were", ls)
	}
	times, err := c.group.Body.SharedTimes()
	if err != nil {
		return c.reader.error(c.group.Number, err)
	}
	for from < to {
		if err := c.load(from); err != nil {
			return err
		}
		page, first := &c.page, c.first
		n := min(to, first+page.Len())
		for at := from; at < n; {
			end, bytes, taken := at, w.group.bytes(), 0
			for end < n && w.group.len()+end-at < lines.MaxRows {
				line := int(c.lengths[end])
				cost := line
				if c.sizes != nil {
					cost += int(c.sizes[end-first])
				}
				if bytes+cost > w.opts.RowGroupBytes && w.group.len()+end-at > 0 {
					break
				}
				if err := w.carryRow(times[end], line); err != nil {
					return err
				}
				if w.group.len() == 0 && end == at {
					w.group.base, w.first = w.same, w.affinity
				}
				bytes += cost
				taken += line
				end++
			}
			if end > at {
				w.group.carry(c.group.Body, at, end, taken)
				w.group.addRest(page, at-first, end-first, w.foot.info.Ordered)
			}
			if end < n || w.group.bytes() >= w.opts.RowGroupBytes || len(w.group.columns) > groupNames {
				if err := w.flushGroup(); err != nil {
					return err
				}
			}
			at = end
		}
		from = n
	}
	return nil
}

// carryRow takes account of a row that is carried.
func (w *Writer) carryRow(t int64, line int) error {
	info := &w.foot.info
	if w.came.Rows > 0 {
		switch {
		case t < w.last.Time:
			return fmt.Errorf("rows of %s do not ascend: time %d after time %d", w.labels, t, w.last.Time)
		case t == w.last.Time:
			w.same++
		default:
			w.same = 0
		}
	}
	w.last.Time = t
	w.came.Rows++
	w.came.Bytes += uint64(line)
	info.MinTime, info.MaxTime = min(info.MinTime, t), max(info.MaxTime, t)
	info.Rows++
	info.RawBytes += int64(line)
	return nil
}

// carriedRuns returns the runs of a stream whose rows were carried: those that were
// announced, joined as far as they would have been if they had been cut here. A run is
// never cut: slots are as wide as those that it was cut by.
func (w *Writer) carriedRuns() ([]Run, error) {
	if w.came.Rows != w.announced.Rows || w.came.Bytes != w.announced.Bytes {
		return nil, fmt.Errorf("%d rows of %d bytes of %s were carried, not %d of %d", w.came.Rows, w.came.Bytes, w.labels, w.announced.Rows, w.announced.Bytes)
	}
	for _, slot := range w.slots() {
		if slices.ContainsFunc(w.runs, func(r Run) bool { return !sameSlot(r.MinTime, r.MaxTime, slot.width) }) {
			continue
		}
		n := joinSlots(w.runs, func(a, b Run) bool { return sameSlot(a.MinTime, b.MinTime, slot.width) })
		if w.runs = w.runs[:n]; uint64(n-1)*slot.rows < w.came.Rows {
			return w.runs, nil
		}
	}
	return w.runs[:joinSlots(w.runs, func(a, b Run) bool { return true })], nil
}
