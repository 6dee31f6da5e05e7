package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/weir-logs/weir/libs/model"
)

// Counter is an Indexed snapshot, as Select returns it, that counts the rows that are
// wanted without giving them out.
type Counter interface {
	Indexed
	// Parts returns in how many parts of about equal size rows are counted.
	Parts() int
	// Count counts the rows of a part: it calls add with how many of a stream are in a
	// bucket, which may be several times for both. bucket returns the bucket of a time
	// and the last time that is in the same; rows of buckets below 0 do not count. The
	// results are those of Examiner; bytes only of lines that had to be looked at.
	Count(part int, bucket func(t int64) (bucket int, last int64), add func(stream, bucket, rows int) error) (rows, bytes uint64, err error)
}

// Pruner is an Indexed snapshot, as Select returns it, that knows streams without
// rows that are wanted.
type Pruner interface {
	Indexed
	// Prune returns the streams that may have rows that are wanted, ascending; all: no
	// stream is known to have none.
	Prune() (streams []int, all bool, err error)
}

// counterOf returns the snapshot that counts all rows of a session for a plan; nil:
// they have to be read.
func (s *localSession) counterOf(ctx context.Context, p *plan) Counter {
	from, ok := s.snap.(Selective)
	if !ok || s.indexed == nil || !p.pushed.plain() || !p.pushed.matcher.Empty() {
		return nil
	}
	if f, ok := p.pushed.fold(); !ok || f != foldCount || p.pushed.group == nil || p.pushed.group.Without {
		return nil
	}
	c, ok := from.Select(ctx, &Need{Filters: p.filters}).(Counter)
	if !ok {
		return nil
	}
	// The streams' labels must decide, not metadata.
	var has func(string) bool
	if h, ok := s.snap.(interface{ HasMetadata(string) bool }); ok {
		has = h.HasMetadata
	}
	streams := c.Extent().Streams
	for _, n := range p.pushed.group.Names {
		if has != nil && !mayBeMetadata([]string{n}, nil, has) {
			continue
		}
		_, of := c.Values(n)
		for i := range streams {
			if of(i) == 0 {
				return nil
			}
		}
	}
	return c
}

// counted gives put the aggregators of all rows, which the store counts; they are released when
// it returns. Each stretch of rows has series of its own: where there is no room for these, all
// are counted again in one.
func (s *localSession) counted(ctx context.Context, c Counter, fields *Fields, sel *selection, f fold, req *AggregateRequest, g *grid, put func([]*aggregator) error) (stats ScanStats, err error) {
	for _, stretches := range []int{4 * s.workers, 1} {
		var aggs []*aggregator
		if aggs, stats, err = s.countAll(ctx, c, fields, sel, f, req, g, stretches); err == nil {
			err = put(aggs)
		}
		for _, a := range aggs {
			a.release()
		}
		if !errors.Is(err, ErrMemory) {
			break
		}
	}
	return stats, err
}

// countAll folds all rows where the store counts, by fields if there are some, in no more than
// a number of stretches. The aggregators are to be released, even if it fails.
func (s *localSession) countAll(ctx context.Context, c Counter, fields *Fields, sel *selection, f fold, req *AggregateRequest, g *grid, stretches int) ([]*aggregator, ScanStats, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := c.Parts()
	n := max(1, min(parts, stretches))
	again := fields != nil && f == foldCount && stretches > 1
	if again {
		// Whoever is free takes the next part, and goes on with what it has found out of
		// fields: whole numbers add up to the same in any order.
		n = max(1, parts)
	}
	counters := make([]*partCounter, n) // by stretch, those that were made
	var mu sync.Mutex
	var idle []*partCounter
	take := func(i int) *partCounter {
		mu.Lock()
		defer mu.Unlock()
		if k := len(idle) - 1; k >= 0 {
			w := idle[k]
			idle = idle[:k]
			return w
		}
		a := &aggregator{selection: sel, prog: sel.prog, fold: f, grid: g, mem: memoryOf(ctx), limit: req.MaxSeries}
		w := &partCounter{wholeCounter: wholeCounter{a: a}, of: c}
		if fields != nil {
			w.by = &fieldSeries{wholeCounter: &w.wholeCounter, session: s, fields: fields}
		} else {
			w.groups = groupsOf(sel.prog.group.Names, c)
		}
		counters[i] = w
		return w
	}
	spread(n, func(i int) {
		w := take(i)
		for part := parts * i / n; part < parts*(i+1)/n && ctx.Err() == nil; part++ {
			if err := w.count(ctx, part); err != nil {
				cancel(err)
				return
			}
		}
		if again {
			mu.Lock()
			defer mu.Unlock()
			idle = append(idle, w)
		}
	})
	var stats ScanStats
	var aggs []*aggregator
	for _, w := range counters {
		if w == nil {
			continue
		}
		if err := w.flush(); err != nil {
			cancel(err)
		}
		stats.Add(w.a.stats)
		aggs = append(aggs, w.a)
	}
	if ctx.Err() != nil {
		return aggs, stats, context.Cause(ctx)
	}
	return aggs, stats, nil
}

// partCounter counts parts of a Counter. It is used by one goroutine at a time.
type partCounter struct {
	wholeCounter
	of Counter
	by *fieldSeries // nil: by streams
}

func (w *partCounter) count(ctx context.Context, part int) error {
	a := w.a
	before := a.stats
	var rows, bytes uint64
	var err error
	if w.by != nil {
		rows, bytes, err = w.of.(FieldCounter).CountFields(part, w.by.fields, w.by)
	} else {
		rows, bytes, err = w.of.Count(part, a.grid.bucket, w.add)
	}
	a.stats.RowsRead += rows
	a.stats.BytesRead += bytes
	liveOf(ctx).add(a.stats.minus(before))
	return err
}

// wholeCounter folds what a Counter counts. It is used by one goroutine.
type wholeCounter struct {
	a      *aggregator
	groups groupIndex

	// What is not added yet: rows of one bucket of a series.
	series uint32
	bucket int
	rows   uint64
	dense  [][]uint64 // of each series: rows by bucket; nil: it is not kept so
	cells  int        // of dense
}

// maxDense is how many buckets, of all series, are counted in arrays.
const maxDense = 1 << 17

func (w *wholeCounter) add(stream, bucket, rows int) error {
	series, err := w.groups.series(stream, w.a)
	if err != nil {
		return err
	}
	return w.addTo(series, bucket, rows)
}

func (w *wholeCounter) addTo(series uint32, bucket, rows int) error {
	w.a.stats.RowsFiltered += uint64(rows)
	if int(series) < len(w.dense) && bucket < len(w.dense[series]) {
		w.dense[series][bucket] += uint64(rows)
		return nil
	}
	if series == w.series && bucket == w.bucket {
		w.rows += uint64(rows)
		return nil
	}
	if err := w.settle(); err != nil {
		return err
	}
	w.series, w.bucket, w.rows = series, bucket, uint64(rows)
	for len(w.dense) <= int(series) {
		w.dense = append(w.dense, nil)
	}
	if n := w.a.grid.buckets(); w.dense[series] == nil && n > 1 && n <= maxDense-w.cells {
		w.cells += n
		w.dense[series] = make([]uint64, n)
		return w.a.reserve(8 * n)
	}
	return nil
}

func (w *wholeCounter) settle() error {
	if w.rows == 0 {
		return nil
	}
	rows := w.rows
	w.rows = 0
	return w.a.addTo(w.series, w.bucket, partial{n: rows})
}

func (w *wholeCounter) flush() error {
	if err := w.settle(); err != nil {
		return err
	}
	for series, counts := range w.dense {
		for bucket, n := range counts {
			if n == 0 {
				continue
			}
			if err := w.a.addTo(uint32(series), bucket, partial{n: n}); err != nil {
				return err
			}
		}
	}
	return nil
}

// groupIndex finds the series of streams by their values of labels.
type groupIndex struct {
	names  []string
	values [][]string
	of     []func(stream int) uint32
	known  []uint32 // by the first value, one more than the series, if there is one name
	all    uint32   // likewise, if there is none
	keys   map[string]uint32
	key    []byte
	buf    []model.Label
	stream int // the one asked for last
	last   uint32
	any    bool
}

func groupsOf(names []string, x Indexed) groupIndex {
	g := groupIndex{names: names}
	for _, n := range names {
		values, of := x.Values(n)
		g.values, g.of = append(g.values, values), append(g.of, of)
	}
	if len(names) == 1 {
		g.known = make([]uint32, len(g.values[0])+1)
	}
	return g
}

// series returns the series of a stream.
func (g *groupIndex) series(stream int, a *aggregator) (uint32, error) {
	if g.any && g.stream == stream {
		return g.last, nil
	}
	id, err := g.find(stream, a)
	g.stream, g.last, g.any = stream, id, err == nil
	return id, err
}

func (g *groupIndex) find(stream int, a *aggregator) (uint32, error) {
	switch len(g.names) {
	case 0:
		if g.all == 0 {
			id, err := a.seriesOf(nil)
			if err != nil {
				return 0, err
			}
			g.all = id + 1
		}
		return g.all - 1, nil
	case 1:
		v := g.of[0](stream)
		if g.known[v] == 0 {
			id, err := a.seriesOf(g.labels(stream))
			if err != nil {
				return 0, err
			}
			g.known[v] = id + 1
		}
		return g.known[v] - 1, nil
	}
	g.key = g.key[:0]
	for _, of := range g.of {
		g.key = binary.LittleEndian.AppendUint32(g.key, of(stream))
	}
	if id, ok := g.keys[string(g.key)]; ok {
		return id, nil
	}
	id, err := a.seriesOf(g.labels(stream))
	if err != nil {
		return 0, err
	}
	if g.keys == nil || len(g.keys) >= 1<<16 {
		g.keys = map[string]uint32{}
	}
	g.keys[string(g.key)] = id
	return id, nil
}

func (g *groupIndex) labels(stream int) []model.Label {
	g.buf = g.buf[:0]
	for i, of := range g.of {
		if v := of(stream); v > 0 {
			g.buf = append(g.buf, model.Label{Name: g.names[i], Value: g.values[i][v-1]})
		}
	}
	return g.buf
}

// addAll notes all streams that may have rows, without a list of them. It returns
// false if that does not do.
func (sc *scan) addAll(ctx context.Context) (bool, error) {
	s := sc.session
	if s.indexed == nil || sc.req.Streams != nil || sc.req.After != nil {
		return false, nil
	}
	start, end := max(sc.req.Start, s.start), min(sc.req.End, s.end)
	streams := s.indexed.Extent().Streams
	if start >= end || streams == 0 {
		return true, nil
	}
	sc.ranges = []TimeRange{{start, end}}
	add := func(i int) {
		least, greatest := s.indexed.Bounds(i)
		if greatest < start || least >= end {
			return
		}
		at := max(least, start)
		if sc.req.Backward {
			at = min(greatest, end-1)
		}
		sc.waiting = append(sc.waiting, waiting{bound: at, stream: int32(i), task: -1})
	}
	// What the plan needs of one stream it needs of all, if metadata plays no part.
	if p := sc.selection.plan; sc.selection.from != nil && len(p.metadata) == 0 && len(p.values) == 0 {
		if pr, ok := sc.selection.of(ctx, 0).(Pruner); ok {
			some, all, err := pr.Prune()
			if err != nil {
				return false, err
			}
			if !all {
				sc.waiting = make([]waiting, 0, len(some))
				for _, i := range some {
					add(i)
				}
				return true, nil
			}
		}
	}
	sc.waiting = make([]waiting, 0, streams)
	for i := range streams {
		add(i)
	}
	return true, nil
}

// taskOf returns the task of a stream that waits.
func (sc *scan) taskOf(w waiting) scanTask {
	if w.task < 0 {
		return scanTask{task: task{int(w.stream), sc.ranges}} // nobody changes them
	}
	return sc.tasks[w.task]
}
