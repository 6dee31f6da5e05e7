package gateway_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/serve"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/services/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is the other services: what it answers is what a test says, and it keeps
// what it was asked.
type backend struct {
	ingestv1.UnimplementedWriteServiceServer
	queryv1.UnimplementedQueryServiceServer
	tailv1.UnimplementedTailServiceServer
	adminv1.UnimplementedAdminServiceServer
	storagev1.UnimplementedStorageServiceServer

	write  func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error)
	query  func(*queryv1.QueryRequest) (*queryv1.QueryResponse, error)
	stream func(*queryv1.QueryStreamRequest, queryv1.QueryService_QueryStreamServer) error
	tail   func(*tailv1.TailRequest, tailv1.TailService_TailServer) error

	// handed is called with each request as the gateway made it; nil: it is not.
	handed func(*ingestv1.WriteRequest)

	warnings []string // of answers about streams, fields and patterns

	mu       sync.Mutex
	tenants  []string
	incoming []metadata.MD
	asked    []any
}

func (b *backend) note(ctx context.Context, req any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, _ := tenant.FromContext(ctx)
	md, _ := metadata.FromIncomingContext(ctx)
	b.tenants, b.incoming, b.asked = append(b.tenants, id), append(b.incoming, md), append(b.asked, req)
}

// last returns the last request, which has type T.
func last[T any](t *testing.T, b *backend) T {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) == 0 {
		t.Fatal("nothing was asked")
	}
	v, ok := b.asked[len(b.asked)-1].(T)
	if !ok {
		t.Fatalf("asked %T", b.asked[len(b.asked)-1])
	}
	return v
}

func (b *backend) Write(ctx context.Context, r *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
	b.note(ctx, r)
	if b.write != nil {
		return b.write(ctx, r)
	}
	n := uint64(0)
	for _, s := range r.GetStreams() {
		n += uint64(len(s.GetTimes()))
	}
	return &ingestv1.WriteResponse{AcceptedEntries: n}, nil
}

func (b *backend) Query(ctx context.Context, r *queryv1.QueryRequest) (*queryv1.QueryResponse, error) {
	b.note(ctx, r)
	return b.query(r)
}

func (b *backend) QueryStream(r *queryv1.QueryStreamRequest, s queryv1.QueryService_QueryStreamServer) error {
	b.note(s.Context(), r)
	return b.stream(r, s)
}

func (b *backend) QueryRange(ctx context.Context, r *queryv1.QueryRangeRequest) (*queryv1.QueryRangeResponse, error) {
	b.note(ctx, r)
	return &queryv1.QueryRangeResponse{Result: &queryv1.QueryRangeResponse_Matrix{Matrix: &queryv1.Matrix{Series: []*queryv1.Series{
		{Labels: map[string]string{"app": "x"}, Samples: []*queryv1.Sample{{TimestampUnixNano: 60e9, Value: 5}}},
	}}}}, nil
}

func (b *backend) Labels(ctx context.Context, r *queryv1.LabelsRequest) (*queryv1.LabelsResponse, error) {
	b.note(ctx, r)
	return &queryv1.LabelsResponse{Names: []string{"app", "service_name"}, Warnings: b.warnings}, nil
}

func (b *backend) LabelValues(ctx context.Context, r *queryv1.LabelValuesRequest) (*queryv1.LabelValuesResponse, error) {
	b.note(ctx, r)
	return &queryv1.LabelValuesResponse{Warnings: b.warnings}, nil
}

func (b *backend) Series(ctx context.Context, r *queryv1.SeriesRequest) (*queryv1.SeriesResponse, error) {
	b.note(ctx, r)
	return &queryv1.SeriesResponse{Warnings: b.warnings, Series: []*queryv1.LabelSet{{Labels: map[string]string{"b": "2", "a": `1"`}}, {Labels: map[string]string{"a": "x", "b": "3"}}}}, nil
}

func (b *backend) Stats(ctx context.Context, r *queryv1.StatsRequest) (*queryv1.StatsResponse, error) {
	b.note(ctx, r)
	return &queryv1.StatsResponse{Streams: 1, Runs: 2, Bytes: 3, Entries: 4, Warnings: b.warnings}, nil
}

func (b *backend) FormatQuery(ctx context.Context, r *queryv1.FormatQueryRequest) (*queryv1.FormatQueryResponse, error) {
	b.note(ctx, r)
	if r.GetQuery() == "{" {
		return nil, rpcerr.New(rpcerr.ParseError, "parse error at line 1, col 2: \"quoted\"")
	}
	return &queryv1.FormatQueryResponse{Query: `{app="x"} |= "y"`}, nil
}

func (b *backend) Tail(r *tailv1.TailRequest, s tailv1.TailService_TailServer) error {
	b.note(s.Context(), r)
	return b.tail(r, s)
}

func (b *backend) Flush(ctx context.Context, r *adminv1.FlushRequest) (*adminv1.FlushResponse, error) {
	b.note(ctx, r)
	return &adminv1.FlushResponse{}, nil
}

// env is a gateway in a process of its own, with everything else behind it.
type env struct {
	*testing.T
	backend *backend
	url     string
	grpc    *grpc.ClientConn
}

// handedClient is a client that tells of requests as they are handed to it.
type handedClient struct {
	ingestv1.WriteServiceClient
	backend *backend
}

func (c handedClient) Write(ctx context.Context, r *ingestv1.WriteRequest, opts ...grpc.CallOption) (*ingestv1.WriteResponse, error) {
	if c.backend.handed != nil {
		c.backend.handed(r)
	}
	return c.WriteServiceClient.Write(ctx, r, opts...)
}

type limitsFor limits.Limits

func (l limitsFor) For(string) limits.Limits { return limits.Limits(l) }

func start(t *testing.T, change ...func(*limits.Limits, *gateway.Config)) *env {
	t.Helper()
	b := &backend{}
	behind := bufconn.Listen(1 << 20)
	unary, stream := rpcerr.ServerInterceptors(nil, slog.New(slog.DiscardHandler))
	tu, ts := tenant.ServerInterceptors(tenant.ByHeader{}, nil)
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(unary, tu), grpc.ChainStreamInterceptor(stream, ts), grpc.MaxRecvMsgSize(16<<20))
	ingestv1.RegisterWriteServiceServer(server, b)
	queryv1.RegisterQueryServiceServer(server, b)
	tailv1.RegisterTailServiceServer(server, b)
	storagev1.RegisterStorageServiceServer(server, b)
	go server.Serve(behind) //nolint:errcheck // it ends with the test

	tel, err := obs.Start(t.Context(), obs.DefaultConfig(), obs.BuildInfo{}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cfg := serve.DefaultConfig()
	cfg.Listen, cfg.GRPCListen = "127.0.0.1:0", "127.0.0.1:0"
	srv, err := serve.New(cfg, serve.Options{Telemetry: tel, InFlightExempt: gateway.LongLived})
	if err != nil {
		t.Fatal(err)
	}
	cu, cs := rpcerr.ClientInterceptors(nil)
	ttu, tts := tenant.ClientInterceptors()
	conn, err := grpc.NewClient("passthrough:///behind",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(cu, ttu), grpc.WithChainStreamInterceptor(cs, tts),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return behind.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	adminv1.RegisterAdminServiceServer(srv.Public(), b)
	lim, gcfg := limits.Default(), gateway.DefaultConfig()
	gcfg.DecodeMemory = 256 << 20
	for _, f := range change {
		f(&lim, &gcfg)
	}
	g := gateway.New(gcfg, gateway.Deps{
		Log: tel.Log, Reg: tel.Registry, Limits: limitsFor(lim),
		Write: handedClient{ingestv1.NewWriteServiceClient(conn), b}, Query: queryv1.NewQueryServiceClient(conn), Tail: tailv1.NewTailServiceClient(conn),
		Admin: adminv1.NewAdminServiceClient(srv.Conn()), Own: srv.Conn(), Proxies: true,
		Storage: storagev1.NewStorageServiceClient(conn), ProxiesStorage: true,
		Build: gateway.BuildInfo{Version: "1.2.3", Revision: "abc", Branch: "main", Date: "today", User: "me", GoVersion: "go1"},
	})
	g.Register(srv.Public())
	if err := g.Routes(srv.Mux()); err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	srv.SetReady()
	client, err := grpc.NewClient(srv.Addr(serve.DoorGRPC).String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		_ = client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := srv.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		server.Stop()
		_ = behind.Close()
		if err := tel.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return &env{T: t, backend: b, url: "http://" + srv.Addr(serve.DoorHTTP).String(), grpc: client}
}

// call sends an HTTP request; headers are pairs.
func (e *env) call(method, path string, body []byte, headers ...string) (*http.Response, string) {
	e.Helper()
	req, err := http.NewRequestWithContext(e.Context(), method, e.url+path, bytes.NewReader(body))
	if err != nil {
		e.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		e.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		e.Fatal(err)
	}
	if strings.HasPrefix(path, "/api/v1/") {
		// The protobuf runtime puts spaces behind commas, or does not, by build.
		return resp, strings.ReplaceAll(string(text), ", ", ",")
	}
	return resp, string(text)
}

// want calls and checks status and a part of the body.
func (e *env) want(code int, part, method, path, body string, headers ...string) (*http.Response, string) {
	e.Helper()
	resp, text := e.call(method, path, []byte(body), headers...)
	if resp.StatusCode != code || !strings.Contains(text, part) {
		e.Errorf("%s %s %.200s: %d %.600s, want %d %s", method, path, body, resp.StatusCode, text, code, part)
	}
	return resp, text
}
