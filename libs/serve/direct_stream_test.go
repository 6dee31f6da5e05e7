package serve

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// queries is a QueryService whose streams are made by do.
type queries struct {
	queryv1.UnimplementedQueryServiceServer
	do func(*queryv1.QueryStreamRequest, queryv1.QueryService_QueryStreamServer) error
}

func (q queries) QueryStream(req *queryv1.QueryStreamRequest, s queryv1.QueryService_QueryStreamServer) error {
	return q.do(req, s)
}

func (q queries) Labels(context.Context, *queryv1.LabelsRequest) (*queryv1.LabelsResponse, error) {
	return &queryv1.LabelsResponse{Names: names}, nil
}

var names = []string{"app", "pod"}

// directQueries is a server that was not started: calls over a connection would not get
// anywhere.
func directQueries(t *testing.T, do func(*queryv1.QueryStreamRequest, queryv1.QueryService_QueryStreamServer) error) (*Server, queryv1.QueryServiceClient) {
	t.Helper()
	s, _ := directServer(t, nil)
	queryv1.RegisterQueryServiceServer(s.PublicDirect(), queries{do: do})
	return s, queryv1.NewQueryServiceClient(s.Conn())
}

func page(text string) *queryv1.QueryStreamResponse {
	e := &queryv1.LogEntry{Line: &queryv1.LogEntry_Text{Text: text}}
	return &queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Streams{Streams: &queryv1.Streams{
		Streams: []*queryv1.LogStream{{Entries: []*queryv1.LogEntry{e}}},
	}}}
}

func textOf(m *queryv1.QueryStreamResponse) string {
	return m.GetStreams().GetStreams()[0].GetEntries()[0].GetText()
}

func TestDirectPublic(t *testing.T) {
	_, client := directQueries(t, nil)
	resp, err := client.Labels(tenant.NewContext(t.Context(), "a"), &queryv1.LabelsRequest{})
	if err != nil || len(resp.GetNames()) != 2 || &resp.GetNames()[0] != &names[0] {
		t.Errorf("%v, %v: not the handler's own", resp, err)
	}
}

func TestDirectStream(t *testing.T) {
	const pages = 3 * streamAhead
	_, client := directQueries(t, func(req *queryv1.QueryStreamRequest, s queryv1.QueryService_QueryStreamServer) error {
		ctx := s.Context()
		if id, err := tenant.Require(ctx); err != nil || id != "a" || obs.RequestIDFrom(ctx) != "r-1" {
			t.Errorf("tenant %q, %v; request id %q", id, err, obs.RequestIDFrom(ctx))
		}
		if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md) > 0 {
			t.Errorf("metadata of the caller goes on: %v", md)
		}
		if m, ok := grpc.Method(ctx); !ok || m != queryv1.QueryService_QueryStream_FullMethodName {
			t.Errorf("method %q", m)
		}
		if req.GetQuery().GetQuery() != "{}" {
			t.Errorf("request %v", req)
		}
		req.Query = nil // the handler's own field
		for i := range pages {
			if err := s.Send(page(string(rune('a' + i)))); err != nil {
				t.Error(err)
			}
		}
		return rpcerr.New(rpcerr.RateLimited, "too much").WithRetry(3 * time.Second)
	})
	ctx := obs.WithRequestID(tenant.NewContext(t.Context(), "a"), "r-1")
	req := &queryv1.QueryStreamRequest{Query: &queryv1.QueryRangeRequest{Query: "{}"}}
	stream, err := client.QueryStream(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pages {
		m, err := stream.Recv()
		if err != nil || textOf(m) != string(rune('a'+i)) {
			t.Fatalf("message %d: %v, %v", i, m, err)
		}
	}
	for range 2 {
		if _, err := stream.Recv(); !rpcerr.Is(err, rpcerr.RateLimited) || rpcerr.RetryAfter(err) != 3*time.Second {
			t.Errorf("%v", err)
		}
	}
	if req.GetQuery() == nil {
		t.Error("the handler changed the caller's request")
	}
}

// TestDirectStreamEnds: as it began, or with a panic, or because one of both sides or the
// server ends it.
func TestDirectStreamEnds(t *testing.T) {
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	s, client := directQueries(t, func(req *queryv1.QueryStreamRequest, s queryv1.QueryService_QueryStreamServer) error {
		switch req.GetQuery().GetQuery() {
		case "nothing":
			return nil
		case "panic":
			panic("at once")
		}
		begun <- struct{}{}
		for { // until nobody receives
			if err := s.Send(page("line")); err != nil {
				<-s.Context().Done() // it ends a moment after what it is made of
				ended <- s.Context().Err()
				return err
			}
		}
	})
	start := func(ctx context.Context, query string) queryv1.QueryService_QueryStreamClient {
		t.Helper()
		stream, err := client.QueryStream(tenant.NewContext(ctx, "a"), &queryv1.QueryStreamRequest{Query: &queryv1.QueryRangeRequest{Query: query}})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	for range 2 {
		if _, err := start(t.Context(), "nothing").Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
	}
	if _, err := start(t.Context(), "panic").Recv(); !rpcerr.Is(err, rpcerr.Internal) {
		t.Errorf("%v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	stream := start(ctx, "ever")
	<-begun
	cancel()
	err := error(nil)
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler ended with %v", err)
	}
	if _, err := client.QueryStream(tenant.NewContext(ctx, "a"), &queryv1.QueryStreamRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("called when it was over: %v", err)
	}

	stream = start(t.Context(), "ever")
	<-begun
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("Close did not wait for the handler")
	}
	for err = nil; err == nil; _, err = stream.Recv() { //nolint:revive // until it ends
	}
	if errors.Is(err, io.EOF) {
		t.Error("a stream that was cut ended well")
	}
	if _, err := client.QueryStream(tenant.NewContext(t.Context(), "a"), &queryv1.QueryStreamRequest{}); err == nil {
		t.Error("a closed server answers")
	}
}
