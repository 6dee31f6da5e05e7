package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
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

// Deletes that were carried out of some sources, as those say, and not of others that have
// copies, leave out of the answer what they leave out if no source says so. What a source
// says of a delete is believed: that its rows are not looked at again is the point of it.
func TestR24AppliedDeletesAreNotAppliedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := entries(t)
		x := excluded(t)
		if x == nil {
			return
		}
		for i := range x.Tombstones {
			x.Tombstones[i].ID = fmt.Sprint("d", i)
		}
		var srcs []engine.Source
		k := rapid.IntRange(1, 3).Draw(t, "sources")
		parts := make([][]enginetest.Entry, k)
		for _, e := range all {
			home := rapid.IntRange(0, k-1).Draw(t, "home")
			for i := range parts {
				if i == home || rapid.Bool().Draw(t, "copy") {
					parts[i] = append(parts[i], e)
				}
			}
		}
		for i, part := range parts {
			applied, ids := engine.Excluded{}, []string{"ordered", "retention-1"}
			for _, d := range x.Tombstones {
				if rapid.Bool().Draw(t, "applied") {
					applied.Tombstones, ids = append(applied.Tombstones, d), append(ids, d.ID)
				}
			}
			s := enginetest.NewStore(without(part, &applied)...) // as a compactor rewrites a block
			s.Applied, s.RunRows, s.Selective = ids, rapid.IntRange(0, 5).Draw(t, "run"), rapid.Bool().Draw(t, "selective")
			srcs = append(srcs, engine.Local(s, fmt.Sprint("s", i)))
		}
		clean := []engine.Source{engine.Local(enginetest.NewStore(without(all, x)...), "clean")}
		start := int64(rapid.IntRange(0, 100).Draw(t, "start")) * 3 * sec
		end := start + 3*sec*int64(rapid.IntRange(1, 100).Draw(t, "length"))
		for _, text := range []string{`{app=~".+"}`, `sum by (app, env) (count_over_time({app=~".+"}[1m]))`, `sum(bytes_over_time({app=~".+"} |= "e" [1m]))`} {
			q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, text), Sources: clean}, Start: start, End: end, Step: 30 * time.Second}
			want, err := run(q)
			if err != nil {
				t.Fatal(err)
			}
			q.Sources, q.Excluded = srcs, x
			got, err := run(q)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(texts(got), texts(want)) || diff(points(got), points(want)) != "" {
				t.Fatalf("%s:\n got %q %v\nwant %q %v", text, texts(got), points(got), texts(want), points(want))
			}
		}
	})
	// Rows of a source that lies are there: nobody looked at them. Without an id all do.
	e := enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: "a"}}), Time: 5 * sec, Line: "x"}
	for id, want := range map[string]int{"d": 1, "": 0, "e": 0} {
		s := enginetest.NewStore(e)
		s.Applied = []string{"d"}
		q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, `{app="a"} |= "x"`), Sources: []engine.Source{engine.Local(s, "s")},
			Excluded: &engine.Excluded{Version: "v", Tombstones: []engine.Tombstone{{ID: id, Selector: selector(t, `{app="a"} |= "x"`), End: 10 * sec}}}}, End: 10 * sec}
		res, err := run(q)
		if err != nil || len(texts(res)) != want {
			t.Errorf("id %q: %q, %v", id, texts(res), err)
		}
	}
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
