package ingester

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

// An ingester that is stopped for a while after a request has come, and before that is
// appended, does not append it any more if its deadline is over then.
func TestRule26StoppedBeforeTheAppend(t *testing.T) {
	fs := waltest.New()
	held, release := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "sync" && hold.CompareAndSwap(true, false) {
			close(held)
			<-release
		}
		return nil
	})
	dir := t.TempDir()
	n := startWith(t, dir, 1<<30, nil, func(s *Service) { s.walFS = fs })
	if _, err := n.ingest(1, "a", []int64{1}, "acked"); err != nil {
		t.Fatal(err)
	}
	hold.Store(true)
	ingest := func(line string, deadline *ingestv1.ProcessClock) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := n.client.Ingest(ctx(t), &ingestv1.IngestRequest{Tenant: "t", BatchTimeUnixNano: 2, Deadline: deadline, Streams: []*ingestv1.StreamBlock{
				{Labels: `{s="a"}`, Times: []int64{2}, LineEnds: []uint32{uint32(len(line))}, Slab: []byte(line)},
			}})
			done <- err
		}()
		return done
	}
	first := ingest("in time", nil)
	<-held // nothing of the log goes on from here
	resp, err := n.client.Clock(ctx(t), &ingestv1.ClockRequest{})
	if err != nil {
		t.Fatal(err)
	}
	deadline := resp.GetClock()
	deadline.Nanos += int64(2 * time.Second)
	second := ingest("too late", deadline)
	for time.Since(n.svc.clock.began) < time.Duration(deadline.GetNanos()) {
		time.Sleep(time.Millisecond)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-second; !rpcerr.Is(err, rpcerr.Timeout) {
		t.Errorf("error %v, want TIMEOUT", err)
	}
	want := []string{"1 a acked", "2 a in time"}
	if got := contents(t, n.svc); !slices.Equal(got, want) {
		t.Errorf("%q is visible", got)
	}
	if _, err := n.ingest(4, "a", []int64{4}, "later"); err != nil {
		t.Error(err)
	}
	n.close()
	n = startWith(t, dir, 1<<30, nil, func(s *Service) { s.walFS = fs })
	if got := contents(t, n.svc); !slices.Equal(got, append(want, "4 a later")) {
		t.Errorf("after a restart: %q", got)
	}
	if _, err := n.client.Ingest(ctx(t), &ingestv1.IngestRequest{Tenant: "t", BatchTimeUnixNano: 5, Deadline: deadline}); !rpcerr.Is(err, rpcerr.Conflict) {
		t.Errorf("a deadline by the clock of the process before: error %v, want CONFLICT", err)
	}
}
