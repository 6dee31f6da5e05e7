package querier

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/patterns"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	defaultPatterns   = 300
	maxPatterns       = 3000
	leastPatternsStep = 10 * time.Second
)

// Patterns implements queryv1.QueryServiceServer.
func (s *Service) Patterns(ctx context.Context, req *queryv1.PatternsRequest) (*queryv1.PatternsResponse, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = defaultPatterns
	}
	if limit > maxPatterns {
		return nil, rpcerr.New(rpcerr.LimitExceeded, "%d patterns are asked for, at most %d can be", limit, maxPatterns)
	}
	// What holds for the range of log queries does for this.
	r, err := s.rangeQuery(&queryv1.QueryRangeRequest{Query: req.GetQuery(), Start: req.GetStart(), End: req.GetEnd(), Partial: req.GetPartial()}, sc)
	if err != nil {
		return nil, err
	}
	q := engine.PatternsQuery{Query: r.Query, Start: r.Start, End: r.End}
	if req.GetStep() == nil {
		q.Width = int64(max((time.Duration(r.End-r.Start) / 250).Truncate(time.Second), leastPatternsStep))
	} else if err := req.GetStep().CheckValid(); err != nil {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "step: %v", err)
	} else {
		q.Width = int64(req.GetStep().AsDuration())
	}
	ctx, place, done, err := s.bounded(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer done()
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, err
	}
	var res *engine.Result
	err = rerun(ctx, q.Sources, func() bool { return false }, func() (err error) {
		res, err = s.engine.Patterns(ctx, q)
		return err
	})
	if err != nil {
		return nil, s.toError(err)
	}
	out := &queryv1.PatternsResponse{Statistics: statistics(res, place), Warnings: res.Warnings}
	for _, p := range res.Patterns {
		if p.Total < req.GetMinEntries() || len(out.Patterns) == limit {
			break
		}
		out.Patterns = append(out.Patterns, pattern(p, q.Width))
	}
	return out, nil
}

func pattern(p patterns.Pattern, width int64) *queryv1.Pattern {
	out := &queryv1.Pattern{
		Pattern: strings.ToValidUTF8(p.Text, "\ufffd"), Level: strings.ToValidUTF8(p.Level, "\ufffd"), Entries: p.Total,
		Samples: make([]*queryv1.PatternSample, 0, len(p.Samples)),
	}
	for _, at := range slices.Sorted(maps.Keys(p.Samples)) {
		out.Samples = append(out.Samples, &queryv1.PatternSample{TimestampUnixNano: at * width, Entries: p.Samples[at]})
	}
	return out
}
