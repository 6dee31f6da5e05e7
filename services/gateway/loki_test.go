package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/services/gateway"
)

const oneStream = `{"streams":[{"stream":{"app":"x"},"values":[["5","line",{"k":"v"}]]}]}`

func lokiBody() []byte {
	message := func(b []byte, num protowire.Number, m string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), m)
	}
	ts := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 5)
	entry := message(message(nil, 1, string(ts)), 2, "line")
	entry = message(entry, 3, string(message(message(nil, 1, "k"), 2, "v")))
	return message(nil, 1, string(message(message(nil, 1, `{app="x"}`), 2, string(entry))))
}

func TestLokiPush(t *testing.T) {
	e := start(t)
	want := &ingestv1.WriteRequest{Door: "loki", Streams: []*ingestv1.StreamBlock{{
		Labels: `{app="x"}`, Times: []int64{5}, LineEnds: []uint32{4}, Slab: []byte("line"),
		Metadata: []*ingestv1.Column{{Name: "k", Ends: []uint32{1}, Slab: []byte("v")}},
	}}}
	block := string(snappy.Encode(nil, lokiBody()))
	for _, c := range []struct{ path, body, contentType string }{
		{"/loki/api/v1/push", oneStream, "application/json"},
		{"/loki/api/v1/push", oneStream, "application/json; charset=utf-8"},
		{"/loki/api/v1/push", block, "application/x-protobuf"},
		{"/api/prom/push", block, "application/x-protobuf"},
	} {
		if _, text := e.want(204, "", "POST", c.path, c.body, "Content-Type", c.contentType, "X-Scope-OrgID", "t1"); text != "" {
			t.Error(text)
		}
		if got := last[*ingestv1.WriteRequest](t, e.backend); !proto.Equal(got, want) {
			t.Error(got)
		}
	}
	e.want(204, "", "POST", "/api/prom/push", `{"streams":[{"labels":"{app=\"x\"}","entries":[{"ts":"1970-01-01T00:00:00.000000005Z","line":"line"}]}]}`, "Content-Type", "application/json")
	want.Streams[0].Metadata = nil
	if got := last[*ingestv1.WriteRequest](t, e.backend); !proto.Equal(got, want) {
		t.Error(got)
	}
	if id := e.backend.tenants[0]; id != "t1" {
		t.Error(id)
	}
}

func TestLokiPushRefuses(t *testing.T) {
	e := start(t, func(l *limits.Limits, _ *gateway.Config) { l.MaxRequestSize, l.MaxRequestRawSize = 4096, 8192 })
	for _, c := range []struct {
		code                    int
		part, body, contentType string
		encoding                string
	}{
		{400, "mime: no media type\n", oneStream, "", ""},
		{400, "mime: no media type\n", oneStream, ";;;", ""},
		{400, "not valid snappy", oneStream, "text/plain", ""},
		{400, "the JSON is not valid", "\x0a\x00", "application/json", ""},
		{400, "protobuf message is malformed", string(snappy.Encode(nil, []byte("garbage"))), "application/x-protobuf", ""},
		{400, `Content-Encoding "br" not supported` + "\n", oneStream, "application/json", "br"},
		{400, "not valid gzip", oneStream, "application/json", "gzip"},
		{413, "request body too large", strings.Repeat(" ", 5000), "application/json", ""},
		{413, "request body too large", string(snappy.Encode(nil, make([]byte, 9000))), "application/x-protobuf", ""},
		{413, "request body too large", "\xff\xff\xff\xff\x0f\x00", "application/x-protobuf", ""},
		{422, "error at least one valid stream is required for ingestion\n", `{"streams":[]}`, "application/json", ""},
		{422, "error at least one valid stream is required for ingestion\n", string(snappy.Encode(nil, nil)), "application/x-protobuf", ""},
	} {
		headers := []string{"Content-Type", c.contentType}
		if c.encoding != "" {
			headers = append(headers, "Content-Encoding", c.encoding)
		}
		resp, _ := e.want(c.code, c.part, "POST", "/loki/api/v1/push", c.body, headers...)
		if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Error(resp.Header)
		}
	}
	if len(e.backend.asked) > 0 {
		t.Error(e.backend.asked)
	}
	e.want(400, "multiple org IDs present", "POST", "/loki/api/v1/push", oneStream, "Content-Type", "application/json", "X-Scope-OrgID", "a|b")
	e.want(405, "", "DELETE", "/loki/api/v1/push", "")
	e.want(404, "", "GET", "/loki/api/v1/no_such_endpoint", "")
}

func TestLokiPushOutcomes(t *testing.T) {
	e := start(t)
	reject := func(accepted uint64, reasons ...pushv1.RejectReason) (*ingestv1.WriteResponse, error) {
		r := &ingestv1.WriteResponse{AcceptedEntries: accepted, RejectedEntries: uint64(len(reasons))}
		for i, reason := range reasons {
			r.Rejections = append(r.Rejections, &ingestv1.Rejection{Row: uint32(i), Count: 1, Reason: uint32(reason), Message: fmt.Sprintf("reason %d", i)})
		}
		return r, nil
	}
	const old, limit = pushv1.RejectReason_REJECT_REASON_TOO_OLD, pushv1.RejectReason_REJECT_REASON_STREAM_LIMIT
	for _, c := range []struct {
		code  int
		text  string
		retry string
		write func() (*ingestv1.WriteResponse, error)
	}{
		{400, "reason 0\n", "", func() (*ingestv1.WriteResponse, error) { return reject(5, old) }},
		{400, "reason 0; reason 1\n", "", func() (*ingestv1.WriteResponse, error) { return reject(0, old, limit) }},
		{400, "reason 0; reason 1; reason 2; and 1 more, 4 entries refused in all\n", "", func() (*ingestv1.WriteResponse, error) { return reject(1, old, old, old, old) }},
		{400, "reason 0\n", "", func() (*ingestv1.WriteResponse, error) { return reject(1, limit) }},
		{429, "reason 0\n", "", func() (*ingestv1.WriteResponse, error) { return reject(0, limit) }},
		{429, "ingestion rate limit exceeded\n", "3", func() (*ingestv1.WriteResponse, error) {
			return nil, rpcerr.New(rpcerr.RateLimited, "ingestion rate limit exceeded").WithRetry(2500 * time.Millisecond)
		}},
		{503, "no quorum\n", "1", func() (*ingestv1.WriteResponse, error) {
			return nil, rpcerr.New(rpcerr.NoQuorum, "no quorum").WithRetry(time.Second)
		}},
		{500, "internal error\n", "", func() (*ingestv1.WriteResponse, error) { return nil, fmt.Errorf("secret") }},
	} {
		e.backend.write = func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) { return c.write() }
		resp, text := e.call("POST", "/loki/api/v1/push", []byte(oneStream), "Content-Type", "application/json")
		if resp.StatusCode != c.code || text != c.text || resp.Header.Get("Retry-After") != c.retry {
			t.Errorf("%d %q %q, want %d %q %q", resp.StatusCode, text, resp.Header.Get("Retry-After"), c.code, c.text, c.retry)
		}
	}
}

func entry(ts int64, line string, md, parsed map[string]string) *queryv1.LogEntry {
	return &queryv1.LogEntry{TimestampUnixNano: ts, Line: &queryv1.LogEntry_Text{Text: line}, StructuredMetadata: md, Parsed: parsed}
}

// answer sends log entries in two pieces.
func answer(_ *queryv1.QueryStreamRequest, s queryv1.QueryService_QueryStreamServer) error {
	x := map[string]string{"app": "x"}
	info := map[string]string{"detected_level": "info"}
	for _, m := range []*queryv1.QueryStreamResponse{
		{Event: &queryv1.QueryStreamResponse_Progress{Progress: &queryv1.Progress{BytesRead: 1}}},
		{Event: &queryv1.QueryStreamResponse_Streams{Streams: &queryv1.Streams{Streams: []*queryv1.LogStream{
			{Labels: x, Entries: []*queryv1.LogEntry{entry(9, "nine \"<>\"\u2028\x01", info, nil), entry(7, "seven", info, map[string]string{"n": "1"})}},
		}}}},
		{Event: &queryv1.QueryStreamResponse_Streams{Streams: &queryv1.Streams{Streams: []*queryv1.LogStream{
			{Labels: x, Entries: []*queryv1.LogEntry{entry(8, "eight", info, nil)}},
			{Labels: map[string]string{"app": "a"}, Entries: []*queryv1.LogEntry{{TimestampUnixNano: 3, Line: &queryv1.LogEntry_Raw{Raw: []byte("raw\xff")}}}},
		}}}},
		{Event: &queryv1.QueryStreamResponse_Done{Done: &queryv1.Done{
			Statistics: &queryv1.Statistics{BytesProcessed: 100, EntriesProcessed: 10, ExecutionTime: durationpb.New(500 * time.Millisecond)},
			Warnings:   []string{"half"},
		}}},
	} {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func TestLokiQueryRange(t *testing.T) {
	e := start(t)
	e.backend.stream = answer
	q := "/loki/api/v1/query_range?" + url.Values{"query": {`{app="x"}`}, "start": {"1"}, "end": {"10.5"}, "limit": {"7"}, "step": {"15000ms"}, "interval": {"2"}}.Encode()
	resp, text := e.want(200, "", "GET", q, "")
	if got := resp.Header.Get("Content-Type"); got != "application/json; charset=UTF-8" {
		t.Error(got)
	}
	body, stats, _ := strings.Cut(text, `,"stats":`)
	if want := `{"status":"success","warnings":["half"],"data":{"resultType":"streams","result":[` +
		`{"stream":{"app":"a"},"values":[["3","raw\ufffd"]]},` +
		`{"stream":{"app":"x","detected_level":"info","n":"1"},"values":[["7","seven"]]},` +
		`{"stream":{"app":"x","detected_level":"info"},"values":[["9","nine \"<>\"\u2028\u0001"],["8","eight"]]}]`; body != want {
		t.Errorf("%s\nwant %s", body, want)
	}
	if !strings.HasPrefix(stats, `{"summary":{"bytesProcessedPerSecond":200,"linesProcessedPerSecond":20,"totalBytesProcessed":100,"totalLinesProcessed":10,"execTime":0.5,`) || !strings.HasSuffix(stats, "}}}\n") {
		t.Error(stats)
	}
	want := &queryv1.QueryStreamRequest{Query: &queryv1.QueryRangeRequest{
		Query: `{app="x"}`, Start: &timestamppb.Timestamp{Seconds: 1}, End: &timestamppb.Timestamp{Seconds: 10, Nanos: 5e8}, Limit: 7,
		Step: durationpb.New(15 * time.Second), Interval: durationpb.New(2 * time.Second), Direction: queryv1.Direction_DIRECTION_BACKWARD,
	}}
	if got := last[*queryv1.QueryStreamRequest](t, e.backend); !proto.Equal(got, want) {
		t.Error(got)
	}

	// A form, the other direction, labels by category, and compression.
	form := url.Values{"query": {"{}"}, "direction": {"FORWARD"}}.Encode()
	_, text = e.want(200, "", "POST", "/loki/api/v1/query_range?since=2h&end=2026-01-02T03:04:05Z", form,
		"Content-Type", "application/x-www-form-urlencoded", "X-Loki-Response-Encoding-Flags", "categorize-labels, other")
	body, _, _ = strings.Cut(text, `,"stats":`)
	if want := `{"status":"success","warnings":["half"],"data":{"resultType":"streams","encodingFlags":["categorize-labels","other"],"result":[` +
		`{"stream":{"app":"a"},"values":[["3","raw\ufffd",{}]]},` +
		`{"stream":{"app":"x"},"values":[["7","seven",{"structuredMetadata":{"detected_level":"info"},"parsed":{"n":"1"}}],["8","eight",{"structuredMetadata":{"detected_level":"info"}}],["9","nine \"<>\"\u2028\u0001",{"structuredMetadata":{"detected_level":"info"}}]]}]`; body != want {
		t.Errorf("%s\nwant %s", body, want)
	}
	got := last[*queryv1.QueryStreamRequest](t, e.backend).GetQuery()
	if got.GetEnd().AsTime().Sub(got.GetStart().AsTime()) != 2*time.Hour || got.GetDirection() != queryv1.Direction_DIRECTION_FORWARD {
		t.Error(got)
	}

	e.backend.stream = func(_ *queryv1.QueryStreamRequest, s queryv1.QueryService_QueryStreamServer) error {
		samples := []*queryv1.Sample{{TimestampUnixNano: 1_500_000_000, Value: 0.5}, {TimestampUnixNano: 2_010_000_000, Value: 1e21}}
		if err := s.Send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Matrix{Matrix: &queryv1.Matrix{Series: []*queryv1.Series{
			{Labels: map[string]string{"b": "1", "a": "2"}, Samples: samples},
		}}}}); err != nil {
			return err
		}
		if err := s.Send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Matrix{Matrix: &queryv1.Matrix{Series: []*queryv1.Series{
			{Labels: map[string]string{"a": "3"}, Samples: samples[:1]},
		}}}}); err != nil {
			return err
		}
		return s.Send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Done{Done: &queryv1.Done{}}})
	}
	e.want(200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"2","b":"1"},"values":[[1.5,"0.5"],[2.01,"1000000000000000000000"]]},{"metric":{"a":"3"},"values":[[1.5,"0.5"]]}],"stats":`, "GET", q, "")
}

func TestLokiQuery(t *testing.T) {
	e := start(t)
	nan := 0.0
	e.backend.query = func(*queryv1.QueryRequest) (*queryv1.QueryResponse, error) {
		vector := &queryv1.Vector{}
		for i, v := range []float64{2, 1 / nan, -1 / nan, nan / nan} {
			vector.Samples = append(vector.Samples, &queryv1.VectorSample{Labels: map[string]string{"i": fmt.Sprint(i)}, Sample: &queryv1.Sample{TimestampUnixNano: 4e18, Value: v}})
		}
		return &queryv1.QueryResponse{Result: &queryv1.QueryResponse_Vector{Vector: vector}}, nil
	}
	e.want(200, `"result":[{"metric":{"i":"0"},"value":[4000000000,"2"]},{"metric":{"i":"1"},"value":[4000000000,"+Inf"]},{"metric":{"i":"2"},"value":[4000000000,"-Inf"]},{"metric":{"i":"3"},"value":[4000000000,"NaN"]}]`,
		"GET", "/loki/api/v1/query?query=vector(1)%2Bvector(1)&time=4000000000&direction=backward", "")
	if got := last[*queryv1.QueryRequest](t, e.backend); got.GetQuery() != "vector(1)+vector(1)" || got.GetTime().GetSeconds() != 4000000000 {
		t.Error(got)
	}
	e.backend.query = func(*queryv1.QueryRequest) (*queryv1.QueryResponse, error) {
		return &queryv1.QueryResponse{Result: &queryv1.QueryResponse_Scalar{Scalar: &queryv1.Scalar{Sample: &queryv1.Sample{TimestampUnixNano: -1_250_000_000, Value: 1}}}}, nil
	}
	e.want(200, `"resultType":"scalar","result":[-1.25,"1"]`, "GET", "/loki/api/v1/query?query=1", "")
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{rpcerr.New(rpcerr.ParseError, "parse error at line 1, col 6: x"), 400, "parse error at line 1, col 6: x"},
		{rpcerr.New(rpcerr.Canceled, "the request was cancelled by the client"), 499, "the request was cancelled by the client"},
		{rpcerr.New(rpcerr.Timeout, "request timed out"), 504, "request timed out"},
		{fmt.Errorf("secret"), 500, "internal error"},
	} {
		e.backend.query = func(*queryv1.QueryRequest) (*queryv1.QueryResponse, error) { return nil, c.err }
		resp, text := e.call("GET", "/loki/api/v1/query?query=1", nil)
		if resp.StatusCode != c.code || text != c.text || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%d %q, want %d %q", resp.StatusCode, text, c.code, c.text)
		}
	}
}

func TestLokiParameters(t *testing.T) {
	e := start(t)
	for _, c := range []struct{ params, text string }{
		{"limit=0", "limit must be a positive value"},
		{"limit=-5", "limit must be a positive value"},
		{"limit=ten", `strconv.Atoi: parsing "ten": invalid syntax`},
		{"limit=99999999999", "limit value 99999999999 is out of range [0, 4294967295]"},
		{"direction=sideways", "invalid direction 'sideways'"},
		{"start=yesterday", `could not parse 'start' parameter: strconv.ParseInt: parsing "yesterday": invalid syntax`},
		{"end=1e99.0", `could not parse 'end' parameter: strconv.ParseInt: parsing "1e99.0": invalid syntax`},
		{"since=soon", `could not parse 'since' parameter: not a valid duration string: "soon"`},
		{"start=20&end=10", "end timestamp must not be before or equal to start time"},
		{"step=abc", `cannot parse "abc" to a valid duration`},
		{"step=0.5m", `cannot parse "0.5m" to a valid duration`},
		{"step=99999999999999999999", `cannot parse "99999999999999999999" to a valid duration. It overflows int64`},
		{"step=NaN", `cannot parse "NaN" to a valid duration. It overflows int64`},
		{"step=0", "zero or negative query resolution step widths are not accepted. Try a positive integer"},
		{"interval=-1", "interval must be >= 0"},
		{"query=%zz", `invalid URL escape "%zz"`},
	} {
		_, text := e.want(400, "", "GET", "/loki/api/v1/query_range?"+c.params, "")
		if text != c.text {
			t.Errorf("%s: %q, want %q", c.params, text, c.text)
		}
	}
	e.want(413, "request body too large", "POST", "/loki/api/v1/query", "query="+strings.Repeat("x", 2<<20), "Content-Type", "application/x-www-form-urlencoded")
	e.want(405, "", "PATCH", "/loki/api/v1/query", "")
}

func TestLokiMetadata(t *testing.T) {
	e := start(t)
	for _, c := range []struct{ path, text string }{
		{"/loki/api/v1/labels?start=1&end=2&query=x", `{"status":"success","data":["app","service_name"]}`},
		{"/loki/api/v1/label", `{"status":"success","data":["app","service_name"]}`},
		{"/loki/api/v1/label/my%20app/values", `{"status":"success"}`},
		{"/loki/api/v1/series?match[]=%7B%7D&match=x", `{"status":"success","data":[{"a":"1\"","b":"2"},{"a":"x","b":"3"}]}`},
		{"/loki/api/v1/index/stats?query=%7Bapp%3D%22x%22%7D", `{"streams":1,"chunks":2,"bytes":3,"entries":4}`},
		{"/loki/api/v1/format_query?query=x", `{"status":"success","data":"{app=\"x\"} |= \"y\""}`},
	} {
		if _, text := e.want(200, "", "GET", c.path, ""); text != c.text+"\n" {
			t.Errorf("%s: %s", c.path, text)
		}
	}
	e.want(200, "", "GET", "/loki/api/v1/label/my%20app/values?query=q", "")
	if got := last[*queryv1.LabelValuesRequest](t, e.backend); got.GetName() != "my app" || got.GetSelector() != "q" {
		t.Error(got)
	}
	e.want(200, "", "POST", "/loki/api/v1/series", url.Values{"match[]": {"a", "b"}, "match": {"c"}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	if got := last[*queryv1.SeriesRequest](t, e.backend).GetSelectors(); strings.Join(got, "") != "abc" {
		t.Error(got)
	}
	resp, text := e.call("GET", "/loki/api/v1/format_query?query=%7B", nil)
	if resp.StatusCode != 400 || text != `{"status":"invalid-query","error":"parse error at line 1, col 2: \"quoted\""}` || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Error(resp.StatusCode, text, resp.Header)
	}
	resp, text = e.call("GET", "/loki/api/v1/status/buildinfo", nil)
	if text != `{"version":"1.2.3","revision":"abc","branch":"main","buildUser":"me","buildDate":"today","goVersion":"go1"}` || resp.Header.Get("Content-Type") != "application/json" {
		t.Error(text, resp.Header)
	}
	e.want(400, "queries require at least one", "GET", "/loki/api/v1/index/stats?query=%7B%7D", "")
	e.want(200, `"max_entries_limit_per_query":5000`, "GET", "/loki/api/v1/drilldown-limits", "")
}

func (e *env) dial(query string, headers http.Header) *websocket.Conn {
	e.Helper()
	c, resp, err := websocket.Dial(e.Context(), strings.Replace(e.url, "http", "ws", 1)+"/loki/api/v1/tail?"+query, &websocket.DialOptions{HTTPHeader: headers})
	if err != nil {
		e.Fatal(err, resp)
	}
	e.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func TestLokiTail(t *testing.T) {
	e := start(t)
	e.backend.tail = func(_ *tailv1.TailRequest, s tailv1.TailService_TailServer) error {
		first := &queryv1.LogStream{Labels: map[string]string{"app": "x"}}
		for i := range 150 {
			first.Entries = append(first.Entries, entry(int64(i), fmt.Sprint(i), map[string]string{"k": "v"}, nil))
		}
		if err := s.Send(&tailv1.TailResponse{Streams: []*queryv1.LogStream{first}}); err != nil {
			return err
		}
		if err := s.Send(&tailv1.TailResponse{Cursor: "only the cursor"}); err != nil {
			return err
		}
		if err := s.Send(&tailv1.TailResponse{Dropped: []*tailv1.Dropped{{Entries: 7, From: &timestamppb.Timestamp{Nanos: 9}, Reason: "slow"}}}); err != nil {
			return err
		}
		return rpcerr.New(rpcerr.LimitExceeded, "max concurrent tail requests limit exceeded, count > limit (11 > 10) %s", strings.Repeat("é", 100))
	}
	c := e.dial("limit=3&start=5&query="+url.QueryEscape(`{app="x"}`), http.Header{"Origin": {"https://grafana.example"}, "X-Loki-Response-Encoding-Flags": {"categorize-labels"}, "X-Scope-OrgID": {"t2"}})
	c.SetReadLimit(1 << 20)
	read := func() string {
		_, b, err := c.Read(e.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	frame := read()
	if !strings.HasPrefix(frame, `{"streams":[{"stream":{"app":"x"},"values":[["0","0",{"structuredMetadata":{"k":"v"}}],`) || !strings.HasSuffix(frame, `]}],"encodingFlags":["categorize-labels"]}`) || strings.Count(frame, `"k":"v"`) != 100 {
		t.Error(frame)
	}
	if frame = read(); strings.Count(frame, `"k":"v"`) != 50 {
		t.Error(frame)
	}
	if frame = read(); frame != `{"streams":[],"dropped_entries":[{"timestamp":"9","labels":{},"entries":7,"reason":"slow"}],"encodingFlags":["categorize-labels"]}` {
		t.Error(frame)
	}
	_, _, err := c.Read(e.Context())
	var closed websocket.CloseError
	if code := websocket.CloseStatus(err); code != websocket.StatusInternalError || !strings.Contains(err.Error(), "count > limit (11 > 10)") {
		t.Error(err, closed)
	}
	got := last[*tailv1.TailRequest](t, e.backend)
	if !proto.Equal(got, &tailv1.TailRequest{Query: `{app="x"}`, Limit: 3, Start: &timestamppb.Timestamp{Seconds: 5}}) || e.backend.tenants[0] != "t2" {
		t.Error(got)
	}
}

func TestLokiTailEndsWithItsClient(t *testing.T) {
	e := start(t, func(_ *limits.Limits, c *gateway.Config) { c.MaxTails = 1 })
	ended := make(chan struct{})
	e.backend.tail = func(_ *tailv1.TailRequest, s tailv1.TailService_TailServer) error {
		if err := s.Send(&tailv1.TailResponse{Streams: []*queryv1.LogStream{{Entries: []*queryv1.LogEntry{entry(1, "x", nil, nil)}}}}); err != nil {
			return err
		}
		<-s.Context().Done()
		close(ended)
		return s.Context().Err()
	}
	query := "query=" + url.QueryEscape(`{app="x"}`)
	c := e.dial(query, nil)
	if _, b, err := c.Read(e.Context()); err != nil || string(b) != `{"streams":[{"stream":{},"values":[["1","x"]]}]}` {
		t.Fatal(string(b), err)
	}
	e.want(503, "too many live tails", "GET", "/loki/api/v1/tail?"+query, "", "Connection", "Upgrade", "Upgrade", "websocket")
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the tail goes on")
	}
}

func TestLokiTailRefuses(t *testing.T) {
	e := start(t)
	for _, c := range []struct{ params, text string }{
		{"", "parse error : syntax error: unexpected $end"},
		{"query=" + url.QueryEscape(`{app=""}`), "queries require at least one"},
		{"query=" + url.QueryEscape(`rate({app="x"}[5m])`), "only log selector"},
		{"query=" + url.QueryEscape(`{app="x"}`) + "&limit=x", "invalid syntax"},
		{"query=" + url.QueryEscape(`{app="x"}`) + "&start=x", "could not parse 'start' parameter"},
		{"query=" + url.QueryEscape(`{app="x"}`) + "&delay_for=6", "delay_for can't be greater than 5"},
		{"query=" + strings.Repeat("x", 40<<10), "parse error"},
	} {
		e.want(400, c.text, "GET", "/loki/api/v1/tail?"+c.params, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	}
	e.want(426, "", "GET", "/loki/api/v1/tail?query="+url.QueryEscape(`{app="x"}`), "")
}
