package distributor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model/rowspb"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// An ingester that does not answer gets one request a second, the others theirs at once.
func TestFrozenIngesterIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 3, 3)
		var tries atomic.Int64
		frozen := atomic.Bool{}
		frozen.Store(true)
		cl.replicas["ingester-1"].fail = func(ctx context.Context) error {
			tries.Add(1)
			if !frozen.Load() {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		d := cl.distributor(limits.Default())
		d.now = time.Now
		push := func() {
			t.Helper()
			began := time.Now()
			if _, err := d.Write(ctx(), request(`{a="b"}`, lines([]int64{time.Now().UnixNano()}, "x"))); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("a push took %s", took)
			}
		}
		for range 10 {
			push()
		}
		time.Sleep(breakAfter + time.Millisecond)
		if n := d.breakers.open(); n != 1 {
			t.Fatalf("%d breakers are open", n)
		}
		before := tries.Load()
		for range 100 {
			push()
			time.Sleep(100 * time.Millisecond)
		}
		if n := tries.Load() - before; n < 2 || n > 11 {
			t.Errorf("in 10 s the frozen ingester got %d requests", n)
		}
		frozen.Store(false)
		time.Sleep(d.cfg.ReplicaTimeout + breakFor) // until what was sent before has failed
		push()
		synctest.Wait()
		if n := d.breakers.open(); n != 0 {
			t.Errorf("it answers, and %d breakers are open", n)
		}
		d.writes.Wait()
	})
}

// Breakers never keep a stream from its quorum.
func TestBreakersDoNotBreakTheQuorum(t *testing.T) {
	cl := newCluster(t, 3, 3)
	d := cl.distributor(limits.Default())
	for i := range 2 {
		for range breakFailures {
			d.breakers.failed(fmt.Sprint("ingester-", i), time.Now())
		}
	}
	if n := d.breakers.open(); n != 2 {
		t.Fatalf("%d breakers are open", n)
	}
	if _, err := d.Write(ctx(), request(`{a="b"}`, lines([]int64{now.UnixNano()}, "x"))); err != nil {
		t.Error(err)
	}
	d.writes.Wait()
}

// With gossip away writes go on with the members as they were. Only where these do not
// answer either is a write refused at once, and one a second tries.
func TestSilentMembersAreTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 3, 3)
		cl.view = cl.view.Next(cl.view.Table(), map[string]bool{"ingester-2": true})
		d := cl.distributor(limits.Default())
		d.now = time.Now
		push := func() error {
			_, err := d.Write(ctx(), request(`{a="b"}`, lines([]int64{time.Now().UnixNano()}, "x")))
			return err
		}
		if err := push(); err != nil {
			t.Fatal("all of them are up:", err)
		}
		var tries atomic.Int64
		frozen := func(ctx context.Context) error {
			tries.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}
		d.writes.Wait()
		cl.replicas["ingester-0"].fail, cl.replicas["ingester-1"].fail = frozen, frozen
		if err := push(); !rpcerr.Is(err, rpcerr.NoQuorum) {
			t.Fatal("two of three do not answer:", err)
		}
		d.writes.Wait()
		tries.Store(0)
		quick := 0
		for range 100 {
			began := time.Now()
			if err := push(); !rpcerr.Is(err, rpcerr.NoQuorum) || rpcerr.RetryAfter(err) <= 0 {
				t.Fatal("two of three do not answer:", err)
			}
			if time.Since(began) == 0 {
				quick++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := tries.Load(); n < 4 || n > 40 || quick < 50 {
			t.Errorf("%d requests to those that do not answer, %d of 100 refused at once", n, quick)
		}
		d.writes.Wait()
		cl.replicas["ingester-0"].fail, cl.replicas["ingester-1"].fail = nil, nil
		time.Sleep(breakFor)
		if err := push(); err != nil {
			t.Error("they are back:", err)
		}
		d.writes.Wait()
	})
}

// One that is not written to is tried all the same when another fails: it may be back.
func TestBrokenOffIngesterIsAReserve(t *testing.T) {
	cl := newCluster(t, 3, 3)
	d := cl.distributor(limits.Default())
	for range breakFailures {
		d.breakers.failed("ingester-0", time.Now())
	}
	cl.replicas["ingester-1"].fail = func(context.Context) error { return rpcerr.New(rpcerr.Unavailable, "down") }
	if _, err := d.Write(ctx(), request(`{a="b"}`, lines([]int64{now.UnixNano()}, "x"))); err != nil {
		t.Error(err)
	}
	d.writes.Wait()
	if n := len(cl.replicas["ingester-0"].entries()); n != 1 {
		t.Errorf("the reserve has %d entries", n)
	}
}

func TestBreaker(t *testing.T) {
	b := newBreakers(slog.New(slog.DiscardHandler))
	at := now
	for range breakFailures - 1 {
		b.failed("a", at)
	}
	if err := b.allow("a", at); err != nil {
		t.Fatal("too early:", err)
	}
	b.failed("a", at)
	if err := b.allow("a", at); !rpcerr.Is(err, rpcerr.Unavailable) || rpcerr.RetryAfter(err) <= 0 {
		t.Fatal("not open:", err)
	}
	if err := b.allow("b", at); err != nil {
		t.Fatal("another is blocked:", err)
	}
	at = at.Add(breakFor)
	if b.allow("a", at) != nil || b.allow("a", at) == nil {
		t.Fatal("one request is to try")
	}
	b.worked("a")
	if b.allow("a", at) != nil || b.open() != 0 {
		t.Fatal("still open")
	}
}

// R 5: a request without a batch time that is sent again after a failure has the batch
// time of its first attempt, on all replicas.
func TestRule5RetryKeepsTheBatchTime(t *testing.T) {
	cl := newCluster(t, 3, 3)
	down := func(context.Context) error { return rpcerr.New(rpcerr.Unavailable, "down") }
	cl.replicas["ingester-0"].fail, cl.replicas["ingester-1"].fail = down, down
	d := cl.distributor(limits.Default())
	rows := lines([]int64{now.UnixNano(), now.UnixNano()}, "x", "y")
	if _, err := d.Write(ctx(), request(`{a="b"}`, rows)); err == nil {
		t.Fatal("stored by one of three")
	}
	d.writes.Wait()
	cl.replicas["ingester-0"].fail, cl.replicas["ingester-1"].fail = nil, nil
	for _, text := range []string{"other", "x"} {
		r := rows
		if text == "other" {
			r = lines([]int64{now.UnixNano(), now.UnixNano()}, text, "y")
		}
		if _, err := d.Write(ctx(), request(`{a="b"}`, r)); err != nil {
			t.Fatal(err)
		}
	}
	d.writes.Wait()
	times := map[string]map[int64]bool{}
	for _, r := range cl.replicas {
		for _, got := range r.got {
			rows, err := rowspb.FromBlock(got.GetStreams()[0])
			if err != nil {
				t.Fatal(err)
			}
			first := string(rows.Lines.At(0))
			if times[first] == nil {
				times[first] = map[int64]bool{}
			}
			times[first][got.GetBatchTimeUnixNano()] = true
		}
	}
	if len(times["x"]) != 1 || len(times["other"]) != 1 {
		t.Errorf("batch times by request: %v", times)
	}
	for at := range times["other"] {
		if times["x"][at] {
			t.Error("two requests have one batch time")
		}
	}
}

func TestBatchTimesAreBounded(t *testing.T) {
	b := newBatchTimes()
	for i := range int64(10 * maxBatchTimes) {
		b.keep(uint64(i+1), i)
	}
	if n := len(b.new) + len(b.old); n > 2*maxBatchTimes || b.of(10*maxBatchTimes) != 10*maxBatchTimes-1 {
		t.Errorf("%d are remembered", n)
	}
	if unreachable(errors.New("x")) || !unreachable(context.DeadlineExceeded) {
		t.Error("who answered is taken for who did not, or the other way round")
	}
}
