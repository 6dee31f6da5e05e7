package ingester

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
)

// TestStreamsStayCounted: a stream counts as long as it gets entries, though it is noted once
// in a while only: in each head, and in each hour that this one gets old.
func TestStreamsStayCounted(t *testing.T) {
	var now atomic.Int64
	now.Store(1e18)
	n := startWith(t, t.TempDir(), 1<<20, func(c *Config, d *Deps) {
		d.Now = func() time.Time { return time.Unix(0, now.Load()) }
		c.CutInterval = 1000 * time.Hour
	}, nil)
	push := func(stream string, token uint64) {
		t.Helper()
		_, err := n.client.Ingest(ctx(t), &ingestv1.IngestRequest{Tenant: "t", BatchTimeUnixNano: now.Load(), Streams: []*ingestv1.StreamBlock{
			{Labels: fmt.Sprintf(`{s="%s"}`, stream), Token: token, Times: []int64{now.Load()}, LineEnds: []uint32{1}, Slab: []byte("x")},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	push("early", 7)
	for i := range 8 {
		push("a", 1)
		push("b", 2)
		if i%3 == 2 {
			n.svc.freeze()
			push("a", 1)
		}
		want := 2
		if i < 2 { // for an hour, and at most one more
			want = 3
		}
		if got := n.svc.StreamCounts(); i != 2 && (len(got) != 1 || got[0].Streams != want) {
			t.Fatalf("push %d: %+v, want %d streams", i, got, want)
		}
		now.Add(int64(50 * time.Minute))
	}
}
