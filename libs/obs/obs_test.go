package obs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, change func(*obs.Config)) (*obs.Telemetry, *buffer) {
	t.Helper()
	cfg := obs.DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	out := new(buffer)
	tel, err := obs.Start(t.Context(), cfg, obs.BuildInfo{Program: "weir", Version: "1"}, out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tel, out
}

func TestConfig(t *testing.T) {
	bad := obs.Config{Log: obs.LogConfig{Level: "loud", Format: "xml"}, Tracing: obs.TracingConfig{Endpoint: "host:4317", SampleRatio: 2}}
	err := bad.Validate()
	for _, want := range []string{"level must", "format must", "slow_request must", "endpoint", "sample_ratio must"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %s in %v", want, err)
		}
	}
}

func TestLoggerKnowsTheRequest(t *testing.T) {
	var out bytes.Buffer
	log, level := obs.NewLogger(&out, obs.LogConfig{Level: "warn", Format: "json"})
	ctx := tenant.NewContext(obs.WithRequestID(t.Context(), "r1"), "team-a")
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
	log.InfoContext(ctx, "not said")
	level.Set(slog.LevelInfo)
	log.With("k", "v").InfoContext(ctx, "said")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err, out.String())
	}
	for k, want := range map[string]string{"msg": "said", "k": "v", "request_id": "r1", "tenant": "team-a", "trace_id": "01000000000000000000000000000000"} {
		if line[k] != want {
			t.Errorf("%s is %v, want %s", k, line[k], want)
		}
	}
}

func TestLevelHandler(t *testing.T) {
	level := new(slog.LevelVar)
	h := obs.LevelHandler(level)
	do := func(method, url string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, url, nil))
		return w
	}
	if w := do("GET", "/log_level"); w.Code != 200 || !strings.Contains(w.Body.String(), "Current log level is info") {
		t.Error(w.Code, w.Body)
	}
	if w := do("POST", "/log_level?log_level=debug"); w.Code != 200 || level.Level() != slog.LevelDebug {
		t.Error(w.Code, w.Body)
	}
	if w := do("POST", "/log_level?log_level=loud"); w.Code != 400 || level.Level() != slog.LevelDebug {
		t.Error(w.Code, w.Body)
	}
	if w := do("PUT", "/log_level"); w.Code != 405 {
		t.Error(w.Code)
	}
}

// chain is the telemetry around a mux, behind a real server.
func chain(t *testing.T, tel *obs.Telemetry) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ok/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, obs.RequestIDFrom(r.Context()))
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("at the disco") })
	mux.HandleFunc("/told", func(http.ResponseWriter, *http.Request) {
		panic(fmt.Errorf("not told: %w", rpcerr.New(rpcerr.Internal, "told")))
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("half an answer", 1000))
		panic("too late")
	})
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/named", func(w http.ResponseWriter, r *http.Request) {
		obs.SetRoute(r.Context(), "/by-handler")
		w.WriteHeader(503)
	})
	srv := httptest.NewUnstartedServer(tel.HTTP(obs.Routes(mux)))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.Start()
	t.Cleanup(func() { srv.Close(); http.DefaultClient.CloseIdleConnections() })
	return srv.URL
}

func fetch(t *testing.T, method, url, id string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if id != "" {
		req.Header.Set(obs.RequestIDHeader, id)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestHTTP(t *testing.T) {
	tel, out := start(t, nil)
	url := chain(t, tel)
	for id, kept := range map[string]bool{"abc-123": true, "": false, "a b": false, strings.Repeat("x", 129): false} {
		resp, body, err := fetch(t, "GET", url+"/ok/1", id)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(err)
		}
		if got := resp.Header.Get(obs.RequestIDHeader); got == "" || got != body || (got == id) != kept {
			t.Errorf("%q: header %q, context %q", id, got, body)
		}
	}
	if resp, body, err := fetch(t, "GET", url+"/panic", "p1"); err != nil || resp.StatusCode != 500 || body != "internal error\n" {
		t.Error(resp, body, err)
	}
	if resp, body, err := fetch(t, "GET", url+"/told", ""); err != nil || resp.StatusCode != 500 || body != "told\n" {
		t.Error(resp, body, err)
	}
	if _, _, err := fetch(t, "GET", url+"/late", ""); err == nil {
		t.Error("half an answer looks whole")
	}
	if _, _, err := fetch(t, "GET", url+"/abort", ""); err == nil {
		t.Error("an aborted answer looks whole")
	}
	for _, path := range []string{"/nowhere", "/" + strings.Repeat("a", 99)} {
		if resp, _, err := fetch(t, "BREW", url+path, ""); err != nil || resp.StatusCode != 404 {
			t.Error(resp, err)
		}
	}
	if _, _, err := fetch(t, "POST", url+"/named", ""); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(collector(t, tel, "weir_panics_total")); n != 3 {
		t.Error("panics:", n)
	}
	counts := counts(t, tel)
	for series, want := range map[string]uint64{
		"/ok/{id} GET 200": 4, "/panic GET 500": 1, "other OTHER 404": 2, "/by-handler POST 503": 1, "/late GET aborted": 1, "/abort GET aborted": 1,
	} {
		if counts[series] != want {
			t.Errorf("%s: %d, want %d in %v", series, counts[series], want, counts)
		}
	}
	if text := out.String(); !regexp.MustCompile(`level=ERROR msg="panic in a request handler".* stack=.*obs_test.* request_id=p1`).MatchString(text) ||
		!regexp.MustCompile(`level=INFO msg=request method=GET path=/panic .*status=500 .*request_id=p1`).MatchString(text) || strings.Contains(text, "path=/ok") {
		t.Error(text)
	}
}

// collector returns the metric as the registry has it now, as something testutil reads.
func collector(t *testing.T, tel *obs.Telemetry, name string) prometheus.Collector {
	t.Helper()
	families, err := tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"})
	for _, f := range families {
		if f.GetName() == name {
			g.Set(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return g
}

func counts(t *testing.T, tel *obs.Telemetry) map[string]uint64 {
	t.Helper()
	families, err := tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "weir_request_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			l := map[string]string{}
			for _, p := range m.GetLabel() {
				l[p.GetName()] = p.GetValue()
			}
			all[l["route"]+" "+l["method"]+" "+l["status"]] += m.GetHistogram().GetSampleCount()
		}
	}
	return all
}

func TestSlowRequestsAreLogged(t *testing.T) {
	tel, out := start(t, func(c *obs.Config) { c.Log.SlowRequest = time.Nanosecond })
	if _, _, err := fetch(t, "GET", chain(t, tel)+"/ok/1", ""); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "level=INFO msg=request method=GET path=/ok/1") {
		t.Error(out.String())
	}
}

func TestLoudRequestsAreBounded(t *testing.T) {
	tel, out := start(t, nil)
	h := tel.HTTP(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	for range 500 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	if n := strings.Count(out.String(), "msg=request"); n < 50 || n > 400 {
		t.Errorf("%d lines for 500 failures", n)
	}
}

func TestGRPC(t *testing.T) {
	tel, out := start(t, func(c *obs.Config) { c.Log.Level = "debug" })
	unary, stream := tel.ServerInterceptors(nil)
	call := func(ctx context.Context, h func(context.Context) error) error {
		next := grpc.UnaryHandler(func(ctx context.Context, _ any) (any, error) { return nil, h(ctx) })
		info := &grpc.UnaryServerInfo{FullMethod: "/test/Call"}
		for i := len(unary) - 1; i >= 0; i-- {
			inner, wrap := next, unary[i]
			next = func(ctx context.Context, req any) (any, error) { return wrap(ctx, req, info, inner) }
		}
		_, err := next(ctx, nil)
		return err
	}
	open := func(ctx context.Context, h func(context.Context) error) error {
		next := grpc.StreamHandler(func(_ any, ss grpc.ServerStream) error { return h(ss.Context()) })
		info := &grpc.StreamServerInfo{FullMethod: "/test/Open"}
		for i := len(stream) - 1; i >= 0; i-- {
			inner, wrap := next, stream[i]
			next = func(srv any, ss grpc.ServerStream) error { return wrap(srv, ss, info, inner) }
		}
		return next(nil, fakeStream{ctx: ctx})
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-request-id", "r7"))
	for name, do := range map[string]func(context.Context, func(context.Context) error) error{"Call": call, "Open": open} {
		seen := ""
		if err := do(ctx, func(ctx context.Context) error { seen = obs.RequestIDFrom(ctx); return nil }); err != nil || seen != "r7" {
			t.Error(name, err, seen)
		}
		if err := do(ctx, func(context.Context) error { panic("here") }); rpcerr.ReasonOf(err) != rpcerr.Internal || status.Convert(err).Message() != "internal error" {
			t.Error(name, err)
		}
		if err := do(ctx, func(context.Context) error { return rpcerr.New(rpcerr.NotFound, "no such thing") }); !rpcerr.Is(err, rpcerr.NotFound) {
			t.Error(name, err)
		}
		got := counts(t, tel)
		for _, code := range []string{"OK", "Internal", "NotFound"} {
			if got["/test/"+name+" gRPC "+code] != 1 {
				t.Error(got)
			}
		}
	}
	if text := out.String(); strings.Count(text, "panic in a request handler") != 2 || strings.Count(text, "level=INFO msg=request") != 2 || !strings.Contains(text, "level=DEBUG msg=request") {
		t.Error(text)
	}
}

type fakeStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (f fakeStream) Context() context.Context    { return f.ctx }
func (f fakeStream) SetHeader(metadata.MD) error { return nil }

func TestInFlight(t *testing.T) {
	bound := obs.NewInFlight(2)
	inside, leave := make(chan struct{}), make(chan struct{})
	h := bound.HTTP(func(r *http.Request) bool { return r.URL.Path == "/tail" })(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			inside <- struct{}{}
			<-leave
		}
	}))
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { get("/wait") })
		<-inside
	}
	if w := get("/"); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Error(w.Code, w.Header())
	}
	unary, _ := bound.ServerInterceptors()
	ok := func(context.Context, any) (any, error) { return nil, nil }
	if _, err := unary(t.Context(), nil, nil, ok); !rpcerr.Is(err, rpcerr.Overloaded) || rpcerr.RetryAfter(err) == 0 {
		t.Error(err)
	}
	if w := get("/tail"); w.Code != 200 {
		t.Error(w.Code)
	}
	close(leave)
	wg.Wait()
	if _, err := unary(t.Context(), nil, nil, ok); err != nil {
		t.Error(err)
	}
	if w := get("/"); w.Code != 200 {
		t.Error(w.Code)
	}
}

// collector is the least OTLP collector.
type traceCollector struct {
	collectorpb.UnimplementedTraceServiceServer
	names chan string
}

func (c *traceCollector) Export(_ context.Context, req *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	for _, r := range req.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				c.names <- span.GetName()
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func TestTracing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	col := &traceCollector{names: make(chan string, 10)}
	srv := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(srv, col)
	go srv.Serve(l) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)
	cfg := obs.DefaultConfig()
	cfg.Tracing.Endpoint, cfg.Log.Level = "http://"+l.Addr().String(), "debug"
	out := new(buffer)
	tel, err := obs.Start(t.Context(), cfg, obs.BuildInfo{Program: "weir"}, out)
	if err != nil {
		t.Fatal(err)
	}
	var seen trace.SpanContext
	h := tel.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = trace.SpanContextFromContext(r.Context()) }))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	h.ServeHTTP(httptest.NewRecorder(), r)
	if seen.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || seen.SpanID().String() == "b7ad6b7169203331" || !seen.IsSampled() {
		t.Error("the caller's trace is not continued:", seen)
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if name := <-col.names; name != "GET" {
		t.Error(name)
	}
	if !strings.Contains(out.String(), "trace_id=0af7651916cd43dd8448eb211c80319c") {
		t.Error(out.String())
	}
}

func TestMetricsHandler(t *testing.T) {
	tel, _ := start(t, nil)
	w := httptest.NewRecorder()
	obs.MetricsHandler(tel.Registry).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`weir_build_info{`, `version="1"`, "go_goroutines", "process_open_fds", "weir_panics_total 0"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Error("missing", want)
		}
	}
}
