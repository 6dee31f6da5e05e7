package querier

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

// Entries that a replica has yet to send are in the cursor; those that all sent are
// not.
func TestPendingEntries(t *testing.T) {
	now := time.Unix(100, 0)
	s := newSeen(nil, now)
	all := []string{"one", "two", "three"}
	for _, in := range all {
		if first := s.first(1, in, 3, now); first != (in == "one") {
			t.Errorf("first from %s: %v", in, first)
		}
	}
	s.first(2, "one", 3, now)
	s.first(2, "one", 3, now) // again, after a reconnection
	s.first(2, "two", 3, now)
	if p := s.pending(); len(p) != 1 || p[0] != 2 {
		t.Errorf("pending %v, want 2", p)
	}
	end := now.Add(spanPeriod)
	s.age(end, all)
	told := now.Add(writePeriod)
	s.complete("one", told)
	s.complete("two", told)
	s.age(end.Add(time.Minute), all)
	if p := s.pending(); len(p) != 1 {
		t.Errorf("pending %v before three has told all", p)
	}
	s.complete("three", told)
	s.age(end.Add(time.Minute), all)
	if p := s.pending(); len(p) != 0 || len(s.from) != 0 {
		t.Errorf("pending %v of %d when all have told all", p, len(s.from))
	}
}

// What was sent as history is remembered until no replica can send it any more.
func TestHistoryIsRemembered(t *testing.T) {
	now := time.Unix(1000, 0)
	all := []string{"one", "two"}
	for _, told := range []bool{false, true} { // two has told all
		s := newSeen(nil, now)
		s.shown(7)
		s.since = now
		s.complete("one", now.Add(time.Minute))
		s.complete("two", now.Add(writePeriod-1))
		if s.age(now.Add(time.Minute), all); !s.wasShown(7) {
			t.Error("forgotten though one may send it")
		}
		end := now.Add(rememberFor)
		if told {
			end = now.Add(time.Minute)
			s.complete("two", now.Add(writePeriod))
		}
		if s.age(end, all); s.wasShown(7) {
			t.Errorf("told %v: remembered at %s", told, end)
		}
	}
}

// An ingester that is stopped is waited for, and nobody else: what it has yet to send is
// remembered, the oldest of it in the cursor, up to a bound.
func TestWhoIsStoppedIsWaitedFor(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSeen(nil, now)
	all := []string{"one", "two", "three"}
	key := uint64(0)
	for range 120 { // seconds
		for range 200 {
			key++
			s.first(key, "one", 3, now)
			s.first(key, "two", 3, now)
		}
		now = now.Add(time.Second)
		s.complete("one", now)
		s.complete("two", now)
		s.age(now, all)
	}
	p := s.pending()
	slices.Sort(p)
	if len(p) != maxPending || p[0] != 1 || p[len(p)-1] != maxPending {
		t.Errorf("%d pending, from %d to %d", len(p), p[0], p[len(p)-1])
	}
	for k := range key {
		if s.first(k+1, "three", 3, now) {
			t.Fatalf("entry %d comes again", k+1)
		}
	}
	if p := s.pending(); len(p) != 0 {
		t.Errorf("%d pending", len(p))
	}
	s.complete("three", now)
	s.age(now, all)
	if len(s.from) > 31*200 {
		t.Errorf("%d entries are remembered", len(s.from))
	}
	// One that is no member any more is not waited for.
	now = now.Add(time.Minute)
	s.complete("one", now)
	s.complete("two", now)
	s.age(now, all[:2])
	s.age(now, all[:2])
	if len(s.from) != 0 {
		t.Errorf("%d entries are remembered", len(s.from))
	}
	s.most = 10_000
	for range s.most + 10 {
		key++
		if s.first(key, "one", 3, now); key%1000 == 0 {
			now = now.Add(spanPeriod)
			s.age(now, all)
		}
	}
	now = now.Add(spanPeriod)
	s.age(now, all)
	if len(s.from) > s.most {
		t.Errorf("%d entries are remembered", len(s.from))
	}
	// However many come within one period, too.
	for range 10 * s.most {
		key++
		if s.first(key, "one", 3, now); key%1000 == 0 {
			s.age(now, all)
		}
	}
	s.age(now, all)
	if len(s.from) > s.most {
		t.Errorf("%d entries are remembered", len(s.from))
	}
}

// A tail delivers once what an ingester sends that was stopped for long; when its
// connection goes and the tail is resumed, too.
func TestTailOfAnIngesterThatWasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var appended []uint64 // at both
		stopped := false      // two
		add := func(h uint64) {
			mu.Lock()
			defer mu.Unlock()
			appended = append(appended, h)
		}
		follow := func(name string) func(context.Context, *ingestv1.FollowRequest, func(*ingestv1.FollowResponse)) error {
			return func(ctx context.Context, req *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
				began := time.Now()
				at := max(req.GetPosition(), 1)
				send(message(at, 0))
				for ctx.Err() == nil {
					time.Sleep(100 * time.Millisecond)
					mu.Lock()
					var m *ingestv1.FollowResponse
					if name != "two" || !stopped {
						m = message(uint64(len(appended))+1, 1, appended[at-1:]...)
						m.CompleteNanos = int64(time.Since(began))
						at = m.GetPosition()
					}
					mu.Unlock()
					if m != nil {
						send(m)
					}
				}
				return status.Error(codes.Canceled, "over")
			}
		}
		c := &ingesters{rf: 2, follow: map[string]func(context.Context, *ingestv1.FollowRequest, func(*ingestv1.FollowResponse)) error{
			"one": follow("one"), "two": follow("two"),
		}}
		c.members(t, map[string]string{"one": "one", "two": "two"})
		var got []int64
		cursor := ""
		take := func(responses <-chan *tailv1.TailResponse, d time.Duration) {
			end := time.After(d)
			for {
				select {
				case m := <-responses:
					got = append(got, timesOf(m)...)
					cursor = m.GetCursor()
				case <-end:
					return
				}
			}
		}
		responses, stop := c.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		take(responses, time.Second)
		add(100)
		mu.Lock()
		stopped = true
		mu.Unlock()
		add(101)
		take(responses, 3*time.Minute) // one has sent both, two nothing
		stop()
		time.Sleep(time.Second)
		responses, stop = c.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: cursor})
		take(responses, 3*time.Minute)
		mu.Lock()
		stopped = false
		mu.Unlock()
		add(102)
		take(responses, time.Minute)
		stop()
		time.Sleep(time.Second) // until all have noticed
		slices.Sort(got)
		if !slices.Equal(got, []int64{100, 101, 102}) {
			t.Errorf("got %v", got)
		}
	})
}
