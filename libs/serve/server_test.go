package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

var errGone = errors.New("gone")

// tester is a service: Who answers with the tenant, Wait and Tail last until they are released or
// their context ends, Listen reads its client's messages.
type tester struct {
	entered chan string
	release chan struct{}
}

func newTester() *tester {
	return &tester{entered: make(chan string, 10), release: make(chan struct{})}
}

func (x *tester) wait(ctx context.Context, what string) error {
	x.entered <- what
	select {
	case <-x.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *tester) desc(name string) *grpc.ServiceDesc {
	unary := func(method string, h func(ctx context.Context) (any, error)) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: method, Handler: func(_ any, ctx context.Context, dec func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			if err := dec(new(emptypb.Empty)); err != nil {
				return nil, err
			}
			return i(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/" + name + "/" + method}, func(ctx context.Context, _ any) (any, error) { return h(ctx) })
		}}
	}
	return &grpc.ServiceDesc{
		ServiceName: name, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			unary("Who", func(ctx context.Context) (any, error) {
				id, err := tenant.Require(ctx)
				return wrapperspb.String(id + " " + obs.RequestIDFrom(ctx)), err
			}),
			unary("Fail", func(context.Context) (any, error) { return nil, fmt.Errorf("here: %w", errGone) }),
			unary("Panic", func(context.Context) (any, error) { panic("boo") }),
			unary("Wait", func(ctx context.Context) (any, error) { return new(wrapperspb.StringValue), x.wait(ctx, "Wait") }),
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Tail", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				if err := s.RecvMsg(new(emptypb.Empty)); err != nil {
					return err
				}
				return x.wait(s.Context(), "Tail")
			}},
			{StreamName: "Listen", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				x.entered <- "Listen"
				for {
					if err := s.RecvMsg(new(emptypb.Empty)); err != nil {
						return err
					}
				}
			}},
		},
	}
}

type fixture struct {
	*Server
	x    *tester
	logs *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// build makes a server that is not started.
func build(t *testing.T, change func(*Config, *Options)) *fixture {
	t.Helper()
	f := &fixture{x: newTester(), logs: new(lockedBuffer)}
	tel, err := obs.Start(t.Context(), obs.DefaultConfig(), obs.BuildInfo{Program: "test"}, f.logs)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Listen, cfg.GRPCListen = "127.0.0.1:0", "127.0.0.1:0"
	o := Options{Telemetry: tel, Errors: rpcerr.Table{{Err: errGone, Reason: "GONE", Code: 5}}}
	if change != nil {
		change(&cfg, &o)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if f.Server, err = New(cfg, o); err != nil {
		t.Fatal(err)
	}
	f.grace = 0
	f.Public().RegisterService(f.x.desc("test.Public"), f.x)
	f.Internal().RegisterService(f.x.desc("test.Internal"), f.x)
	f.Mux().HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) {
		id, _ := tenant.FromContext(r.Context())
		_, _ = io.WriteString(w, id)
	})
	f.Mux().HandleFunc("GET /wait", func(w http.ResponseWriter, r *http.Request) {
		if f.x.wait(r.Context(), "/wait") == nil {
			_, _ = io.WriteString(w, "done")
		}
	})
	f.Mux().HandleFunc("POST /read", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			rpcerr.WriteHTTP(w, r, err)
			return
		}
		_, _ = fmt.Fprint(w, n)
	})
	return f
}

// open makes a server that takes requests.
func open(t *testing.T, change func(*Config, *Options)) *fixture {
	t.Helper()
	f := build(t, change)
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	f.SetReady()
	return f
}

func dial(t *testing.T, f *fixture, d Door) *grpc.ClientConn {
	t.Helper()
	if d == DoorMemory {
		return f.Conn()
	}
	conn, err := grpc.NewClient(f.Addr(d).String(), f.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func invoke(ctx context.Context, conn *grpc.ClientConn, method string) (string, error) {
	out := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, method, new(emptypb.Empty), out)
	return out.GetValue(), err
}

func get(t *testing.T, f *fixture, path string, set ...string) (int, string, http.Header) {
	t.Helper()
	return do(t, f, "GET", path, nil, set...)
}

func do(t *testing.T, f *fixture, method, path string, body io.Reader, set ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+f.Addr(DoorHTTP).String()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(set); i += 2 {
		req.Header.Add(set[i], set[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

func TestDoors(t *testing.T) {
	f := open(t, nil)
	for _, d := range []Door{DoorHTTP, DoorGRPC, DoorMemory} {
		conn := dial(t, f, d)
		ctx := obs.WithRequestID(tenant.NewContext(t.Context(), "team-a"), "r1")
		if got, err := invoke(ctx, conn, "/test.Public/Who"); err != nil || got != "team-a r1" {
			t.Errorf("door %d: %q, %v", d, got, err)
		}
		if _, err := invoke(ctx, conn, "/test.Public/Fail"); !errors.Is(err, errGone) {
			t.Errorf("door %d: %v", d, err)
		}
		if _, err := invoke(ctx, conn, "/test.Public/Panic"); !rpcerr.Is(err, rpcerr.Internal) || err.Error() != "internal error" {
			t.Errorf("door %d: %v", d, err)
		}
		bad := metadata.AppendToOutgoingContext(t.Context(), "x", "y")
		if _, err := invoke(tenant.NewContext(bad, "a|b"), conn, "/test.Public/Who"); !rpcerr.Is(err, rpcerr.InvalidTenant) {
			t.Errorf("door %d: %v", d, err)
		}
		want := rpcerr.Reason("")
		if d == DoorHTTP {
			want = rpcerr.Unsupported
		}
		if _, err := invoke(ctx, conn, "/test.Internal/Who"); rpcerr.ReasonOf(err) != want {
			t.Errorf("door %d: internal service: %v", d, err)
		}
		if h, err := healthpb.NewHealthClient(conn).Check(t.Context(), new(healthpb.HealthCheckRequest)); err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("door %d: %v, %v", d, h, err)
		}
		if d != DoorMemory {
			if names := reflected(t, conn); !strings.Contains(names, "test.Public") || strings.Contains(names, "test.Internal") != (d == DoorGRPC) {
				t.Errorf("door %d: %s", d, names)
			}
		}
	}
	if code, body, header := get(t, f, "/who", tenant.Header, "b"); code != 200 || body != "b" || header.Get(obs.RequestIDHeader) == "" {
		t.Error(code, body, header)
	}
	// Whether a request may be of several tenants is for who answers it.
	if code, body, _ := get(t, f, "/who", tenant.Header, "b|a"); code != 200 || body != "a|b" {
		t.Error(code, body)
	}
	if code, body, _ := get(t, f, "/who", tenant.Header, "a|/"); code != 400 {
		t.Error(code, body)
	}
	if code, _, _ := get(t, f, "/nowhere"); code != 404 {
		t.Error(code)
	}
	// A gRPC request over HTTP/1.1 is nothing for gRPC.
	if code, _, _ := do(t, f, "POST", "/test.Public/Who", strings.NewReader("x"), "Content-Type", "application/grpc"); code != 404 {
		t.Error(code)
	}
}

func reflected(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	s, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = s.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	resp, err2 := s.Recv()
	if err := errors.Join(err, err2, s.CloseSend()); err != nil {
		return err.Error()
	}
	return resp.GetListServicesResponse().String()
}

func TestUnencryptedHTTP2(t *testing.T) {
	f := open(t, nil)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://" + f.Addr(DoorHTTP).String() + "/who")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read
	if body, _ := io.ReadAll(resp.Body); resp.ProtoMajor != 2 || string(body) != "fake" {
		t.Error(resp.Proto, string(body))
	}
}

func TestNoReflection(t *testing.T) {
	f := open(t, func(_ *Config, o *Options) { o.NoReflection = true })
	if names := reflected(t, dial(t, f, DoorGRPC)); strings.Contains(names, "test.Public") {
		t.Error(names)
	}
}

type denied struct{}

func (denied) Authenticate(context.Context, http.Header) (string, error) {
	return "", rpcerr.New(rpcerr.Unauthenticated, "no credentials")
}

func TestAuthentication(t *testing.T) {
	f := open(t, func(_ *Config, o *Options) { o.Tenants = denied{} })
	ctx := tenant.NewContext(t.Context(), "a")
	for d, want := range map[Door]rpcerr.Reason{DoorHTTP: rpcerr.Unauthenticated, DoorGRPC: rpcerr.Unauthenticated, DoorMemory: ""} {
		if _, err := invoke(ctx, dial(t, f, d), "/test.Public/Who"); rpcerr.ReasonOf(err) != want {
			t.Errorf("door %d: %v", d, err)
		}
	}
	if code, _, _ := get(t, f, "/who", tenant.Header, "a"); code != 401 {
		t.Error(code)
	}
	if code, _, _ := get(t, f, "/ready"); code != 200 {
		t.Error(code)
	}
}

func TestReadiness(t *testing.T) {
	f := build(t, nil)
	broken := errors.New("no peers")
	f.AddCheck("ring", func(context.Context) error { return broken })
	alone := ""
	f.AddCondition("gossip", func() string { return alone })
	f.AddCondition("disk", func() string { return "" })
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); _ = f.Close() })
	conn := dial(t, f, DoorGRPC)
	serving := func() healthpb.HealthCheckResponse_ServingStatus {
		h, err := healthpb.NewHealthClient(conn).Check(t.Context(), new(healthpb.HealthCheckRequest))
		if err != nil {
			t.Fatal(err)
		}
		return h.GetStatus()
	}
	refused := func(text string) {
		t.Helper()
		if code, body, h := get(t, f, "/who"); code != 503 || body != text+"\n" || h.Get("Retry-After") == "" {
			t.Error(code, body, h)
		}
		if _, err := invoke(t.Context(), conn, "/test.Public/Who"); !rpcerr.Is(err, rpcerr.NotReady) || err.Error() != text {
			t.Error(err)
		}
		if code, body, _ := get(t, f, "/ready"); code != 503 || body != text+"\n" {
			t.Error(code, body)
		}
		if serving() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Error("health says serving")
		}
		if code, _, _ := get(t, f, "/metrics"); code != 200 {
			t.Error("metrics:", code)
		}
		if _, err := invoke(tenant.NewContext(t.Context(), "a"), f.Conn(), "/test.Internal/Who"); err != nil {
			t.Error("memory door:", err)
		}
	}
	refused("the server is starting")
	f.SetReady()
	if code, body, _ := get(t, f, "/ready"); code != 503 || body != "ring: no peers\n" {
		t.Error(code, body)
	}
	broken = nil
	if code, body, _ := get(t, f, "/ready"); code != 200 || body != "ready\n" {
		t.Error(code, body)
	}
	if _, err := invoke(t.Context(), conn, "/test.Public/Who"); err != nil || serving() != healthpb.HealthCheckResponse_SERVING {
		t.Error(err)
	}
	alone = "nobody is heard"
	if code, body, _ := get(t, f, "/ready"); code != 200 || body != "degraded\ngossip: nobody is heard\n" || serving() != healthpb.HealthCheckResponse_SERVING {
		t.Error(code, body)
	}
	if _, body, _ := get(t, f, "/metrics"); !strings.Contains(body, `weir_degraded{condition="gossip"} 1`) || !strings.Contains(body, `weir_degraded{condition="disk"} 0`) {
		t.Error(body)
	}
	alone = ""
	if code, body, _ := get(t, f, "/ready"); code != 200 || body != "ready\n" {
		t.Error(code, body)
	}
}

func TestDrainWaitsForRequests(t *testing.T) {
	f := open(t, nil)
	conns := []*grpc.ClientConn{dial(t, f, DoorHTTP), dial(t, f, DoorGRPC)}
	var calls sync.WaitGroup
	for _, conn := range conns {
		calls.Go(func() {
			if _, err := invoke(t.Context(), conn, "/test.Public/Wait"); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Go(func() {
		if code, body, _ := get(t, f, "/wait"); code != 200 || body != "done" {
			t.Error(code, body)
		}
	})
	for range 3 {
		<-f.x.entered
	}
	drained := make(chan error, 1)
	go func() { drained <- f.Drain(t.Context()) }()
	<-f.Draining()
	select {
	case err := <-drained:
		t.Fatal("drained with requests in flight:", err)
	default:
	}
	if _, err := invoke(tenant.NewContext(t.Context(), "a"), f.Conn(), "/test.Internal/Who"); err != nil {
		t.Error("the memory door is closed:", err)
	}
	close(f.x.release)
	calls.Wait()
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", f.Addr(DoorHTTP).String()); err == nil {
		t.Error("the HTTP port is still open")
	}
	select {
	case err := <-f.Failures():
		t.Error("a stop is no failure:", err)
	default:
	}
}

func TestDrainEndsStreams(t *testing.T) {
	f := open(t, nil)
	var streams []grpc.ClientStream
	for _, d := range []Door{DoorHTTP, DoorGRPC, DoorMemory} {
		for _, method := range []string{"Tail", "Listen"} {
			s, err := dial(t, f, d).NewStream(tenant.NewContext(t.Context(), "a"), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Public/"+method)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SendMsg(new(emptypb.Empty)); err != nil {
				t.Fatal(err)
			}
			if method == "Tail" {
				if err := s.CloseSend(); err != nil {
					t.Fatal(err)
				}
			}
			streams = append(streams, s)
			<-f.x.entered
		}
	}
	if err := f.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	for i, s := range streams {
		if err := s.RecvMsg(new(emptypb.Empty)); !rpcerr.Is(err, rpcerr.NotReady) || err.Error() != "the server is stopping" {
			t.Errorf("stream %d: %v", i, err)
		}
	}
}

func TestDrainIsBounded(t *testing.T) {
	f := open(t, nil)
	var calls sync.WaitGroup
	for _, d := range []Door{DoorHTTP, DoorGRPC} {
		conn := dial(t, f, d)
		calls.Go(func() {
			if _, err := invoke(t.Context(), conn, "/test.Public/Wait"); err == nil {
				t.Error("a request that was cut has no error")
			}
		})
		<-f.x.entered
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Drain(ctx); err == nil || !strings.Contains(err.Error(), "were cut") {
		t.Error(err)
	}
	calls.Wait()
}

func TestInFlightBound(t *testing.T) {
	f := open(t, func(c *Config, o *Options) {
		c.MaxInFlight = 1
		o.InFlightExempt = func(r *http.Request) bool { return r.URL.Path == "/who" }
	})
	done := make(chan struct{})
	go func() { defer close(done); get(t, f, "/wait") }()
	<-f.x.entered
	if code, _, h := get(t, f, "/wait"); code != 503 || h.Get("Retry-After") != "1" {
		t.Error(code, h)
	}
	if _, err := invoke(t.Context(), dial(t, f, DoorGRPC), "/test.Public/Who"); !rpcerr.Is(err, rpcerr.Overloaded) {
		t.Error(err)
	}
	if _, err := invoke(tenant.NewContext(t.Context(), "a"), f.Conn(), "/test.Public/Who"); err != nil {
		t.Error("services must still reach each other:", err)
	}
	for _, path := range []string{"/who", "/ready", "/metrics"} {
		if code, _, _ := get(t, f, path); code != 200 {
			t.Error(path, code)
		}
	}
	close(f.x.release)
	<-done
}
