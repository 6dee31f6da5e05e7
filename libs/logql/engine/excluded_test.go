package engine_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

func selector(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) *syntax.LogSelector {
	t.Helper()
	return parse(t, text).(*syntax.LogSelector)
}

// excluded draws deletes and ends of retention, or none.
func excluded(t *rapid.T) *engine.Excluded {
	if rapid.Bool().Draw(t, "no deletes") {
		return nil
	}
	x := &engine.Excluded{Version: "v7"}
	selectors := []string{`{app="a"}`, `{app=~".+"}`, `{env="y"}`, `{app="b"} |= "error"`, `{app=~".+"} !~ "info|n=1"`,
		`{env="x"} | trace="1"`, `{app="a"} | detected_level="error"`, `{app=~".+"} | logfmt | level="info"`}
	for range rapid.IntRange(0, 3).Draw(t, "tombstones") {
		start := int64(rapid.IntRange(0, 100).Draw(t, "from")) * 3 * sec
		x.Tombstones = append(x.Tombstones, engine.Tombstone{
			Selector: selector(t, pick(t, "selector", selectors...)), Start: start,
			End: start + int64(rapid.IntRange(0, 60).Draw(t, "for"))*3*sec,
		})
	}
	for range rapid.IntRange(0, 3).Draw(t, "cutoffs") {
		sel := selector(t, pick(t, "cutoff", selectors...))
		x.Retention = append(x.Retention, engine.Cutoff{
			Matchers: sel.Matchers, Stages: sel.Stages, Before: int64(rapid.IntRange(0, 60).Draw(t, "before")) * 3 * sec,
		})
	}
	return x
}

// without returns the entries that are not excluded.
func without(all []enginetest.Entry, x *engine.Excluded) []enginetest.Entry {
	if x == nil {
		return all
	}
	matches := func(ms []*syntax.Matcher, e enginetest.Entry) bool {
		return !slices.ContainsFunc(ms, func(m *syntax.Matcher) bool { return !m.Matches(e.Labels.Get(m.Name)) })
	}
	passes := func(stages []syntax.Stage, e enginetest.Entry) bool {
		p, err := pipeline.Compile(stages, pipeline.Hints{})
		if err != nil {
			panic(err)
		}
		_, _, ok := p.ForStream(e.Labels).Process(e.Time, []byte(e.Line), metaOf(e))
		return ok
	}
	return slices.DeleteFunc(slices.Clone(all), func(e enginetest.Entry) bool {
		for _, c := range x.Retention {
			if matches(c.Matchers, e) && passes(c.Stages, e) {
				if e.Time < c.Before {
					return true
				}
				break
			}
		}
		return slices.ContainsFunc(x.Tombstones, func(d engine.Tombstone) bool {
			if e.Time < d.Start || e.Time >= d.End || !matches(d.Selector.Matchers, e) {
				return false
			}
			return passes(d.Selector.Stages, e)
		})
	})
}

// A stream of which nothing is left, by deletes or retention, is not there, and the
// answer names the set (R 23, R 25).
func TestExcludedStreamsAreGone(t *testing.T) {
	s := enginetest.NewStore(
		enginetest.Entry{Labels: labels("app", "a"), Time: 10, Line: "x"}, enginetest.Entry{Labels: labels("app", "b"), Time: 10, Line: "x"},
		enginetest.Entry{Labels: labels("app", "c"), Time: 10, Line: "x"}, enginetest.Entry{Labels: labels("app", "c"), Time: 30, Line: "x"},
	)
	s.RunRows = 1
	x := &engine.Excluded{
		Version: "v1", Tombstones: []engine.Tombstone{{Selector: selector(t, `{app="a"}`), Start: 0, End: 11}},
		Retention: []engine.Cutoff{{Matchers: selector(t, `{app="c"}`).Matchers, Before: 20}, {Matchers: selector(t, `{app=~".+"}`).Matchers, Before: 5}},
	}
	e := engine.New(engine.Options{})
	src := []engine.Source{engine.Local(s, "s")}
	values, _, err := e.LabelValues(t.Context(), engine.MetaQuery{End: 100, Sources: src, Excluded: x}, "app")
	if err != nil || !slices.Equal(values, []string{"b", "c"}) {
		t.Errorf("got %v, %v", values, err)
	}
	stats, _, err := e.Stats(t.Context(), engine.MetaQuery{End: 100, Sources: src, Excluded: x})
	if err != nil || stats.Streams != 2 || stats.Entries != 2 {
		t.Errorf("got %+v, %v", stats, err)
	}
	res, err := e.Instant(t.Context(), engine.Query{Expr: parse(t, `sum(count_over_time({app=~".+"}[1m]))`), Sources: src, Excluded: x}, 100)
	if err != nil || res.Vector[0].Value != 2 || res.Excluded != "v1" {
		t.Errorf("got %+v, %v", res, err)
	}
}
