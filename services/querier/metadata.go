package querier

import (
	"context"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// selector parses a stream selector; an empty text selects all streams.
func selector(text string, sc scope) ([]*syntax.Matcher, error) {
	if text == "" {
		return nil, nil
	}
	if limit := int(sc.limits.MaxQueryText); len(text) > limit {
		return nil, rpcerr.New(rpcerr.LimitExceeded, "parse error : input size too long (%d > %d)", len(text), limit)
	}
	if !utf8.ValidString(text) {
		return nil, rpcerr.New(rpcerr.ParseError, "parse error : the selector is not valid UTF-8")
	}
	m, err := syntax.ParseSelector(text)
	if err != nil {
		return nil, parseError(err)
	}
	return m, nil
}

// metaQuery prepares a question about streams.
func (s *Service) metaQuery(sc scope, matchers [][]*syntax.Matcher, start, end *timestamppb.Timestamp, partial bool) (engine.MetaQuery, error) {
	from, to, err := times(start, end, sc.now)
	if err != nil {
		return engine.MetaQuery{}, err
	}
	if length := to.Sub(from); length > sc.limits.MaxQueryRange {
		return engine.MetaQuery{}, rpcerr.New(rpcerr.LimitExceeded, "the query time range exceeds the limit (query length: %s, limit: %s)", length, durationText(sc.limits.MaxQueryRange))
	}
	sources, complete := s.sources(sc, partial)
	return engine.MetaQuery{
		Selectors: matchers, Start: nanos(from), End: nanos(to), Sources: sources, Complete: complete, Partial: partial,
		Memory: engine.NewMemory(s.memory),
	}, nil
}

// Labels implements queryv1.QueryServiceServer.
func (s *Service) Labels(ctx context.Context, req *queryv1.LabelsRequest) (*queryv1.LabelsResponse, error) {
	sc, q, err := s.oneSelector(ctx, req)
	if err != nil {
		return nil, err
	}
	ctx, _, done, err := s.bounded(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer done()
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, err
	}
	names, warnings, err := s.engine.Labels(ctx, q)
	return &queryv1.LabelsResponse{Names: names, Warnings: warnings}, s.toError(err)
}

// LabelValues implements queryv1.QueryServiceServer.
func (s *Service) LabelValues(ctx context.Context, req *queryv1.LabelValuesRequest) (*queryv1.LabelValuesResponse, error) {
	if req.GetName() == "" {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "name is missing")
	}
	sc, q, err := s.oneSelector(ctx, req)
	if err != nil {
		return nil, err
	}
	ctx, _, done, err := s.bounded(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer done()
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, err
	}
	values, warnings, err := s.engine.LabelValues(ctx, q, req.GetName())
	return &queryv1.LabelValuesResponse{Values: values, Warnings: warnings}, s.toError(err)
}

// Stats implements queryv1.QueryServiceServer.
func (s *Service) Stats(ctx context.Context, req *queryv1.StatsRequest) (*queryv1.StatsResponse, error) {
	sc, q, err := s.oneSelector(ctx, req)
	if err != nil {
		return nil, err
	}
	ctx, _, done, err := s.bounded(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer done()
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, err
	}
	st, warnings, err := s.engine.Stats(ctx, q)
	return &queryv1.StatsResponse{Streams: st.Streams, Runs: st.Runs, Entries: st.Entries, Bytes: st.Bytes, Warnings: warnings}, s.toError(err)
}

// selecting is what requests with one selector have in common.
type selecting interface {
	GetSelector() string
	GetStart() *timestamppb.Timestamp
	GetEnd() *timestamppb.Timestamp
	GetPartial() bool
}

func (s *Service) oneSelector(ctx context.Context, req selecting) (scope, engine.MetaQuery, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return scope{}, engine.MetaQuery{}, err
	}
	m, err := selector(req.GetSelector(), sc)
	if err != nil {
		return scope{}, engine.MetaQuery{}, err
	}
	q, err := s.metaQuery(sc, [][]*syntax.Matcher{m}, req.GetStart(), req.GetEnd(), req.GetPartial())
	return sc, q, err
}

// Series implements queryv1.QueryServiceServer.
func (s *Service) Series(ctx context.Context, req *queryv1.SeriesRequest) (*queryv1.SeriesResponse, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	selectors := [][]*syntax.Matcher{nil}
	if len(req.GetSelectors()) > 0 {
		selectors = selectors[:0]
	}
	for _, text := range req.GetSelectors() {
		m, err := selector(text, sc)
		if err != nil {
			return nil, err
		}
		if len(m) == 0 && len(req.GetSelectors()) > 1 {
			return nil, rpcerr.New(rpcerr.InvalidArgument, "0 matchers in group: {}")
		}
		selectors = append(selectors, m)
	}
	q, err := s.metaQuery(sc, selectors, req.GetStart(), req.GetEnd(), req.GetPartial())
	if err != nil {
		return nil, err
	}
	ctx, _, done, err := s.bounded(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer done()
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, err
	}
	series, warnings, err := s.engine.Series(ctx, q)
	if err != nil {
		return nil, s.toError(err)
	}
	resp := &queryv1.SeriesResponse{Warnings: warnings, Series: make([]*queryv1.LabelSet, len(series))}
	for i, ls := range series {
		// What was found goes as the answer grows; the texts are those of both.
		if !q.Memory.Claim(labelSetSize(ls)) {
			return nil, s.toError(q.Memory.Err())
		}
		resp.Series[i] = &queryv1.LabelSet{Labels: labelMap(ls)}
		series[i] = nil
		q.Memory.Unclaim(labelsSize * len(ls))
	}
	return resp, nil
}

// labelsSize is the bytes of a label in a list besides its text.
const labelsSize = int(unsafe.Sizeof(model.Label{}))

// labelSetSize is about the bytes of a stream in an answer besides the texts: a message, and a
// map with room for eight labels at least.
func labelSetSize(ls model.Labels) int {
	return 128 + 40*max(8, len(ls))
}

// Explain implements queryv1.QueryServiceServer.
func (s *Service) Explain(ctx context.Context, req *queryv1.ExplainRequest) (*queryv1.ExplainResponse, error) {
	if req.GetQuery() == nil {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "query is missing")
	}
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	q, err := s.rangeQuery(req.GetQuery(), sc)
	if err != nil {
		return nil, err
	}
	ctx, _, done, err := s.bounded(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer done()
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, err
	}
	w := &work{expr: q.Expr, start: q.Start, end: q.End, limit: q.Limit}
	cost, _, blocks := s.cost(ctx, sc, w)
	e, err := s.engine.Explain(ctx, q)
	if err != nil {
		return nil, s.toError(err)
	}
	return &queryv1.ExplainResponse{
		Plan: planNode(e.Root), Streams: e.Streams, Entries: e.Entries, Bytes: e.Bytes, Sources: uint32(e.Sources),
		Blocks: uint32(blocks), Cost: uint64(max(cost, leastCost)), Warnings: e.Warnings,
	}, nil
}

func planNode(n *engine.PlanNode) *queryv1.PlanNode {
	out := &queryv1.PlanNode{Operator: n.Operator, Expression: n.Expression, Notes: n.Notes}
	for _, in := range n.Inputs {
		out.Inputs = append(out.Inputs, planNode(in))
	}
	return out
}
