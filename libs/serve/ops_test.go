package serve

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/rpcerr"
)

func TestOps(t *testing.T) {
	f := build(t, nil)
	f.HandleConfig(func(w io.Writer) error { _, err := io.WriteString(w, "a: b\n"); return err })
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); _ = f.Close() })
	if code, body, _ := get(t, f, "/config"); code != 200 || body != "a: b\n" {
		t.Error(code, body)
	}
	if code, body, _ := do(t, f, "POST", "/log_level", strings.NewReader("log_level=debug"), "Content-Type", "application/x-www-form-urlencoded"); code != 200 {
		t.Error(code, body)
	}
	if code, body, _ := get(t, f, "/log_level"); code != 200 || !strings.Contains(body, "debug") {
		t.Error(code, body)
	}
	for _, set := range [][]string{
		{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"},
		{"X-Forwarded-For", "10.0.0.1"},
		{"X-Real-IP", "10.0.0.1"},
		{"Via", "1.1 proxy"},
	} {
		if code, _, _ := do(t, f, "POST", "/log_level?log_level=error", nil, set...); code != 403 {
			t.Error(set, code)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+f.Addr(DoorHTTP).String()+"/log_level?log_level=error", nil)
	req.Host = "rebound.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 403 {
		t.Error(resp, err)
	}
	_ = resp.Body.Close()
	if code, _, _ := get(t, f, "/debug/pprof/"); code != 503 { // not an operators' page on this port
		t.Error(code)
	}
	if code, body, _ := get(t, f, "/metrics"); code != 200 || !strings.Contains(body, `weir_request_duration_seconds_count{method="GET",route="/config",status="200"} 1`) {
		t.Error(code, body)
	}
}

func TestOperatorToken(t *testing.T) {
	const token = "0123456789abcdef"
	f := open(t, func(c *Config, _ *Options) { c.OperatorToken = conf.NewSecret(token) })
	for header, want := range map[string]int{"": 401, "Bearer 0123456789abcdeX": 401, token: 401, "Bearer " + token: 200} {
		if code, body, _ := do(t, f, "POST", "/log_level?log_level=info", nil, "Authorization", header); code != want {
			t.Errorf("%q: %d %s", header, code, body)
		}
	}
	if code, _, _ := do(t, f, "POST", "/log_level?log_level=info", nil, "Authorization", "Bearer "+token, "Via", "1.1 proxy"); code != 403 {
		t.Error("the token alone is enough:", code)
	}
	if err := NewOperators("").Check(""); err != nil {
		t.Error(err)
	}
	r := httptest.NewRequest("POST", "/log_level", nil)
	if ByProxy(r) {
		t.Error("a direct request is taken for a proxy's")
	}
	if r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0; !ByProxy(r) {
		t.Error("HTTP/1.0 is not taken for a proxy's")
	}
}

func TestDebugPort(t *testing.T) {
	f := open(t, func(c *Config, _ *Options) { c.DebugListen = "127.0.0.1:0" })
	_, said, _ := strings.Cut(f.logs.String(), "profiling port open")
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(said)
	resp, err := http.Get("http://" + address + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(body), "goroutine profile") {
		t.Error(resp.Status)
	}
}

func TestPortTaken(t *testing.T) {
	f := open(t, nil)
	for _, change := range []func(*Config){
		func(c *Config) { c.Listen = f.Addr(DoorHTTP).String() },
		func(c *Config) { c.GRPCListen = f.Addr(DoorGRPC).String() },
	} {
		g := build(t, func(c *Config, _ *Options) { change(c) })
		if err := g.Start(); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Error(err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMessageSize(t *testing.T) {
	f := open(t, func(c *Config, _ *Options) { c.MaxMessageSize = 1024 })
	conn, err := grpc.NewClient(f.Addr(DoorGRPC).String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // done
	err = conn.Invoke(t.Context(), "/test.Public/Who", wrapperspb.String(strings.Repeat("x", 2000)), new(emptypb.Empty))
	if rpcerr.ReasonOf(err) != rpcerr.Overloaded { // gRPC's own ResourceExhausted
		t.Error(err)
	}
}

func TestConfigProblems(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	bad := Config{OperatorToken: conf.NewSecret("short"), Listen: "0.0.0.0:3100", GRPCListen: "nonsense", DebugListen: ":6060", TLSKeyFile: "x"}
	err := bad.Validate()
	for _, want := range []string{"listen: 0.0.0.0:3100 is reachable", "grpc_listen: \"nonsense\"", "debug_listen: :6060 is not a loopback", "go together", "operator_token", "max_connections", "max_in_flight", "max_message_size", "drain_timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %s in %v", want, err)
		}
	}
	for address, refused := range map[string]bool{"127.0.0.1:1": false, "localhost:1": false, "[::1]:1": false, "127.8.8.8:1": false, ":1": true, "[::]:1": true, "host:1": true, "10.0.0.1:1": true} {
		c := DefaultConfig()
		c.Listen = address
		if err := c.Validate(); (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
		c.InsecureNetwork = true
		if err := c.Validate(); err != nil {
			t.Errorf("%s with insecure_network: %v", address, err)
		}
	}
}
