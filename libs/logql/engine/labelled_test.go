package engine_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/logql/syntax/syntaxtest"
	"github.com/weir-logs/weir/libs/model"
)

// dcWords are words, and a label of streams that sorts between those.
var dcWords = syntaxtest.Words{
	Streams: map[string][]string{"app": {"a", "b"}, "env": {"x", "y"}, "dc": {"p", "q"}},
	Labels:  append([]string{"dc", "dc"}, words.Labels...), Values: append([]string{"p"}, words.Values...), Needles: words.Needles,
}

// labelledSources are sources of entries that have the label dc, and ones to which it
// is given.
func labelledSources(t *rapid.T) (all []enginetest.Entry, plain []*enginetest.Store, got []engine.Source) {
	for _, dc := range []string{"p", "q"} {
		mine := entries(t)
		stores := spread(t, mine, false)
		for _, src := range arrange(t, sources(stores, rapid.Bool().Draw(t, "digests"))) {
			got = append(got, engine.WithLabel(src, model.Label{Name: "dc", Value: dc}, nil))
		}
		plain = append(plain, stores...)
		for _, e := range mine {
			e.Labels = model.NewLabels(append(slices.Clone(e.Labels), model.Label{Name: "dc", Value: dc}))
			all = append(all, e)
		}
	}
	return all, plain, got
}

// remade reports whether stages of a query make a label dc themselves.
func remade(e syntax.Expr) bool { return makesDC.MatchString(e.String()) }

var makesDC = regexp.MustCompile(`(json|logfmt|label_format)[^|]*dc=|dc>`)

// A source with one more label answers as one whose streams have it.
func TestWithLabelLogs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, plain, got := labelledSources(t)
		expr := dcWords.LogQueries().Filter(func(e *syntax.LogSelector) bool { return !remade(e) }).Draw(t, "query")
		q := engine.RangeQuery{
			Query: engine.Query{Expr: expr, Sources: got}, End: 301 * sec,
			Limit: pick(t, "limit", 0, 1, 2, 5), Backward: rapid.Bool().Draw(t, "backward"),
		}
		truth := q
		truth.Sources = []engine.Source{engine.Local(enginetest.NewStore(all...), "all")}
		for page := 0; ; page++ {
			want, wantErr := run(truth)
			res, err := run(q)
			closed(t, plain)
			if (err != nil) != (wantErr != nil) {
				t.Fatalf("%s: got error %v, want %v", q.Expr, err, wantErr)
			}
			if err != nil {
				return
			}
			if !slices.Equal(texts(res), texts(want)) {
				t.Fatalf("%s, page %d:\n got %q\nwant %q", q.Expr, page, texts(res), texts(want))
			}
			if (res.NextCursor == "") != (want.NextCursor == "") {
				t.Fatalf("%s, page %d: cursor %q, want %q", q.Expr, page, res.NextCursor, want.NextCursor)
			}
			if res.NextCursor == "" {
				return
			}
			q.Cursor, truth.Cursor = res.NextCursor, want.NextCursor
		}
	})
}

// Likewise, for metric queries.
func TestWithLabelMetrics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, plain, got := labelledSources(t)
		expr := dcWords.MetricQueries(2).Filter(func(e syntax.Expr) bool { return !inexact(e) && supported(e) && !remade(e) }).Draw(t, "query")
		q := engine.RangeQuery{Query: engine.Query{Expr: expr, Sources: got}, End: 301 * sec, Step: pick(t, "step", 7*time.Second, time.Minute)}
		truth := q
		truth.Sources = []engine.Source{engine.Local(enginetest.NewStore(all...), "all")}
		want, wantErr := newTwin(all).matrix(expr, q.Start, q.End, q.Step)
		if errors.Is(wantErr, errAmbiguous) {
			t.Skip("equal series")
		}
		res, err := run(q)
		closed(t, plain)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%s: got error %v, want %v", expr, err, wantErr)
		}
		if err != nil {
			return
		}
		if d := diff(points(res), want); d != "" {
			t.Fatalf("%s: %s", expr, d)
		}
	})
}

// Streams that have the label, or none behind it, are refused: the answer would not be
// right.
func TestWithLabelRefuses(t *testing.T) {
	for name, want := range map[string]string{"dc": "of its own", "app": "has no label behind dc"} {
		store := enginetest.NewStore(enginetest.Entry{Labels: labels(name, "a"), Time: sec, Line: "x"})
		src := engine.WithLabel(engine.Local(store, "s"), model.Label{Name: "dc", Value: "p"}, nil)
		_, err := run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, `{dc="p"}`), Sources: []engine.Source{src}}, End: 10 * sec})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if n := store.OpenSnapshots(); n != 0 {
			t.Errorf("%d snapshots left open", n)
		}
	}
}

// follower is a source that is opened behind others, and tells which.
type follower struct {
	engine.Source
	seen *[]string
}

func (f follower) OpenAfter(ctx context.Context, others []engine.Session, ms []*syntax.Matcher, start, end int64) (engine.Session, error) {
	for _, o := range others {
		*f.seen = append(*f.seen, fmt.Sprint(len(o.Streams())))
	}
	if ctx.Value(follower{}) != "under" {
		return nil, errors.New("not opened under its context")
	}
	return f.Open(ctx, ms, start, end)
}

// A follower sees the sessions of its own label, as they are without it.
func TestWithLabelFollower(t *testing.T) {
	store := func(n int) engine.Source {
		var es []enginetest.Entry
		for i := range n {
			es = append(es, enginetest.Entry{Labels: labels("x", fmt.Sprint(i)), Time: sec, Line: "x"})
		}
		return engine.Local(enginetest.NewStore(es...), fmt.Sprint("s", n))
	}
	var seen []string
	under := func(ctx context.Context) context.Context { return context.WithValue(ctx, follower{}, "under") }
	with := func(s engine.Source, dc string) engine.Source {
		return engine.WithLabel(s, model.Label{Name: "dc", Value: dc}, under)
	}
	res, err := run(engine.RangeQuery{Query: engine.Query{
		Expr: parse(t, `{dc=~"p|q"}`), Sources: []engine.Source{with(follower{store(5), &seen}, "p"), with(store(1), "p"), with(store(2), "q"), with(store(3), "p")},
	}, End: 10 * sec})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, []string{"1", "3"}) {
		t.Errorf("it saw %v", seen)
	}
	if n := len(res.Streams); n != 7 { // 0 to 4 of p, 0 and 1 of q
		t.Errorf("%d streams", n)
	}
}
