package weirctl

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

func runningQuery() *queryv1.RunningQuery {
	return &queryv1.RunningQuery{
		Id: "A1", Tenant: "t", Kind: "QueryStream", Query: "{app=\"x\"} |= `\x1b`", Start: timestamppb.New(noon.Add(-time.Hour)), End: timestamppb.New(noon),
		State: queryv1.QueryState_QUERY_STATE_RUNNING, Received: timestamppb.New(noon.Add(-3 * time.Second)), Age: durationpb.New(3 * time.Second),
		QueueTime: durationpb.New(time.Second / 4), Cost: 5e9, BytesRead: 1234567, BytesTotal: 4e9, EntriesRead: 54321, Querier: "querier-1",
	}
}

func (f *fakeServer) ListQueries(context.Context, *queryv1.ListQueriesRequest) (*queryv1.ListQueriesResponse, error) {
	return &queryv1.ListQueriesResponse{Warnings: []string{"querier querier-2 did not answer: gone"}, Queries: []*queryv1.RunningQuery{runningQuery(), {
		Id: "B2", Kind: "Labels", State: queryv1.QueryState_QUERY_STATE_WAITING, Received: timestamppb.New(noon), Age: durationpb.New(120 * time.Millisecond),
		QueueTime: durationpb.New(120 * time.Millisecond),
	}}}, nil
}

func (f *fakeServer) CancelQuery(_ context.Context, r *queryv1.CancelQueryRequest) (*queryv1.CancelQueryResponse, error) {
	if r.GetId() != "A1" {
		return nil, reasoned(codes.NotFound, "NOT_FOUND", "no query %q runs or waits", r.GetId())
	}
	q := runningQuery()
	q.State = queryv1.QueryState_QUERY_STATE_CANCELLED
	return &queryv1.CancelQueryResponse{Query: q}, nil
}
