package client_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// statusErr is an error as a server makes it.
func statusErr(code codes.Code, reason, msg string, after time.Duration) error {
	st := status.New(code, msg)
	var d []protoadapt.MessageV1
	if reason != "" {
		d = append(d, &errdetails.ErrorInfo{Reason: reason, Domain: "weir", Metadata: map[string]string{"k": "v"}})
	}
	if after > 0 {
		d = append(d, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	st, err := st.WithDetails(d...)
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// fake is a server that stores entries in memory and fails on demand.
type fake struct {
	pushv1.UnimplementedPushServiceServer
	queryv1.UnimplementedQueryServiceServer
	tailv1.UnimplementedTailServiceServer

	mu       sync.Mutex
	failures []error // for the next pushes, in turn
	fail     func(*pushv1.PushRequest) error
	reject   func(*pushv1.PushRequest) *pushv1.PushResponse
	requests []*pushv1.PushRequest // all that arrived
	stored   []*pushv1.PushRequest // all that were answered well
	tenants  []string
	agents   []string
	deadline []bool

	pages map[string]*queryv1.QueryRangeResponse
	tails []func(*tailv1.TailRequest, grpc.ServerStreamingServer[tailv1.TailResponse]) error
	asked []*tailv1.TailRequest
}

func (f *fake) Push(ctx context.Context, req *pushv1.PushRequest) (*pushv1.PushResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	f.tenants = append(f.tenants, md.Get(client.TenantKey)...)
	f.agents = append(f.agents, md.Get("user-agent")...)
	_, has := ctx.Deadline()
	f.deadline = append(f.deadline, has)
	f.requests = append(f.requests, req)
	if len(f.failures) > 0 {
		err := f.failures[0]
		f.failures = f.failures[1:]
		return nil, err
	}
	if f.fail != nil {
		if err := f.fail(req); err != nil {
			return nil, err
		}
	}
	f.stored = append(f.stored, req)
	if f.reject != nil {
		return f.reject(req), nil
	}
	n := 0
	for _, s := range req.GetStreams() {
		n += len(s.GetEntries())
	}
	return &pushv1.PushResponse{AcceptedEntries: uint64(n)}, nil
}

func (f *fake) PushStream(s grpc.BidiStreamingServer[pushv1.PushStreamRequest, pushv1.PushStreamResponse]) error {
	var held []*pushv1.PushStreamResponse // answers go out in pairs, swapped
	for {
		in, err := s.Recv()
		if err != nil {
			for _, h := range held {
				if err := s.Send(h); err != nil {
					return err
				}
			}
			return nil
		}
		if f.isBreak(in) {
			return status.Error(codes.Unavailable, "gone")
		}
		out := &pushv1.PushStreamResponse{Sequence: in.GetSequence()}
		if resp, err := f.Push(s.Context(), in.GetBatch()); err != nil {
			e := client.AsError(err)
			out.Outcome = &pushv1.PushStreamResponse_Error{Error: &pushv1.PushError{
				Code: int32(e.Code), Reason: e.Reason, Message: e.Message, RetryAfterMillis: uint32(e.RetryAfter.Milliseconds()),
			}}
		} else {
			out.Outcome = &pushv1.PushStreamResponse_Response{Response: resp}
		}
		if held = append(held, out); len(held) == 2 {
			for _, h := range []*pushv1.PushStreamResponse{held[1], held[0]} {
				if err := s.Send(h); err != nil {
					return err
				}
			}
			held = nil
		}
	}
}

func (f *fake) isBreak(in *pushv1.PushStreamRequest) bool {
	return len(in.GetBatch().GetStreams()) == 1 && in.GetBatch().GetStreams()[0].GetLabels()["break"] != ""
}

func (f *fake) QueryRange(_ context.Context, req *queryv1.QueryRangeRequest) (*queryv1.QueryRangeResponse, error) {
	if p := f.pages[req.GetCursor()]; p != nil {
		return p, nil
	}
	return nil, statusErr(codes.InvalidArgument, "PARSE_ERROR", "no such page", 0)
}

func (f *fake) QueryStream(req *queryv1.QueryStreamRequest, s grpc.ServerStreamingServer[queryv1.QueryStreamResponse]) error {
	if err := s.Send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Progress{Progress: &queryv1.Progress{BytesRead: 1}}}); err != nil {
		return err
	}
	if req.GetQuery().GetQuery() == "cut" {
		return nil
	}
	if req.GetQuery().GetQuery() == "hang" {
		<-s.Context().Done()
		return s.Context().Err()
	}
	return s.Send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Done{Done: &queryv1.Done{}}})
}

func (f *fake) FormatQuery(_ context.Context, r *queryv1.FormatQueryRequest) (*queryv1.FormatQueryResponse, error) {
	return &queryv1.FormatQueryResponse{Query: "formatted " + r.GetQuery()}, nil
}

func (f *fake) Tail(req *tailv1.TailRequest, s grpc.ServerStreamingServer[tailv1.TailResponse]) error {
	f.mu.Lock()
	f.asked = append(f.asked, req)
	if len(f.tails) == 0 {
		f.mu.Unlock()
		<-s.Context().Done()
		return s.Context().Err()
	}
	t := f.tails[0]
	f.tails = f.tails[1:]
	f.mu.Unlock()
	return t(req, s)
}

// start serves f in memory and gives a client of it.
func start(t *testing.T, f *fake, opts ...client.Option) *client.Client {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	pushv1.RegisterPushServiceServer(srv, f)
	queryv1.RegisterQueryServiceServer(srv, f)
	tailv1.RegisterTailServiceServer(srv, f)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(lis) }()
	opts = append([]client.Option{
		client.WithInsecure(),
		client.WithBackoff(client.Backoff{Min: time.Microsecond, Max: time.Millisecond}),
		client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })),
	}, opts...)
	c, err := client.Dial("passthrough:///weir", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); srv.Stop(); <-served })
	return c
}
