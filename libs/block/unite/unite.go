// Package unite merges sources that hold rows of one tenant into one: set union, in the
// order of entries. It is pure.
package unite

import (
	"errors"
	"iter"
	"slices"

	"github.com/weir-logs/weir/libs/model"
)

// Each calls yield with batches of rows: streams in an order that all sources of a
// merge share, the rows of a stream strictly ascending by order key, in one batch or
// several. An entry occurs once. A batch is valid during the call. An error of yield
// ends it and is returned.
type Each func(yield func(ls model.Labels, rows *model.Rows) error) error

// Stats is what a merge did.
type Stats struct {
	In     uint64 // rows of all sources
	Copies uint64 // of these, rows that another source had too
	Out    uint64 // rows that came out: In less Copies
}

// batchRows and batchBytes are about how much is handed on at a time where rows had to
// be put together.
const (
	batchRows  = 4096
	batchBytes = 1 << 20
)

// errStopped ends a source that is not read to its end.
var errStopped = errors.New("stopped")

// Streams merges sources whose streams ascend by compare, and calls add as an Each
// calls its yield. An entry of several sources comes once, at the smallest place that
// one of them gives it and with what the newest rules derived.
//
// It holds one batch of each source, and the rows of one stream that have one time.
func Streams(sources []Each, compare func(a, b model.Labels) int, add func(ls model.Labels, rows *model.Rows) error) (Stats, error) {
	m := &merger{add: add}
	defer func() {
		for _, c := range m.cursors {
			c.stop()
		}
	}()
	for _, s := range sources {
		c := newCursor(s)
		m.cursors = append(m.cursors, c)
		if err := c.load(&m.stats); err != nil {
			return m.stats, err
		}
	}
	for {
		var ls model.Labels
		found := false
		for _, c := range m.cursors {
			if c.rows != nil && (!found || compare(c.labels, ls) < 0) {
				ls, found = c.labels, true
			}
		}
		if !found {
			return m.stats, nil
		}
		if err := m.stream(ls); err != nil {
			return m.stats, err
		}
	}
}

// cursor walks over one source.
type cursor struct {
	next   func() (batch, bool)
	stop   func()
	err    error
	labels model.Labels
	rows   *model.Rows // nil at the end
	at     int
}

type batch struct {
	labels model.Labels
	rows   *model.Rows
}

func newCursor(each Each) *cursor {
	c := &cursor{}
	c.next, c.stop = iter.Pull(func(yield func(batch) bool) {
		err := each(func(ls model.Labels, rows *model.Rows) error {
			if rows.Len() > 0 && !yield(batch{ls, rows}) {
				return errStopped
			}
			return nil
		})
		if !errors.Is(err, errStopped) {
			c.err = err
		}
	})
	return c
}

func (c *cursor) load(stats *Stats) error {
	b, ok := c.next()
	if !ok {
		c.rows = nil
		return c.err
	}
	c.labels, c.rows, c.at = b.labels, b.rows, 0
	stats.In += uint64(b.rows.Len())
	return nil
}

func (c *cursor) time() int64 { return c.rows.Times[c.at] }

// last is the time of the last row of the batch.
func (c *cursor) last() int64 { return c.rows.Times[c.rows.Len()-1] }

func (c *cursor) hash(i int) uint64 {
	if c.rows.Hashes != nil {
		return c.rows.Hashes[i]
	}
	return c.rows.Hash(i)
}

type merger struct {
	cursors []*cursor
	add     func(model.Labels, *model.Rows) error
	out     *model.Rows
	size    int
	stats   Stats
}

// stream merges the rows of one stream.
func (m *merger) stream(ls model.Labels) error {
	m.out, m.size = &model.Rows{}, 0
	for {
		var in []*cursor // those that have rows of the stream left
		for _, c := range m.cursors {
			if c.rows != nil && c.labels.Equal(ls) {
				in = append(in, c)
			}
		}
		if len(in) == 0 {
			return m.flush(ls)
		}
		first := slices.MinFunc(in, func(a, b *cursor) int { return compareTime(a.time(), b.time()) })
		alone := true
		for _, c := range in {
			alone = alone && (c == first || c.time() > first.last())
		}
		if alone && first.at == 0 {
			if err := m.whole(ls, first); err != nil {
				return err
			}
			continue
		}
		if alone {
			for ; first.at < first.rows.Len(); first.at++ {
				if err := m.put(ls, first.rows, first.at, first.rows.Key(first.at), first.hash(first.at)); err != nil {
					return err
				}
			}
			if err := first.load(&m.stats); err != nil {
				return err
			}
			continue
		}
		if err := m.group(ls, in, first.time()); err != nil {
			return err
		}
	}
}

// whole hands a batch on as it is.
func (m *merger) whole(ls model.Labels, c *cursor) error {
	if err := m.flush(ls); err != nil {
		return err
	}
	m.stats.Out += uint64(c.rows.Len())
	if err := m.add(ls, c.rows); err != nil {
		return err
	}
	return c.load(&m.stats)
}

func compareTime(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// entry is a row of a group: where its contents are, and its place.
type entry struct {
	rows *model.Rows
	row  int
	key  model.OrderKey
}

// group merges the rows that have one time.
func (m *merger) group(ls model.Labels, in []*cursor, at int64) error {
	var all []entry
	byHash := map[uint64][]int{}
	for _, c := range in {
		mine := len(all) // a source has no copies within itself
		for c.rows != nil && c.labels.Equal(ls) && c.time() == at {
			// The batch is gone once the next one was asked for.
			rows, row := c.rows, c.at
			key := c.rows.Key(c.at)
			key.Hash = c.hash(c.at)
			if c.at == c.rows.Len()-1 {
				rows, row = &model.Rows{}, 0
				appendRow(rows, c.rows, c.at, key)
			}
			if i := find(all[:mine], byHash[key.Hash], rows, row); i >= 0 {
				m.stats.Copies++
				e := &all[i]
				if key.Compare(e.key) < 0 {
					e.key = key
				}
				if derivedVersion(rows) > derivedVersion(e.rows) {
					e.rows, e.row = rows, row
				}
			} else {
				byHash[key.Hash] = append(byHash[key.Hash], len(all))
				all = append(all, entry{rows, row, key})
			}
			c.at++
			if c.at < c.rows.Len() {
				continue
			}
			// What refers to the batch is copied before it goes.
			for i := range all {
				if all[i].rows == c.rows {
					kept := &model.Rows{}
					appendRow(kept, c.rows, all[i].row, all[i].key)
					all[i].rows, all[i].row = kept, 0
				}
			}
			if err := c.load(&m.stats); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return a.key.Compare(b.key) })
	for _, e := range all {
		if err := m.put(ls, e.rows, e.row, e.key, e.key.Hash); err != nil {
			return err
		}
	}
	return nil
}

func find(all []entry, candidates []int, rows *model.Rows, row int) int {
	for _, i := range candidates {
		if i < len(all) && all[i].rows.SameEntry(all[i].row, rows, row) {
			return i
		}
	}
	return -1
}

func derivedVersion(r *model.Rows) uint32 {
	v := uint32(0)
	for i := range r.Derived {
		v = max(v, r.Derived[i].Version)
	}
	return v
}

// put adds a row to those that go out.
func (m *merger) put(ls model.Labels, rows *model.Rows, row int, key model.OrderKey, hash uint64) error {
	key.Hash = hash
	appendRow(m.out, rows, row, key)
	m.size += len(rows.Lines.At(row))
	if m.out.Len() >= batchRows || m.size >= batchBytes {
		return m.flush(ls)
	}
	return nil
}

func (m *merger) flush(ls model.Labels) error {
	if m.out.Len() == 0 {
		return nil
	}
	out := m.out
	m.stats.Out += uint64(out.Len())
	m.out, m.size = &model.Rows{}, 0
	return m.add(ls, out)
}

// appendRow appends row i of src to dst, at a place of its own.
func appendRow(dst, src *model.Rows, i int, key model.OrderKey) {
	n := dst.Len()
	dst.Times = append(dst.Times, src.Times[i])
	dst.Lines.Append(src.Lines.At(i))
	dst.Hashes = append(dst.Hashes, key.Hash)
	dst.BatchTimes = append(dst.BatchTimes, key.BatchTime)
	dst.Positions = append(dst.Positions, key.Position)
	if copyNo := src.Copy(i); copyNo != 0 || dst.Copies != nil {
		for len(dst.Copies) < n {
			dst.Copies = append(dst.Copies, 0)
		}
		dst.Copies = append(dst.Copies, copyNo)
	}
	dst.Metadata = appendColumns(dst.Metadata, src.Metadata, i, n)
	dst.Derived = appendColumns(dst.Derived, src.Derived, i, n)
}

func appendColumns(dst, src []model.Column, i, n int) []model.Column {
	at := 0
	for k := range src {
		v := src[k].At(i)
		if len(v) == 0 {
			continue
		}
		for at < len(dst) && dst[at].Name < src[k].Name {
			at++
		}
		if at == len(dst) || dst[at].Name != src[k].Name {
			dst = slices.Insert(dst, at, model.Column{Name: src[k].Name, Version: src[k].Version})
		}
		dst[at].Append(n, v)
		dst[at].Version = max(dst[at].Version, src[k].Version)
	}
	for k := range dst {
		dst[k].Finish(n + 1)
	}
	return dst
}
