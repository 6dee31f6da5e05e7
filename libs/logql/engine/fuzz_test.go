package engine_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// fuzzed are the entries that fuzzed queries are about, and where they are: in one
// source, and in three that overlap.
func fuzzed() (whole, spread []engine.Source) {
	var all []enginetest.Entry
	parts := make([][]enginetest.Entry, 3)
	for i := range 48 {
		e := enginetest.Entry{
			Labels: labels("app", []string{"a", "b"}[i%2], "env", []string{"x", "y"}[i/2%2]),
			Time:   int64(i/3) * 5 * sec, BatchTime: 1, Position: uint32(i),
			Line: []string{
				`{"level":"error","n":2,"dur":"3s","list":[1,"a",{"b":null}],"o":{"p":"q"}}`,
				`level=info n=7 dur=12ms size=3KiB msg="it is \"so\"" ip=10.0.0.7`,
				`10.0.0.9 - bob [x] "GET /cart?id=1 HTTP/1.1" 200 512`,
				`{"_entry":"packed \u00e9","app":"z"}`, "\x1b[31mred\x1b[0m \xff\xfe", "",
			}[i%6],
		}
		if i%4 == 0 {
			e.Metadata = labels("trace", fmt.Sprint(i%5), "level", "warn")
		}
		all = append(all, e)
		for k := range parts {
			if (i/5+k)%3 != 0 || i%7 == k {
				parts[k] = append(parts[k], e)
			}
		}
	}
	whole = []engine.Source{engine.Local(enginetest.NewStore(all...), "all")}
	for k, p := range parts {
		s := enginetest.NewStore(p...)
		s.RunRows, s.BatchRows, s.Selective = 4, 3, k == 1
		spread = append(spread, engine.Local(s, fmt.Sprint("part ", k)))
	}
	return whole, spread
}

// FuzzQueries runs whatever parses: it answers or fails, within its memory, and the same
// from one source and from several that overlap.
func FuzzQueries(f *testing.F) {
	for i := range 60 {
		f.Add(words.LogQueries().Example(i).String(), i%2 == 0)
		f.Add(words.MetricQueries(2).Example(i).String(), i%2 == 0)
	}
	for _, q := range []string{
		`{app=~".+"} | json | logfmt | pattern "<ip> - <user> <_>" | unpack | decolorize`,
		`{app=~".+"} |= ip("10.0.0.0/8") | regexp "(?P<x>.+)" | x != "" | line_format "{{ .x | upper | trunc 3 }}{{ __timestamp__ }}"`,
		`{app=~".+"} | json l="list[*]" | unroll l | top 2 l`, `{app=~".+"} | logfmt | sort n desc | limit 3`,
		`{app=~".+"} | distinct env | dedup app | sample 0.5`, `|= "n" | app in ({app="a"} | json)`,
		`topk(2, sum by (env) (rate({app=~".+"} | logfmt | unwrap duration(dur) | __error__="" [10s]))) or vector(1)`,
		`histogram_over_time(1, 5, {app=~".+"} | json | logfmt | unwrap n | __error__="" [10s])`,
		`count_distinct_over_time(n, {app=~".+"} | logfmt [10s]) by (env)`,
		`label_replace(absent_over_time({app="c"}[5s] offset -5s), "a", "$1", "app", "(.*)") * on (a) group_left vector(2)`,
	} {
		f.Add(q, true)
	}
	whole, spread := fuzzed()
	f.Fuzz(func(t *testing.T, text string, backward bool) {
		expr, err := syntax.ParseExpr(text)
		if err != nil || !supported(expr) {
			return
		}
		split := time.Duration(0)
		ask := func(sources []engine.Source, instant bool) (*engine.Result, error) {
			q := engine.RangeQuery{
				Query: engine.Query{Expr: expr, Sources: sources, Split: split, Limits: engine.Limits{MaxMemory: 16 << 20, MaxSeries: 100}},
				Start: 0, End: 90 * sec, Step: 15 * time.Second, Limit: 40, Backward: backward,
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if instant {
				return engine.New(engine.Options{}).Instant(ctx, q.Query, 60*sec)
			}
			return engine.New(engine.Options{}).Range(ctx, q)
		}
		one, oneErr := ask(whole, false)
		split = 7 * time.Second
		several, err := ask(spread, false)
		if _, again := ask(spread, true); again != nil && err == nil && !syntax.IsMetric(expr) {
			return // log queries have no instant
		}
		if (oneErr == nil) != (err == nil) {
			t.Fatalf("%s: from one source %v, from several %v", expr, oneErr, err)
		}
		if err != nil || asksClock(expr) {
			return
		}
		if a, b := texts(one), texts(several); !slices.Equal(a, b) {
			t.Fatalf("%s:\nfrom one source %q\nfrom several    %q", expr, a, b)
		}
		if !inexact(expr) {
			if d := diff(points(several), points(one)); d != "" {
				t.Fatalf("%s: %s", expr, d)
			}
		}
	})
}

// asksClock reports whether an answer may depend on the present.
func asksClock(e syntax.Expr) bool {
	found := false
	note := func(stages []syntax.Stage) {
		for _, s := range stages {
			switch s.(type) {
			case *syntax.LineFormat, *syntax.LabelFormat:
				found = true
			}
		}
	}
	for _, s := range syntax.Selectors(e) {
		note(s.Stages)
	}
	return found
}

// FuzzLogs and FuzzMetrics compare with the plain twin.
func FuzzLogs(f *testing.F)    { f.Fuzz(rapid.MakeFuzz(logsEqualTwin)) }
func FuzzMetrics(f *testing.F) { f.Fuzz(rapid.MakeFuzz(metricsEqualTwin)) }
