package engine

import (
	"context"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// samples are the samples of a series by time; ties in the order of entries.
type samples struct {
	times  []int64
	values []float64
}

// windows evaluates a range aggregation that needs all samples of a window at once.
func (o *opened) windows(ctx context.Context, prog *program, agg *syntax.RangeAggregation, g *grid) (*vectors, error) {
	var in interner
	var all []samples
	ids := map[setKey]uint32{}
	held := 0
	defer func() { o.q.mem.Release(held) }()
	reserve := func(n int) error {
		err := o.q.mem.Reserve(n)
		if err == nil {
			held += n
		}
		return err
	}
	reset := func() {
		in, all = interner{}, nil
		clear(ids)
	}
	spec := scanSpec{query: agg, which: single | tangled, start: g.from(), end: g.to(), reset: reset}
	err := o.scan(ctx, spec, func(r *row) error {
		if bucket, _ := g.bucket(r.key.Time); bucket < 0 {
			return nil
		}
		k := setKey{r.feed, r.set}
		id, ok := ids[k]
		if !ok {
			if len(r.labels.Parsed) > 0 {
				return errPipeline(r.labels.Parsed)
			}
			var isNew bool
			id, isNew = in.id(r.labels.Labels, func([]model.Label) model.Labels { return r.labels.Labels })
			if isNew {
				all = append(all, samples{})
				if err := reserve(256 + len(in.key)); err != nil {
					return err
				}
			}
			ids[k] = id
		}
		s := &all[id]
		if err := reserve(16); err != nil {
			return err
		}
		s.times = append(s.times, r.key.Time)
		s.values = append(s.values, r.value)
		return nil
	})
	if err != nil {
		return nil, err
	}
	f := windowFunc(agg)
	steps := make([][]uint32, len(all))
	values := make([][]float64, len(all))
	for i := range all {
		s := &all[i]
		lo, hi := 0, 0
		for k := range g.steps {
			end := g.start + int64(k)*g.step
			for hi < len(s.times) && s.times[hi] <= end {
				hi++
			}
			for lo < hi && s.times[lo] <= end-g.interval {
				lo++
			}
			if lo < hi {
				w := window{s.times[lo:hi], s.values[lo:hi], end - g.interval, end}
				steps[i] = append(steps[i], uint32(k))
				values[i] = append(values[i], f(&w))
			}
		}
		if err := reserve(12 * len(steps[i])); err != nil {
			return nil, err
		}
	}
	return fromSeries(g.steps, in.sets, func(s int) ([]uint32, func(int) float64) {
		return steps[s], func(i int) float64 { return values[s][i] }
	}), nil
}

// window is the samples of a series with start < t <= end; there is one at least.
type window struct {
	times      []int64
	values     []float64
	start, end int64
}

func windowFunc(agg *syntax.RangeAggregation) func(*window) float64 {
	switch agg.Op {
	case syntax.OpFirstOverTime:
		return func(w *window) float64 { return w.values[0] }
	case syntax.OpLastOverTime:
		return func(w *window) float64 { return w.values[len(w.values)-1] }
	case syntax.OpRateCounter:
		return rateCounter
	}
	panic("no window function for " + string(agg.Op))
}

// rateCounter is the increase per second of a counter that may start again from
// 0, extrapolated to the bounds of the window where samples come near them.
func rateCounter(w *window) float64 {
	n := len(w.values)
	if n < 2 {
		return 0
	}
	first, last := w.values[0], w.values[n-1]
	increase := last - first
	for i := 1; i < n; i++ {
		if w.values[i] < w.values[i-1] {
			increase += w.values[i-1]
		}
	}
	const second = 1e9
	sampled := float64(w.times[n-1]-w.times[0]) / second
	length := float64(w.end-w.start) / second
	if sampled == 0 {
		return 0
	}
	toStart := float64(w.times[0]-w.start) / second
	toEnd := float64(w.end-w.times[n-1]) / second
	between := sampled / float64(n-1)
	// A series that begins or ends inside the window is taken to go on for half
	// the distance of its samples, and never to have been below 0.
	if toStart >= between*1.1 {
		toStart = between / 2
	}
	if increase > 0 && first >= 0 {
		toStart = min(toStart, sampled*(first/increase))
	}
	if toEnd >= between*1.1 {
		toEnd = between / 2
	}
	return increase * (sampled + toStart + toEnd) / sampled / length
}
