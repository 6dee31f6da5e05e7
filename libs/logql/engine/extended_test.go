package engine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/logql/syntax/syntaxtest"
	"github.com/weir-logs/weir/libs/model"
)

// extendedWords talk about what Loki does not have, and about lists in lines.
var extendedWords = func() syntaxtest.Words {
	w := words
	// A label that a parser calls so is told apart from an error within one pipeline only.
	w.Labels = slices.DeleteFunc(append(slices.Clone(words.Labels), "list", "top_count"), func(n string) bool { return n == "__error__" })
	w.Extended = true
	return w
}()

// listed gives some entries a list.
func listed(t *rapid.T, all []enginetest.Entry) []enginetest.Entry {
	lists := map[string]string{} // an entry that is there again has the same
	for i := range all {
		id := fmt.Sprint(all[i])
		list, ok := lists[id]
		if !ok {
			list = pick(t, "list", "", "", `["a","b","a"]`, `[1,2]`, `[]`, `["x"`, "text", `[null,{"n":1}]`)
			lists[id] = list
		}
		if list != "" {
			all[i].Metadata = model.NewLabels(append(slices.Clone(all[i].Metadata), model.Label{Name: "list", Value: list}))
		}
	}
	return all
}

// twinRow is an entry on its way through stages.
type twinRow struct {
	hash                   uint64
	time                   int64
	line                   string
	stream, metadata, more model.Labels
}

func (r *twinRow) get(name string) string {
	for _, set := range []model.Labels{r.more, r.metadata, r.stream} {
		if v, ok := set.Lookup(name); ok {
			return v
		}
	}
	return ""
}

func (r *twinRow) values(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, r.get(n))
	}
	return fmt.Sprintf("%q", out)
}

func (r twinRow) with(name, value string) twinRow {
	drop := func(ls model.Labels) model.Labels {
		return slices.DeleteFunc(slices.Clone(ls), func(l model.Label) bool { return l.Name == name })
	}
	r.stream, r.metadata, r.more = drop(r.stream), drop(r.metadata), append(drop(r.more), model.Label{Name: name, Value: value})
	sort.Slice(r.more, func(i, j int) bool { return r.more[i].Name < r.more[j].Name })
	return r
}

// rows runs stages over all entries at once, stage by stage.
func (t *twin) rows(sel *syntax.LogSelector, start, end int64, backward bool) ([]twinRow, error) {
	es := t.selected(sel.Matchers, start, end)
	if backward {
		slices.Reverse(es)
	}
	var rows []twinRow
	for _, e := range es {
		rows = append(rows, twinRow{hash: enginetest.Hash(e), time: e.Time, line: e.Line, stream: e.Labels, metadata: metaOf(e)})
	}
	return t.through(rows, sel.Stages, start, end)
}

func (t *twin) resolved(e syntax.Expr, start, end int64) (syntax.Expr, error) {
	return syntax.Resolve(e, func(c *syntax.InCond) ([]string, error) {
		rows, err := t.rows(c.Query, start, end, false)
		set := map[string]bool{}
		for i := range rows {
			if v := rows[i].get(c.Name); v != "" {
				set[v] = true
			}
		}
		return slices.Sorted(maps.Keys(set)), err
	})
}

func (t *twin) through(rows []twinRow, stages []syntax.Stage, start, end int64) ([]twinRow, error) {
	resolved, err := t.resolved(&syntax.LogSelector{Stages: stages}, start, end)
	if err != nil {
		return nil, err
	}
	stages = resolved.(*syntax.LogSelector).Stages
	// What sources run, even if that is nothing, and what is left.
	for first := true; first || len(stages) > 0; first = false {
		n := 0
		for n < len(stages) && !syntax.Extended(stages[n]) {
			n++
		}
		if n == 0 && !first {
			rows = extendedStage(rows, stages[0])
			stages = stages[1:]
			continue
		}
		p, err := pipeline.Compile(stages[:n], pipeline.Hints{})
		if err != nil {
			return nil, err
		}
		var out []twinRow
		for _, r := range rows {
			st := p.ForStream(r.stream)
			st.SetParsed(r.more)
			line, ls, ok := st.Process(r.time, []byte(r.line), r.metadata)
			if ok {
				r.line, r.stream, r.metadata, r.more = string(line), pipeline.Clone(ls.AppendStream(nil)), pipeline.Clone(ls.AppendMetadata(nil)), pipeline.Clone(ls.AppendParsed(nil))
				out = append(out, r)
			}
		}
		rows, stages = out, stages[n:]
	}
	return rows, nil
}

func extendedStage(rows []twinRow, s syntax.Stage) []twinRow {
	var out []twinRow
	switch s := s.(type) {
	case *syntax.Distinct:
		seen := map[string]bool{}
		for _, r := range rows {
			if v := r.values(s.Labels); !seen[v] {
				seen[v] = true
				out = append(out, r)
			}
		}
	case *syntax.Dedup:
		for i, r := range rows {
			if i == 0 || r.values(s.Labels) != rows[i-1].values(s.Labels) {
				out = append(out, r)
			}
		}
	case *syntax.Limit:
		return rows[:min(len(rows), s.N)]
	case *syntax.Sample:
		for _, r := range rows {
			if engine.Sampled(r.hash, s.Share) {
				out = append(out, r)
			}
		}
	case *syntax.Sort:
		out = slices.Clone(rows)
		// The three kinds of values one by one.
		number := func(v string) (float64, bool) {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				var d time.Duration
				if d, err = time.ParseDuration(v); err == nil {
					f = d.Seconds()
				} else if n, e := pipeline.ParseBytes(v); e == nil && v[0] != 'x' {
					f, err = float64(n), nil
				}
			}
			return f, err == nil && !math.IsNaN(f)
		}
		sort.SliceStable(out, func(i, j int) bool {
			a, b := out[i].get(s.Label), out[j].get(s.Label)
			if a == "" || b == "" {
				return a != "" && b == ""
			}
			if s.Desc {
				a, b = b, a
			}
			x, xok := number(a)
			y, yok := number(b)
			switch {
			case xok != yok:
				return xok
			case xok:
				return x < y
			}
			return a < b
		})
	case *syntax.Top:
		counts := map[string]int{}
		firsts := map[string]twinRow{}
		for _, r := range rows {
			v := r.get(s.Label)
			if counts[v]++; counts[v] == 1 {
				firsts[v] = r
			}
		}
		delete(counts, "")
		values := slices.Sorted(maps.Keys(counts))
		sort.SliceStable(values, func(i, j int) bool { return counts[values[i]] > counts[values[j]] })
		for _, v := range values[:min(len(values), s.N)] {
			out = append(out, firsts[v].with("top_count", strconv.Itoa(counts[v])))
		}
	case *syntax.Unroll:
		for _, r := range rows {
			var list []json.RawMessage
			if text := r.get(s.Label); text == "" || text[0] != '[' || json.Unmarshal([]byte(text), &list) != nil {
				out = append(out, r)
				continue
			}
			for _, x := range list {
				text := string(x)
				var str string
				if json.Unmarshal(x, &str) == nil {
					text = str // null too
				}
				out = append(out, r.with(s.Label, text))
			}
		}
	}
	return out
}

// given returns the entries in the order in which a result has them, as texts: within
// streams for an answer as a whole.
func given(res *engine.Result) map[string][]string {
	out := map[string][]string{}
	for _, s := range res.Streams {
		for _, e := range s.Entries {
			k := s.Labels.String()
			out[k] = append(out[k], entryText(e.Time, string(e.Line), s.Labels, e.Metadata, e.Parsed))
		}
	}
	return out
}

func rowsByStream(rows []twinRow) map[string][]string {
	out := map[string][]string{}
	for _, r := range rows {
		k := r.stream.String()
		out[k] = append(out[k], entryText(r.time, r.line, r.stream, r.metadata, r.more))
	}
	return out
}

// Log queries with stages that Loki does not have answer as the plain twin, page by page.
func TestExtendedLogsEqualTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := listed(t, entries(t))
		digests := rapid.Bool().Draw(t, "digests")
		stores := spread(t, all, false)
		sel := extendedWords.LogQueries().Draw(t, "query")
		start := int64(rapid.IntRange(0, 100).Draw(t, "start")) * 3 * sec
		q := engine.RangeQuery{
			Query: engine.Query{Expr: sel, Sources: arrange(t, sources(stores, digests))},
			Start: start, End: start + 3*sec*int64(rapid.IntRange(1, 100).Draw(t, "length")),
			Limit: pick(t, "limit", 0, 1, 2, 5), Backward: rapid.Bool().Draw(t, "backward"),
		}
		want, err := newTwin(all).rows(sel, q.Start, q.End, q.Backward)
		emit := rapid.Bool().Draw(t, "emit")
		for page := 0; ; page++ {
			emitted := map[string][]string{}
			if emit {
				q.Emit = func(ls []engine.LogStream) error {
					for k, texts := range given(&engine.Result{Streams: ls}) {
						emitted[k] = append(emitted[k], texts...)
					}
					return nil
				}
			}
			res, gotErr := run(q)
			closed(t, stores)
			if (err != nil) != (gotErr != nil) {
				t.Fatalf("%s: got error %v, want %v", sel, gotErr, err)
			}
			if err != nil {
				return
			}
			now := want
			if q.Limit > 0 && len(want) > q.Limit {
				now = want[:q.Limit]
			}
			got := given(res)
			for k, texts := range emitted {
				got[k] = append(texts, got[k]...)
			}
			if w := rowsByStream(now); !maps.EqualFunc(got, w, slices.Equal) {
				t.Fatalf("%s, page %d, backward %v, limit %d:\n got %q\nwant %q", sel, page, q.Backward, q.Limit, got, w)
			}
			want = want[len(now):]
			if (res.NextCursor != "") != (len(want) > 0) {
				t.Fatalf("%s: cursor %q with %d entries left", sel, res.NextCursor, len(want))
			}
			if len(want) == 0 {
				return
			}
			q.Cursor = res.NextCursor
		}
	})
}

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
