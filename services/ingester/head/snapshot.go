package head

import (
	"container/heap"
	"context"
	"io"
	"math"
	"slices"
	"sort"
	"sync"
	"unsafe"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Store returns one tenant's part of the head as a store for the query engine.
func (h *Head) Store(tenantID string) engine.Store { return tenantStore{h, tenantID} }

type tenantStore struct {
	head *Head
	id   string
}

// Open implements engine.Store. The snapshot costs a few hundred bytes for each stream and
// chunk in the range, which the memory of the query counts; no row is copied.
func (ts tenantStore) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (_ engine.Snapshot, err error) {
	sn := &snapshot{memory: engine.MemoryOf(ctx)}
	defer func() {
		if err != nil {
			sn.Close()
		}
	}()
	t := ts.head.tenant(ts.id, false)
	if t == nil || !t.overlaps(start, end) {
		return sn, nil // without a look at each stream
	}
	spans := engine.Spans(ctx)
	matched := t.match(matchers)
	size := 8 * len(matched)
	for i, s := range matched {
		if i%1024 == 0 {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err := sn.claim(size); err != nil {
				return nil, err
			}
			size = 0
		}
		if v, runs, touched := s.snapshot(start, end); len(runs) > 0 || (touched && spans) {
			sn.streams = append(sn.streams, engine.Stream{Labels: s.labels, Runs: runs})
			sn.views = append(sn.views, v)
			size += streamSize + v.size() + int(unsafe.Sizeof(engine.Run{}))*cap(runs)
		}
	}
	return sn, sn.claim(size)
}

// streamSize is what a snapshot takes of a stream, in bytes, lists that grew included: a
// quarter of them is room.
const streamSize = int(unsafe.Sizeof(engine.Stream{})+unsafe.Sizeof(&view{}))*5/4 + int(unsafe.Sizeof(view{}))

// size is the bytes of the lists of a view and of what is in them.
func (v *view) size() (n int) {
	for _, chunks := range [][]*model.Rows{v.sorted, v.late} {
		n += 8 * cap(chunks)
		for _, c := range chunks {
			n += int(unsafe.Sizeof(model.Rows{})) + int(unsafe.Sizeof(model.Column{}))*(len(c.Metadata)+len(c.Derived))
		}
	}
	return n
}

// claim takes memory until the snapshot is closed.
func (sn *snapshot) claim(n int) error {
	if !sn.memory.Claim(n) {
		return sn.memory.Err()
	}
	sn.claimed += n
	return nil
}

// cover widens the bounds for rows that are about to be added.
func (t *tenant) cover(times []int64) {
	if len(times) == 0 {
		return
	}
	least, most := slices.Min(times), slices.Max(times)
	for old := t.least.Load(); least < old && !t.least.CompareAndSwap(old, least); old = t.least.Load() {
	}
	for old := t.most.Load(); most > old && !t.most.CompareAndSwap(old, most); old = t.most.Load() {
	}
}

// overlaps reports whether there may be rows with start <= time < end, or between such.
func (t *tenant) overlaps(start, end int64) bool {
	return t.least.Load() < end && t.most.Load() >= start
}

// snapshot is a fixed state of some streams.
type snapshot struct {
	streams []engine.Stream
	views   []*view
	memory  *engine.Memory // of the query; may be nil
	claimed int            // of it
}

// view is the rows of one stream in a range of time, as they were.
type view struct {
	few    firstRows
	sorted []*model.Rows // ascending; with those of few at the front once they were read
	late   []*model.Rows // in order of arrival
	once   sync.Once
	order  [][]uint32 // the rows of each of late, ascending by order key
}

func (sn *snapshot) Streams() []engine.Stream { return sn.streams }

func (sn *snapshot) Close() {
	sn.memory.Unclaim(sn.claimed)
	sn.claimed = 0
}

// Rows implements engine.Snapshot.
func (sn *snapshot) Rows(stream int, start, end int64, backward bool) engine.RowReader {
	v := sn.views[stream]
	v.once.Do(func() {
		if v.few.n > 0 {
			rows := &model.Rows{}
			v.few.appendTo(rows, math.MinInt64, math.MaxInt64)
			v.sorted = slices.Insert(v.sorted, 0, rows)
		}
		for _, r := range v.late {
			v.order = append(v.order, ascending(r))
		}
	})
	if len(v.late) == 0 {
		return &plainReader{chunks: v.sorted, start: start, end: end, backward: backward}
	}
	m := &mergeReader{backward: backward}
	m.add(v.sorted, start, end)
	for i, r := range v.late {
		m.addLate(r, v.order[i], start, end)
	}
	heap.Init(m)
	return m
}

// snapshot returns the stream's rows with start <= time < end, and their runs. touched
// says that the time between the first and the last row of a chunk touches that
// interval, whether a row lies in it or not.
func (s *stream) snapshot(start, end int64) (v *view, _ []engine.Run, touched bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v = &view{}
	runs := newRunSet(end - start)
	any, near := s.few.addTo(runs, start, end)
	if any {
		v.few = s.few
	}
	touched = near
	if s.many == nil {
		return v, runs.coarse(), touched
	}
	for _, c := range s.many.sorted {
		if c.maxTime < start || c.minTime >= end {
			continue
		}
		touched = true
		if c.addTo(runs, start, end, true) {
			v.sorted = append(v.sorted, c.view())
		}
	}
	for _, c := range s.many.late {
		if c.maxTime < start || c.minTime >= end {
			continue
		}
		touched = true
		if c.addTo(runs, start, end, false) {
			v.late = append(v.late, c.view())
		}
	}
	return v, runs.coarse(), touched
}

// plainReader reads chunks that ascend by order key.
type plainReader struct {
	chunks     []*model.Rows
	start, end int64
	backward   bool
	next       int
}

func (p *plainReader) Next() (*model.Rows, int, int, error) {
	for p.next < len(p.chunks) {
		i := p.next
		if p.backward {
			i = len(p.chunks) - 1 - i
		}
		p.next++
		if from, to := between(p.chunks[i], p.start, p.end); from < to {
			return p.chunks[i], from, to, nil
		}
	}
	return nil, 0, 0, io.EOF
}

// mergeBatch is how many rows a mergeReader puts together.
const mergeBatch = 1024

// mergeReader merges several sequences of ascending rows. It is a heap of
// cursors, the next row's on top.
type mergeReader struct {
	cursors  []*cursor
	backward bool
}

// cursor walks over one sequence in the reader's direction.
type cursor struct {
	reader  plainReader
	rows    *model.Rows
	order   []uint32 // of rows, if they do not ascend themselves
	at, end int      // the place of the row, and the one to stop before
	step    int
}

// row is where the cursor stands.
func (c *cursor) row() int {
	if c.order != nil {
		return int(c.order[c.at])
	}
	return c.at
}

func (m *mergeReader) add(chunks []*model.Rows, start, end int64) {
	c := &cursor{reader: plainReader{chunks: chunks, start: start, end: end, backward: m.backward}, step: 1}
	if m.backward {
		c.step = -1
	}
	if c.load() {
		m.cursors = append(m.cursors, c)
	}
}

// addLate adds one chunk, whose rows are read in the given order.
func (m *mergeReader) addLate(rows *model.Rows, order []uint32, start, end int64) {
	before := func(t int64) int {
		return sort.Search(len(order), func(i int) bool { return rows.Times[order[i]] >= t })
	}
	c := &cursor{rows: rows, order: order, at: before(start), end: before(end), step: 1}
	if c.at >= c.end {
		return
	}
	if m.backward {
		c.at, c.end, c.step = c.end-1, c.at-1, -1
	}
	m.cursors = append(m.cursors, c)
}

func (c *cursor) load() bool {
	rows, from, to, err := c.reader.Next()
	if err != nil {
		return false
	}
	c.rows, c.at, c.end = rows, from, to
	if c.step < 0 {
		c.at, c.end = to-1, from-1
	}
	return true
}

// advance moves to the next row and tells whether there is one.
func (c *cursor) advance() bool {
	c.at += c.step
	return c.at != c.end || c.load()
}

func (m *mergeReader) Len() int      { return len(m.cursors) }
func (m *mergeReader) Swap(i, j int) { m.cursors[i], m.cursors[j] = m.cursors[j], m.cursors[i] }
func (m *mergeReader) Push(x any)    { m.cursors = append(m.cursors, x.(*cursor)) }
func (m *mergeReader) Pop() any {
	c := m.cursors[len(m.cursors)-1]
	m.cursors = m.cursors[:len(m.cursors)-1]
	return c
}

func (m *mergeReader) Less(i, j int) bool {
	a, b := m.cursors[i], m.cursors[j]
	c := a.rows.Key(a.row()).Compare(b.rows.Key(b.row()))
	return c < 0 != m.backward && c != 0
}

// Next puts the next rows together.
func (m *mergeReader) Next() (*model.Rows, int, int, error) {
	type pick struct {
		rows *model.Rows
		row  int
	}
	picks := make([]pick, 0, mergeBatch)
	columns, counted := 0, map[*model.Rows]bool{}
	for len(m.cursors) > 0 && len(picks) < mergeBatch {
		c := m.cursors[0]
		if !counted[c.rows] {
			// Putting rows together takes longer the more columns there are.
			if columns += len(c.rows.Metadata); columns > 2*chunkColumns && len(picks) > 0 {
				break
			}
			counted[c.rows] = true
		}
		picks = append(picks, pick{c.rows, c.row()})
		if c.advance() {
			heap.Fix(m, 0)
		} else {
			heap.Pop(m)
		}
	}
	if len(picks) == 0 {
		return nil, 0, 0, io.EOF
	}
	if m.backward {
		slices.Reverse(picks)
	}
	out := &model.Rows{}
	for n, p := range picks {
		appendRow(out, p.rows, p.row, n)
	}
	return out, 0, len(picks), nil
}
