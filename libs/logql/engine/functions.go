package engine

import (
	"context"
	"math"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// function evaluates a function of each value.
func (q *query) function(ctx context.Context, e *syntax.Function) (*vectors, error) {
	in, err := q.eval(ctx, e.Inner, false)
	if err != nil {
		return nil, err
	}
	defer q.mem.Release(in.size())
	f := functionOf(e)
	if f == nil {
		return nil, Errorf(ErrUnsupported, "the function %s is not known here", e.Name)
	}
	keep := e.Name != syntax.FuncClamp || e.Params[0] <= e.Params[1]
	return withScalar(in, func(v float64) (float64, bool) { return f(v), keep }), nil
}

// functionOf returns what a function does with a value; nil: it is not known.
func functionOf(e *syntax.Function) func(float64) float64 {
	p := e.Params
	switch e.Name {
	case syntax.FuncAbs:
		return math.Abs
	case syntax.FuncCeil:
		return math.Ceil
	case syntax.FuncFloor:
		return math.Floor
	case syntax.FuncExp:
		return math.Exp
	case syntax.FuncLn:
		return math.Log
	case syntax.FuncSqrt:
		return math.Sqrt
	case syntax.FuncRound:
		// Times the inverse, as that is exact where to is the inverse of a whole number.
		inverse := 1.0
		if len(p) == 1 {
			inverse = 1 / p[0]
		}
		return func(v float64) float64 { return math.Floor(v*inverse+0.5) / inverse }
	case syntax.FuncClamp:
		return func(v float64) float64 { return math.Max(p[0], math.Min(p[1], v)) }
	case syntax.FuncClampMin:
		return func(v float64) float64 { return math.Max(p[0], v) }
	case syntax.FuncClampMax:
		return func(v float64) float64 { return math.Min(p[0], v) }
	}
	return nil
}

// scalar returns the values of an expression that is a number at each time; ok is false
// if it is none.
func (q *query) scalar(e syntax.Expr) (at func(step int) float64, ok bool) {
	switch e := e.(type) {
	case *syntax.Literal:
		return func(int) float64 { return e.Value }, true
	case *syntax.Time:
		return func(step int) float64 { return float64(q.timeOf(step)) / 1e9 }, true
	case *syntax.BinaryExpr:
		left, ok := q.scalar(e.LHS)
		if !ok {
			return nil, false
		}
		right, ok := q.scalar(e.RHS)
		if !ok {
			return nil, false
		}
		return func(step int) float64 { return syntax.Fold(e.Op, left(step), right(step)) }, true
	}
	return nil, false
}

// scalarVector is one series without labels.
func (q *query) scalarVector(at func(step int) float64) *vectors {
	v := &vectors{series: []model.Labels{{}}}
	for k := range q.steps() {
		v.add(0, at(k))
		v.endStep()
	}
	return v
}

// withScalars is withScalar for a number that is another one at each step.
func withScalars(in *vectors, scalar func(step int) float64, f func(v, scalar float64) (float64, bool)) *vectors {
	out := &vectors{series: in.series}
	for k := range in.ends {
		ids, values := in.at(k)
		s := scalar(k)
		for i, id := range ids {
			if v, keep := f(values[i], s); keep {
				out.add(id, v)
			}
		}
		out.endStep()
	}
	return out
}
