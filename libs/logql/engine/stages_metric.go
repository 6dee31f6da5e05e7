package engine

import (
	"context"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// extends reports whether a range aggregation is evaluated by extendedRange.
func extends(agg *syntax.RangeAggregation) bool {
	return isStaged(agg.Range.Selector) || agg.Op == syntax.OpCountDistinctOverTime || agg.Op == syntax.OpHistogramOverTime
}

// sampling calls yield with the samples of a range aggregation by time, and reset when all
// come again. Label sets of equal keys are equal.
type sampling func(reset func(), yield func(key setKey, series model.Labels, t int64, v float64) error) error

// checkRange refuses a range aggregation whose stages do not compile.
func checkRange(agg *syntax.RangeAggregation) error {
	agg = withoutSubqueries(agg)
	if !isStaged(agg.Range.Selector) {
		_, err := compile(agg)
		return err
	}
	stages := agg.Range.Selector.Stages
	if err := checkStages(stages); err != nil {
		return err
	}
	_, err := compile(withStages(agg, stages[behindExtended(stages):]))
	return err
}

// behindExtended returns the number of the first stage that no extended one follows.
func behindExtended(stages []syntax.Stage) int {
	n := len(stages)
	for n > 0 && !syntax.Extended(stages[n-1]) {
		n--
	}
	return n
}

// resolvedRange is resolved for a range aggregation agg that is e or that e sums up.
func resolvedRange(ctx context.Context, q *query, e syntax.Expr, agg *syntax.RangeAggregation, g *grid) (syntax.Expr, *syntax.RangeAggregation, error) {
	out, err := resolved(ctx, q, agg, g.from(), g.to())
	if err != nil || out == agg {
		return e, agg, err
	}
	if sum, ok := e.(*syntax.VectorAggregation); ok {
		copied := *sum
		copied.Inner = out
		return &copied, out, nil
	}
	return out, out, nil
}

// extendedRange evaluates a range aggregation that Loki does not have, or that has stages
// of that kind.
func (q *query) extendedRange(ctx context.Context, agg *syntax.RangeAggregation, g *grid, leg bool, cover *coverage) (*vectors, error) {
	o, err := q.openPlanned(ctx, agg.Range.Selector.Matchers, g.from(), g.to(), false, cover)
	if err != nil {
		return nil, err
	}
	defer o.close()
	h := &holder{mem: q.mem}
	defer h.release()
	var in sampling
	if isStaged(agg.Range.Selector) {
		in, err = o.stagedSamples(ctx, agg, g)
	} else {
		in = o.samples(ctx, agg, g)
	}
	if err != nil {
		return nil, err
	}
	switch agg.Op {
	case syntax.OpCountDistinctOverTime:
		return countDistinct(agg, g, in, h)
	case syntax.OpHistogramOverTime:
		return histogram(agg, g, in, h)
	}
	f, ok := foldOf(agg)
	if !ok {
		return sampleWindows(agg, g, in, h)
	}
	return foldSamples(agg, f, g, in, q.mem, q.maxSeries(leg))
}

// samples are those that sources extract.
func (o *opened) samples(ctx context.Context, agg *syntax.RangeAggregation, g *grid) sampling {
	query := *agg
	query.Range.Selector = forSources(agg.Range.Selector)
	return func(reset func(), yield func(setKey, model.Labels, int64, float64) error) error {
		spec := scanSpec{query: &query, which: single | tangled, start: g.from(), end: g.to(), reset: reset}
		return o.scan(ctx, spec, func(r *row) error {
			if bucket, _ := g.bucket(r.key.Time); bucket < 0 {
				return nil
			}
			if len(r.labels.Parsed) > 0 {
				return errPipeline(r.labels.Parsed)
			}
			return yield(setKey{r.feed, r.set}, r.labels.Labels, r.key.Time, r.value)
		})
	}
}

// stagedSamples are extracted behind the stages that the engine runs.
func (o *opened) stagedSamples(ctx context.Context, agg *syntax.RangeAggregation, g *grid) (sampling, error) {
	sel := agg.Range.Selector
	from := headEnd(sel.Stages)
	to := max(from, behindExtended(sel.Stages))
	prog, err := compile(withStages(agg, sel.Stages[to:]))
	if err != nil {
		return nil, err
	}
	if p := prog.group; p != nil && !p.Without && filtersErrors(sel.Stages) {
		prog.tolerant = true
	}
	q := o.q
	spec := scanSpec{query: headOf(sel), start: g.from(), end: g.to()}
	return func(reset func(), yield func(setKey, model.Labels, int64, float64) error) error {
		for {
			last := &sampler{grid: g, proc: prog.forStream(nil), yield: yield}
			c, err := newChain(sel.Stages[from:to], q.mem, 0, last)
			if err != nil {
				return err
			}
			last.c = c
			failed, err := q.runChain(ctx, o, c, spec)
			if err != nil || failed < 0 {
				return err
			}
			reset()
		}
	}, nil
}

// sampler is the last step of a metric query: it extracts samples.
type sampler struct {
	c      *chain
	grid   *grid
	proc   *processor
	labels model.Labels
	buf    []model.Label
	yield  func(setKey, model.Labels, int64, float64) error
}

func (s *sampler) take(r *row) error {
	if bucket, _ := s.grid.bucket(r.key.Time); bucket < 0 {
		return nil
	}
	p := s.proc
	if !p.bound || !s.labels.Equal(r.labels.Labels) {
		s.labels = r.labels.Labels
		p.rebind(s.labels)
		p.bind()
	}
	p.samples.SetParsed(r.labels.Parsed)
	v, set, ok := p.samples.Process(r.key.Time, r.line, r.labels.Metadata)
	if !ok {
		return nil
	}
	p.set = set
	if all := p.failed(); all != nil {
		return errPipeline(all)
	}
	s.buf = p.appendSeries(s.buf[:0])
	out := *r
	if err := s.c.setLabels(&out, 0, s.buf, nil, nil); err != nil {
		return err
	}
	return s.yield(setKey{out.feed, out.set}, out.labels.Labels, r.key.Time, v)
}

func (s *sampler) end() error { return nil }

// seriesIndex numbers series.
type seriesIndex struct {
	in  interner
	ids map[setKey]uint32
}

// of returns the number of the series, which change makes of the labels; isNew tells
// whether it is.
func (s *seriesIndex) of(key setKey, labels model.Labels, h *holder, change func(model.Labels) model.Labels) (id uint32, isNew bool, err error) {
	if id, ok := s.ids[key]; ok {
		return id, false, nil
	}
	id, isNew = s.in.id(change(labels), func(l []model.Label) model.Labels { return l })
	size := 64
	if isNew {
		size += 256 + 2*len(s.in.key)
	}
	if err := h.reserve(size); err != nil {
		return 0, false, err
	}
	if s.ids == nil {
		s.ids = map[setKey]uint32{}
	}
	s.ids[key] = id
	return id, isNew, nil
}

func same(l model.Labels) model.Labels { return l }

// foldSamples is a range aggregation that decomposes.
func foldSamples(agg *syntax.RangeAggregation, f fold, g *grid, in sampling, mem *Memory, limit int) (*vectors, error) {
	a := &aggregator{fold: f, grid: g, mem: mem, limit: limit}
	if agg.Op == syntax.OpAbsentOverTime {
		a.limit = 0
	}
	defer func() { a.release() }()
	err := in(func() {
		a.release()
		a = &aggregator{fold: f, grid: g, mem: mem, limit: limit}
	}, func(_ setKey, series model.Labels, t int64, v float64) error {
		id, err := a.seriesOf(series)
		if err != nil {
			return err
		}
		bucket, _ := g.bucket(t)
		return a.addTo(id, bucket, f.one(v))
	})
	if err != nil {
		return nil, err
	}
	series, err := finish([]*aggregator{a}, f, g, a.limit)
	if err != nil {
		return nil, err
	}
	if agg.Op == syntax.OpAbsentOverTime {
		return absent(agg, g, series), nil
	}
	labels := make([]model.Labels, len(series))
	for i := range series {
		labels[i] = series[i].Labels
	}
	return fromSeries(g.steps, labels, func(s int) ([]uint32, func(int) float64) {
		return series[s].Steps, func(i int) float64 { return windowValue(agg, series[s].at(i)) }
	}), nil
}

// sampleWindows is a range aggregation that needs all samples of a window.
func sampleWindows(agg *syntax.RangeAggregation, g *grid, in sampling, h *holder) (*vectors, error) {
	var index seriesIndex
	var all []samples
	err := in(func() { index, all = seriesIndex{}, nil; h.release() }, func(key setKey, series model.Labels, t int64, v float64) error {
		id, isNew, err := index.of(key, series, h, same)
		if err != nil {
			return err
		}
		if isNew {
			all = append(all, samples{})
		}
		all[id].times, all[id].values = append(all[id].times, t), append(all[id].values, v)
		return h.reserve(16)
	})
	if err != nil {
		return nil, err
	}
	f := quantileWindow(agg)
	if f == nil {
		f = windowFunc(agg)
	}
	steps, values := make([][]uint32, len(all)), make([][]float64, len(all))
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
				steps[i] = append(steps[i], uint32(k))
				values[i] = append(values[i], f(&window{times: s.times[lo:hi], values: s.values[lo:hi], start: end - g.interval, end: end}))
			}
		}
		if err := h.reserve(12 * len(steps[i])); err != nil {
			return nil, err
		}
	}
	return fromSeries(g.steps, index.in.sets, func(s int) ([]uint32, func(int) float64) {
		return steps[s], func(i int) float64 { return values[s][i] }
	}), nil
}

// quantileWindow is the window function of quantile_over_time; nil: it is another one.
func quantileWindow(agg *syntax.RangeAggregation) func(*window) float64 {
	if agg.Op != syntax.OpQuantileOverTime {
		return nil
	}
	var values []float64
	return func(w *window) float64 {
		if agg.Param > 1 {
			return math.Inf(1)
		}
		values = append(values[:0], w.values...)
		slices.Sort(values)
		rank := agg.Param * float64(len(values)-1)
		lo := int(rank)
		hi := min(lo+1, len(values)-1)
		part := rank - float64(lo)
		return values[lo]*(1-part) + values[hi]*part
	}
}

// distinctGroup is the grouping of the rows of count_distinct_over_time: the labels that
// are counted stay.
func distinctGroup(g *pipeline.Grouping, counted []string) *pipeline.Grouping {
	if g == nil {
		return nil
	}
	out := &pipeline.Grouping{Without: g.Without}
	if g.Without {
		for _, n := range g.Names {
			if !slices.Contains(counted, n) {
				out.Names = append(out.Names, n)
			}
		}
		return out
	}
	out.Names = append(slices.Clone(g.Names), counted...)
	slices.Sort(out.Names)
	out.Names = slices.Compact(out.Names)
	return out
}
