package blockstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// fieldLine makes lines of few shapes, of which some values would change where fields
// begin and end.
func fieldLine(r *rand.Rand, odd int) string {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	value := func() string {
		if r.IntN(100) < odd {
			return pick(`a\"b`, `x","level":"fake`, `\\`, `a=b`, `c d`, `e" level="no`, "\x01", "ü", "", `{`, `]`, "\xff", `\u0041`)
		}
		return fmt.Sprintf("%s%d", pick("v", "w-", "/p/", "10.0.0."), r.IntN(30))
	}
	level := pick("info", "warn", "error")
	if r.IntN(100) < odd {
		level = value()
	}
	switch r.IntN(6) {
	case 0:
		return fmt.Sprintf(`{"level":"%s","msg":"request %s took %dms","code":%d}`, level, value(), r.IntN(1000), 200+r.IntN(3)*100)
	case 1:
		return fmt.Sprintf(`{"level": "%s", "http":{"code":%d,"path":"%s"},"tags":["%s",%d], "n":%d.%d}`, level, 200+r.IntN(300), value(), value(), r.IntN(9), r.IntN(3), r.IntN(100))
	case 2:
		return fmt.Sprintf(`level=%s code=%d msg="request %s took %d" user=%s`, level, 200+r.IntN(3)*100, value(), r.IntN(1000), value())
	case 3:
		return fmt.Sprintf(`code=%d level=%s code=%d http_code=%d`, r.IntN(400), level, r.IntN(3), r.IntN(100))
	case 4:
		return fmt.Sprintf(`plain text %d %s`, r.IntN(100), value())
	}
	return fmt.Sprintf(`{"app":"%s","level":"%s","code":"%d","trace":"%s","code":%d}`, value(), level, r.IntN(3), value(), r.IntN(500))
}

var fieldQueries = []string{
	`sum by (level) (count_over_time({app=~".+"} | json [1m]))`, `sum by (level) (count_over_time({app=~".+"} | json | __error__="" [1m]))`,
	`sum by (level) (count_over_time({app=~".+"} | logfmt [1m]))`, `sum by (code, pod) (count_over_time({app=~".+"} | logfmt | level="warn" [50s]))`,
	`sum by (level, code) (rate({app=~".+"} | logfmt level="level", code="code" | code >= 300 [1m]))`,
	`sum by (http_code) (count_over_time({app="a1"} | json | level=~"info|error" [2m]))`, `sum by (app) (count_over_time({app=~".+"} |= "level" | json l="level" | l!="warn" [1m]))`,
	`sum by (app_extracted, trace) (count_over_time({app=~".+"} | json [1m]))`, `sum(count_over_time({app=~".+"} | json c="http.code" | c > 300 [1m]))`,
	`sum by (p) (count_over_time({app=~".+"} |~ "http|tags" | json p="http.path", t="tags[0]" | t!="w-1" [5m]))`,
	`sum by (code) (count_over_time({app=~".+"} | json code="code" [1m]))`, `sum by (user, msg) (count_over_time({app=~".+"} != "plain" | logfmt [1m]))`,
	`sum by (detected_level) (count_over_time({app=~".+"} | logfmt | code="300" [1m]))`,
	`sum by (level) (sum_over_time({app=~".+"} | json level="level", code="code" | unwrap code [1m]))`, `sum(rate({app=~".+"} | logfmt | level!="warn" | unwrap code [1m]))`,
	`quantile_over_time(0.7, {app=~".+"} | json level="level", code="code" | unwrap code [1m]) by (level)`, `quantile_over_time(0.5, {app=~".+"} | json | level!="warn" | unwrap code [1m]) by (app)`,
	`quantile_over_time(0.99, {app=~".+"} | logfmt | unwrap code [45s]) by (level)`, `quantile_over_time(0.3, {app=~".+"} | logfmt c="code", u="user" | u!="v1" | unwrap c [1m]) by ()`,
	`max_over_time({app=~".+"} | json | unwrap code [1m]) by (level)`, `min_over_time({app=~".+"} | logfmt | code > 200 | unwrap code [1m]) by (user)`, `avg_over_time({app=~".+"} | json n="n", level="level" | unwrap n [1m]) by (level)`,
	`sum by (level) (sum_over_time({app=~".+"} | json level="level", n="n" | unwrap n [1m]))`, `quantile_over_time(0.7, {app=~".+"} | json level="level", n="n" | unwrap n [90s]) by (level)`,
	`quantile_over_time(0.5, {app=~".+"} | json | unwrap n | level="info" [1m]) by (level, pod)`, `sum(rate({app=~".+"} | logfmt | unwrap duration(code) [1m]))`, `max_over_time({app=~".+"} | json | unwrap app_extracted [1m]) by (level)`,
	`stddev_over_time({app=~".+"} | json n="n" | unwrap n [1m]) by ()`, `quantile_over_time(0.9, {app=~".+"} | json | unwrap code | code < 450 [1m]) by (level)`,
	`sum by (level, code) (count_over_time({app=~".+"} | json | http_code != "" [1m]))`, `sum(sum_over_time({app=~".+"} | json | http_code > 1 | unwrap http_code [1m]))`,
}

// Rows that are counted by their fields count as they do line by line.
func TestFieldsEqualLines(t *testing.T) {
	runs := 0
	var columns, lines float64 // rows
	defer func() {
		if !t.Failed() && runs >= 40 && (columns == 0 || lines == 0) { // else it was run for less
			t.Errorf("%v rows by columns, %v by lines", columns, lines)
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		odd := rapid.SampledFrom([]int{0, 1, 30}).Draw(t, "odd")
		streams := rapid.SampledFrom([]int{1, 3, 30}).Draw(t, "streams")
		var entries []enginetest.Entry
		for i := range rapid.SampledFrom([]int{5, 100, 1500}).Draw(t, "entries") {
			k := r.IntN(streams)
			e := enginetest.Entry{
				Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("a%d", k%3)}, {Name: "pod", Value: fmt.Sprintf("p%02d", k)}}),
				Time:   int64(r.IntN(300)) * sec, BatchTime: int64(i / 10), Position: uint32(i % 10), Line: fieldLine(r, odd),
			}
			e.Derived = model.Labels{{Name: "detected_level", Value: "info"}}
			if odd > 1 && r.IntN(50) == 0 {
				e.Metadata = model.Labels{{Name: "trace", Value: "sent"}}
			}
			entries = append(entries, e)
		}
		store := enginetest.NewStore(entries...)
		o := &object{b: copyOf(t, store, block.Options{
			RowGroupBytes: rapid.SampledFrom([]int{3000, 50000, 0}).Draw(t, "group"), SectionBytes: rapid.SampledFrom([]int64{50000, 0}).Draw(t, "section"), Whole: rapid.IntRange(0, 3).Draw(t, "whole") == 0})}
		reg := prometheus.NewRegistry()
		fromBlock := engine.Local(blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, reg)), "block")
		defer func() {
			runs++
			columns += fieldRows(t, reg, "columns")
			lines += fieldRows(t, reg, "pipeline")
		}()
		q := rapid.SampledFrom(fieldQueries).Draw(t, "query")
		expr, err := syntax.ParseExpr(q)
		if err != nil {
			t.Fatal(err)
		}
		start := int64(rapid.IntRange(0, 200).Draw(t, "start")) * sec
		run := func(src engine.Source) string {
			res, err := engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{
				Query: engine.Query{Expr: expr, Sources: []engine.Source{src}}, Start: start, End: start + 200*sec, Step: 30e9})
			if err != nil {
				return "error" // of whichever line fails first
			}
			for _, s := range res.Matrix {
				for i := range s.Points { // sums may be rounded otherwise
					s.Points[i].Value, _ = strconv.ParseFloat(strconv.FormatFloat(s.Points[i].Value, 'g', 12, 64), 64)
				}
			}
			return dump(res)
		}
		if got, want := run(fromBlock), run(engine.Local(store, "memory")); got != want {
			t.Fatalf("%s\nblock:  %s\nmemory: %s", q, got, want)
		}
	})
}

// fieldRows returns how many rows were counted by what.
func fieldRows(t *rapid.T, reg *prometheus.Registry, by string) float64 {
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if f.GetName() == "weir_blockstore_field_rows_total" && m.GetLabel()[0].GetValue() == by {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatal("no such metric")
	return 0
}
