package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// A query over a long range is split by time into parts, each of which opens its sources
// by itself: a log query then opens no more of them than it needs for its limit, and a
// metric query holds those of some parts at a time. A part is a snapshot of its own;
// what was there when the query began is in all of them.

// logParts cuts [start, end) in the asked direction. The first part ends at a multiple of
// split, and each of the others is twice as long as the one before: so that there are
// few, and what is opened is at most about twice as long as what was needed.
func logParts(start, end, split int64, backward bool) []TimeRange {
	if split <= 0 || end-start <= split {
		return []TimeRange{{start, end}}
	}
	var out []TimeRange
	behind := func(t int64) int64 { return (t%split + split) % split } // a multiple of split
	if backward {
		for width, next := behind(end-1)+1, split; start < end; width, next = next, 2*next {
			at := end - min(width, end-start) // times may be as far off as there are any
			out = append(out, TimeRange{at, end})
			end = at
		}
		return out
	}
	for width, next := split-behind(start), split; start < end; width, next = next, 2*next {
		at := start + min(width, end-start)
		out = append(out, TimeRange{start, at})
		start = at
	}
	return out
}

// mostParts is how many parts of a grid there are at most: where split is short for that,
// parts are longer. Each opens all sources.
const mostParts = 512

// gridParts cuts the steps [0, steps) of a grid whose first step is at begin. Parts
// begin at multiples of their length, so that they are those of the result cache, and
// are long enough that windows do not read much twice, and that there are not too many.
// The grid is not to be split if there is one.
func gridParts(begin int64, g *grid, split int64) []stretch {
	whole := []stretch{{to: g.steps}}
	if split <= 0 || g.step <= 0 || int64(g.steps)*g.step <= split {
		return whole
	}
	n := max(split, 4*min(g.interval, math.MaxInt64/4)) / g.step // steps of a part
	if n > partSteps {
		n -= n % partSteps
	} else if partSteps*g.step <= 4*split {
		n = partSteps
	}
	if least := (int64(g.steps) + mostParts - 2) / (mostParts - 1); n >= 1 && n < least { // the first may be short
		n = (least + partSteps - 1) / partSteps * partSteps
	}
	if n < 1 || n >= int64(g.steps) {
		return whole
	}
	first, _, _ := alignSteps(begin, begin, n*g.step)
	var out []stretch
	for from, to := 0, int((first-begin)/g.step+n); from < g.steps; from, to = to, to+int(n) {
		out = append(out, stretch{from: from, to: min(to, g.steps)})
	}
	return out
}

// maxParts is how many parts of a metric query are at work at once. Each is itself the
// work of several.
const maxParts = 2

// splits reports whether reads of a selector may be split.
func (q *query) splits(sel *syntax.LogSelector) bool {
	return q.Split > 0 && !sel.Bare // the budget of a search is about all that it reads
}

// inParts evaluates an aggregation of a selector on the steps of a grid, whose first is at
// begin, part by part.
func (q *query) inParts(ctx context.Context, sel *syntax.LogSelector, begin int64, g *grid, eval func(context.Context, *grid, *coverage) (*vectors, error)) (*vectors, error) {
	parts := []stretch{{to: g.steps}}
	if q.splits(sel) {
		parts = gridParts(begin, g, int64(q.Split))
	}
	if len(parts) == 1 {
		return eval(ctx, g, nil)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cover := &coverage{}
	errs := make([]error, len(parts))
	var group Group
	places := make(chan struct{}, maxParts)
	for i := range parts {
		places <- struct{}{}
		if errs[i] = ctx.Err(); errs[i] != nil {
			break
		}
		group.Go(func() {
			defer func() { <-places }()
			p := &parts[i]
			sub := newGrid(g.start+int64(p.from)*g.step, g.start+int64(p.to-1)*g.step, g.step, g.interval)
			v, err := eval(ctx, &sub, cover)
			if err == nil {
				v.sortSeries()
				err = q.mem.Reserve(v.size())
			}
			if p.value, errs[i] = v, err; err != nil {
				p.value = nil
				cancel()
			}
		})
	}
	group.Wait()
	for i := range parts {
		if v := parts[i].value; v != nil {
			defer q.mem.Release(v.size())
		}
	}
	// The cause is told, not what came of it.
	slices.SortStableFunc(errs, func(a, b error) int { return rankOf(a) - rankOf(b) })
	if errs[0] != nil {
		return nil, errs[0]
	}
	return concat(parts), nil
}

func rankOf(err error) int {
	switch {
	case err == nil:
		return 2
	case errors.Is(err, context.Canceled):
		return 1
	}
	return 0
}

// coverage is how many streams the parts of a read had, so that they count once.
type coverage struct{ streams uint64 }

// more returns by how many n are more than those known. Call with the query's mu held.
func (c *coverage) more(n uint64) uint64 {
	if c == nil {
		return n
	}
	known := c.streams
	c.streams = max(known, n)
	return c.streams - known
}

// splitText says of a plan how a read is split.
func splitText(n int, split time.Duration) string {
	return "in " + thousands(n) + " parts of time, at multiples of " + split.String()
}
