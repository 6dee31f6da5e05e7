package distributor

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// clocked is an ingester with a clock of its own, which takes some time for its answers.
type clocked struct {
	replica
	id    atomic.Uint64
	began time.Time
	takes time.Duration
	asked atomic.Int64
}

func (c *clocked) clock() *ingestv1.ProcessClock {
	return &ingestv1.ProcessClock{Id: c.id.Load(), Nanos: int64(time.Since(c.began))}
}

func (c *clocked) Clock(context.Context, *ingestv1.ClockRequest, ...grpc.CallOption) (*ingestv1.ClockResponse, error) {
	c.asked.Add(1)
	time.Sleep(c.takes)
	defer time.Sleep(c.takes)
	return &ingestv1.ClockResponse{Clock: c.clock()}, nil
}

func (c *clocked) Ingest(ctx context.Context, req *ingestv1.IngestRequest, opts ...grpc.CallOption) (*ingestv1.IngestResponse, error) {
	time.Sleep(c.takes)
	if req.GetDeadline().GetId() != c.id.Load() {
		return nil, rpcerr.New(rpcerr.Conflict, "another clock")
	}
	if c.clock().GetNanos() >= req.GetDeadline().GetNanos() {
		return nil, rpcerr.New(rpcerr.Timeout, "late")
	}
	resp, err := c.replica.Ingest(ctx, req, opts...)
	if err == nil {
		resp.Clock = c.clock()
	}
	time.Sleep(c.takes)
	return resp, err
}

// Deadlines are by the ingesters' own clocks, whatever these and the distributor's say,
// and never later than the request's.
func TestRule26DeadlinesByTheIngestersClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 3, 3)
		d := cl.distributor(limits.Default())
		clients := clockedClients{map[string]*clocked{}}
		for name := range cl.replicas {
			c := &clocked{began: time.Now().Add(-time.Duration(len(clients.of)) * 100 * time.Hour), takes: 100 * time.Millisecond}
			c.id.Store(7)
			clients.of[name] = c
		}
		d.ingesters = clients
		var ahead atomic.Int64
		d.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		push := func(stored int) {
			t.Helper()
			if _, err := d.Write(ctx(), request(`{a="b"}`, lines([]int64{d.now().UnixNano()}, "x"))); err != nil {
				t.Fatal(err)
			}
			until := time.Now().Add(d.cfg.ReplicaTimeout)
			d.writes.Wait()
			for name, c := range clients.of {
				if len(c.got) != stored {
					t.Fatalf("%s has %d requests, not %d", name, len(c.got), stored)
				}
				// What the deadline is by the true time.
				got := c.began.Add(time.Duration(c.got[stored-1].GetDeadline().GetNanos()))
				if got.After(until) || got.Before(until.Add(-time.Second)) {
					t.Errorf("%s: the deadline is %s from what was meant", name, got.Sub(until))
				}
			}
		}
		push(1)
		for i, jump := range []time.Duration{5 * time.Minute, -5 * time.Minute, -time.Hour, 10 * time.Hour} {
			ahead.Store(int64(jump))
			time.Sleep(time.Second)
			push(2 + i)
		}
		asked := func(want int64) {
			t.Helper()
			for name, c := range clients.of {
				if n := c.asked.Load(); n != want {
					t.Errorf("the clock of %s was asked for %d times, not %d", name, n, want)
				}
			}
		}
		asked(1)
		time.Sleep(2 * clockAge) // no answer has told of it lately
		push(6)
		asked(2)
		for _, c := range clients.of { // a restart
			c.id.Store(8)
			c.began = time.Now()
		}
		push(7)
		asked(3)
	})
}

// A request has a deadline even if the clock that was asked for is not trusted any more at
// once, as when the process was stopped or another request failed meanwhile.
func TestRule26DeadlineOfAClockThatIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newCluster(t, 1, 1).distributor(limits.Default())
		c := &toldClock{clocked{began: time.Now()}}
		d.clocks.now = func() time.Time {
			time.Sleep(2 * clockAge)
			return time.Now()
		}
		until := time.Now().Add(time.Second)
		at, err := d.deadline(t.Context(), d.ring.View().Ingesters()[0], c, until)
		if err != nil || at == nil || !c.began.Add(time.Duration(at.GetNanos())).Equal(until) {
			t.Errorf("the deadline is %v, %v", at, err)
		}
	})
}

// toldClock is clocked that tells of its machine's clock.
type toldClock struct{ clocked }

func (c *toldClock) Clock(context.Context, *ingestv1.ClockRequest, ...grpc.CallOption) (*ingestv1.ClockResponse, error) {
	clock := c.clock()
	clock.UnixNanos = time.Now().UnixNano()
	return &ingestv1.ClockResponse{Clock: clock}, nil
}

type clockedClients struct{ of map[string]*clocked }

func (c clockedClients) Ingester(m *ring.Member) (ingestv1.IngestServiceClient, error) {
	return c.of[m.Name], nil
}
