package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// countingSource counts the streams that its sessions are asked for.
type countingSource struct {
	engine.Source
	mu    sync.Mutex
	asked []int // by scan
}

type countingSession struct {
	engine.Session
	of *countingSource
}

func (s *countingSource) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	in, err := s.Source.Open(ctx, matchers, start, end)
	return countingSession{in, s}, err
}

func (s countingSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	s.of.mu.Lock()
	s.of.asked = append(s.of.asked, len(req.Streams))
	s.of.mu.Unlock()
	return s.Session.Scan(ctx, req, yield)
}

// Many streams of which two sources have rows are united some at a time, each of them once.
func TestManyStreamsAreUnitedSomeAtATime(t *testing.T) {
	const streams = 2500
	var parts [2][]enginetest.Entry
	for k := range streams {
		labels := model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", k%7)}, {Name: "pod", Value: fmt.Sprint("p", k)}})
		for i := range 4 {
			e := enginetest.Entry{Labels: labels, Time: int64(i) * int64(time.Second), BatchTime: 1, Line: fmt.Sprintf("line %d of %d", i, k)}
			for b := range parts {
				if i != 3*b { // each lacks one row
					parts[b] = append(parts[b], e)
				}
			}
		}
	}
	var counting []*countingSource
	var sources []engine.Source
	for i, part := range parts {
		c := &countingSource{Source: engine.Local(enginetest.NewStore(part...), fmt.Sprint("s", i))}
		counting, sources = append(counting, c), append(sources, c)
	}
	expr, err := syntax.ParseExpr(`sum by (app) (count_over_time({app=~".+"}[1m]))`)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range [][]engine.Source{sources, {engine.Union("u", sources...)}} {
		res, err := engine.New(engine.Options{}).Instant(context.Background(), engine.Query{Expr: expr, Sources: in}, int64(time.Minute)-1)
		if err != nil || len(res.Vector) != 7 {
			t.Fatalf("%v, %v", res, err)
		}
		sum := 0.0
		for _, s := range res.Vector {
			sum += s.Value
		}
		if sum != 4*streams {
			t.Errorf("%v rows, want %d", sum, 4*streams)
		}
		for _, c := range counting {
			all := 0
			for _, n := range c.asked {
				if all += n; n > 1024 {
					t.Errorf("a scan of %d streams", n)
				}
			}
			if all != streams {
				t.Errorf("%d streams were read, want %d", all, streams)
			}
			c.asked = nil
		}
	}
}
