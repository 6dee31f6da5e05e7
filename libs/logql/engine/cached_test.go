package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// immutable is a source that never changes: a block.
type immutable struct {
	engine.Source
	id string
}

func (s immutable) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	ses, err := s.Source.Open(ctx, m, start, end)
	return immutableSession{ses, s.id}, err
}

type immutableSession struct {
	engine.Session
	id string
}

func (s immutableSession) Unwrap() engine.Session { return s.Session }
func (s immutableSession) Identities(yield func(string, int64, int64)) {
	yield(s.id, 0, 300*sec)
}

var _ engine.Identified = immutableSession{}

// Whatever comes in, late entries too, is deleted, moves between sources or is asked in
// between: answers with a cache are those without.
func TestCachedEqualsUncached(t *testing.T) {
	var all engine.CacheStats
	queries := 0
	rapid.Check(t, func(t *rapid.T) {
		cache := engine.NewResultCache(int64(pick(t, "cache", 4<<10, 1<<20, 1<<20)), nil)
		come := rapid.Permutation(entries(t)).Draw(t, "order")
		exprs := rapid.SliceOfN(words.MetricQueries(1).Filter(func(e syntax.Expr) bool { return !inexact(e) && supported(e) }), 1, 2).Draw(t, "queries")
		var out *engine.Excluded
		var srcs []engine.Source
		var stores []*enginetest.Store
		there := 0
		for round := range rapid.IntRange(1, 8).Draw(t, "rounds") {
			if n := pick(t, "more", 0, 0, 0, 1, 50); srcs == nil || n > 0 || rapid.IntRange(0, 2).Draw(t, "move") == 0 {
				there = min(len(come), there+n)
				stores = spread(t, come[:there], false)
				srcs = sources(stores, rapid.IntRange(0, 9).Draw(t, "digests") > 0)
				for i := range srcs {
					if rapid.Bool().Draw(t, "immutable") {
						srcs[i] = immutable{srcs[i], fmt.Sprint(round, i)}
					}
				}
				srcs = arrange(t, srcs)
			}
			if rapid.Bool().Draw(t, "deletes") {
				out = excluded(t)
			}
			for range rapid.IntRange(1, 3).Draw(t, "asks") {
				start := int64(pick(t, "start", 0, 20, 64)) * sec
				q := engine.RangeQuery{
					Query: engine.Query{Expr: pick(t, "query", exprs...), Sources: srcs, Excluded: out, CacheOwner: "t"},
					Start: start, End: start + sec*int64(pick(t, "length", 40, 150, 300, 301)), Step: pick(t, "step", time.Second, time.Second, 3*time.Second),
				}
				want, wantErr := run(q)
				q.Cache, q.Split = cache, splits(t)
				got, err := run(q)
				closed(t, stores)
				if (err != nil) != (wantErr != nil) {
					t.Fatalf("%s: got error %v, want %v", q.Expr, err, wantErr)
				}
				if err != nil {
					continue
				}
				if d := diff(points(got), points(want)); d != "" || len(got.Matrix) != len(want.Matrix) {
					t.Fatalf("%s, round %d: %s", q.Expr, round, d)
				}
				c := got.Statistics.Cache
				all.Requested, all.Found, all.Stored = all.Requested+c.Requested, all.Found+c.Found, all.Stored+c.Stored
				queries++
			}
		}
	})
	t.Logf("%d queries: %+v", queries, all)
	if all.Found == 0 || all.Stored == 0 || all.Requested == all.Found {
		t.Error("nothing was remembered, or nothing was forgotten: this proves nothing")
	}
}

// metricOf is the value of a metric of a cache.
func metricOf(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if m := f.GetMetric()[0]; f.GetName() == "weir_engine_result_cache_"+name {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func counting(t *testing.T) engine.RangeQuery {
	expr, err := syntax.ParseExpr(`sum by (app) (count_over_time({app=~".+"}[10s]))`)
	if err != nil {
		t.Fatal(err)
	}
	return engine.RangeQuery{Query: engine.Query{Expr: expr, CacheOwner: "t"}, Start: 0, End: 320 * sec, Step: time.Second}
}

func some(n int) (out []enginetest.Entry) {
	for i := range n {
		out = append(out, enginetest.Entry{Labels: labels("app", "a"), Time: int64(i) * sec, Line: fmt.Sprint(i), BatchTime: 1})
	}
	return out
}

// What is asked again is not read again; what has changed is; a range that moves finds
// what it has in common with the one before.
func TestCacheSaves(t *testing.T) {
	reg := prometheus.NewRegistry()
	q := counting(t)
	q.Cache = engine.NewResultCache(1<<20, reg)
	ask := func(store *enginetest.Store, found, stored uint64) *engine.Result {
		t.Helper()
		q.Sources = []engine.Source{engine.Local(store, "s")}
		res, err := run(q)
		if err != nil {
			t.Fatal(err)
		}
		if c := res.Statistics.Cache; c.Found != found || c.Stored != stored || (c.BytesFound > 0) != (found > 0) || c.Length != time.Duration(found)*32*time.Second {
			t.Errorf("%+v, want %d found, %d stored", c, found, stored)
		}
		return res
	}
	store := func(e ...enginetest.Entry) *enginetest.Store {
		s := enginetest.NewStore(e...)
		s.RunRows = 1
		return s
	}
	first := ask(store(some(300)...), 0, 10)
	again := ask(store(some(300)...), 10, 0)
	if diff(points(again), points(first)) != "" || again.Statistics.EntriesRead >= first.Statistics.EntriesRead/4 {
		t.Errorf("asked again it reads %d of %d entries", again.Statistics.EntriesRead, first.Statistics.EntriesRead)
	}
	late := append(some(300), enginetest.Entry{Labels: labels("app", "b"), Time: 100 * sec, Line: "late", BatchTime: 9})
	ask(store(late...), 9, 1)
	q.Start, q.End = 40*sec, 360*sec
	ask(store(late...), 8, 1) // of parts 2 to 10, 10 is new
	q.CacheOwner = "other"
	ask(store(late...), 0, 9)
	q.Cache = nil
	ask(store(late...), 0, 0)
	for name, want := range map[string]float64{"hits_total": 27, "misses_total": 21} {
		if n := metricOf(t, reg, name); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 5 {
		t.Errorf("%d metrics, %v", n, err)
	}
}

// Rows that differ in nothing but their text or their stream are others, what is left
// out of the same rows counts, and where digests say nothing nothing is remembered.
func TestCacheTellsApart(t *testing.T) {
	entry := func(app, line string) enginetest.Entry {
		return enginetest.Entry{Labels: labels("app", app), Time: 100 * sec, Line: line, BatchTime: 1}
	}
	q := counting(t)
	var err error
	if q.Expr, err = syntax.ParseExpr(`count_over_time({app=~".+"} |= "x" [10s])`); err != nil {
		t.Fatal(err)
	}
	deleted := &engine.Excluded{Version: "1", Tombstones: []engine.Tombstone{{Selector: &syntax.LogSelector{Matchers: matchers(t, `{app="a"}`)}, Start: 90 * sec, End: 110 * sec}}}
	old := &engine.Excluded{Version: "2", Retention: []engine.Cutoff{{Before: 105 * sec}}}
	older := &engine.Excluded{Version: "3", Retention: []engine.Cutoff{{Before: 95 * sec}}}
	for _, immutably := range []bool{false, true} {
		cache := engine.NewResultCache(1<<20, nil)
		for i, c := range []struct {
			e   enginetest.Entry
			out *engine.Excluded
		}{
			{entry("a", "x"), nil}, {entry("a", "y"), nil}, {entry("b", "x"), nil}, {entry("b", "x"), deleted}, {entry("a", "x"), deleted},
			{entry("a", "x"), old}, {entry("a", "x"), older}, {entry("a", "x"), nil},
		} {
			q.Excluded = c.out
			always := entry(c.e.Labels.Get("app"), "x too")
			always.Time = 150 * sec
			q.Sources = []engine.Source{engine.Local(enginetest.NewStore(c.e, always), "s")}
			if immutably {
				q.Sources[0] = immutable{q.Sources[0], fmt.Sprint(c.e.Labels, c.e.Line)}
			}
			q.Cache = nil
			want, err := run(q)
			if err != nil {
				t.Fatal(err)
			}
			q.Cache = cache
			got, err := run(q)
			if err != nil || diff(points(got), points(want)) != "" || len(got.Matrix) != len(want.Matrix) {
				t.Errorf("case %d, immutable %v: %v: %s", i, immutably, err, diff(points(got), points(want)))
			}
		}
	}
	blind := enginetest.NewStore(entry("a", "x"))
	blind.NoDigests = true
	q.Excluded, q.Sources = nil, []engine.Source{engine.Local(blind, "s")}
	q.Cache = engine.NewResultCache(1<<20, nil)
	for range 2 {
		res, err := run(q)
		if err != nil {
			t.Fatal(err)
		}
		// The parts whose windows it is not in are of nothing, which is known.
		if c := res.Statistics.Cache; c.Requested != 9 {
			t.Errorf("parts that digests do not tell of are asked for: %+v", c)
		}
	}
}

func matchers(t *testing.T, text string) []*syntax.Matcher {
	t.Helper()
	m, err := syntax.ParseSelector(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What an answer lacks is not remembered as if it were all.
func TestPartialAnswersAreNotCached(t *testing.T) {
	q := counting(t)
	q.Cache, q.Partial = engine.NewResultCache(1<<20, nil), true
	bad := enginetest.NewStore(some(100)...)
	fails := true
	bad.FailRows = func() error {
		if fails {
			return errors.New("broken")
		}
		return nil
	}
	q.Sources = []engine.Source{engine.Local(enginetest.NewStore(some(50)[10:]...), "good"), engine.Local(bad, "bad")}
	res, err := run(q)
	if err != nil || len(res.Warnings) == 0 || res.Statistics.Cache.Stored != 0 {
		t.Fatalf("%v, %v", res, err)
	}
	fails = false
	res, err = run(q)
	if err != nil || len(res.Warnings) != 0 || res.Statistics.Cache.Found != 0 {
		t.Fatalf("%v, %v", res, err)
	}
	q.Cache = nil
	want, err := run(q)
	if err != nil || diff(points(res), points(want)) != "" {
		t.Errorf("%v: %s", err, diff(points(res), points(want)))
	}
}

// The cache keeps to its size, and a tenant that has little keeps it.
func TestCacheIsBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	cache := engine.NewResultCache(40<<10, reg)
	q := counting(t)
	q.Cache = cache
	ask := func(owner string, source int) engine.CacheStats {
		t.Helper()
		q.CacheOwner = owner
		q.Sources = []engine.Source{engine.Local(enginetest.NewStore(some(300 - source)[source:]...), "s")}
		res, err := run(q)
		if err != nil {
			t.Fatal(err)
		}
		return res.Statistics.Cache
	}
	if got := ask("few", 0); got.Stored != 10 {
		t.Fatalf("%+v", got)
	}
	for i := range 30 {
		ask("crowd", i+1)
	}
	if got := ask("few", 0); got.Found != 10 {
		t.Errorf("another tenant's answers took its place: %+v", got)
	}
	if n := metricOf(t, reg, "bytes"); n <= 0 || n > 40<<10 {
		t.Errorf("it holds %v bytes", n)
	}
}

// What is made of the present is never remembered.
func TestThePresentIsNotCached(t *testing.T) {
	for stage, stored := range map[string]bool{
		`label_format t="{{ now | unixEpochNanos }}"`:          false,
		`line_format "{{ date \"05.000000000\" \"\" }}"`:       false,
		`label_format t="{{ .app }}" | line_format "{{ .t }}"`: true,
		`label_format now=app`:                                 true,
	} {
		q := counting(t)
		q.Expr = parse(t, `sum by (t) (bytes_over_time({app="a"} | `+stage+` [10s]))`)
		q.Cache = engine.NewResultCache(1<<20, nil)
		q.Sources = []engine.Source{engine.Local(enginetest.NewStore(some(300)...), "s")}
		res, err := run(q)
		if err != nil {
			t.Fatal(err)
		}
		if c := res.Statistics.Cache; (c.Stored > 0) != stored {
			t.Errorf("%s: %+v", stage, c)
		}
	}
}
