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
	lengths []uint32 // of the lines; nil: nobody asked for them

	// All but the lines of the rows from first on: of many streams, where they are small.
	page  model.Rows
	first int
	sizes []uint32 // of these rows' metadata; nil: there is none
	list  []uint32
}

// Carry gets a row group ready for that.
func (r *Reader) Carry(g *RowGroup) *Carried { return &Carried{reader: r, group: g} }

func (c *Carried) lines() ([]uint32, error) {
	if c.lengths == nil {
		var err error
		if c.lengths, err = c.group.Body.Lengths(); err != nil {
			return nil, c.reader.error(c.group.Number, err)
		}
	}
	return c.lengths, nil
}

// Number is that of the row group.
func (c *Carried) Number() int { return c.group.Number }

// carriedRows is how many rows are read at a time.
const carriedRows = 4096

// load makes the page one that has row from, and those up to to if they are not too many.
func (c *Carried) load(from, to int) (err error) {
	if from >= c.first && min(to, from+carriedRows) <= c.first+c.page.Len() {
		return nil
	}
	rows, _ := c.reader.GroupSize(c.group.Number)
	c.list, c.first = c.list[:0], from
	for row := from; row < min(from+carriedRows, rows); row++ {
		c.list = append(c.list, uint32(row))
	}
	Empty(&c.page)
	if err = c.reader.Append(&c.page, c.group, c.list, false, true); err == nil {
		c.sizes, err = metadataSizes(c.sizes, &c.page)
	}
	return err
}

// Carry adds rows [from, to) of a row group of another block, which are the stream's.
// They come where Add would have them, before or behind rows that are added: no time is
// that of rows of both kinds. CarryRuns says which runs they are. bytes is how many all of their lines have, which
// is taken on trust, too.
func (w *Writer) Carry(ls model.Labels, c *Carried, from, to, bytes int) error {
	if w.err == nil {
		w.err = w.carry(ls, c, from, to, bytes)
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
		w.fresh = true
	}
	w.carries, w.behind = true, true
	for _, r := range runs {
		if n := len(w.runs); n > 0 && w.runs[n-1].MaxTime >= r.MinTime {
			return corrupt("runs of %s do not ascend: one from %d after one to %d", ls, r.MinTime, w.runs[n-1].MaxTime)
		}
		w.runs = append(w.runs, r)
		w.announced.join(r)
	}
	return nil
}

// afterCarried returns an error unless rows from a time on may be added behind those that
// were carried.
func (w *Writer) afterCarried(t int64) error {
	if w.came.Rows != w.announced.Rows {
		return fmt.Errorf("rows of %s are added before all that are carried came", w.labels)
	}
	if n := len(w.runs); w.behind && n > 0 && w.runs[n-1].MaxTime >= t {
		return fmt.Errorf("rows of %s do not ascend: time %d after time %d", w.labels, t, w.runs[n-1].MaxTime)
	}
	w.fresh, w.behind = false, false
	return nil
}

func (w *Writer) carry(ls model.Labels, c *Carried, from, to, bytes int) error {
	if !w.started || !w.carries || !w.labels.Equal(ls) {
		return fmt.Errorf("rows of %s are carried, of which no runs were", ls)
	}
	times, err := c.group.Body.SharedTimes()
	if err != nil {
		return c.reader.error(c.group.Number, err)
	}
	if from < 0 || to > len(times) {
		return fmt.Errorf("rows %d to %d of %d are to be carried", from, to, len(times))
	}
	rows := to - from
	for from < to {
		if err := c.load(from, to); err != nil {
			return err
		}
		page, first, sizes := &c.page, c.first, c.sizes
		n := min(to, first+page.Len())
		for at := from; at < n; {
			end, taken := n, bytes
			if n-at < rows || !w.fits(n-at, bytes, sizes, at-first) {
				lengths, err := c.lines()
				if err != nil {
					return err
				}
				end, taken = w.fit(lengths[at:n], sizes, at-first)
				end += at
			}
			if end > at {
				if err := w.carryRows(times[at:end], taken); err != nil {
					return err
				}
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

// fits reports whether the row group has room for all of some rows, whose lines have so
// many bytes. Their metadata is sizes from first on; nil: there is none.
func (w *Writer) fits(rows, bytes int, sizes []uint32, first int) bool {
	if sizes != nil {
		for _, n := range sizes[first : first+rows] {
			bytes += int(n)
		}
	}
	return w.group.bytes()+bytes <= w.opts.RowGroupBytes && w.group.len()+rows <= lines.MaxRows
}

// fit returns how many rows the row group has room for, of lines with these lengths, and
// the bytes of their lines. Their metadata is sizes from first on; nil: there is none.
func (w *Writer) fit(lengths, sizes []uint32, first int) (rows, bytes int) {
	all := w.group.bytes()
	for i, n := range lengths {
		cost := int(n)
		if sizes != nil {
			cost += int(sizes[first+i])
		}
		if have := w.group.len() + i; have >= lines.MaxRows || all+cost > w.opts.RowGroupBytes && have > 0 {
			break
		}
		all += cost
		bytes += int(n)
		rows++
	}
	return rows, bytes
}

// carryRows takes account of rows that are carried, of which there is one at least.
func (w *Writer) carryRows(times []int64, bytes int) error {
	info := &w.foot.info
	for i, t := range times {
		switch {
		case w.fresh:
			w.fresh = false
		case t < w.last.Time:
			return fmt.Errorf("rows of %s do not ascend: time %d after time %d", w.labels, t, w.last.Time)
		case t == w.last.Time:
			w.same++
		default:
			w.same = 0
		}
		w.last.Time = t
		if i == 0 && w.group.len() == 0 {
			w.group.base, w.first = w.same, w.affinity
		}
		info.MinTime, info.MaxTime = min(info.MinTime, t), max(info.MaxTime, t)
	}
	w.came.Rows += uint64(len(times))
	w.came.Bytes += uint64(bytes)
	info.Rows += int64(len(times))
	info.RawBytes += int64(bytes)
	return nil
}

// carriedRuns returns the runs of a stream whose rows were carried: those that were
// announced, and those of the rows that were added, joined as far as they would have been if they had been cut here. A run is
// never cut: slots are as wide as those that it was cut by.
func (w *Writer) carriedRuns() ([]Run, error) {
	if w.came.Rows != w.announced.Rows || w.came.Bytes != w.announced.Bytes {
		return nil, corrupt("%d rows of %d bytes of %s were carried, not %d of %d", w.came.Rows, w.came.Bytes, w.labels, w.announced.Rows, w.announced.Bytes)
	}
	slots, rows := w.slots(), uint64(0)
	for i := range w.runs {
		rows += w.runs[i].Rows
	}
	if rows <= fewRows {
		slots = nil
	}
	for _, slot := range slots {
		if slices.ContainsFunc(w.runs, func(r Run) bool { return !sameSlot(r.MinTime, r.MaxTime, slot.width) }) {
			continue
		}
		n := joinSlots(w.runs, func(a, b Run) bool { return sameSlot(a.MinTime, b.MinTime, slot.width) })
		if w.runs = w.runs[:n]; uint64(n-1)*slot.rows < rows {
			return w.runs, nil
		}
	}
	return w.runs[:joinSlots(w.runs, func(a, b Run) bool { return true })], nil
}
