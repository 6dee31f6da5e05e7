package engine_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// texts returns the entries of a result, one text each, sorted.
func texts(res *engine.Result) []string {
	var out []string
	for _, s := range res.Streams {
		for _, e := range s.Entries {
			out = append(out, entryText(e.Time, string(e.Line), s.Labels, e.Metadata, e.Parsed))
		}
	}
	slices.Sort(out)
	return out
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

// Log queries over any number of sources that hold copies of each other's rows
// answer as the plain twin, page by page.
func TestLogsEqualTwin(t *testing.T) { rapid.Check(t, logsEqualTwin) }

func logsEqualTwin(t *rapid.T) {
	all := entries(t)
	digests := rapid.Bool().Draw(t, "digests")
	stores := spread(t, all, !digests)
	sel := words.LogQueries().Draw(t, "query")
	start := int64(rapid.IntRange(0, 100).Draw(t, "start")) * 3 * sec
	q := engine.RangeQuery{
		Query: engine.Query{Expr: sel, Sources: arrange(t, sources(stores, digests))},
		Start: start, End: start + 3*sec*int64(rapid.IntRange(1, 100).Draw(t, "length")),
		Limit: pick(t, "limit", 0, 1, 2, 5), Backward: rapid.Bool().Draw(t, "backward"),
		Interval: time.Duration(pick(t, "interval", 0, 0, 7)) * time.Second,
	}
	q.Excluded = excluded(t)
	q.Split = splits(t)
	want, err := newTwin(without(all, q.Excluded)).logs(sel, q.Start, q.End, q.Backward, int64(q.Interval))
	emit := rapid.Bool().Draw(t, "emit")
	for page := 0; ; page++ {
		var emitted []string
		if emit {
			q.Emit = func(ls []engine.LogStream) error {
				emitted = append(emitted, texts(&engine.Result{Streams: ls})...)
				return nil
			}
		}
		res, gotErr := run(q)
		if (err != nil) != (gotErr != nil) {
			t.Fatalf("%s: got error %v, want %v", sel, gotErr, err)
		}
		closed(t, stores)
		if err != nil {
			return
		}
		now := want
		if q.Limit > 0 && len(want) > q.Limit {
			now = want[:q.Limit]
		}
		got := texts(res)
		if emit {
			got = sorted(append(got, emitted...))
		}
		if !slices.Equal(got, sorted(now)) {
			t.Fatalf("%s, page %d:\n got %q\nwant %q\n%+v", sel, page, got, now, q)
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
}

// inexact reports whether rounding could decide which series an expression has.
func inexact(e syntax.Expr) bool {
	rounded, decides := false, false
	syntax.Walk(e, func(e syntax.Expr) bool {
		switch e := e.(type) {
		case *syntax.RangeAggregation:
			rounded = rounded || slices.Contains([]syntax.RangeOp{syntax.OpAvgOverTime, syntax.OpStddevOverTime, syntax.OpStdvarOverTime,
				syntax.OpQuantileOverTime, syntax.OpRateCounter}, e.Op)
		case *syntax.VectorAggregation:
			rounded = rounded || e.Op == syntax.OpAvg || e.Op == syntax.OpStddev || e.Op == syntax.OpStdvar || e.Op == syntax.OpSum
			decides = decides || e.Op == syntax.OpTopk || e.Op == syntax.OpBottomk
		case *syntax.BinaryExpr:
			decides = decides || e.Op.IsComparison() || e.Op == syntax.OpMod || e.Op == syntax.OpPow || e.Op == syntax.OpSub || e.Op == syntax.OpDiv
		}
		return true
	})
	return rounded && decides
}

func near(a, b float64) bool {
	return a == b || (math.IsNaN(a) && math.IsNaN(b)) || math.Abs(a-b) <= 1e-6*(1+max(math.Abs(a), math.Abs(b)))
}

func points(res *engine.Result) map[string]map[int64]float64 {
	out := map[string]map[int64]float64{}
	for _, s := range res.Matrix {
		// label_replace may make several series of the same labels, which the twin
		// holds as one as long as they have no time in common.
		ls := s.Labels.String()
		if out[ls] == nil {
			out[ls] = map[int64]float64{}
		}
		for _, p := range s.Points {
			if _, dup := out[ls][p.Time]; dup {
				out[ls+" twice"] = map[int64]float64{p.Time: p.Value} // which no twin has
			}
			out[ls][p.Time] = p.Value
		}
	}
	return out
}

func diff(got, want map[string]map[int64]float64) string {
	for k, w := range want {
		for at, v := range w {
			g, ok := got[k][at]
			if !ok || !near(g, v) {
				return fmt.Sprintf("%s at %ds: got %v (%v), want %v", k, at/sec, g, ok, v)
			}
		}
	}
	for k, g := range got {
		for at, v := range g {
			if _, ok := want[k][at]; !ok {
				return fmt.Sprintf("%s at %ds: got %v, want none", k, at/sec, v)
			}
		}
	}
	return ""
}

// Metric queries answer as the plain twin too.
func TestMetricsEqualTwin(t *testing.T) { rapid.Check(t, metricsEqualTwin) }

func metricsEqualTwin(t *rapid.T) {
	metricEqualsTwin(t, func() syntax.Expr {
		return words.MetricQueries(2).Filter(func(e syntax.Expr) bool { return !inexact(e) && supported(e) }).Draw(t, "query")
	})
}

// What runs are enough for: numbers and lengths of all lines.
func TestSizesEqualTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		metricEqualsTwin(t, func() syntax.Expr {
			return parse(t, `sum by (`+pick(t, "by", "app", "env", "app, level", "detected_level")+`) (`+pick(t, "op", "bytes_over_time", "bytes_rate", "count_over_time")+
				`({app=~"`+pick(t, "apps", ".+", "a", "b")+`"}[`+pick(t, "window", "3s", "20s", "1m", "5m")+`]`+pick(t, "offset", "", " offset 13s")+`))`)
		})
	})
}

func metricEqualsTwin(t *rapid.T, query func() syntax.Expr) {
	all := entries(t)
	digests := rapid.Bool().Draw(t, "digests")
	stores := spread(t, all, !digests)
	expr := query()
	start := int64(rapid.IntRange(0, 200).Draw(t, "start")) * sec
	q := engine.RangeQuery{
		Query: engine.Query{Expr: expr, Sources: arrange(t, sources(stores, digests))},
		Start: start, End: start + sec*int64(rapid.IntRange(0, 200).Draw(t, "length")),
		Step: pick(t, "step", 7*time.Second, time.Minute, 90*time.Second),
	}
	q.Excluded = excluded(t)
	q.Split = splits(t)
	want, err := newTwin(without(all, q.Excluded)).matrix(expr, q.Start, q.End, q.Step)
	if errors.Is(err, errAmbiguous) {
		t.Skip("equal series")
	}
	res, gotErr := run(q)
	closed(t, stores)
	if (err != nil) != (gotErr != nil) {
		t.Fatalf("%s: got error %v, want %v", expr, gotErr, err)
	}
	if err != nil {
		return
	}
	if d := diff(points(res), want); d != "" {
		t.Fatalf("%s: %s", expr, d)
	}
}

func supported(e syntax.Expr) bool {
	ok := true
	syntax.Walk(e, func(e syntax.Expr) bool {
		if v, is := e.(*syntax.VectorAggregation); is && v.Op == syntax.OpApproxTopk {
			ok = false
		}
		return ok
	})
	return ok
}

// splits draws how a query is split by time: mostly into several parts.
func splits(t *rapid.T) time.Duration {
	return time.Duration(pick(t, "split", 0, 5, 20, 60, 100)) * time.Second
}

// A source that fails is replaced by equal copies where there are some.
func TestFailover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := entries(t)
		stores := make([]*enginetest.Store, 3)
		for i := range stores {
			stores[i] = enginetest.NewStore(all...)
			stores[i].RunRows = 3
			stores[i].BatchRows = 2
		}
		boom := errors.New("boom")
		var left atomic.Int64
		left.Store(int64(rapid.IntRange(0, 10).Draw(t, "reads")))
		stores[rapid.IntRange(0, 2).Draw(t, "bad")].FailRows = func() error {
			if left.Add(-1) < 0 {
				return boom
			}
			return nil
		}
		q := engine.RangeQuery{Query: engine.Query{Sources: arrange(t, sources(stores, true))}, End: 301 * sec, Step: time.Minute}
		q.Expr, q.Split = pick[syntax.Expr](t, "query", exprs...), splits(t)
		if sel, ok := q.Expr.(*syntax.LogSelector); ok && !sel.Bare {
			q.Limit = pick(t, "limit", 0, 5, 1000)
		}
		want, err := run(engine.RangeQuery{Query: engine.Query{Expr: q.Expr, Sources: []engine.Source{engine.Local(enginetest.NewStore(all...), "all")}}, End: q.End, Step: q.Step, Limit: q.Limit})
		if err != nil {
			t.Fatal(err)
		}
		var emitted []engine.LogStream
		if rapid.Bool().Draw(t, "emit") {
			q.Emit = func(ls []engine.LogStream) error { emitted = append(emitted, ls...); return nil }
		}
		got, err := run(q)
		if err != nil {
			t.Fatal(err)
		}
		got.Streams = append(got.Streams, emitted...)
		if !slices.Equal(texts(got), texts(want)) || diff(points(got), points(want)) != "" {
			t.Fatalf("%s: got %+v, want %+v", q.Expr, got, want)
		}
	})
}

var exprs = func() (out []syntax.Expr) {
	for _, q := range []string{`{app=~".+"}`, `count_over_time({app=~".+"}[1m])`, `sum by (app) (bytes_over_time({app=~".+"} |= "e" [2m]))`,
		`first_over_time({app=~".+"} | logfmt | unwrap n | __error__="" [1m]) by (app)`,
		`{app=~".+"} | distinct app, env`, `{app=~".+"} | logfmt | sort n desc | limit 7`, `{app=~".+"} | sample 0.5 | dedup app`,
		`count_distinct_over_time(level, {app=~".+"} | logfmt [1m]) by (app)`, `count_over_time({app=~".+"} | sample 0.5 [1m])`,
		`{app=~".+"} | app in ({env="x"} |= "error")`} {
		e, err := syntax.ParseExpr(q)
		if err != nil {
			panic(err)
		}
		out = append(out, e)
	}
	return out
}()
