package remote_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// slow is a source whose scans say nothing until proceed is closed.
type slow struct {
	engine.Source
	proceed <-chan struct{}
}

func (s slow) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	ses, err := s.Source.Open(ctx, m, start, end)
	return slowSession{ses, s.proceed}, err
}

type slowSession struct {
	engine.Session
	proceed <-chan struct{}
}

func (s slowSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	select {
	case <-s.proceed:
	case <-ctx.Done():
		return engine.ScanStats{}, ctx.Err()
	}
	return s.Session.Scan(ctx, req, yield)
}

func store(lines ...string) *enginetest.Store {
	var es []enginetest.Entry
	for i, l := range lines {
		es = append(es, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "a", Value: "b"}}), Time: int64(i+1) * sec, Line: l, BatchTime: 1, Position: uint32(i)})
	}
	return enginetest.NewStore(es...)
}

func logs(t *testing.T, complete func([]string) error, sources ...engine.Source) (*engine.Result, error) {
	t.Helper()
	expr, err := syntax.ParseExpr(`{a="b"}`)
	if err != nil {
		t.Fatal(err)
	}
	return engine.New(engine.Options{}).Range(t.Context(), engine.RangeQuery{
		Query: engine.Query{Expr: expr, Sources: sources, Complete: complete}, End: 1000 * sec, Limit: 100,
	})
}

// A server that hangs is given up, and the others answer if that is enough.
func TestHangingServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(remote.Hurry(100*time.Millisecond, time.Hour))
		never := make(chan struct{})
		hangs, _ := dial(t, slow{engine.Local(store("one", "two"), "hangs"), never})
		// The rows differ, so that both have to be read.
		works, _ := dial(t, engine.Local(store("one", "two", "three"), "works"))
		for _, enough := range []bool{true, false} {
			res, err := logs(t, func(missing []string) error {
				if enough && len(missing) == 1 && missing[0] == "hangs" {
					return nil
				}
				return errors.New("not enough")
			}, hangs, works)
			switch {
			case enough && (err != nil || len(res.Streams) != 1 || len(res.Streams[0].Entries) != 3):
				t.Errorf("with enough others: %v, %v", res, err)
			case !enough && !errors.Is(err, engine.ErrIncomplete):
				t.Errorf("without: %v", err)
			}
		}
	})
}

// A server that works for long without a result is not.
func TestSilentWorkIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		works, _ := dial(t, slow{engine.Local(store("one"), "works"), proceed})
		time.AfterFunc(time.Minute, func() { close(proceed) })
		res, err := logs(t, nil, works)
		if err != nil || len(res.Streams) != 1 {
			t.Errorf("%v, %v", res, err)
		}
	})
}
