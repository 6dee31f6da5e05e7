package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// trap is a source of which one call panics: to Open, Scan or Aggregate it.
type trap struct {
	engine.Source
	in string
}

type trapped struct {
	engine.Session
	in string
}

func (s trap) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	if s.in == "Open" {
		panic("in Open")
	}
	x, err := s.Source.Open(ctx, m, start, end)
	return trapped{x, s.in}, err
}

func (s trapped) Scan(ctx context.Context, r engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	if s.in == "Scan" {
		panic("in Scan")
	}
	return s.Session.Scan(ctx, r, yield)
}

func (s trapped) Aggregate(ctx context.Context, r engine.AggregateRequest) ([]engine.PartialSeries, engine.ScanStats, error) {
	if s.in == "Aggregate" {
		panic("in Aggregate")
	}
	return s.Session.Aggregate(ctx, r)
}

// panics returns what f panics with.
func panics(t *testing.T, what string, f func()) (p *engine.Panic) {
	t.Helper()
	defer func() {
		value := recover()
		if value == nil {
			t.Fatal(what, "does not panic")
		}
		p = engine.Recovered(value)
	}()
	f()
	return nil
}

// A panic of a goroutine that works for a query comes to the one that asked, and the
// others end.
func TestPanicsComeToWhoAsked(t *testing.T) {
	others := some(300)
	for i := range others {
		others[i].Labels = labels("app", "b")
	}
	for _, c := range []struct{ in, query string }{
		{"Open", `{app=~".+"}`},
		{"Scan", `{app=~".+"}`},
		{"Scan", `sum(quantile_over_time(0.5, {app=~".+"} | label_format x="1" | unwrap x [1m]))`},
		{"Aggregate", `count_over_time({app=~".+"}[1m])`},
		{"Aggregate", `sum(count_over_time({app=~".+"}[1m])) / sum(count_over_time({app=~".+"} |= "x" [1m]))`},
	} {
		good := engine.Local(enginetest.NewStore(some(300)...), "good")
		bad := trap{engine.Local(enginetest.NewStore(others...), "bad"), c.in}
		for name, sources := range map[string][]engine.Source{
			"one": {bad}, "two": {good, bad}, "union": {engine.Union("u", good, bad), good},
		} {
			for _, split := range []time.Duration{0, time.Minute} {
				expr, err := syntax.ParseExpr(c.query)
				if err != nil {
					t.Fatal(err)
				}
				q := engine.RangeQuery{
					Query: engine.Query{Expr: expr, Sources: sources, Split: split, Limits: engine.Limits{MaxMemory: 1 << 30}},
					Start: 0, End: 2000 * sec, Step: 10e9, Limit: 1000,
				}
				p := panics(t, c.query+" of "+name, func() { _, _ = engine.New(engine.Options{}).Range(t.Context(), q) })
				if p.Value != "in "+c.in || !strings.Contains(string(p.Stack), "group_test.go") {
					t.Errorf("%s of %s, %s: %v", c.query, name, c.in, p)
				}
			}
		}
	}
}

// All that is spread is done, also if one panics.
func TestSpreadEndsThenPanics(t *testing.T) {
	var done atomic.Int64
	p := panics(t, "spread", func() {
		engine.Spread(50, func(i int) {
			if i == 7 {
				panic(errors.New("seven"))
			}
			done.Add(1)
		})
	})
	if err, ok := p.Value.(error); !ok || err.Error() != "seven" || p.Unwrap() != nil {
		t.Error(p)
	}
	if n := done.Load(); n < 7 || n > 49 {
		t.Errorf("%d done", n)
	}
	p.Told = errors.New("told")
	if !errors.Is(p, p.Told) || !strings.HasPrefix(p.Error(), "told: seven\n") || engine.Recovered(p) != p {
		t.Error(p)
	}
}

// listing is a source whose sessions panic when their streams are listed.
type listing struct {
	engine.Source
	open *atomic.Int64
}

func (s listing) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	x, err := s.Source.Open(ctx, m, start, end)
	if err == nil {
		s.open.Add(1)
	}
	return unlisted{x, s.open}, err
}

type unlisted struct {
	engine.Session
	open *atomic.Int64
}

func (unlisted) Streams() []engine.Stream { panic("in Streams") }

func (s unlisted) Close() error {
	s.open.Add(-1)
	return s.Session.Close()
}

// Sources are closed when what reads them panics: they hold blocks.
func TestPanicsCloseSources(t *testing.T) {
	var open atomic.Int64
	src := listing{engine.Local(enginetest.NewStore(some(20)...), "a"), &open}
	expr, err := syntax.ParseExpr(`{app=~".+"}`)
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Options{})
	meta := engine.MetaQuery{Sources: []engine.Source{src}, End: 2000 * sec}
	for name, ask := range map[string]func(){
		"a range": func() {
			_, _ = e.Range(t.Context(), engine.RangeQuery{Query: engine.Query{Expr: expr, Sources: []engine.Source{src}}, End: 2000 * sec, Limit: 10})
		},
		"names":  func() { _, _, _ = e.Labels(t.Context(), meta) },
		"values": func() { _, _, _ = e.LabelValues(t.Context(), meta, "app") },
	} {
		panics(t, name, ask)
		if n := open.Load(); n != 0 {
			t.Errorf("%s: %d sessions are open", name, n)
			open.Store(0)
		}
	}
}

// A query that a panic ends tells no more of its progress, and leaves no goroutine.
func TestPanicEndsProgress(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	expr, err := syntax.ParseExpr(`{app=~".+"}`)
	if err != nil {
		t.Fatal(err)
	}
	src := trap{engine.Local(enginetest.NewStore(some(20)...), "a"), "Scan"}
	panics(t, "a query", func() {
		_, _ = engine.New(engine.Options{}).Range(t.Context(), engine.RangeQuery{
			Query: engine.Query{Expr: expr, Sources: []engine.Source{src}, Progress: func(engine.Progress) {}}, End: 2000 * sec, Limit: 10,
		})
	})
}
