package distributor

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/tenant"
)

// tell has all replicas tell a distributor how many streams they have.
func (c *cluster) tell(d *Service) {
	for name, r := range c.replicas {
		for _, m := range EncodeCounts(r.streams("t")) {
			d.HearStreams(name, m)
		}
	}
}

func pushStream(t *testing.T, d *Service, stream int) bool {
	t.Helper()
	resp, err := d.Write(ctx(), request(fmt.Sprintf(`{s="%d"}`, stream), lines([]int64{now.UnixNano()}, "x")))
	if err != nil {
		t.Fatal(err)
	}
	d.writes.Wait()
	return resp.GetAcceptedEntries() == 1
}

// The limit is one for all distributors, and none of them refuses a stream that exists.
func TestStreamLimitOfTheWholeCluster(t *testing.T) {
	l := limits.Default()
	l.MaxStreams = 20
	cl := newCluster(t, 5, 3)
	distributor := func() *Service {
		d := cl.distributor(l)
		d.breakers.after = time.Hour
		return d
	}
	a, b := distributor(), distributor()
	for i := range 20 {
		if d := []*Service{a, b}[i%2]; !pushStream(t, d, i) {
			t.Fatalf("stream %d of 20 was refused", i)
		}
	}
	cl.tell(a)
	cl.tell(b)
	for _, d := range []*Service{a, b} {
		if n := d.streams.count("t", 3); n != 20 {
			t.Errorf("a distributor knows of %d streams", n)
		}
		for i := range 20 {
			if !pushStream(t, d, i) {
				t.Errorf("stream %d exists and was refused", i)
			}
		}
		if pushStream(t, d, 100) {
			t.Error("a stream beyond the limit was let through")
		}
	}
	// One that was started anew knows nothing by itself.
	fresh := distributor()
	cl.tell(fresh)
	if !pushStream(t, fresh, 7) || pushStream(t, fresh, 101) {
		t.Error("a new distributor does not go by what ingesters tell")
	}
	// With one ingester away the others know; with more it cannot be said which exist.
	cl.replicas["ingester-0"].fail = func(context.Context) error { return errors.New("away") }
	one := distributor()
	cl.tell(one)
	for i := range 20 {
		if !pushStream(t, one, i) {
			t.Errorf("stream %d exists and was refused with an ingester away", i)
		}
	}
	if pushStream(t, one, 102) {
		t.Error("a stream beyond the limit was let through with an ingester away")
	}
}

// However many streams a request has, those that exist are not refused.
func TestManyStreamsAreRecognised(t *testing.T) {
	const n = 2*maxAsked + 500
	l := limits.Default()
	l.MaxStreams = n
	cl := newCluster(t, 3, 3)
	push := func(d *Service, from, to int) uint64 {
		t.Helper()
		req := request(fmt.Sprintf(`{s="%d"}`, from), lines([]int64{now.UnixNano()}, "x"))
		for i := from + 1; i < to; i++ {
			req.Streams = append(req.Streams, request(fmt.Sprintf(`{s="%d"}`, i), lines([]int64{now.UnixNano()}, "x")).Streams...)
		}
		resp, err := d.Write(ctx(), req)
		if err != nil {
			t.Fatal(err)
		}
		d.writes.Wait()
		return resp.GetAcceptedEntries()
	}
	first, second := cl.distributor(l), cl.distributor(l)
	if got := push(first, 0, n); got != n {
		t.Fatalf("%d of %d streams were let in", got, n)
	}
	cl.tell(second)
	got := push(second, 0, n+100)
	unanswered := testutil.ToFloat64(second.metrics.lookups.WithLabelValues("unanswered")) // a busy machine
	if got < n || got > n && unanswered == 0 {
		t.Errorf("%d streams were let in of the %d that exist, of %v of which too few answered", got, n, unanswered)
	}
}

func TestStreamCountsGrowOld(t *testing.T) {
	at := now
	l := newStreamLimit(func() time.Time { return at })
	for _, m := range EncodeCounts([]limits.TenantStreams{{Tenant: "t", Streams: 9}}) {
		for i := range 3 {
			l.hear(fmt.Sprint("ingester-", i), m)
		}
	}
	if n := l.count("t", 3); n != 9 {
		t.Fatalf("%d streams", n)
	}
	if !l.admit("t", 1, 10, 3) || l.admit("t", 2, 10, 3) || !l.admit("t", 1, 10, 3) {
		t.Fatal("new streams are not counted until ingesters tell of them")
	}
	at = at.Add(countsAge)
	if n := l.count("t", 3); n != 1 {
		t.Fatalf("%d streams when what ingesters told has grown old", n)
	}
	l.sweep()
	if len(l.told) != 0 || len(l.fresh) != 0 {
		t.Fatal(l.told, l.fresh)
	}
}

func TestCountsFitPackets(t *testing.T) {
	var counts []limits.TenantStreams
	for i := range 1000 {
		counts = append(counts, limits.TenantStreams{Tenant: fmt.Sprint("tenant ", i), Streams: i + 1})
	}
	l := newStreamLimit(func() time.Time { return now })
	for _, m := range EncodeCounts(counts) {
		if len(m) > 1100 {
			t.Fatalf("a message of %d bytes", len(m))
		}
		l.hear("i", m)
	}
	for _, c := range counts {
		if n := l.count(c.Tenant, 1); n != c.Streams {
			t.Fatalf("%s: %d, want %d", c.Tenant, n, c.Streams)
		}
	}
}

func FuzzHearStreams(f *testing.F) {
	f.Add(EncodeCounts([]limits.TenantStreams{{Tenant: "t", Streams: 9}})[0])
	f.Add([]byte("no message"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newStreamLimit(func() time.Time { return now })
		l.hear("ingester", b)
		if n := l.count("t", 1); n < 0 || len(l.told["ingester"]) > maxCounts {
			t.Fatal(n)
		}
	})
}

// TestStreamsStayActive: a stream that gets entries all the time counts all the time, though
// it is noted once in a while only, and for each tenant that has it.
func TestStreamsStayActive(t *testing.T) {
	l := limits.Default()
	l.MaxStreams = 1
	var at atomic.Int64
	at.Store(now.UnixNano())
	d := newCluster(t, 1, 1).distributor(l)
	d.now = func() time.Time { return time.Unix(0, at.Load()) }
	d.streams = newStreamLimit(d.now)
	push := func(id, stream string) uint64 {
		resp, err := d.Write(tenant.NewContext(t.Context(), id), request(fmt.Sprintf(`{s="%s"}`, stream), lines([]int64{at.Load()}, "x")))
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetAcceptedEntries()
	}
	for range 12 {
		for _, id := range []string{"t", "u"} {
			if push(id, "a") != 1 {
				t.Fatalf("%s: an active stream was refused", id)
			}
			if push(id, "b") != 0 {
				t.Fatalf("%s: a second stream was let through beside an active one", id)
			}
		}
		at.Add(int64(50 * time.Minute))
	}
}
