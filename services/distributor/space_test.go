package distributor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/model/rowspb"
)

// manyStreams returns a request whose streams and lines have a number in them.
func manyStreams(number int) *ingestv1.WriteRequest {
	req := &ingestv1.WriteRequest{Door: "grpc"}
	for i := range 100 {
		r := lines([]int64{now.UnixNano()}, fmt.Sprintf("level=error request %d", number))
		c := model.Column{Name: "m"}
		c.Append(0, fmt.Append(nil, number))
		r.Metadata = []model.Column{c}
		req.Streams = append(req.Streams, rowspb.ToBlock(fmt.Sprintf(`{s="%d-%d"}`, number, i), &r))
	}
	return req
}

// TestSpaceIsUsedByNobodyElse: what an ingester is still looking at is not used for another
// request: neither that of one slower than the quorum, nor that of one that was given up.
func TestSpaceIsUsedByNobodyElse(t *testing.T) {
	cl := newCluster(t, 3, 3)
	looked := make(chan struct{})
	var looking sync.WaitGroup
	var mu sync.Mutex
	changed := 0
	look := func(req *ingestv1.IngestRequest) {
		kept := proto.Clone(req)
		<-looked
		if !proto.Equal(kept, req) {
			mu.Lock()
			changed++
			mu.Unlock()
		}
	}
	calls := 0
	cl.replicas["ingester-1"].look = func(_ context.Context, req *ingestv1.IngestRequest) error {
		mu.Lock()
		calls++
		slow := calls%2 == 0
		mu.Unlock()
		if slow {
			look(req)
			return nil
		}
		looking.Go(func() { look(req) })
		return errors.New("the call has ended, the handler has not")
	}
	d := cl.distributor(limits.Default())
	d.cfg.ReplicaTimeout = time.Minute
	d.breakers.after = time.Hour
	const writes = 40
	for i := range writes {
		resp, err := d.Write(ctx(), manyStreams(i))
		if err != nil || resp.GetAcceptedEntries() != 100 {
			t.Fatalf("write %d: %v, %v", i, resp, err)
		}
	}
	close(looked)
	d.writes.Wait()
	looking.Wait()
	if changed > 0 {
		t.Errorf("%d requests were changed while an ingester looked at them", changed)
	}
	for name, r := range cl.replicas {
		want := writes * 100
		if name == "ingester-1" {
			want /= 2
		}
		if got := r.entries(); len(got) != want {
			t.Errorf("%s has %d entries, want %d", name, len(got), want)
		}
	}
}
