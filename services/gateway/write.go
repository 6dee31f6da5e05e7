package gateway

import (
	"context"
	"fmt"
	"strconv"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/services/gateway/decode"
	"github.com/weir-logs/weir/services/gateway/lokiapi"
)

// maxPart is the most bytes of one call to the distributor. A request may be as
// large as the tenant's limit allows, a message between services may not.
const maxPart = 8 << 20

// maxRejections is how many rejections an answer lists.
const maxRejections = 1000

// maxRateWaits bounds how often the rest of a request waits for the tenant's rate.
const maxRateWaits = 8

// write stores a decoded request, or fails with why it could not be decoded. A large
// request takes several calls to the distributor. When a later one fails, what the earlier ones stored stays: the outcome is unknown to the client as
// after any failure, and a retry stores nothing twice.
func (g *Gateway) write(ctx context.Context, req *ingestv1.WriteRequest, decoding error) (*ingestv1.WriteResponse, error) {
	id, err := tenant.Require(ctx) // entries are one tenant's
	if err != nil {
		return nil, err
	}
	if lim := g.deps.Limits.For(id); g.deps.Now().Before(lim.BlockIngestionUntil.Time) {
		g.metrics.blocked.Inc()
		return nil, rpcerr.New(rpcerr.PermissionDenied, "ingestion blocked for user %s until '%s' with status code '%d'",
			id, lim.BlockIngestionUntil.UTC().Format(time.RFC3339), lim.BlockIngestionStatus).With(lokiapi.HTTPStatus, strconv.Itoa(lim.BlockIngestionStatus))
	}
	if decoding != nil {
		g.metrics.undecodable.Inc()
		return nil, decoding
	}
	parts, resp := decode.Split(req, maxPart)
	if resp == nil && len(parts) == 1 {
		return g.deps.Write.Write(ctx, parts[0].Request)
	}
	if resp == nil {
		resp = &ingestv1.WriteResponse{}
	}
	for i, p := range parts {
		if p.Request.BatchTimeUnixNano != 0 {
			// Positions begin anew in each call; this keeps the order of equal times.
			p.Request.BatchTimeUnixNano += int64(i)
		}
		r, err := g.writePart(ctx, p.Request, i > 0)
		if err != nil {
			return nil, err
		}
		resp.AcceptedEntries += r.GetAcceptedEntries()
		resp.RejectedEntries += r.GetRejectedEntries()
		resp.StampedEntries += r.GetStampedEntries()
		for _, rej := range r.GetRejections() {
			from := p.From[rej.GetStream()]
			rej.Stream, rej.Row = from.Stream, rej.GetRow()+from.Row
			resp.Rejections = append(resp.Rejections, rej)
		}
	}
	if len(resp.Rejections) > maxRejections {
		resp.Rejections = resp.Rejections[:maxRejections]
	}
	return resp, nil
}

// writePart writes one part. Once something of a request is stored it is no longer
// refused for the tenant's rate: the rest waits.
func (g *Gateway) writePart(ctx context.Context, req *ingestv1.WriteRequest, waits bool) (*ingestv1.WriteResponse, error) {
	for n := 0; ; n++ {
		resp, err := g.deps.Write.Write(ctx, req)
		if err == nil || !waits || !rpcerr.Is(err, rpcerr.RateLimited) {
			return resp, err
		}
		if n == maxRateWaits {
			return nil, rpcerr.Wrap(err, rpcerr.Overloaded, "only a part of the request is stored: %v", err).WithRetry(rpcerr.RetryAfter(err))
		}
		select {
		case <-time.After(max(rpcerr.RetryAfter(err), 100*time.Millisecond)):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the tenant's rate: %w", ctx.Err())
		}
	}
}

// pushResponse is the answer of PushService to what the distributor says.
func pushResponse(r *ingestv1.WriteResponse) *pushv1.PushResponse {
	out := &pushv1.PushResponse{
		AcceptedEntries: r.GetAcceptedEntries(), RejectedEntries: r.GetRejectedEntries(), StampedEntries: r.GetStampedEntries(),
	}
	for _, rej := range r.GetRejections() {
		out.Rejections = append(out.Rejections, &pushv1.Rejection{
			Stream: rej.GetStream(), Entry: rej.GetRow(), Count: rej.GetCount(),
			Reason: pushv1.RejectReason(rej.GetReason()), Message: rej.GetMessage(),
		})
	}
	return out
}
