package distributor

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model/rowspb"
	"github.com/weir-logs/weir/libs/ring"
)

// taker is an ingester that takes all it gets at once.
type taker struct{ *replica }

func (taker) Ingest(context.Context, *ingestv1.IngestRequest, ...grpc.CallOption) (*ingestv1.IngestResponse, error) {
	return &ingestv1.IngestResponse{}, nil
}

func (t taker) Ingester(*ring.Member) (ingestv1.IngestServiceClient, error) { return t, nil }

// BenchmarkManyStreams writes requests of 5,000 streams of a line each, of 50,000.
func BenchmarkManyStreams(b *testing.B) {
	const streams, each = 50_000, 5_000
	l := limits.Default()
	l.MaxStreams = 1 << 20
	cl := newCluster(b, 1, 1)
	d := cl.distributor(l)
	d.ingesters = taker{&replica{}}
	var reqs []*ingestv1.WriteRequest
	for from := 0; from < streams; from += each {
		req := &ingestv1.WriteRequest{Door: "grpc"}
		for i := range each {
			r := lines([]int64{now.UnixNano()}, fmt.Sprintf("level=info a line of some length of stream %d, which is one of very many", from+i))
			req.Streams = append(req.Streams, rowspb.ToBlock(fmt.Sprintf(`{app="svc-%d", env="prod", pod="svc-%x"}`, i%20, uint32(from+i)*2654435761), &r))
		}
		reqs = append(reqs, req)
	}
	write := func(req *ingestv1.WriteRequest) {
		resp, err := d.Write(ctx(), req)
		if err != nil || resp.GetAcceptedEntries() != each {
			b.Fatal(resp, err)
		}
	}
	for _, req := range reqs { // all streams are known
		write(req)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		write(reqs[i%len(reqs)])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*each), "ns/stream")
}
