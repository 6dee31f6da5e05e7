package compact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"

	"github.com/weir-logs/weir/libs/model"
)

// cursor walks through the rows of one source.
type cursor struct {
	merge      *Merge
	source     int
	start, end int64
	next       func() (part, bool)
	stop       func()
	failure    error

	stream int // of the merge
	rows   *model.Rows
	at, to int // the rows of the batch that are still to come
	last   int // the source's stream number of this batch
}

type part struct {
	labels   model.Labels
	rows     *model.Rows
	from, to int
}

var errStopped = errors.New("stopped")

// rowsYield takes rows as Source.Each gives them.
type rowsYield = func(ls model.Labels, rows *model.Rows, from, to int) error

// open returns a cursor at the rows of a source, but for streams that are carried.
func (m *Merge) open(ctx context.Context, source int, start, end int64, carried [][]sourceRun) *cursor {
	var c *cursor
	c = m.cursor(source, start, end, func(yield rowsYield) error {
		s := m.sources[source]
		return s.Each(ctx, start, end, c.skippable(s.Streams(), carried), yield)
	})
	return c
}

// cursor returns a cursor at rows of a source that each gives.
func (m *Merge) cursor(source int, start, end int64, each func(rowsYield) error) *cursor {
	c := &cursor{merge: m, source: source, start: start, end: end, last: -1}
	c.next, c.stop = iter.Pull(func(yield func(part) bool) {
		err := each(func(ls model.Labels, rows *model.Rows, from, to int) error {
			if !yield(part{ls, rows, from, to}) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			c.failure = fmt.Errorf("block %s: %w", m.sources[source].ID(), err)
		}
	})
	return c
}

// skippable returns a function that tells whether all rows of a stream are copies
// of an earlier source's, by their runs, or are taken over as they are.
func (c *cursor) skippable(streams []Stream, carried [][]sourceRun) func(int) bool {
	skips := c.merge.skips[c.source]
	return func(i int) bool {
		if carried != nil && len(carried[c.merge.index[c.source][i]]) > 0 {
			return true
		}
		return len(streams[i].Runs) > 0 && len(skips[int(c.merge.index[c.source][i])]) == len(streams[i].Runs)
	}
}

func (c *cursor) close() { c.stop() }

// fill makes rows those that come next, or nil at the end.
func (c *cursor) fill() error {
	for c.rows == nil || c.at == c.to {
		p, ok := c.next()
		if !ok {
			c.rows = nil
			return c.failure
		}
		streams := c.merge.sources[c.source].Streams()
		if c.last < 0 || !streams[c.last].Labels.Equal(p.labels) {
			for c.last++; c.last < len(streams) && !streams[c.last].Labels.Equal(p.labels); c.last++ {
			}
			if c.last == len(streams) {
				return fmt.Errorf("block %s: rows of stream %s, which is not listed or not in order", c.merge.sources[c.source].ID(), p.labels)
			}
			c.stream = int(c.merge.index[c.source][c.last])
		}
		c.rows = p.rows
		c.at, c.to = between(p.rows, p.from, p.to, c.start, c.end)
		c.pass()
	}
	return nil
}

// pass goes behind rows that are known to be copies.
func (c *cursor) pass() {
	for _, r := range c.merge.skips[c.source][c.stream] {
		if c.at == c.to || c.rows.Times[c.at] < r.MinTime {
			return
		}
		if c.rows.Times[c.at] <= r.MaxTime {
			c.at = upTo(c.rows, c.at, c.to, r.MaxTime)
		}
	}
}

// until is the first row in [at, to) that is not to be taken before the time limit,
// inclusive, is reached or rows that are copies begin.
func (c *cursor) until(limit int64) int {
	for _, r := range c.merge.skips[c.source][c.stream] {
		if r.MinTime > c.rows.Times[c.at] {
			limit = min(limit, r.MinTime-1)
			break
		}
	}
	return upTo(c.rows, c.at, c.to, limit)
}

func (c *cursor) time() int64 { return c.rows.Times[c.at] }

// advance goes to row i, and on to the next batch if the stream has one.
func (c *cursor) advance(i int) error {
	c.at = i
	c.pass()
	if c.at < c.to {
		return nil
	}
	return c.fill()
}

// between returns the rows of [from, to) with start <= time < end; end MaxTime
// includes itself.
func between(r *model.Rows, from, to int, start, end int64) (int, int) {
	if end != MaxTime {
		to = from + sort.Search(to-from, func(i int) bool { return r.Times[from+i] >= end })
	}
	return from + sort.Search(to-from, func(i int) bool { return r.Times[from+i] >= start }), to
}

// upTo returns the first row of [from, to) behind the time t.
func upTo(r *model.Rows, from, to int, t int64) int {
	return from + sort.Search(to-from, func(i int) bool { return r.Times[from+i] > t })
}

// mergeStream unites the rows of one stream, which all cursors are at.
func mergeStream(cursors []*cursor, stream int, out *output) error {
	for len(cursors) > 0 {
		// The cursors at the least time are first; next is the least time of the others.
		slices.SortStableFunc(cursors, func(a, b *cursor) int { return cmp.Compare(a.time(), b.time()) })
		t, n := cursors[0].time(), 1
		for n < len(cursors) && cursors[n].time() == t {
			n++
		}
		var err error
		if n == 1 {
			limit := int64(MaxTime)
			if len(cursors) > 1 {
				limit = cursors[1].time() - 1
			}
			c := cursors[0]
			to := c.until(limit)
			if err = out.take(c.rows, c.at, to); err == nil {
				err = c.advance(to)
			}
		} else {
			err = out.group(cursors[:n], stream, t)
		}
		if err != nil {
			return err
		}
		cursors = slices.DeleteFunc(cursors, func(c *cursor) bool { return c.rows == nil || c.stream != stream })
	}
	return nil
}
