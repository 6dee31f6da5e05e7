package syntaxtest

import (
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

var extendedOps = []struct {
	op             syntax.RangeOp
	unwrap, plain  bool
	groups, params bool
}{
	{op: syntax.OpCountDistinctOverTime, plain: true, groups: true},
	{op: syntax.OpHistogramOverTime, unwrap: true, groups: true},
}

// extendedStage makes a stage that Loki does not have; of a range, one that is about
// single entries.
func (w Words) extendedStage(t *rapid.T, ranged bool) syntax.Stage {
	first := 0
	if ranged {
		first = 5
	}
	switch rapid.IntRange(first, 6).Draw(t, "extended") {
	case 0:
		return &syntax.Distinct{Labels: w.labels(t, 1)}
	case 1:
		return &syntax.Dedup{Labels: w.labels(t, 1)}
	case 2:
		return &syntax.Sort{Label: w.label(t), Desc: rapid.Bool().Draw(t, "desc")}
	case 3:
		return &syntax.Top{N: rapid.IntRange(1, 4).Draw(t, "n"), Label: w.label(t)}
	case 4:
		return &syntax.Limit{N: rapid.IntRange(1, 6).Draw(t, "n")}
	case 5:
		return &syntax.Sample{Share: pick(t, 1, 0.5, 0.1, 1e-7)}
	}
	return &syntax.Unroll{Label: w.label(t)}
}

func (w Words) in(t *rapid.T, name string, depth int) *syntax.InCond {
	c := &syntax.InCond{Name: name, Negated: rapid.Bool().Draw(t, "negated")}
	if depth == 2 && rapid.Bool().Draw(t, "subquery") {
		c.Query = w.selector(t)
		for range rapid.IntRange(0, 2).Draw(t, "stages") {
			next := w.stage(t)
			if n := len(c.Query.Stages); n > 0 && ambiguous(c.Query.Stages[n-1], next) {
				continue
			}
			c.Query.Stages = append(c.Query.Stages, next)
		}
		return c
	}
	for range rapid.IntRange(1, 3).Draw(t, "values") {
		c.Values = append(c.Values, w.value(t))
	}
	return c
}

func (w Words) function(t *rapid.T, depth int) *syntax.Function {
	e := &syntax.Function{Inner: w.metric(t, depth-1), Name: pick(t, syntax.FuncAbs, syntax.FuncCeil, syntax.FuncFloor,
		syntax.FuncRound, syntax.FuncClamp, syntax.FuncClampMin, syntax.FuncClampMax, syntax.FuncExp, syntax.FuncLn, syntax.FuncSqrt)}
	switch e.Name {
	case syntax.FuncRound:
		if rapid.Bool().Draw(t, "to") {
			e.Params = []float64{pick(t, 0.5, 10, 3)}
		}
	case syntax.FuncClamp:
		e.Params = pick(t, []float64{0, 5}, []float64{-1, 2.5}, []float64{3, 1})
	case syntax.FuncClampMin, syntax.FuncClampMax:
		e.Params = []float64{pick(t, 0, -2, 7.5)}
	}
	return e
}
