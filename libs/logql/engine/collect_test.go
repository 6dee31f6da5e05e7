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
