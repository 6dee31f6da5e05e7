package querier

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// Peers are the other queriers.
type Peers interface {
	// Self is the name of this member.
	Self() string
	// Queriers returns the other queriers, and the names of those that are known not to
	// answer.
	Queriers() (others []Peer, silent []string)
}

// Peer is another querier.
type Peer struct {
	Name   string
	Client queryv1.QueryServiceClient
}

// peerWait is how long other queriers have to answer.
const peerWait = 3 * time.Second

// begin gives a query its place and its time. With no error, done is to be called when
// it is over.
func (s *Service) begin(ctx context.Context, sc scope, w work) (_ context.Context, a *active, done func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	ctx, stop := context.WithTimeoutCause(ctx, sc.limits.QueryTimeout, rpcerr.New(rpcerr.Timeout,
		"request timed out, decrease the duration of the request or add more label matchers (prefer exact match over regex match) to reduce the amount of data processed"))
	end := func() { stop(); cancel(nil) }
	a = &active{tenant: sc.tenant, work: w, cancel: cancel}
	if method, ok := grpc.Method(ctx); ok {
		a.kind = method[strings.LastIndexByte(method, '/')+1:]
	}
	var cost int64
	cost, a.stored, _ = s.cost(ctx, sc, &w)
	if err := s.gate.enter(ctx, a, cost, sc.limits.MaxQueuedQueries); err != nil {
		end()
		return nil, nil, nil, err
	}
	return ctx, a, func() { s.gate.leave(a); end() }, nil
}

// bounded is begin for questions about streams.
func (s *Service) bounded(ctx context.Context, sc scope) (context.Context, *active, func(), error) {
	return s.begin(ctx, sc, work{})
}

// watch returns what is to be told of a query's progress, so that lists show it and it
// counts for what it covers.
func (s *Service) watch(a *active, further func(engine.Progress)) func(engine.Progress) {
	return func(p engine.Progress) {
		s.gate.note(a, p, a.work.revised(p.BytesTotal))
		if leaves := a.work.leaves(); len(leaves) == 1 && (s.split == 0 || leaves[0].end-leaves[0].start <= int64(s.split)) { // else it may have opened less
			l := leaves[0]
			s.heads.learn(headKey(a.tenant, l.selector), l.end-l.start, max(0, float64(p.BytesTotal)-a.stored))
		}
		if further != nil {
			further(p)
		}
	}
}

// describe returns a query as others see it. The caller holds the gate's lock.
func (s *Service) describe(a *active, now time.Time) *queryv1.RunningQuery {
	q := &queryv1.RunningQuery{
		Id: a.id, Tenant: a.tenant, Kind: a.kind, Query: a.work.text, State: queryv1.QueryState_QUERY_STATE_WAITING,
		Received: timestamppb.New(a.received), Age: durationpb.New(now.Sub(a.received)), QueueTime: durationpb.New(now.Sub(a.received)),
		Cost: uint64(a.ticket.cost), BytesRead: a.progress.BytesRead, BytesTotal: a.progress.BytesTotal, EntriesRead: a.progress.EntriesRead,
	}
	if a.work.start != 0 || a.work.end != 0 {
		q.Start, q.End = timestamppb.New(time.Unix(0, a.work.start)), timestamppb.New(time.Unix(0, a.work.end))
	}
	if a.ticket.runs {
		q.State, q.QueueTime = queryv1.QueryState_QUERY_STATE_RUNNING, durationpb.New(a.ticket.startedAt.Sub(a.received))
	}
	if a.cancelled {
		q.State = queryv1.QueryState_QUERY_STATE_CANCELLED
	}
	if s.deps.Peers != nil {
		q.Querier = s.deps.Peers.Self()
	}
	return q
}

// ListQueries implements queryv1.QueryServiceServer.
func (s *Service) ListQueries(ctx context.Context, req *queryv1.ListQueriesRequest) (*queryv1.ListQueriesResponse, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	out := &queryv1.ListQueriesResponse{}
	s.gate.mu.Lock()
	for _, a := range s.gate.active {
		if a.tenant == sc.tenant {
			out.Queries = append(out.Queries, s.describe(a, sc.now))
		}
	}
	s.gate.mu.Unlock()
	if !req.GetLocal() {
		out.Warnings = s.others(ctx, func(ctx context.Context, p Peer) (func(), error) {
			resp, err := p.Client.ListQueries(ctx, &queryv1.ListQueriesRequest{Local: true})
			return func() { out.Queries = append(out.Queries, resp.GetQueries()...) }, err
		})
	}
	slices.SortFunc(out.Queries, func(a, b *queryv1.RunningQuery) int {
		return cmp.Or(a.GetReceived().AsTime().Compare(b.GetReceived().AsTime()), strings.Compare(a.GetId(), b.GetId()))
	})
	return out, nil
}

// CancelQuery implements queryv1.QueryServiceServer.
func (s *Service) CancelQuery(ctx context.Context, req *queryv1.CancelQueryRequest) (*queryv1.CancelQueryResponse, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	if req.GetId() == "" {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "id is missing")
	}
	if a := s.gate.stop(sc.tenant, req.GetId()); a != nil {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		return &queryv1.CancelQueryResponse{Query: s.describe(a, sc.now)}, nil
	}
	missing := rpcerr.New(rpcerr.NotFound, "no query %q runs or waits", req.GetId())
	if req.GetLocal() {
		return nil, missing
	}
	var out *queryv1.CancelQueryResponse
	silent := s.others(ctx, func(ctx context.Context, p Peer) (func(), error) {
		resp, err := p.Client.CancelQuery(ctx, &queryv1.CancelQueryRequest{Id: req.GetId(), Local: true})
		if rpcerr.Is(err, rpcerr.NotFound) {
			return func() {}, nil
		}
		return func() { out = resp }, err
	})
	switch {
	case out != nil:
		return out, nil
	case len(silent) > 0:
		return nil, rpcerr.New(rpcerr.Unavailable, "no querier that answered has the query %q; %s", req.GetId(), strings.Join(silent, "; "))
	}
	return nil, missing
}

// others asks all other queriers at once. What ask returns is called one at a time.
// It returns texts about those that did not answer.
func (s *Service) others(ctx context.Context, ask func(context.Context, Peer) (func(), error)) (warnings []string) {
	if s.deps.Peers == nil {
		return nil
	}
	others, silent := s.deps.Peers.Queriers()
	for _, name := range silent {
		warnings = append(warnings, "querier "+name+" is not healthy and was not asked")
	}
	ctx, cancel := context.WithTimeout(ctx, peerWait)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, p := range others {
		wg.Go(func() {
			take, err := ask(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				warnings = append(warnings, "querier "+p.Name+" did not answer: "+rpcerr.Table(nil).ToError(err).Error())
				return
			}
			take()
		})
	}
	wg.Wait()
	slices.Sort(warnings)
	return warnings
}
