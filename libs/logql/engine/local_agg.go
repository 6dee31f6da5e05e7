package engine

import (
	"context"
	"errors"
	"slices"
	"sort"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// splitRows is how many rows of a stream are worth a task of their own.
var splitRows uint64 = 64 << 10 // fewer in tests

// Aggregate folds the rows of each series into buckets, stream by stream and in
// parallel, and those into windows. Which goroutine does what has no influence
// on the result.
func (s *localSession) Aggregate(ctx context.Context, req AggregateRequest) ([]PartialSeries, ScanStats, error) {
	plan, err := planOf(ctx, req.Query)
	if err != nil {
		return nil, ScanStats{}, err
	}
	sel := s.selection(plan, false)
	prog := sel.prog
	f, ok := prog.fold()
	if !ok {
		return nil, ScanStats{}, Errorf(ErrUnsupported, "%s cannot be computed in parts", req.Query)
	}
	g := newGrid(req.Start, req.End, req.Step, int64(prog.agg.Range.Interval))
	if req.Streams == nil && req.Ranges == nil {
		var c Counter
		var fields *Fields
		if c = s.counterOf(ctx, plan); c == nil {
			if fc := s.fieldCounterOf(ctx, plan); fc != nil {
				c, fields = fc, plan.fields
			}
		}
		if c != nil {
			var out []PartialSeries
			stats, err := s.counted(ctx, c, fields, sel, f, &req, &g, func(aggs []*aggregator) (err error) {
				out, err = finish(aggs, f, &g, req.MaxSeries)
				return err
			})
			if !errors.Is(err, ErrFields) {
				return out, stats, err
			}
		}
	}
	tasks, err := s.tasks(req.Streams, req.Ranges, g.from(), g.to())
	if err != nil {
		return nil, ScanStats{}, err
	}
	chunks := s.chunks(tasks, !prog.counts())
	aggs := make([]*aggregator, len(chunks))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	spread(len(chunks), func(i int) {
		if ctx.Err() != nil {
			return
		}
		a := &aggregator{selection: sel, prog: prog, fold: f, grid: &g, mem: memoryOf(ctx), limit: req.MaxSeries}
		aggs[i] = a
		if err := a.run(ctx, chunks[i]); err != nil {
			cancel(err)
		}
	})
	var stats ScanStats
	for _, a := range aggs {
		if a != nil {
			stats.Add(a.stats)
			defer a.release()
		}
	}
	if ctx.Err() != nil {
		return nil, stats, context.Cause(ctx)
	}
	out, err := finish(aggs, f, &g, req.MaxSeries)
	return out, stats, err
}

// chunks groups tasks so that there are some for each worker. Where lines are
// read, streams with many rows are cut by time.
func (s *localSession) chunks(tasks []task, lines bool) [][]task {
	var pieces []task
	var buf []Run
	for _, t := range tasks {
		if lines {
			for _, cut := range cuts(s.runsOf(&buf, t.stream)) {
				if head := clip(t.ranges, minTime, cut); len(head) > 0 {
					pieces = append(pieces, task{t.stream, head})
					t.ranges = clip(t.ranges, cut, maxTime)
				}
			}
		}
		if len(t.ranges) > 0 {
			pieces = append(pieces, t)
		}
	}
	// A chunk has series of its own, which few rows are not worth.
	var rows uint64
	for _, p := range pieces {
		rows += p.rowsOf(s.runsOf(&buf, p.stream))
	}
	n := min(uint64(4*s.workers), rows/max(1, splitRows/8)+1)
	size := max(1, (len(pieces)+int(n)-1)/int(n))
	return slices.Collect(slices.Chunk(pieces, size))
}

// rowsOf estimates the rows of a task, of the runs of its stream.
func (t *task) rowsOf(runs []Run) (n uint64) {
	for _, r := range runs {
		if r.MaxTime >= t.ranges[0].Start && r.MinTime < t.ranges[len(t.ranges)-1].End {
			n += r.Rows
		}
	}
	return n
}

// cuts returns times that cut runs into pieces of about splitRows rows, as if rows
// lay evenly within a run.
func cuts(runs []Run) []int64 {
	var out []int64
	rows := uint64(0)
	for _, r := range runs {
		n := max(int64(r.Rows/splitRows), 1)
		length := (r.MaxTime - r.MinTime + 1) / n
		for i := range n {
			if rows += r.Rows / uint64(n); rows < splitRows/2 {
				continue
			}
			rows = 0
			if i == n-1 {
				out = append(out, r.MaxTime+1)
			} else if length > 0 {
				out = append(out, r.MinTime+(i+1)*length)
			}
		}
	}
	return out
}

// finish unites the chunks' series in order and folds buckets into windows.
func finish(aggs []*aggregator, f fold, g *grid, limit int) ([]PartialSeries, error) {
	all := aggs[:min(1, len(aggs))]
	if len(aggs) == 0 {
		return nil, nil
	}
	into := all[0]
	for _, a := range aggs[1:] {
		for id, c := range a.cells {
			to, err := into.seriesOf(a.series.sets[id])
			if err != nil {
				return nil, err
			}
			for _, x := range c {
				if err := into.addTo(to, x.bucket, x.partial); err != nil {
					return nil, err
				}
			}
		}
	}
	if limit > 0 && len(into.cells) > limit {
		return nil, errSeries(limit)
	}
	return f.series(g, into.series.sets, into.cells), nil
}

// series folds the buckets of series into windows, ascending by labels. Series
// without a window are left out.
func (f fold) series(g *grid, labels []model.Labels, buckets []cells) []PartialSeries {
	order := make([]int32, len(buckets)) // which is less to move than series
	for id := range order {
		order[id] = int32(id)
	}
	slices.SortFunc(order, func(a, b int32) int { return labels[a].Compare(labels[b]) })
	out := make([]PartialSeries, 0, len(buckets))
	for _, id := range order {
		ps := PartialSeries{Labels: labels[id]}
		f.windows(g, buckets[id], &ps)
		if len(ps.Steps) > 0 {
			out = append(out, ps)
		}
	}
	return out
}

// aggregator folds rows into buckets per series. It is used by one goroutine.
type aggregator struct {
	selection *selection
	prog      *program
	fold      fold
	grid      *grid
	mem       *Memory
	limit     int // of series; 0: none

	series interner
	cells  []cells
	sets   []valueSets // of foldValues
	stats  ScanStats
	held   int
	proc   *processor
	meta   metaReader
	buf    []model.Label
	sel    []int32
	runs   []Run
}

func (a *aggregator) release() { a.mem.Release(a.held) }

func (a *aggregator) reserve(n int) error {
	a.held += n
	if err := a.mem.Reserve(n); err != nil {
		a.held -= n
		return err
	}
	return nil
}

// seriesOf returns the number of a series.
func (a *aggregator) seriesOf(labels []model.Label) (uint32, error) {
	id, isNew := a.series.id(labels, cloneLabels)
	if !isNew {
		return id, nil
	}
	a.cells = append(a.cells, nil)
	if a.limit > 0 && len(a.cells) > a.limit {
		return 0, errSeries(a.limit)
	}
	return id, a.reserve(2*len(a.series.key) + 32*len(labels) + 96)
}

// addTo folds a partial into a bucket of a series.
func (a *aggregator) addTo(series uint32, bucket int, p partial) error {
	to, made := a.cells[series].at(bucket)
	a.fold.add(to, p)
	if made {
		return a.reserve(48)
	}
	return nil
}

func (a *aggregator) run(ctx context.Context, tasks []task) error {
	for _, t := range tasks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		before := a.stats
		if err := a.stream(ctx, t); err != nil {
			return err
		}
		liveOf(ctx).add(a.stats.minus(before))
	}
	return nil
}

func (a *aggregator) stream(ctx context.Context, t task) error {
	labels := a.selection.session.labelsOf(t.stream)
	ranges, err := a.countRuns(t, labels)
	if err != nil {
		return err
	}
	src := a.selection.rows(ctx, t, ranges, false)
	if a.proc == nil {
		a.proc = a.prog.forStream(labels)
	}
	proc := a.proc
	proc.rebind(labels)
	var known groupCache
	most := scanBudget
	if !a.prog.plain() || !a.prog.matcher.Empty() {
		most = atOnce
	}
	if len(a.prog.needle) > 0 { // which few rows have
		most = 16 * atOnce
	}
	for {
		rows, from, to, err := src.next(&a.stats)
		if err != nil || rows == nil {
			return err
		}
		for from < to {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			// Rows of one bucket at a time, and not too many.
			bucket, last := a.grid.bucket(rows.Times[from])
			end := from + sort.Search(min(to-from, most), func(i int) bool { return rows.Times[from+i] > last })
			if bucket >= 0 {
				src.read(&a.stats, rows, from, end, !a.prog.plain() || !a.prog.matcher.Empty())
				if a.prog.plain() {
					err = a.plainRows(proc, &known, labels, rows, from, end, bucket)
				} else {
					err = a.rows(proc, rows, from, end, bucket)
				}
				if err != nil {
					return err
				}
			}
			from = end
		}
	}
}

// rows adds rows of one bucket by running the pipeline on each.
func (a *aggregator) rows(proc *processor, rows *model.Rows, from, to, bucket int) error {
	a.sel = a.prog.candidates(a.sel[:0], rows, from, to)
	for _, row := range a.sel {
		i := int(row)
		line := lineOf(rows, i)
		if !proc.matches(line) {
			continue
		}
		a.stats.RowsFiltered++
		meta, size := a.meta.at(rows, i)
		a.stats.BytesRead += uint64(size)
		a.stats.MetadataBytesRead += uint64(size)
		_, v, ok := proc.process(rows.Times[i], line, meta)
		if !ok {
			continue
		}
		if all := proc.failed(); all != nil {
			return errPipeline(all)
		}
		a.buf = proc.appendSeries(a.buf[:0])
		id, err := a.seriesOf(a.buf)
		if err != nil {
			return err
		}
		if err := a.addTo(id, bucket, a.fold.one(v)); err != nil {
			return err
		}
	}
	return nil
}

// sumOver takes the range aggregation out of a query that sources aggregate.
func sumOver(e syntax.Expr) (agg *syntax.RangeAggregation, sum *syntax.VectorAggregation, ok bool) {
	if v, isSum := e.(*syntax.VectorAggregation); isSum && v.Op == syntax.OpSum {
		agg, ok = v.Inner.(*syntax.RangeAggregation)
		return agg, v, ok
	}
	agg, ok = e.(*syntax.RangeAggregation)
	return agg, nil, ok
}
