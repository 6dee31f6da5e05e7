package engine

import (
	"context"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// aggSpec is an aggregation over a union.
type aggSpec struct {
	query syntax.Expr
	prog  *program
	fold  fold
	grid  *grid
	step  int64
	limit int // of series; 0: none
	tasks []task
	// each runs f(0) to f(n-1), in any order, and waits for them.
	each func(n int, f func(int))
}

// aggregate has the sources aggregate what one of them holds alone, does the same
// with what several hold, and unites the results.
func (o *opened) aggregate(ctx context.Context, e syntax.Expr, prog *program, f fold, g *grid, limit int) ([]PartialSeries, error) {
	spec := aggSpec{query: e, prog: prog, fold: f, grid: g, step: o.q.gridStep(), limit: limit, tasks: o.tasks, each: all}
	for {
		spec.tasks = o.tasks
		out, failed, stats, err := o.aggregateOnce(ctx, &spec)
		o.q.addStats(stats)
		if failed < 0 {
			return out, err
		}
		if err := o.fail(failed, err); err != nil {
			return nil, err
		}
	}
}

// all runs each call on a goroutine of its own.
func all(n int, f func(int)) {
	var g Group
	for i := range n {
		g.Go(func() { f(i) })
	}
	g.Wait()
}

// aggregateOnce is aggregate; if a session fails, it returns which.
func (u *united) aggregateOnce(ctx context.Context, spec *aggSpec) (_ []PartialSeries, failed int, stats ScanStats, _ error) {
	shares := u.shares(single, spec.tasks)
	results := make([][]PartialSeries, len(shares)+1)
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mem := memoryOf(ctx)
	held := sharesSize(shares) // and for results
	if err := mem.Reserve(held); err != nil {
		return nil, -1, stats, err
	}
	defer func() { mem.Release(held) }()
	var mu sync.Mutex
	failed = -1
	var failure error
	spec.each(len(shares), func(i int) {
		if ctx.Err() != nil {
			return
		}
		sh := &shares[i]
		series, st, err := u.sessions[sh.session].Aggregate(ctx, AggregateRequest{
			Query: spec.query, Streams: sh.streams, Ranges: sh.ranges,
			Start: spec.grid.start, End: spec.grid.end(), Step: spec.step, MaxSeries: spec.limit,
		})
		for s := range series {
			if err == nil && !series[s].check(spec.fold, spec.grid.steps) {
				err = Errorf(ErrIncomplete, "%s sent a malformed answer", u.names[sh.session])
			}
		}
		size := 0
		if err == nil {
			for s := range series {
				size += 128 + 28*len(series[s].Steps)
			}
			if err = mem.Reserve(size); err != nil {
				size = 0
			} else {
				results[i] = spec.fold.ascending(series)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		held += size
		stats.Add(st)
		if err == nil || failure != nil {
			return
		}
		failure = err
		if !IsQueryError(err) {
			failed = sh.session
		}
		cancel()
	})
	if parent.Err() != nil {
		return nil, -1, stats, context.Cause(parent)
	}
	if failure != nil {
		return nil, failed, stats, failure
	}
	last, failed, more, err := u.aggregateTangled(ctx, spec)
	stats.Add(more)
	if err != nil {
		return nil, failed, stats, err
	}
	results[len(shares)] = last
	out, err := spec.fold.unite(results, spec.limit)
	return out, -1, stats, err
}

// unite merges partial series of disjoint rows, in order, two by two: so that many
// results do not make many copies.
func (f fold) unite(results [][]PartialSeries, limit int) ([]PartialSeries, error) {
	results = slices.DeleteFunc(results, func(r []PartialSeries) bool { return len(r) == 0 })
	for len(results) > 1 {
		n := 0
		for i := 0; i < len(results); i += 2 {
			r := results[i]
			if i+1 < len(results) {
				r = f.mergeSorted(r, results[i+1])
			}
			results[n] = r
			n++
		}
		clear(results[n:])
		results = results[:n]
	}
	if len(results) == 0 {
		return nil, nil
	}
	if limit > 0 && len(results[0]) > limit {
		return nil, errSeries(limit)
	}
	return results[0], nil
}

// tangledAtOnce is of how many streams rows are united at a time: a scan has a cursor for each
// stream of each session, which keeps what it decoded.
const tangledAtOnce = 1024

// aggregateTangled folds the samples of what several sessions hold.
func (u *united) aggregateTangled(ctx context.Context, spec *aggSpec) (_ []PartialSeries, failed int, stats ScanStats, _ error) {
	tasks := u.tangledTasks(spec.tasks)
	if len(tasks) == 0 {
		return nil, -1, stats, nil
	}
	a := &aggregator{prog: spec.prog, fold: spec.fold, grid: spec.grid, mem: memoryOf(ctx), limit: spec.limit}
	defer a.release()
	for some := range slices.Chunk(tasks, tangledAtOnce) {
		failed, more, err := u.foldTangled(ctx, spec, some, a)
		stats.Add(more)
		if err != nil {
			return nil, failed, stats, err
		}
	}
	return spec.fold.series(spec.grid, a.series.sets, a.cells), -1, stats, nil
}

// tangledTasks returns those of streams that have rows which are united row by row.
func (u *united) tangledTasks(tasks []task) (out []task) {
	if u.chain != nil {
		return nil
	}
	for _, t := range tasks {
		if slices.ContainsFunc(u.union[t.stream].pieces, func(p piece) bool { return len(p.classes) > 1 }) {
			out = append(out, t)
		}
	}
	return out
}

func (u *united) foldTangled(ctx context.Context, spec *aggSpec, tasks []task, a *aggregator) (failed int, _ ScanStats, _ error) {
	g := spec.grid
	ids := map[setKey]uint32{}
	return u.scanOnce(ctx, scanSpec{
		query: spec.query, tasks: tasks, which: tangled, start: g.from(), end: g.to(), lazy: true,
	}, func(r *row) error {
		bucket, _ := g.bucket(r.key.Time)
		if bucket < 0 {
			return nil
		}
		k := setKey{r.feed, r.set}
		id, ok := ids[k]
		if !ok {
			if len(r.labels.Parsed) > 0 {
				return errPipeline(r.labels.Parsed)
			}
			var err error
			if id, err = a.seriesOf(r.labels.Labels); err != nil {
				return err
			}
			ids[k] = id
		}
		return a.addTo(id, bucket, spec.fold.one(r.value))
	})
}

// ascending returns series ascending by labels, each once: those from outside may
// not be.
func (f fold) ascending(series []PartialSeries) []PartialSeries {
	ok := true
	for i := 1; i < len(series) && ok; i++ {
		ok = series[i-1].Labels.Compare(series[i].Labels) < 0
	}
	if ok {
		return series
	}
	slices.SortStableFunc(series, func(a, b PartialSeries) int { return a.Labels.Compare(b.Labels) })
	out := series[:0]
	for _, s := range series {
		if n := len(out); n > 0 && out[n-1].Labels.Equal(s.Labels) {
			out[n-1] = f.merge(&out[n-1], &s)
			continue
		}
		out = append(out, s)
	}
	return out
}

// mergeSorted merges series that ascend by labels.
func (f fold) mergeSorted(a, b []PartialSeries) []PartialSeries {
	out := make([]PartialSeries, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].Labels.Compare(b[0].Labels); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, f.merge(&a[0], &b[0])), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}
