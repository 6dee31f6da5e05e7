package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// collecting is a source whose sessions collect as they are told.
type collecting struct {
	engine.Source
	collect func(context.Context) error
}

func (s collecting) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	ses, err := s.Source.Open(ctx, m, start, end)
	return collectingSession{ses, s.collect}, err
}

type collectingSession struct {
	engine.Session
	collect func(context.Context) error
}

func (s collectingSession) Collect(ctx context.Context, _ engine.AggregateRequest) ([]engine.ValueSeries, engine.ScanStats, bool, error) {
	return nil, engine.ScanStats{}, false, s.collect(ctx)
}

// A session that is told to stop collecting, as another one cannot, has not failed,
// whatever its error looks like.
func TestCollectIsGivenUpWithoutAFailure(t *testing.T) {
	at := func(sec0 int64, collect func(context.Context) error) engine.Source {
		e := enginetest.Entry{Labels: labels("app", "a"), Time: sec0 * sec, Line: "n=3"}
		return collecting{engine.Local(enginetest.NewStore(e), fmt.Sprint("s", sec0)), collect}
	}
	begun := make(chan struct{})
	cannot := at(1, func(context.Context) error {
		select {
		case <-begun:
		case <-time.After(time.Second): // they come one after the other
		}
		return nil
	})
	stopped := at(20, func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return errors.New("connection closed")
	})
	res, err := run(engine.RangeQuery{Query: engine.Query{
		Expr:    parse(t, `quantile_over_time(0.5, {app="a"} | logfmt | unwrap n [1m]) by (app)`),
		Sources: []engine.Source{engine.Union("u", stopped, cannot)},
	}, Start: 30 * sec, End: 30 * sec, Step: 1e9})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Matrix) != 1 || res.Matrix[0].Points[0].Value != 3 {
		t.Errorf("%+v", res.Matrix)
	}
}

// A row that cannot be unwrapped, but lies in no window, is no error of unions either.
func TestErrorsBetweenWindowsOfUnions(t *testing.T) {
	entry := func(at int64, line string) enginetest.Entry {
		return enginetest.Entry{Labels: labels("app", "a"), Time: at * sec, Line: line}
	}
	store := enginetest.NewStore(entry(10, "n=3"), entry(13, "n=x"), entry(20, "n=4"))
	copied := enginetest.NewStore(entry(10, "n=3"), entry(13, "n=x"))
	one := engine.Local(store, "one")
	for name, sources := range map[string][]engine.Source{
		"a source": {one}, "a union": {engine.Union("u", one)}, "a union of unions": {engine.Union("u", engine.Union("v", one))},
		"an overlap": {engine.Union("u", engine.Union("v", one, engine.Local(copied, "two")))},
	} {
		for _, op := range []string{"quantile_over_time(0.5, ", "max_over_time(", "first_over_time("} {
			q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, op+`{app="a"} | logfmt | unwrap n [1s]) by (app)`), Sources: sources}, Start: 10 * sec, End: 20 * sec, Step: 5 * time.Second}
			res, err := run(q)
			if err != nil {
				t.Errorf("%s: %s: %v", name, op, err)
			} else if p := res.Matrix[0].Points; len(p) != 2 || p[0].Value != 3 || p[1].Value != 4 {
				t.Errorf("%s: %s: %v", name, op, res.Matrix)
			}
			q.Step = time.Second
			if _, err := run(q); err == nil {
				t.Errorf("%s: %s: no error of a row in a window", name, op)
			}
		}
	}
}
