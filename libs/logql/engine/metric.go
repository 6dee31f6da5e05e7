package engine

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// steps is how many points a series can have.
func (q *query) steps() int {
	if q.step <= 0 || q.end <= q.start {
		return 1
	}
	return int((q.end-q.start)/q.step) + 1
}

// gridStep is the step of grids: 0 for a single window, whose samples are one bucket then,
// and not as many as there are steps in a window.
func (q *query) gridStep() int64 {
	if q.steps() == 1 {
		return 0
	}
	return q.step
}

func (q *query) timeOf(step int) int64 { return q.start + int64(step)*q.step }

// matrix runs a metric query over a range.
func (q *query) matrix(ctx context.Context) (*Result, error) {
	v, err := q.evalTop(ctx)
	if err != nil {
		return nil, err
	}
	res := &Result{Type: TypeMatrix, Matrix: make([]Series, len(v.series))}
	counts := make([]int, len(v.series))
	for _, id := range v.ids {
		counts[id]++
	}
	for i, l := range v.series {
		res.Matrix[i] = Series{Labels: l, Points: make([]Point, 0, counts[i])}
	}
	for k := range v.ends {
		ids, values := v.at(k)
		for i, id := range ids {
			s := &res.Matrix[id]
			s.Points = append(s.Points, Point{q.timeOf(k), values[i]})
		}
	}
	res.Statistics.EntriesReturned = uint64(len(v.ids))
	return res, nil
}

// instant runs a metric query at one time.
func (q *query) instant(ctx context.Context) (*Result, error) {
	v, err := q.evalTop(ctx)
	if err != nil {
		return nil, err
	}
	res := &Result{Type: TypeVector, Vector: []Sample{}}
	ids, values := v.at(0)
	for i, id := range ids {
		res.Vector = append(res.Vector, Sample{v.series[id], Point{q.start, values[i]}})
	}
	if desc, ok := sorts(q.Expr); ok {
		slices.SortStableFunc(res.Vector, func(a, b Sample) int {
			c := compareValues(a.Value, b.Value)
			if desc {
				c = -c
			}
			return c
		})
	}
	res.Statistics.EntriesReturned = uint64(len(ids))
	return res, nil
}

// compareValues orders values, NaN first.
func compareValues(a, b float64) int { return cmp.Compare(a, b) }

// sorts reports whether sort or sort_desc is anywhere in the expression, and
// which comes first.
func sorts(e syntax.Expr) (desc, ok bool) {
	syntax.Walk(e, func(e syntax.Expr) bool {
		if v, is := e.(*syntax.VectorAggregation); is && !ok && (v.Op == syntax.OpSort || v.Op == syntax.OpSortDesc) {
			desc, ok = v.Op == syntax.OpSortDesc, true
		}
		return !ok
	})
	return desc, ok
}

// evalTop evaluates the query, whose series ascend by labels.
func (q *query) evalTop(ctx context.Context) (*vectors, error) {
	if err := q.prepare(q.Expr); err != nil {
		return nil, err
	}
	var v *vectors
	var err error
	if lit, ok := q.Expr.(*syntax.Literal); ok {
		v = q.constant(lit.Value)
	} else if v, err = q.eval(ctx, q.Expr, true); err != nil {
		return nil, err
	}
	v.sortSeries()
	if q.Limits.CutSeries {
		q.cutSeries(v)
		return v, nil
	}
	return v, q.checkSeries(v)
}

// cutSeries keeps the series of the greatest sums of values, if there are too many.
func (q *query) cutSeries(v *vectors) {
	n, most := len(v.series), q.Limits.MaxSeries
	if most == 0 || n <= most {
		return
	}
	sums := make([]float64, n)
	for i, id := range v.ids {
		if !math.IsNaN(v.values[i]) {
			sums[id] += v.values[i]
		}
	}
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return cmp.Compare(sums[b], sums[a]) })
	kept := make([]bool, n)
	for _, id := range order[:most] {
		kept[id] = true
	}
	at, from := 0, 0
	for k, end := range v.ends {
		for i := from; i < end; i++ {
			if kept[v.ids[i]] {
				v.ids[at], v.values[at] = v.ids[i], v.values[i]
				at++
			}
		}
		from, v.ends[k] = end, at
	}
	v.ids, v.values = v.ids[:at], v.values[:at]
	v.sortSeries()
	q.warn(fmt.Sprintf("the result has %d series, more than the limit of %d: the %d of the greatest values (summed up over time) are here, %d are left out", n, most, most, n-most))
}

func (q *query) checkSeries(v *vectors) error {
	if q.Limits.CutSeries || q.Limits.MaxSeries == 0 || len(v.series) <= q.Limits.MaxSeries {
		return nil
	}
	used := make([]bool, len(v.series))
	n := 0
	for _, id := range v.ids {
		if !used[id] {
			used[id] = true
			n++
		}
	}
	if n > q.Limits.MaxSeries {
		return errSeries(q.Limits.MaxSeries)
	}
	return nil
}

// maxSeries is the most series that an aggregation may have; 0: any.
func (q *query) maxSeries(leg bool) int {
	if !leg || q.Limits.CutSeries {
		return 0
	}
	return q.Limits.MaxSeries
}

// prepare refuses what cannot be executed, before anything is read.
func (q *query) prepare(e syntax.Expr) error {
	var err error
	syntax.Walk(e, func(e syntax.Expr) bool {
		if err != nil {
			return false
		}
		switch e := e.(type) {
		case *syntax.RangeAggregation:
			err = checkRange(e)
			switch {
			case err != nil:
			case e.Range.Interval <= 0:
				err = Errorf(ErrUser, "the range of %s must be positive", e.Op)
			case e.Range.Interval > farthest || e.Range.Offset > farthest || e.Range.Offset < -farthest:
				err = Errorf(ErrUser, "the range or offset of %s is too large", e.Op)
			}
		case *syntax.VectorAggregation:
			if syntax.IsScalar(e.Inner) {
				err = Errorf(ErrUser, "%s needs a vector, not a number: %s", e.Op, e)
			}
			if e.Op == syntax.OpApproxTopk && q.step > 0 {
				err = Errorf(ErrUser, "count min sketches are only supported on instant queries")
			}
		case *syntax.LabelReplace:
			if syntax.IsScalar(e.Inner) {
				err = Errorf(ErrUser, "label_replace needs a vector, not a number: %s", e)
			}
		}
		return true
	})
	return err
}

const farthest = 100 * 365 * 24 * time.Hour

// constant is one series without labels.
func (q *query) constant(value float64) *vectors {
	v := &vectors{series: []model.Labels{{}}}
	for range q.steps() {
		v.add(0, value)
		v.endStep()
	}
	return v
}

// eval evaluates an expression other than a literal. leg tells that the number of
// its series is limited: it is the query or an operand of its binary operations.
func (q *query) eval(ctx context.Context, e syntax.Expr, leg bool) (*vectors, error) {
	v, err := q.evalNode(ctx, e, leg)
	if err != nil {
		return nil, err
	}
	if leg {
		if err := q.checkSeries(v); err != nil {
			return nil, err
		}
	}
	return v, q.mem.Reserve(v.size())
}

func (q *query) evalNode(ctx context.Context, e syntax.Expr, leg bool) (*vectors, error) {
	switch e := e.(type) {
	case *syntax.Vector:
		return q.constant(e.Value), nil
	case *syntax.RangeAggregation:
		return q.rangeAggregation(ctx, e, e, leg)
	case *syntax.VectorAggregation:
		if agg, ok := pushesDown(e); ok {
			return q.rangeAggregation(ctx, e, agg, leg)
		}
		in, err := q.eval(ctx, e.Inner, false)
		if err != nil {
			return nil, err
		}
		defer q.mem.Release(in.size())
		return vectorAggregation(e, in), nil
	case *syntax.LabelReplace:
		in, err := q.eval(ctx, e.Inner, false)
		if err != nil {
			return nil, err
		}
		defer q.mem.Release(in.size())
		return labelReplace(e, in)
	case *syntax.BinaryExpr:
		return q.binary(ctx, e)
	case *syntax.Function:
		return q.function(ctx, e)
	case *syntax.Time:
		at, _ := q.scalar(e)
		return q.scalarVector(at), nil
	}
	return nil, Errorf(ErrUnsupported, "%s is not supported yet", e)
}

// pushesDown reports whether sources can compute the aggregation.
func pushesDown(e *syntax.VectorAggregation) (*syntax.RangeAggregation, bool) {
	agg, _, ok := sumOver(e)
	if !ok || agg.Grouping != nil || agg.Op == syntax.OpAbsentOverTime || extends(agg) {
		return nil, false
	}
	f, ok := foldOf(agg)
	return agg, ok && f.additive()
}

// rangeAggregation evaluates a range aggregation, or the sum of one.
func (q *query) rangeAggregation(ctx context.Context, e syntax.Expr, agg *syntax.RangeAggregation, leg bool) (*vectors, error) {
	offset := int64(agg.Range.Offset)
	g := newGrid(q.start-offset, q.end-offset, q.gridStep(), int64(agg.Range.Interval))
	asked := e
	e, agg, err := resolvedRange(ctx, q, e, agg, &g)
	if err != nil {
		return nil, err
	}
	return q.inParts(ctx, agg.Range.Selector, q.start, &g, func(ctx context.Context, g *grid, cover *coverage) (*vectors, error) {
		if extends(agg) {
			return q.extendedRange(ctx, agg, g, leg, cover)
		}
		o, err := q.openCut(ctx, agg.Range.Selector.Matchers, g.from(), g.to(), cover)
		if err != nil {
			return nil, err
		}
		defer o.close()
		prog, err := compile(e)
		if err != nil {
			return nil, err
		}
		eval := func(g *grid) (*vectors, error) { return o.evaluate(ctx, e, prog, agg, g, leg) }
		if asked != e {
			return eval(g) // its text does not say what was put in
		}
		return q.cached(ctx, o, e.String(), agg, g, eval)
	})
}

// evaluate evaluates a range aggregation, or the sum of one, on the steps of a grid.
func (o *opened) evaluate(ctx context.Context, e syntax.Expr, prog *program, agg *syntax.RangeAggregation, g *grid, leg bool) (*vectors, error) {
	q := o.q
	f, ok := foldOf(agg)
	if collects(agg) {
		return o.quantiles(ctx, prog, agg, g)
	}
	if !ok {
		return o.windows(ctx, prog, agg, g)
	}
	series, err := o.aggregate(ctx, e, prog, f, g, q.maxSeries(leg))
	if err != nil {
		return nil, err
	}
	size := 0
	for i := range series {
		size += 128 + 28*len(series[i].Steps)
	}
	if err := q.mem.Reserve(size); err != nil {
		return nil, err
	}
	defer q.mem.Release(size)
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

// absent is 1 where no series has rows.
func absent(agg *syntax.RangeAggregation, g *grid, series []PartialSeries) *vectors {
	there := make([]bool, g.steps)
	for i := range series {
		for _, k := range series[i].Steps {
			there[k] = true
		}
	}
	v := &vectors{series: []model.Labels{absentLabels(agg.Range.Selector.Matchers)}}
	for _, t := range there {
		if !t {
			v.add(0, 1)
		}
		v.endStep()
	}
	return v
}

// absentLabels are those that an equality matcher, and no other, is about.
func absentLabels(matchers []*syntax.Matcher) model.Labels {
	var pairs []model.Label
	for _, m := range matchers {
		n := 0
		for _, o := range matchers {
			if o.Name == m.Name {
				n++
			}
		}
		if n == 1 && m.Type == syntax.Eq {
			pairs = append(pairs, model.Label{Name: m.Name, Value: m.Value})
		}
	}
	return model.NewLabels(pairs)
}
