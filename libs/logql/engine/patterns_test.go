package engine_test

import (
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/patterns"
)

// Lines count once however many sources hold them, and those that are excluded or
// filtered out not at all.
func TestPatternsCountOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "lines")
		var all []enginetest.Entry
		for i := range n {
			all = append(all, enginetest.Entry{
				Labels: labels("app", []string{"a", "b"}[i%2], "service_name", "s"), Time: int64(i) * sec, BatchTime: 1,
				Line:    fmt.Sprintf("%s request %d took %dms", []string{"GET", "PUT"}[i/2%2], i, i%7),
				Derived: labels("detected_level", []string{"error", "info"}[i%3/2]),
			})
		}
		var sources []engine.Source
		for r := range rapid.IntRange(1, 3).Draw(t, "replicas") {
			var held []enginetest.Entry
			gap := rapid.IntRange(0, 300).Draw(t, "gap")
			for i, e := range all {
				if r == 0 || i != gap {
					held = append(held, e)
				}
			}
			st := enginetest.NewStore(held...)
			st.RunRows = rapid.IntRange(1, 50).Draw(t, "run")
			sources = append(sources, engine.Local(st, fmt.Sprint("s", r)))
		}
		if rapid.Bool().Draw(t, "united") {
			sources = []engine.Source{engine.Union("u", sources...)}
		}
		query := pick(t, "query", `{app=~".+"}`, `{app=~".+"} |= "GET"`, `{app="b"} | detected_level="error"`)
		x := &engine.Excluded{Version: "1", Tombstones: []engine.Tombstone{
			{Selector: selector(t, pick(t, "deleted", `{app="a"}`, `{app=~".+"} |= "5ms"`)), Start: 20 * sec, End: 60 * sec},
		}, Retention: []engine.Cutoff{{Before: 5 * sec}}}
		e := engine.New(engine.Options{})
		q := engine.PatternsQuery{Query: engine.Query{Expr: parse(t, query), Sources: sources, Excluded: x}, Start: 2 * sec, End: 150 * sec, Width: 30 * sec}
		res, err := e.Patterns(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]map[int64]uint64{}
		for _, e := range without(all, x) {
			level := e.Derived.Get("detected_level")
			get := e.Line[:3] == "GET"
			if e.Time < 2*sec || e.Time >= 150*sec || query == `{app=~".+"} |= "GET"` && !get || query == `{app="b"} | detected_level="error"` && (level != "error" || e.Labels.Get("app") != "b") {
				continue
			}
			k := e.Line[:3] + level
			if want[k] == nil {
				want[k] = map[int64]uint64{}
			}
			want[k][e.Time/(30*sec)]++
		}
		got := map[string]map[int64]uint64{}
		for _, p := range res.Patterns {
			k := p.Text[:3] + p.Level
			if got[k] != nil {
				t.Fatalf("%s comes twice: %+v", k, res.Patterns)
			}
			got[k] = p.Samples
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: got %v\nwant %v", query, got, want)
		}
	})
}

func TestPatternsAreRefused(t *testing.T) {
	e := engine.New(engine.Options{})
	for query, q := range map[string]engine.PatternsQuery{
		`sum(count_over_time({a="b"}[1m]))`: {End: 1, Width: 1},
		`{a="b"}`:                           {End: 1, Width: 0},
		`{a="b"} |= "x"`:                    {Start: 1, Width: 1},
		`{a="b"} |= "y"`:                    {End: 1000, Width: 1, Query: engine.Query{Limits: engine.Limits{MaxPoints: 10}}},
	} {
		q.Expr = parse(t, query)
		if res, err := e.Patterns(t.Context(), q); err == nil {
			t.Errorf("%s: %+v", query, res)
		}
	}
	res, err := e.Patterns(t.Context(), engine.PatternsQuery{Query: engine.Query{Expr: parse(t, `{a="b"}`)}, End: 1, Width: 1})
	if err != nil || res.Type != engine.TypePatterns || !reflect.DeepEqual(res.Patterns, []patterns.Pattern(nil)) {
		t.Errorf("%+v, %v", res, err)
	}
}
