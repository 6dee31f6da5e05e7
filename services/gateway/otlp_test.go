package gateway_test

import (
	"context"
	"strings"
	"testing"

	logsv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	otlplogs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/services/gateway"
)

const oneRecord = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","body":{"stringValue":"line"},"attributes":[{"key":"k","value":{"stringValue":"v"}}]}]}]}]}`

func exportRequest() *logsv1.ExportLogsServiceRequest {
	str := func(s string) *commonv1.AnyValue {
		return &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: s}}
	}
	return &logsv1.ExportLogsServiceRequest{ResourceLogs: []*otlplogs.ResourceLogs{{ScopeLogs: []*otlplogs.ScopeLogs{{LogRecords: []*otlplogs.LogRecord{{
		TimeUnixNano: 5, Body: str("line"), Attributes: []*commonv1.KeyValue{{Key: "k", Value: str("v")}},
	}}}}}}}
}

func exportBody(t *testing.T) string {
	t.Helper()
	b, err := proto.Marshal(exportRequest())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var exportWant = &ingestv1.WriteRequest{Door: "otlp", Stamp: true, Streams: []*ingestv1.StreamBlock{{
	Labels: `{service_name="unknown_service"}`, Times: []int64{5}, LineEnds: []uint32{4}, Slab: []byte("line"),
	Metadata: []*ingestv1.Column{{Name: "k", Ends: []uint32{1}, Slab: []byte("v")}},
}}}

func TestOTLPOverHTTP(t *testing.T) {
	e := start(t)
	for contentType, body := range map[string]string{"application/json": oneRecord, "application/x-protobuf": exportBody(t)} {
		e.want(204, "", "POST", "/otlp/v1/logs", body, "Content-Type", contentType, "X-Scope-OrgID", "t1")
		if got := last[*ingestv1.WriteRequest](t, e.backend); !proto.Equal(got, exportWant) {
			t.Error(got)
		}
		if id := e.backend.tenants[len(e.backend.tenants)-1]; id != "t1" {
			t.Error(id)
		}
	}
	e.want(405, "", "GET", "/otlp/v1/logs", "")
	e.want(403, "", "POST", "/otlp/v1/logs", "{}", "Sec-Fetch-Site", "cross-site", "Content-Type", "application/json")
}

func TestOTLPRefusesOverHTTP(t *testing.T) {
	e := start(t, func(l *limits.Limits, _ *gateway.Config) { l.MaxRequestSize, l.MaxRequestRawSize = 4096, 8192 })
	wantStatus := func(httpCode int, code codes.Code, part, body string, headers ...string) {
		t.Helper()
		resp, text := e.want(httpCode, "", "POST", "/otlp/v1/logs", body, headers...)
		var st status.Status
		if err := proto.Unmarshal([]byte(text), &st); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if codes.Code(st.GetCode()) != code || !strings.Contains(st.GetMessage(), part) {
			t.Errorf("%.50s: %v, want %v %s", body, &st, code, part)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/octet-stream" {
			t.Error(ct)
		}
	}
	asJSON := []string{"Content-Type", "application/json"}
	for _, c := range []struct {
		httpCode             int
		code                 codes.Code
		part, body, encoding string
	}{
		{400, codes.InvalidArgument, "the JSON is not valid", "{", ""},
		{422, codes.InvalidArgument, "error at least one valid stream", "{}", ""},
		{400, codes.InvalidArgument, "unsupported content encoding nope", "{}", "nope"},
		{400, codes.InvalidArgument, "not valid zstd", "{}", "zstd"},
		{400, codes.InvalidArgument, "not valid lz4", "{}", "lz4"},
		{413, codes.InvalidArgument, "request body too large", strings.Repeat(" ", 5000), ""},
	} {
		headers := asJSON
		if c.encoding != "" {
			headers = []string{"Content-Type", "application/json", "Content-Encoding", c.encoding}
		}
		wantStatus(c.httpCode, c.code, c.part, c.body, headers...)
	}
	wantStatus(400, codes.InvalidArgument, "content type: text/plain is not supported", "{}", "Content-Type", "text/plain")
	wantStatus(400, codes.InvalidArgument, "malformed", "not protobuf", "Content-Type", "application/x-protobuf")

	for _, c := range []struct {
		err      error
		httpCode int
		code     codes.Code
	}{
		{rpcerr.New(rpcerr.RateLimited, "slower").WithRetry(1500e6), 429, codes.ResourceExhausted},
		{rpcerr.New(rpcerr.NoQuorum, "few"), 503, codes.Unavailable},
		{rpcerr.New(rpcerr.Internal, "broken"), 503, codes.Internal}, // exporters give up after 500
	} {
		e.backend.write = func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) { return nil, c.err }
		wantStatus(c.httpCode, c.code, "", oneRecord, asJSON...)
	}
	for accepted, want := range map[uint64]int{0: 429, 1: 400} {
		e.backend.write = refusing(accepted, pushv1.RejectReason_REJECT_REASON_STREAM_LIMIT)
		e.want(want, "too many", "POST", "/otlp/v1/logs", oneRecord, asJSON...)
	}
}

func refusing(accepted uint64, reason pushv1.RejectReason) func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
	return func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		return &ingestv1.WriteResponse{AcceptedEntries: accepted, RejectedEntries: 1, Rejections: []*ingestv1.Rejection{{Count: 1, Reason: uint32(reason), Message: "too many"}}}, nil
	}
}

func TestOTLPOverGRPC(t *testing.T) {
	e := start(t)
	client := logsv1.NewLogsServiceClient(e.grpc)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "t2")
	for _, opts := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}} {
		resp, err := client.Export(ctx, exportRequest(), opts...)
		if err != nil || resp.GetPartialSuccess() != nil {
			t.Fatal(resp, err)
		}
		if got := last[*ingestv1.WriteRequest](t, e.backend); !proto.Equal(got, exportWant) {
			t.Error(got)
		}
		if id := e.backend.tenants[len(e.backend.tenants)-1]; id != "t2" {
			t.Error(id)
		}
	}
	asked := len(e.backend.asked)
	if _, err := client.Export(ctx, &logsv1.ExportLogsServiceRequest{}); err != nil || len(e.backend.asked) != asked {
		t.Error("an empty request is no error, and stores nothing:", err)
	}
	if err := e.grpc.Invoke(ctx, "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
		"\x0a\x05x", &logsv1.ExportLogsServiceResponse{}, grpc.ForceCodec(rawCodec("\x0a\x05x"))); grpcstatus.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	e.backend.write = refusing(1, pushv1.RejectReason_REJECT_REASON_LINE_TOO_LONG)
	resp, err := client.Export(ctx, exportRequest())
	if err != nil || resp.GetPartialSuccess().GetRejectedLogRecords() != 1 || resp.GetPartialSuccess().GetErrorMessage() != "too many" {
		t.Error(resp, err)
	}
	e.backend.write = refusing(0, pushv1.RejectReason_REJECT_REASON_STREAM_LIMIT)
	if _, err := client.Export(ctx, exportRequest()); err == nil {
		t.Error("nothing was stored, and may be later")
	}
}

// What becomes of attributes is the tenant's to say, by either door.
func TestOTLPConfig(t *testing.T) {
	e := start(t, func(l *limits.Limits, _ *gateway.Config) {
		l.OTLPConfig.LogAttributes = []limits.OTLPRule{{Action: limits.OTLPIndexLabel, Attributes: []string{"k"}}}
	})
	want := proto.CloneOf(exportWant)
	want.Streams[0].Labels, want.Streams[0].Metadata = `{k="v"}`, nil
	e.want(204, "", "POST", "/otlp/v1/logs", exportBody(t), "Content-Type", "application/x-protobuf")
	if got := last[*ingestv1.WriteRequest](t, e.backend); !proto.Equal(got, want) {
		t.Error(got)
	}
	if _, err := logsv1.NewLogsServiceClient(e.grpc).Export(t.Context(), exportRequest()); err != nil {
		t.Fatal(err)
	}
	if got := last[*ingestv1.WriteRequest](t, e.backend); !proto.Equal(got, want) {
		t.Error(got)
	}
}
