package querier

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// firmPeers are other queriers: one has the query "theirs", one may be broken, one is
// not healthy if silent says so.
type firmPeers struct {
	broken error
	silent []string
}

func (f *firmPeers) Self() string { return "self" }
func (f *firmPeers) Queriers() ([]Peer, []string) {
	return []Peer{{"other", &peerClient{}}, {"third", &peerClient{err: f.broken, empty: true}}}, f.silent
}

type peerClient struct {
	queryv1.QueryServiceClient
	err   error
	empty bool
}

func (p *peerClient) ListQueries(_ context.Context, r *queryv1.ListQueriesRequest, _ ...grpc.CallOption) (*queryv1.ListQueriesResponse, error) {
	switch {
	case p.err != nil:
		return nil, p.err
	case !r.GetLocal():
		return nil, errors.New("peers are asked for their own queries only")
	case p.empty:
		return &queryv1.ListQueriesResponse{}, nil
	}
	return &queryv1.ListQueriesResponse{Queries: []*queryv1.RunningQuery{{Id: "theirs", Received: timestamppb.New(day.Add(-time.Hour))}}}, nil
}

func (p *peerClient) CancelQuery(_ context.Context, r *queryv1.CancelQueryRequest, _ ...grpc.CallOption) (*queryv1.CancelQueryResponse, error) {
	switch {
	case p.err != nil:
		return nil, p.err
	case r.GetId() != "theirs" || p.empty || !r.GetLocal():
		return nil, rpcerr.New(rpcerr.NotFound, "no query")
	}
	return &queryv1.CancelQueryResponse{Query: &queryv1.RunningQuery{Id: "theirs"}}, nil
}

// Lists and cancels reach all queriers, and say which they do not.
func TestQueriesOfAllQueriers(t *testing.T) {
	peers := &firmPeers{}
	s := New(DefaultConfig(), Deps{Log: slog.New(slog.DiscardHandler), Limits: defaults{}, Peers: peers, Memory: 1 << 30, Now: func() time.Time { return day }})
	ctx := tenant.NewContext(t.Context(), "t")
	sc, err := s.scope(ctx)
	if err != nil {
		t.Fatal(err)
	}
	own, a, done, err := s.begin(ctx, sc, work{text: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	list := func() (ids, warnings string) {
		t.Helper()
		resp, err := s.ListQueries(ctx, &queryv1.ListQueriesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, q := range resp.GetQueries() {
			all = append(all, q.GetId())
		}
		return strings.Join(all, " "), strings.Join(resp.GetWarnings(), "; ")
	}
	if ids, warnings := list(); ids != "theirs "+a.id || warnings != "" {
		t.Errorf("listed %q, %q", ids, warnings)
	}
	cancel := func(id string) error {
		t.Helper()
		_, err := s.CancelQuery(ctx, &queryv1.CancelQueryRequest{Id: id})
		return err
	}
	if err := cancel("theirs"); err != nil {
		t.Errorf("another querier's: %v", err)
	}
	if err := cancel("nobody's"); !rpcerr.Is(err, rpcerr.NotFound) {
		t.Errorf("nobody's: %v", err)
	}
	peers.broken, peers.silent = rpcerr.New(rpcerr.Unavailable, "gone"), []string{"fourth"}
	if ids, warnings := list(); ids != "theirs "+a.id || !strings.Contains(warnings, "third did not answer: gone") || !strings.Contains(warnings, "fourth") {
		t.Errorf("listed %q, %q", ids, warnings)
	}
	if err := cancel("theirs"); err != nil {
		t.Errorf("another querier's, with one broken: %v", err)
	}
	if err := cancel("nobody's"); !rpcerr.Is(err, rpcerr.Unavailable) || !strings.Contains(err.Error(), "third") {
		t.Errorf("nobody's, as far as is known: %v", err)
	}
	if err := cancel(a.id); err != nil {
		t.Errorf("the own one: %v", err)
	}
	if <-own.Done(); !rpcerr.Is(context.Cause(own), ReasonCancelled) {
		t.Errorf("it ends with %v", context.Cause(own))
	}
	done()
	if ids, _ := list(); ids != "theirs" {
		t.Errorf("listed %q when it is over", ids)
	}
}

// A query that waits gives up with its context, and leaves nothing behind.
func TestWaitingQueryGivesUp(t *testing.T) {
	s := New(Config{MaxConcurrent: 1, MaxQueued: 1, MaxCost: 1}, Deps{Log: slog.New(slog.DiscardHandler), Limits: defaults{}, Memory: 1 << 30, Now: func() time.Time { return day }})
	ctx := tenant.NewContext(t.Context(), "t")
	sc, err := s.scope(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, _, done, err := s.begin(ctx, sc, work{})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, _, err := s.begin(gone, sc, work{}); !errors.Is(err, context.Canceled) {
		t.Errorf("it gives up with %v", err)
	}
	if n := s.gate.queue.waiting; n != [lanes]int{} || len(s.gate.active) != 1 {
		t.Errorf("%v wait, %d are known", n, len(s.gate.active))
	}
	done()
	if len(s.gate.active) != 0 || len(s.gate.queue.tenants) != 0 {
		t.Errorf("%d queries, %d tenants are left", len(s.gate.active), len(s.gate.queue.tenants))
	}
}
