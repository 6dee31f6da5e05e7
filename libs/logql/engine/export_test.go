package engine

import "context"

// SetIntervalPage sets how many rows a log query with an interval takes at a time.
func SetIntervalPage(n int) { intervalPage = n }

// SetSplitRows sets how many rows of a stream are worth a task of their own.
func SetSplitRows(n uint64) { splitRows = n }

// Sampled reports whether an entry is part of a sample.
func Sampled(hash uint64, share float64) bool { return sampled(hash, share) }

// LogParts is how a log query is split by time.
func LogParts(start, end, split int64, backward bool) []TimeRange {
	return logParts(start, end, split, backward)
}

// GridParts is how many steps the parts have into which those of a metric query are cut.
func GridParts(start, end, step, interval, split int64) (out []int) {
	start, end, step = alignSteps(start, end, step)
	g := newGrid(start, end, step, interval)
	for _, p := range gridParts(start, &g, split) {
		out = append(out, p.to-p.from)
	}
	return out
}

// HeldAfter is Range that returns what of the query's memory was not given back besides.
func (e *Engine) HeldAfter(ctx context.Context, in RangeQuery) (res *Result, held int64, err error) {
	var q *query
	res, err = e.run(ctx, in.Query, func(ctx context.Context, of *query) (*Result, error) {
		q = of
		return q.ranged(ctx, &in)
	})
	return res, q.mem.Held(), err
}
