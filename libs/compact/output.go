package compact

import (
	"slices"

	"github.com/weir-logs/weir/libs/model"
)

// output takes the rows of a merge in order, leaves out those that are removed, and
// hands them to the writer.
type output struct {
	merge   *Merge
	w       Writer
	stream  int
	removes []streamRemover
	rows    batch

	// With fix: time and place among its equals of the row that was written last.
	lastTime int64
	place    uint32
	any      bool

	scratch batch // rows with one time of several sources
}

type streamRemover struct {
	name string
	rows RowRemover
}

func (o *output) begin(stream int) {
	o.stream, o.removes, o.any = stream, o.removes[:0], false
	for _, r := range o.merge.removes {
		if rows := r.ForStream(o.merge.streams[stream]); rows != nil {
			o.removes = append(o.removes, streamRemover{r.Name(), rows})
		}
	}
}

// take takes the rows [from, to) of src, which are behind all so far.
func (o *output) take(src *model.Rows, from, to int) error {
	for from < to {
		end := to
		if len(o.removes) > 0 {
			if o.removed(src, from) {
				from++
				continue
			}
			for end = from + 1; end < to && !o.matches(src, end); end++ {
			}
		}
		if err := o.add(src, from, end); err != nil {
			return err
		}
		from = end
	}
	return nil
}

func (o *output) matches(src *model.Rows, i int) bool {
	for _, r := range o.removes {
		if r.rows.Remove(src, i) {
			return true
		}
	}
	return false
}

// removed enters the row as removed if it is.
func (o *output) removed(src *model.Rows, i int) bool {
	for _, r := range o.removes {
		if r.rows.Remove(src, i) {
			o.merge.removed[r.name]++
			o.merge.report.Removed++
			o.merge.ledger[o.stream].removed.add(1, hashOf(src, i))
			return true
		}
	}
	return false
}

// add writes the rows [from, to) of src.
func (o *output) add(src *model.Rows, from, to int) error {
	if o.rows.rows.Len() > 0 && !o.rows.fits(src) {
		if err := o.flush(); err != nil {
			return err
		}
	}
	for from < to {
		n := min(to-from, batchRows-o.rows.rows.Len())
		if size := len(src.Lines.Slab) / max(1, src.Len()); size > 128 {
			n = min(n, max(1, batchBytes/size)) // lines are long: some at a time
		}
		o.rows.append(src, from, from+n)
		from += n
		if o.rows.full() {
			if err := o.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush hands the rows so far to the writer.
func (o *output) flush() error {
	r := &o.rows.rows
	if r.Len() == 0 {
		return nil
	}
	give := *r
	if o.merge.fix {
		for i, t := range r.Times {
			if o.any && t == o.lastTime {
				o.place++
			} else {
				o.lastTime, o.place, o.any = t, 0, true
			}
			r.Positions[i] = o.place
		}
		give.BatchTimes = nil
	}
	if err := o.w.Add(o.merge.streams[o.stream], &give); err != nil {
		return err
	}
	n := uint64(r.Len())
	o.merge.ledger[o.stream].out.add(n, o.rows.digest)
	o.merge.report.RowsOut += n
	o.rows.reset()
	return nil
}

// group unites the rows with time t of several sources.
func (o *output) group(cursors []*cursor, stream int, t int64) error {
	if ok, err := o.sole(cursors, t); ok || err != nil {
		return err
	}
	o.scratch.reset()
	var versions []uint32
	for _, c := range cursors {
		for c.rows != nil && c.stream == stream && c.time() == t {
			if !o.scratch.fits(c.rows) { // copies with values derived by different rules
				return o.mixed(cursors, stream, t)
			}
			to := c.until(t)
			o.scratch.append(c.rows, c.at, to)
			for range to - c.at {
				versions = append(versions, derivedVersion(c.rows))
			}
			if err := c.advance(to); err != nil {
				return err
			}
		}
	}
	return o.settle([]*model.Rows{&o.scratch.rows}, versions)
}

// mixed is group for rows that do not fit into one batch. scratch holds what was
// gathered so far.
func (o *output) mixed(cursors []*cursor, stream int, t int64) error {
	parts := []*batch{&o.scratch}
	var versions []uint32
	for range o.scratch.rows.Len() {
		versions = append(versions, derivedVersion(&o.scratch.rows))
	}
	for _, c := range cursors {
		for c.rows != nil && c.stream == stream && c.time() == t {
			last := parts[len(parts)-1]
			if !last.fits(c.rows) {
				last = &batch{}
				parts = append(parts, last)
			}
			to := c.until(t)
			last.append(c.rows, c.at, to)
			for range to - c.at {
				versions = append(versions, derivedVersion(c.rows))
			}
			if err := c.advance(to); err != nil {
				return err
			}
		}
	}
	lists := make([]*model.Rows, len(parts))
	for i, p := range parts {
		lists[i] = &p.rows
	}
	return o.settle(lists, versions)
}

// sole unites rows if every cursor has one with time t, and they are one entry.
func (o *output) sole(cursors []*cursor, t int64) (bool, error) {
	first := cursors[0]
	best := first
	key := first.rows.Key(first.at)
	for i, c := range cursors {
		// Behind the last row of a batch another one with the same time may come.
		if c.at+1 >= c.to || c.rows.Times[c.at+1] == t {
			return false, nil
		}
		if i == 0 {
			continue
		}
		if !first.rows.SameEntry(first.at, c.rows, c.at) {
			return false, nil
		}
		k := c.rows.Key(c.at)
		k.Hash = key.Hash
		if k.Compare(key) < 0 {
			key = k
		}
		if derivedVersion(c.rows) > derivedVersion(best.rows) {
			best = c
		}
	}
	hash := hashOf(first.rows, first.at)
	for range cursors[1:] {
		o.copied(hash)
	}
	if err := o.keep(best.rows, best.at, key); err != nil {
		return true, err
	}
	for _, c := range cursors {
		if err := c.advance(c.at + 1); err != nil {
			return true, err
		}
	}
	return true, nil
}

func (o *output) copied(hash uint64) {
	o.merge.ledger[o.stream].copies.add(1, hash)
	o.merge.report.Copies++
}

// keep takes one row at the place of key, the least of its copies.
func (o *output) keep(src *model.Rows, i int, key model.OrderKey) error {
	if k := src.Key(i); k.BatchTime == key.BatchTime && k.Position == key.Position {
		return o.take(src, i, i+1)
	}
	o.scratch.reset()
	o.scratch.append(src, i, i+1)
	r := &o.scratch.rows
	r.BatchTimes[0], r.Positions[0] = key.BatchTime, key.Position
	return o.take(r, 0, 1)
}

// settle takes rows of one time, of which some may be copies of others. versions are
// those of the rules that derived values, by row.
func (o *output) settle(lists []*model.Rows, versions []uint32) error {
	type entry struct {
		rows *model.Rows
		row  int
		key  model.OrderKey
		vers uint32
	}
	byHash := map[uint64][]int{}
	var entries []entry
	at := 0
	for _, r := range lists {
	rows:
		for i := range r.Len() {
			key, version := r.Key(i), versions[at]
			at++
			for _, k := range byHash[key.Hash] {
				e := &entries[k]
				if !e.rows.SameEntry(e.row, r, i) {
					continue
				}
				o.copied(key.Hash)
				if key.Compare(e.key) < 0 {
					e.key = key
				}
				if version > e.vers {
					e.rows, e.row, e.vers = r, i, version
				}
				continue rows
			}
			byHash[key.Hash] = append(byHash[key.Hash], len(entries))
			entries = append(entries, entry{r, i, key, version})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return a.key.Compare(b.key) })
	for _, e := range entries {
		// Its own place, the least of its copies.
		e.rows.BatchTimes[e.row], e.rows.Positions[e.row] = e.key.BatchTime, e.key.Position
		if err := o.take(e.rows, e.row, e.row+1); err != nil {
			return err
		}
	}
	return nil
}

// derivedVersion is that of the newest rule that derived a column.
func derivedVersion(r *model.Rows) (v uint32) {
	for i := range r.Derived {
		v = max(v, r.Derived[i].Version)
	}
	return v
}
