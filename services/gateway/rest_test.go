package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	restv1 "github.com/weir-logs/weir/gen/go/weir/rest/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/services/gateway"
)

func TestRESTPush(t *testing.T) {
	e := start(t)
	body := `{"streams":[{"labels":{"app":"shop"},"entries":[{"timestampUnixNano":"5","text":"hi","structuredMetadata":{"k":"v"}},{"raw":"/w=="}]}]}`
	_, text := e.want(200, `"acceptedEntries":"2"`, "POST", "/api/v1/push", body, "X-Scope-OrgID", "team-a")
	if !strings.Contains(text, `"rejectedEntries":"0"`) || !strings.Contains(text, `"rejections":[]`) {
		t.Error(text)
	}
	want := &ingestv1.WriteRequest{Door: "grpc", Stamp: true, Streams: []*ingestv1.StreamBlock{{
		Labels: `{app="shop"}`, Times: []int64{5, 0}, LineEnds: []uint32{2, 3}, Slab: []byte("hi\xff"),
		Metadata: []*ingestv1.Column{{Name: "k", Rows: []uint32{0}, Ends: []uint32{1}, Slab: []byte("v")}},
	}}}
	if got := last[*ingestv1.WriteRequest](t, e.backend); !proto.Equal(got, want) || e.backend.tenants[0] != "team-a" {
		t.Error(got, e.backend.tenants)
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write([]byte(body))
	_ = w.Close()
	e.want(200, `"acceptedEntries":"2"`, "POST", "/api/v1/push", zipped.String(), "Content-Encoding", "gzip")
}

func TestRESTErrors(t *testing.T) {
	e := start(t, func(l *limits.Limits, _ *gateway.Config) { l.MaxRequestSize, l.MaxRequestRawSize = 4096, 8192 })
	for _, c := range []struct {
		code                       int
		reason, part, method, path string
		body                       string
		headers                    []string
	}{
		{400, "INVALID_ARGUMENT", "unknown field", "POST", "/api/v1/push", `{"streamz":[]}`, nil},
		{400, "INVALID_ARGUMENT", "", "POST", "/api/v1/push", `{"streams":[]}{"streams":[]}`, nil},
		{400, "INVALID_ARGUMENT", "", "POST", "/api/v1/push", `{`, nil},
		{400, "INVALID_ARGUMENT", "", "POST", "/api/v1/push", `{"streams":` + strings.Repeat("[", 2000), nil},
		{400, "INVALID_ARGUMENT", "", "POST", "/api/v1/push", `{"streams":[{"entries":[{"timestampUnixNano":"9223372036854775808"}]}]}`, nil},
		{400, "INVALID_ARGUMENT", "", "POST", "/api/v1/push", `{"streams":[{"entries":[{"timestampUnixNano":NaN}]}]}`, nil},
		{413, "TOO_LARGE", "", "POST", "/api/v1/push", strings.Repeat(" ", 5000), nil},
		{400, "INVALID_ARGUMENT", "not valid gzip", "POST", "/api/v1/push", `{}`, []string{"Content-Encoding", "gzip"}},
		{400, "INVALID_ARGUMENT", `\"zstd\" not supported`, "POST", "/api/v1/push", `{}`, []string{"Content-Encoding", "zstd"}},
		{400, "INVALID_ARGUMENT", `unknown parameter \"querry\"`, "GET", "/api/v1/query?querry=1", "", nil},
		{400, "INVALID_ARGUMENT", `is not a time`, "GET", "/api/v1/query?query=1&time=yesterday", "", nil},
		{400, "INVALID_ARGUMENT", `is not a duration`, "GET", "/api/v1/query_range?query=1&step=soon", "", nil},
		{404, "NOT_FOUND", "not found", "GET", "/api/v1/nothing", "", nil},
		{405, "INVALID_ARGUMENT", "method not allowed", "DELETE", "/api/v1/query", "", nil},
		{405, "INVALID_ARGUMENT", "method not allowed", "POST", "/api/v1/stats", "", []string{"X-HTTP-Method-Override", "GET"}},
		{405, "INVALID_ARGUMENT", "method not allowed", "POST", "/api/v1/stats", "selector={}", []string{"X-HTTP-Method-Override", "GET", "Content-Type", "application/x-www-form-urlencoded"}},
	} {
		resp, text := e.call(c.method, c.path, []byte(c.body), c.headers...)
		var got struct {
			Code         int
			Reason       string
			Message      string
			RetryAfterMs *int              `json:"retry_after_ms"`
			Details      map[string]string `json:"details"`
		}
		err := json.Unmarshal([]byte(text), &got)
		if resp.StatusCode != c.code || err != nil || got.Reason != c.reason || !strings.Contains(text, c.part) || got.RetryAfterMs == nil || got.Details == nil {
			t.Errorf("%s %s %.60s: %d %s", c.method, c.path, c.body, resp.StatusCode, text)
		}
		if resp.Header.Get("Content-Type") != "application/json" {
			t.Error(resp.Header)
		}
	}
	if len(e.backend.asked) != 0 {
		t.Error(e.backend.asked)
	}
	e.want(400, "tenant", "GET", "/api/v1/labels", "", "X-Scope-OrgID", "../x")
	e.want(403, "", "POST", "/api/v1/push", "{}", "Origin", "https://evil.example", "Content-Type", "text/plain")
	e.want(403, "", "POST", "/loki/api/v1/push", "{}", "Sec-Fetch-Site", "cross-site", "Content-Type", "application/json")
}

func TestRESTForwardsNoHeaders(t *testing.T) {
	e := start(t)
	e.want(200, `"names":["app","service_name"]`, "GET", "/api/v1/labels", "",
		"Grpc-Metadata-X-Scope-Orgid", "other", "Grpc-Metadata-Secret", "s", "X-Scope-OrgID", "mine", "X-Forwarded-For", "1.2.3.4", "Secret", "t", "X-Request-Id", "abc")
	md := e.backend.incoming[0]
	if e.backend.tenants[0] != "mine" || len(md.Get("secret")) > 0 || len(md.Get("x-scope-orgid")) != 1 {
		t.Error(md)
	}
}

func TestRESTQuery(t *testing.T) {
	e := start(t)
	e.backend.query = func(*queryv1.QueryRequest) (*queryv1.QueryResponse, error) {
		return nil, rpcerr.New(rpcerr.Incomplete, "an ingester is missing").WithRetry(1500*time.Millisecond).With("missing", "a")
	}
	resp, text := e.want(503, "", "GET", "/api/v1/query?query=vector(1)&time=1700000000", "")
	if text != `{"code":14,"reason":"INCOMPLETE","message":"an ingester is missing","retry_after_ms":1500,"details":{"missing":"a"}}`+"\n" || resp.Header.Get("Retry-After") != "2" {
		t.Error(text, resp.Header)
	}
	if got := last[*queryv1.QueryRequest](t, e.backend); !proto.Equal(got.GetTime(), timestamppb.New(time.Unix(1700000000, 0))) {
		t.Error(got)
	}
	e.want(200, `"matrix":{"series":[{"labels":{"app":"x"},"samples":[{"timestampUnixNano":"60000000000","value":5}]}]}`,
		"GET", "/api/v1/query_range?query=x&start=2026-01-02T03:04:05%2B01:00&end=1700000000.5&step=15000ms&interval=1m30s&limit=7&direction=DIRECTION_FORWARD", "")
	at, _ := time.Parse(time.RFC3339, "2026-01-02T02:04:05Z")
	want := &queryv1.QueryRangeRequest{
		Query: "x", Start: timestamppb.New(at), End: timestamppb.New(time.Unix(1700000000, 5e8)), Step: durationpb.New(15 * time.Second),
		Interval: durationpb.New(90 * time.Second), Limit: 7, Direction: queryv1.Direction_DIRECTION_FORWARD,
	}
	if got := last[*queryv1.QueryRangeRequest](t, e.backend); !proto.Equal(got, want) {
		t.Error(got)
	}
	e.want(200, "", "POST", "/api/v1/query_range", `{"query":"x","start":"2026-01-02T02:04:05Z","end":"2023-11-14T22:13:20.5Z","step":"15s","interval":"90s","limit":7,"direction":"DIRECTION_FORWARD"}`)
	if got := last[*queryv1.QueryRangeRequest](t, e.backend); !proto.Equal(got, want) {
		t.Error(got)
	}
}

func TestRESTStreams(t *testing.T) {
	e := start(t)
	sent := make(chan struct{})
	e.backend.tail = func(_ *tailv1.TailRequest, s tailv1.TailService_TailServer) error {
		for _, c := range []string{"c1", "c2"} {
			if err := s.Send(&tailv1.TailResponse{Cursor: c}); err != nil {
				return err
			}
			<-sent
		}
		return rpcerr.New(rpcerr.Unavailable, "gone").WithRetry(time.Second)
	}
	resp, err := http.Get(e.url + "/api/v1/tail?query=%7Bapp%3D%22x%22%7D")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read
	if resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Error(resp.Header)
	}
	// Each message arrives before the next is sent.
	in := bufio.NewScanner(resp.Body)
	for _, want := range []string{
		`{"result":{"streams":[],"dropped":[],"cursor":"c1"}}`,
		`{"result":{"streams":[],"dropped":[],"cursor":"c2"}}`,
		`{"error":{"code":14,"reason":"UNAVAILABLE","message":"gone","retry_after_ms":1000,"details":{}}}`,
	} {
		if !in.Scan() || strings.ReplaceAll(in.Text(), ", ", ",") != want {
			t.Fatalf("%s, want %s", in.Text(), want)
		}
		select {
		case sent <- struct{}{}:
		case <-time.After(time.Minute):
			t.Fatal("nobody waits")
		default:
			if strings.Contains(want, "result") {
				sent <- struct{}{}
			}
		}
	}
	e.backend.stream = func(*queryv1.QueryStreamRequest, queryv1.QueryService_QueryStreamServer) error {
		return rpcerr.New(rpcerr.Overloaded, "too many outstanding requests").WithRetry(time.Second)
	}
	e.want(503, `"reason":"OVERLOADED"`, "POST", "/api/v1/query_stream", `{"query":{"query":"x"}}`)
}

func TestOperators(t *testing.T) {
	e := start(t)
	e.want(204, "", "POST", "/flush", "")
	last[*adminv1.FlushRequest](t, e.backend)
	e.want(200, "{}", "POST", "/api/v1/admin/flush", "{}")
	e.want(501, "", "POST", "/compact", "")
	for _, path := range []string{"/flush", "/compact", "/api/v1/admin/flush", "/api/v1/admin/leave"} {
		e.want(403, "", "POST", path, "", "X-Forwarded-For", "10.0.0.1")
		e.want(403, "", "POST", path, "", "Origin", "https://evil.example")
		resp, _ := e.call("GET", path, nil)
		if resp.StatusCode != 405 {
			t.Errorf("GET %s: %d", path, resp.StatusCode)
		}
	}
	e.want(200, "Weir, a log database", "GET", "/", "")
	_, text := e.want(200, `"swagger"`, "GET", "/api/v1/openapi.json", "")
	if !json.Valid([]byte(text)) {
		t.Error("the description is not JSON")
	}
	resp, _ := e.call("GET", "/api/v1/openapi.json", nil, "Accept-Encoding", "gzip")
	if resp.Header.Get("Content-Encoding") != "gzip" {
		t.Error(resp.Header)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
}

// TestRESTErrorIsDescribed: errors have the form that the protos, and so OpenAPI, say.
func TestRESTErrorIsDescribed(t *testing.T) {
	e := start(t)
	for _, target := range []string{"/api/v1/nothing", "/api/v1/query_range?bogus=1"} {
		res, body := e.call("GET", target, nil)
		var got restv1.Error
		if err := protojson.Unmarshal([]byte(body), &got); err != nil || got.GetReason() == "" || got.GetMessage() == "" || got.GetCode() == 0 {
			t.Errorf("%s: %d %v: %s", target, res.StatusCode, err, body)
		}
	}
	body, err := json.Marshal(rpcerr.ToJSON(rpcerr.New(rpcerr.RateLimited, "slow down").WithRetry(1500*time.Millisecond).With("a", "b")))
	if err != nil {
		t.Fatal(err)
	}
	want := &restv1.Error{Code: 8, Reason: "RATE_LIMITED", Message: "slow down", RetryAfterMs: 1500, Details: map[string]string{"a": "b"}}
	if got := new(restv1.Error); protojson.Unmarshal(body, got) != nil || !proto.Equal(got, want) {
		t.Errorf("%s is not %v", body, want)
	}
}
