package engine_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// extendedEval evaluates what Loki does not have, and leaves the rest to the twin.
func (t *twin) extendedEval(e syntax.Expr, at int64) (vector, error) {
	switch e := e.(type) {
	case *syntax.Time:
		return vector{"{}": {v: float64(at) / 1e9}}, nil
	case *syntax.Function:
		in, err := t.extendedEval(e.Inner, at)
		out := vector{}
		for _, x := range in.sorted() {
			if v, ok := apply(e, x.v); ok {
				out.put(x.labels, v)
			}
		}
		return out, err
	case *syntax.RangeAggregation:
		return t.extendedRange(e, at)
	case *syntax.VectorAggregation:
		in, err := t.extendedEval(e.Inner, at)
		if err != nil {
			return nil, err
		}
		return vectorAgg(e, in), nil
	}
	if e, ok := e.(*syntax.BinaryExpr); ok {
		left, err := t.extendedEval(e.LHS, at)
		right, err2 := t.extendedEval(e.RHS, at)
		if err = errors.Join(err, err2); err != nil {
			return nil, err
		}
		// Of the operations with numbers, those that sureQueries have.
		out := vector{}
		for _, x := range left.sorted() {
			y, ok := right["{}"]
			if v, keep := arith(e.Op, x.v, y.v); ok && keep {
				out.put(x.labels, v)
			}
		}
		return out, nil
	}
	return t.eval(e, at)
}

func apply(e *syntax.Function, v float64) (float64, bool) {
	switch e.Name {
	case syntax.FuncAbs:
		return math.Abs(v), true
	case syntax.FuncCeil:
		return math.Ceil(v), true
	case syntax.FuncFloor:
		return math.Floor(v), true
	case syntax.FuncExp:
		return math.Exp(v), true
	case syntax.FuncLn:
		return math.Log(v), true
	case syntax.FuncSqrt:
		return math.Sqrt(v), true
	case syntax.FuncRound:
		to := 1.0
		if len(e.Params) > 0 {
			to = e.Params[0]
		}
		return math.Floor(v/to+0.5) * to, true
	case syntax.FuncClampMin:
		return max(v, e.Params[0]), true
	case syntax.FuncClampMax:
		return min(v, e.Params[0]), true
	}
	return min(max(v, e.Params[0]), e.Params[1]), e.Params[0] <= e.Params[1]
}

func (t *twin) extendedRange(e *syntax.RangeAggregation, at int64) (vector, error) {
	end := at - int64(e.Range.Offset)
	start := end - int64(e.Range.Interval)
	// Subqueries look at what the whole query does, which is checked at one time only.
	x, err := t.resolved(e, start+1, end+1)
	if err != nil {
		return nil, errTwin
	}
	e = x.(*syntax.RangeAggregation)
	rows, err := t.rows(e.Range.Selector, start+1, end+1, false)
	if err != nil {
		return nil, errTwin
	}
	ex, err := pipeline.CompileExtractor(nil, e.Range.Unwrap, e.Op == syntax.OpBytesOverTime || e.Op == syntax.OpBytesRate, pipeline.Hints{})
	if err != nil {
		return nil, errTwin
	}
	g := e.Grouping
	if e.Op == syntax.OpAbsentOverTime {
		g = &syntax.Grouping{}
	}
	var pg *pipeline.Grouping
	tolerant := false
	if g != nil {
		names := slices.Clone(g.Labels)
		slices.Sort(names)
		pg = &pipeline.Grouping{Names: slices.Compact(names), Without: g.Without}
		tolerant = !g.Without && (slices.Contains(append(slices.Clone(e.Labels), g.Labels...), "__error__") || slices.ContainsFunc(e.Range.Selector.Stages, namesError))
	}
	type series struct {
		labels model.Labels
		ts     []int64
		vs     []float64
		values map[string]bool
	}
	all := map[string]*series{}
	for _, r := range rows {
		st := ex.ForStream(r.stream)
		st.SetParsed(r.more)
		v, ls, ok := st.Process(r.time, []byte(r.line), r.metadata)
		if !ok {
			continue
		}
		if kind, _ := ls.Err(); kind != "" && !(tolerant && (kind == "JSONParserErr" || kind == "LogfmtParserErr")) {
			return nil, errTwin
		}
		labels := pipeline.Clone(ls.AppendGroup(nil, pg))
		if !tolerant {
			labels = slices.DeleteFunc(labels, func(l model.Label) bool { return l.Name == "__error__" || l.Name == "__error_details__" })
		}
		value, any := "", false
		for _, n := range e.Labels {
			x, _ := ls.Get(n)
			any = any || x != ""
			value += fmt.Sprintf("%q", x)
			if g == nil || g.Without {
				labels = slices.DeleteFunc(labels, func(l model.Label) bool { return l.Name == n })
			}
		}
		k := labels.String()
		if all[k] == nil {
			all[k] = &series{labels: labels, values: map[string]bool{}}
		}
		if any {
			all[k].values[value] = true
		}
		all[k].ts, all[k].vs = append(all[k].ts, r.time), append(all[k].vs, v)
	}
	out := vector{}
	if e.Op == syntax.OpAbsentOverTime {
		if len(all) > 0 {
			return out, nil
		}
		return (&twin{}).rangeAgg(&syntax.RangeAggregation{Op: e.Op, Range: syntax.Range{Selector: &syntax.LogSelector{Matchers: e.Range.Selector.Matchers}}}, nil, true, at)
	}
	for _, s := range all {
		switch e.Op {
		case syntax.OpCountDistinctOverTime:
			if len(s.values) > 0 {
				out.put(s.labels, float64(len(s.values)))
			}
		case syntax.OpHistogramOverTime:
			for _, b := range append(slices.Clone(e.Bounds), math.Inf(1)) {
				n := 0
				for _, v := range s.vs {
					if v <= b || math.IsInf(b, 1) {
						n++
					}
				}
				ls := append(slices.Clone(s.labels), model.Label{Name: "le", Value: strconv.FormatFloat(b, 'g', -1, 64)})
				sort.Slice(ls, func(i, j int) bool { return ls[i].Name < ls[j].Name })
				out.put(ls, float64(n))
			}
		default:
			out.put(s.labels, overTime(e, s.ts, s.vs, start, end))
		}
	}
	return out, nil
}

func namesError(s syntax.Stage) bool {
	f, ok := s.(*syntax.LabelFilter)
	found := false
	if ok {
		syntax.Conditions(f.Cond, func(c syntax.Condition) {
			m, ok := c.(*syntax.StringCond)
			found = found || ok && m.Name == "__error__"
		})
	}
	return found
}

// plainOver reports whether the twin evaluates an expression: what Loki does not have,
// over at most one vector aggregation and functions.
func plainOver(e syntax.Expr) bool {
	ok := supported(e)
	syntax.Walk(e, func(e syntax.Expr) bool {
		switch e.(type) {
		case *syntax.BinaryExpr, *syntax.LabelReplace:
			ok = false
		}
		return ok
	})
	return ok
}

// sureQueries rarely fail, as random ones do.
var sureQueries = []string{
	`histogram_over_time(1, 2, {app=~"a|b"} | logfmt n="n" | n=~"[0-9.]+" | unwrap n [2m])`,
	`histogram_over_time(-1, 1, 3, {app=~"a|b"} | logfmt | n=~"[0-9.]+" | unwrap n | __error__="" [2m] offset 10s) by (app, level)`,
	`quantile_over_time(0.5, {app=~"a|b"} | sample 0.7 | logfmt | unwrap n | __error__="" [3m]) by (app)`,
	`last_over_time({app=~"a|b"} | unroll list | logfmt | unwrap n | __error__="" [3m]) by (list)`,
	`rate_counter({app=~"a|b"} | unroll list | unwrap list | __error__="" [5m])`,
	`sum by (list) (count_over_time({app=~"a|b"} | unroll list | list!="" [5m]))`,
	`bytes_over_time({app=~"a|b"} | unroll list | line_format "{{.list}}" [5m])`,
	`avg_over_time({app=~"a|b"} | sample 0.5 | logfmt | unwrap n | __error__="" [5m]) by (env)`,
	`count_distinct_over_time(level, app, {app=~".+"} | logfmt [1m]) by (env)`,
	`count_distinct_over_time(level, {app=~".+"} | logfmt | __error__="" | keep level, app [2m]) without (n)`,
	`count_distinct_over_time(list, {app=~".+"} | unroll list [2m]) by (list)`,
	`count_over_time({app=~".+"} | logfmt | level in ({app="a"} |= "error" | logfmt) | __error__="" [2m])`,
	`count_distinct_over_time(trace, {app=~".+"} | trace in ({app="a"} | unroll list | limit 3) [2m]) by (app)`,
	`absent_over_time({app="a"} | unroll list | list="b" [1m])`,
	`time() - 5 * time()`,
	`round(exp(sum(count_over_time(|= "error" [2m])) / time()), 0.01)`,
}

// Metric queries with what Loki does not have answer as the plain twin.
func TestExtendedMetricsEqualTwin(t *testing.T) {
	failed, total := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		all := listed(t, entries(t))
		digests := rapid.Bool().Draw(t, "digests")
		stores := spread(t, all, false)
		expr := extendedWords.MetricQueries(2).Filter(func(e syntax.Expr) bool { return !inexact(e) && plainOver(e) }).Draw(t, "query")
		if rapid.Bool().Draw(t, "sure") {
			expr = parse(t, pick(t, "sure", sureQueries...))
		}
		at := int64(rapid.IntRange(0, 300).Draw(t, "at")) * sec
		total++
		q := engine.Query{Expr: expr, Sources: arrange(t, sources(stores, digests))}
		want, err := newTwin(all).extendedEval(expr, at)
		res, gotErr := engine.New(engine.Options{}).Instant(t.Context(), q, at)
		closed(t, stores)
		if err != nil && gotErr == nil {
			t.Skip("a parser that nobody needs is not run, and its errors are not seen")
		}
		if (err != nil) != (gotErr != nil) {
			t.Fatalf("%s: got error %v, want %v", expr, gotErr, err)
		}
		if err != nil {
			failed++
			return
		}
		if res.Type == engine.TypeScalar {
			if !near(res.Scalar.Value, want["{}"].v) {
				t.Fatalf("%s is %v, want %v", expr, res.Scalar.Value, want["{}"].v)
			}
			return
		}
		got := vector{}
		for _, x := range res.Vector {
			got.put(x.Labels, x.Value)
		}
		if !maps.EqualFunc(got, want, func(a, b element) bool { return near(a.v, b.v) }) {
			t.Fatalf("%s at %ds:\n got %v\nwant %v", expr, at/sec, got, want)
		}
	})
	t.Logf("%d of %d queries fail", failed, total)
}
