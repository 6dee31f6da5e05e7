package ingester

import (
	"context"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/services/ingester/head"
)

// maxKnown is the most streams that a Known call may ask for.
const maxKnown = 10_000

// Known implements ingestv1.IngestServiceServer. What it says is from memory alone: an
// ingester that was restarted knows of what its log still has.
func (s *Service) Known(ctx context.Context, req *ingestv1.KnownRequest) (*ingestv1.KnownResponse, error) {
	if err := s.readable(); err != nil {
		return nil, err
	}
	id, err := tenant.Require(ctx)
	if err != nil {
		return nil, err
	}
	tokens := req.GetTokens()
	if len(tokens) > maxKnown {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "%d streams are asked for, the limit is %d", len(tokens), maxKnown)
	}
	known := make([]bool, len(tokens))
	for i, t := range tokens {
		known[i] = s.active.Has(id, t)
	}
	return &ingestv1.KnownResponse{Known: known}, nil
}

// StreamCounts returns how many streams of each tenant have had entries in the last hour
// or two, those with most first.
func (s *Service) StreamCounts() []limits.TenantStreams { return s.active.Counts() }

// noteStreams counts the streams of a request, whose blocks are in a head.
func (s *Service) noteStreams(req *ingestv1.IngestRequest, blocks []head.Block) {
	now := s.active.Generation(req.GetTenant())
	for i, b := range req.GetStreams() {
		if blocks[i].Note(now) {
			s.active.Add(req.GetTenant(), b.GetToken())
		}
	}
}
