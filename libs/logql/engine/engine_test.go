package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// broken is a source that cannot be opened.
type broken struct{ name string }

var errBroken = errors.New("connection refused")

func (b broken) Name() string { return b.name }
func (b broken) Open(context.Context, []*syntax.Matcher, int64, int64) (engine.Session, error) {
	return nil, errBroken
}

func small() *enginetest.Store {
	var es []enginetest.Entry
	for i := range 20 {
		es = append(es, enginetest.Entry{Labels: labels("app", fmt.Sprint("a", i%3), "env", "x"), Time: int64(i) * sec, Line: fmt.Sprint("line ", i), BatchTime: 1, Position: uint32(i)})
	}
	return enginetest.NewStore(es...)
}

// A source that cannot be opened fails the query, unless whoever knows says that
// the others suffice, or the caller wants what there is.
func TestMissingSources(t *testing.T) {
	q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, `{app=~".+"}`), Sources: []engine.Source{engine.Local(small(), "up"), broken{"down"}}}, End: 100 * sec}
	_, err := run(q)
	if !errors.Is(err, engine.ErrIncomplete) || !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "down") {
		t.Errorf("got %v", err)
	}
	q.Complete = func(missing []string) error {
		if slices.Equal(missing, []string{"down"}) {
			return nil
		}
		return errBroken
	}
	res, err := run(q)
	if err != nil || len(texts(res)) != 20 || len(res.Warnings) != 0 {
		t.Errorf("got %v, %+v", err, res)
	}
	q.Complete, q.Partial = nil, true
	res, err = run(q)
	if err != nil || len(texts(res)) != 20 || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "down") {
		t.Errorf("got %v, %+v", err, res)
	}
	// A source that fails later, and that holds what no other does.
	bad := small()
	bad.FailRows = func() error { return errBroken }
	q.Sources, q.Partial = []engine.Source{engine.Local(bad, "bad")}, false
	if _, err = run(q); !errors.Is(err, engine.ErrIncomplete) {
		t.Errorf("got %v", err)
	}
	q.Expr, q.Step = parse(t, `sum(count_over_time({app=~".+"} |= "line" [1m]))`), time.Minute
	if _, err = run(q); !errors.Is(err, engine.ErrIncomplete) {
		t.Errorf("got %v", err)
	}
}

// A cancelled query stops reading and lets go of its snapshots.
func TestCancel(t *testing.T) {
	for _, text := range []string{`{app=~".+"} |= "nothing"`, `sum(count_over_time({app=~".+"} |= "line" [1m]))`, `quantile_over_time(0.5, {app=~".+"} | regexp "(?P<n>[0-9]+)" | unwrap n [1m]) by (app)`} {
		ctx, cancel := context.WithCancel(t.Context())
		st := small()
		st.BatchRows = 1
		var reads atomic.Int64
		st.FailRows = func() error {
			if reads.Add(1) == 3 {
				cancel()
			}
			return nil
		}
		_, err := engine.New(engine.Options{}).Range(ctx, engine.RangeQuery{
			Query: engine.Query{Expr: parse(t, text), Sources: []engine.Source{engine.Local(st, "s")}}, End: 100 * sec, Step: time.Minute,
		})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", text, err)
		}
		closed(t, []*enginetest.Store{st})
	}
}

func TestMetadata(t *testing.T) {
	e := engine.New(engine.Options{})
	sources := sources([]*enginetest.Store{small(), small()}, true)
	in := engine.MetaQuery{Sources: sources, End: 100 * sec}
	names, _, err := e.Labels(t.Context(), in)
	if err != nil || !slices.Equal(names, []string{"app", "env"}) {
		t.Errorf("names: %v, %v", names, err)
	}
	values, _, err := e.LabelValues(t.Context(), in, "app")
	if err != nil || !slices.Equal(values, []string{"a0", "a1", "a2"}) {
		t.Errorf("values: %v, %v", values, err)
	}
	in.Selectors = [][]*syntax.Matcher{{syntax.MustMatcher(syntax.Eq, "app", "a1")}, {syntax.MustMatcher(syntax.Re, "app", "a[12]")}}
	series, _, err := e.Series(t.Context(), in)
	if err != nil || fmt.Sprint(series) != `[{app="a1", env="x"} {app="a2", env="x"}]` {
		t.Errorf("series: %v, %v", series, err)
	}
	stats, _, err := e.Stats(t.Context(), in)
	if want := (engine.StreamStats{Streams: 2, Runs: 2, Entries: 13, Bytes: 13*6 + 7}); err != nil || stats.Streams != want.Streams || stats.Entries != want.Entries || stats.Runs != want.Runs {
		t.Errorf("stats: %+v, %v", stats, err)
	}
}

// A stream is there between its entries, too, for questions about streams, and only
// for those.
func TestMetadataSpans(t *testing.T) {
	e := engine.New(engine.Options{})
	entry := func(app string, at int64) enginetest.Entry {
		return enginetest.Entry{Labels: model.LabelsFromMap(map[string]string{"app": app, app: "y"}), Time: at * sec, Line: "x", BatchTime: 1}
	}
	sources := sources([]*enginetest.Store{
		enginetest.NewStore(entry("sparse", 10), entry("sparse", 90), entry("before", 10), entry("after", 90), entry("dense", 50)),
		enginetest.NewStore(entry("sparse", 10), entry("half", 10)),
		enginetest.NewStore(entry("half", 90)), // one piece each: whether it is there between is not known
	}, true)
	in := engine.MetaQuery{Sources: sources, Start: 40 * sec, End: 60 * sec}
	series, _, err := e.Series(t.Context(), in)
	if err != nil || fmt.Sprint(series) != `[{app="dense", dense="y"} {app="sparse", sparse="y"}]` {
		t.Errorf("series: %v, %v", series, err)
	}
	names, _, err := e.Labels(t.Context(), in)
	if err != nil || !slices.Equal(names, []string{"app", "dense", "sparse"}) {
		t.Errorf("names: %v, %v", names, err)
	}
	values, _, err := e.LabelValues(t.Context(), in, "app")
	if err != nil || !slices.Equal(values, []string{"dense", "sparse"}) {
		t.Errorf("values: %v, %v", values, err)
	}
	stats, _, err := e.Stats(t.Context(), in)
	if err != nil || stats.Streams != 1 || stats.Entries != 1 {
		t.Errorf("stats: %+v, %v", stats, err)
	}
}

func TestExplain(t *testing.T) {
	e := engine.New(engine.Options{})
	plan, err := e.Explain(t.Context(), engine.RangeQuery{
		Query: engine.Query{Expr: parse(t, `sum by (app) (count_over_time({env="x"} |= "line" [5s])) / 2`), Sources: sources([]*enginetest.Store{small(), small()}, true)},
		End:   20 * sec, Step: 5 * time.Second,
	})
	if err != nil || plan.Streams != 3 || plan.Entries != 20 || plan.Sources != 2 {
		t.Fatalf("%+v, %v", plan, err)
	}
	var text strings.Builder
	var print func(n *engine.PlanNode, depth int)
	print = func(n *engine.PlanNode, depth int) {
		fmt.Fprintf(&text, "%*s%s: %s\n", 2*depth, "", n.Operator, strings.Join(n.Notes, "; "))
		for _, in := range n.Inputs {
			print(in, depth+1)
		}
	}
	print(plan.Root, 0)
	want := `binary operation: 
  vector aggregation: pushed down to the sources; 5 windows of 5s; sources send partial aggregates
    scan: 3 streams, 3 runs, 20 entries, 130 bytes of lines; line filters are left to the stores that can apply them; lines contain "line"; labels needed: app
  constant: 
`
	if text.String() != want {
		t.Errorf("got\n%s", text.String())
	}
}

// Statistics count copies once.
func TestStatistics(t *testing.T) {
	res, err := run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, `{env="x"} |= "line 1"`), Sources: sources([]*enginetest.Store{small(), small(), small()}, true)}, End: 100 * sec})
	if err != nil {
		t.Fatal(err)
	}
	s := res.Statistics
	if s.EntriesRead != 20 || s.EntriesPostFilter != 11 || s.EntriesReturned != 11 || s.StreamsMatched != 3 || s.Sources != 3 || s.RunsSkipped != 6 || s.BytesRead != 130 || s.PeakMemory == 0 {
		t.Errorf("%+v", s)
	}
	res, err = run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, `sum(count_over_time({env="x"}[1h]))`), Sources: sources([]*enginetest.Store{small()}, true)}, End: 3600 * sec, Step: time.Hour})
	if err != nil || res.Statistics.BytesRead != 0 || res.Matrix[0].Points[1].Value != 19 {
		t.Errorf("a count without filters read lines: %+v, %v", res, err)
	}
	res, err = run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, `sum(bytes_over_time({env="x"}[1h]))`), Sources: sources([]*enginetest.Store{small()}, true)}, End: 3600 * sec, Step: time.Hour})
	if err != nil || res.Statistics.BytesRead != 0 || res.Matrix[0].Points[0].Value+res.Matrix[0].Points[1].Value != 130 {
		t.Errorf("a sum of lengths without filters read lines: %+v, %v", res, err)
	}
}
