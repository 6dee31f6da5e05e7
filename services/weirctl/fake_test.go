package weirctl

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeServer answers like a Weir server that holds a few fixed entries. It
// keeps what it is pushed.
type fakeServer struct {
	pushv1.UnimplementedPushServiceServer
	queryv1.UnimplementedQueryServiceServer
	tailv1.UnimplementedTailServiceServer
	adminv1.UnimplementedAdminServiceServer
	storagev1.UnimplementedStorageServiceServer

	addr string

	mu      sync.Mutex // guards all below
	pushed  []pushedEntry
	failing int // pushes to fail before one works
	tenants []string
	ranges  []*queryv1.QueryRangeRequest
	tails   int
	service adminv1.ServiceState
	flushes []string
}

type pushedEntry struct {
	labels map[string]string
	entry  *pushv1.Entry
}

func startFake(t *testing.T) *fakeServer {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{addr: lis.Addr().String(), service: adminv1.ServiceState_SERVICE_STATE_RUNNING}
	s := grpc.NewServer()
	pushv1.RegisterPushServiceServer(s, f)
	queryv1.RegisterQueryServiceServer(s, f)
	tailv1.RegisterTailServiceServer(s, f)
	adminv1.RegisterAdminServiceServer(s, f)
	storagev1.RegisterStorageServiceServer(s, f)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(lis) }() //nolint:errcheck // ends with Stop
	t.Cleanup(func() { s.Stop(); <-done })
	return f
}

func (f *fakeServer) noteTenant(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tenants = append(f.tenants, strings.Join(md.Get("x-scope-orgid"), ","))
}

func reasoned(code codes.Code, reason, format string, args ...any) error {
	st, _ := status.New(code, fmt.Sprintf(format, args...)).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "weir"})
	return st.Err()
}

func (f *fakeServer) Push(ctx context.Context, req *pushv1.PushRequest) (*pushv1.PushResponse, error) {
	f.noteTenant(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failing > 0 {
		f.failing--
		return nil, reasoned(codes.Unavailable, "NO_QUORUM", "1 of 3 ingesters answered, 2 are needed")
	}
	r := &pushv1.PushResponse{}
	for i, s := range req.GetStreams() {
		for j, e := range s.GetEntries() {
			if strings.Contains(e.GetText(), "REFUSE") {
				r.RejectedEntries++
				r.Rejections = append(r.Rejections, &pushv1.Rejection{Stream: uint32(i), Entry: uint32(j), Count: 1, Reason: pushv1.RejectReason_REJECT_REASON_LINE_TOO_LONG, Message: "the line has 300000 bytes, 262144 are allowed"})
				continue
			}
			r.AcceptedEntries++
			f.pushed = append(f.pushed, pushedEntry{s.GetLabels(), e})
		}
	}
	return r, nil
}

// fixture is what queries find: two streams, one with lines that mean harm.
func fixture() []*queryv1.LogStream {
	at := func(seconds int) int64 { return noon.Add(time.Duration(seconds-60) * time.Second).UnixNano() }
	text := func(s int, line, level string, parsed map[string]string) *queryv1.LogEntry {
		return &queryv1.LogEntry{TimestampUnixNano: at(s), Line: &queryv1.LogEntry_Text{Text: line}, StructuredMetadata: map[string]string{"detected_level": level}, Parsed: parsed}
	}
	return []*queryv1.LogStream{
		{Labels: map[string]string{"app": "checkout", "host": "app-1"}, Entries: []*queryv1.LogEntry{
			text(1, `level=info msg="order placed"`, "info", map[string]string{"msg": "order placed"}),
			text(3, `level=warn msg="order refused"`, "warn", map[string]string{"msg": "order refused"}),
			text(5, "level=error \x1b]0;owned\x07\u202egnp", "error", nil),
		}},
		{Labels: map[string]string{"app": "inventory"}, Entries: []*queryv1.LogEntry{
			text(2, "java.lang.IllegalStateException: no\n\tat com.shop.Main.main(Main.java:1)", "error", nil),
			{TimestampUnixNano: at(4), Line: &queryv1.LogEntry_Raw{Raw: []byte("caf\xe9")}},
		}},
	}
}

type flatEntry struct {
	stream *queryv1.LogStream
	entry  *queryv1.LogEntry
}

func flatFixture(d queryv1.Direction) []flatEntry {
	var all []flatEntry
	for _, s := range fixture() {
		for _, e := range s.GetEntries() {
			all = append(all, flatEntry{s, e})
		}
	}
	slices.SortFunc(all, func(a, b flatEntry) int {
		return cmp.Compare(a.entry.GetTimestampUnixNano(), b.entry.GetTimestampUnixNano())
	})
	if d != queryv1.Direction_DIRECTION_FORWARD {
		slices.Reverse(all)
	}
	return all
}

func syntaxError(query string) error {
	switch {
	case strings.Contains(query, "{app=}"):
		return reasoned(codes.InvalidArgument, "PARSE_ERROR", "parse error at line 1, col %d: syntax error: unexpected }, expecting STRING", strings.Index(query, "}")+1)
	case strings.Contains(query, "second"):
		return reasoned(codes.InvalidArgument, "PARSE_ERROR", "parse error at line 2, col 5: syntax error: unexpected IDENTIFIER")
	}
	return nil
}

func matrix() *queryv1.Matrix {
	m := &queryv1.Matrix{}
	for i, app := range []string{"checkout", "gateway"} {
		s := &queryv1.Series{Labels: map[string]string{"app": app}}
		for j := range 4 {
			s.Samples = append(s.Samples, &queryv1.Sample{TimestampUnixNano: noon.Add(time.Duration(j-4) * time.Minute).UnixNano(), Value: float64((i+1)*j) / 4})
		}
		m.Series = append(m.Series, s)
	}
	return m
}

var cost = &queryv1.Statistics{BytesProcessed: 1234567, EntriesProcessed: 4321, EntriesReturned: 5, StreamsMatched: 2, ExecutionTime: durationpb.New(1500 * time.Microsecond)}

func (f *fakeServer) QueryStream(req *queryv1.QueryStreamRequest, s grpc.ServerStreamingServer[queryv1.QueryStreamResponse]) error {
	f.noteTenant(s.Context())
	q := req.GetQuery()
	f.mu.Lock()
	f.ranges = append(f.ranges, q)
	f.mu.Unlock()
	if err := syntaxError(q.GetQuery()); err != nil {
		return err
	}
	send := func(r *queryv1.QueryStreamResponse) {
		s.Send(r) //nolint:errcheck // the client may be gone
	}
	send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Progress{Progress: &queryv1.Progress{BytesRead: 123456, BytesTotal: 4_560_000_000, EntriesRead: 4321, EntriesMatched: 2}}})
	done := &queryv1.Done{Statistics: cost}
	if strings.HasPrefix(q.GetQuery(), "rate") {
		send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Matrix{Matrix: matrix()}})
	} else {
		all := flatFixture(q.GetDirection())
		from, _ := strconv.Atoi(q.GetCursor())
		to := min(len(all), from+int(q.GetLimit()))
		for _, e := range all[from:to] { // a message for each entry
			one := &queryv1.LogStream{Labels: e.stream.GetLabels(), Entries: []*queryv1.LogEntry{e.entry}}
			send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Streams{Streams: &queryv1.Streams{Streams: []*queryv1.LogStream{one}}}})
		}
		if to < len(all) {
			done.NextCursor = strconv.Itoa(to)
		}
	}
	if q.GetPartial() {
		done.Warnings = []string{"ingester-2 did not answer: its newest entries are missing"}
	}
	send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Done{Done: done}})
	return nil
}

func (f *fakeServer) Query(_ context.Context, req *queryv1.QueryRequest) (*queryv1.QueryResponse, error) {
	at := req.GetTime().AsTime().UnixNano()
	if req.GetQuery() == "1+1" {
		return &queryv1.QueryResponse{Result: &queryv1.QueryResponse_Scalar{Scalar: &queryv1.Scalar{Sample: &queryv1.Sample{TimestampUnixNano: at, Value: 2}}}}, nil
	}
	if err := syntaxError(req.GetQuery()); err != nil {
		return nil, err
	}
	return &queryv1.QueryResponse{Result: &queryv1.QueryResponse_Vector{Vector: &queryv1.Vector{Samples: []*queryv1.VectorSample{
		{Labels: map[string]string{"app": "checkout"}, Sample: &queryv1.Sample{TimestampUnixNano: at, Value: 0.5}},
		{Labels: map[string]string{"app": "gateway"}, Sample: &queryv1.Sample{TimestampUnixNano: at, Value: 12}},
	}}}}, nil
}

func (f *fakeServer) Labels(context.Context, *queryv1.LabelsRequest) (*queryv1.LabelsResponse, error) {
	return &queryv1.LabelsResponse{Names: []string{"app", "env", "host"}}, nil
}

func (f *fakeServer) LabelValues(_ context.Context, req *queryv1.LabelValuesRequest) (*queryv1.LabelValuesResponse, error) {
	if err := syntaxError(req.GetSelector()); err != nil {
		return nil, err
	}
	return &queryv1.LabelValuesResponse{Values: []string{req.GetName() + "-1", "evil\x1b[2J", `quo"ted`}}, nil
}

func (f *fakeServer) Series(_ context.Context, req *queryv1.SeriesRequest) (*queryv1.SeriesResponse, error) {
	r := &queryv1.SeriesResponse{}
	for _, s := range fixture() {
		r.Series = append(r.Series, &queryv1.LabelSet{Labels: s.GetLabels()})
	}
	return r, nil
}

func (f *fakeServer) Stats(context.Context, *queryv1.StatsRequest) (*queryv1.StatsResponse, error) {
	return &queryv1.StatsResponse{Streams: 2, Runs: 3, Entries: 1234567, Bytes: 987654321}, nil
}

func (f *fakeServer) FormatQuery(_ context.Context, req *queryv1.FormatQueryRequest) (*queryv1.FormatQueryResponse, error) {
	if err := syntaxError(req.GetQuery()); err != nil {
		return nil, err
	}
	return &queryv1.FormatQueryResponse{Query: strings.ReplaceAll(req.GetQuery(), "|=", " |= ")}, nil
}

func (f *fakeServer) Explain(context.Context, *queryv1.ExplainRequest) (*queryv1.ExplainResponse, error) {
	return &queryv1.ExplainResponse{Streams: 2, Entries: 4321, Bytes: 1234567, Sources: 3, Blocks: 2, Cost: 2345678, Warnings: []string{"ingester-2 did not answer"}, Plan: &queryv1.PlanNode{
		Operator: "vector aggregation", Expression: "sum by (app)", Notes: []string{"pushed down"},
		Inputs: []*queryv1.PlanNode{{Operator: "scan", Expression: `{app="checkout"}`}},
	}}, nil
}

func (f *fakeServer) Tail(req *tailv1.TailRequest, s grpc.ServerStreamingServer[tailv1.TailResponse]) error {
	f.mu.Lock()
	f.tails++
	first := f.tails == 1
	f.mu.Unlock()
	stream := fixture()[0]
	if first {
		if err := s.Send(&tailv1.TailResponse{Cursor: "one", Streams: []*queryv1.LogStream{{Labels: stream.GetLabels(), Entries: stream.GetEntries()[:1]}}}); err != nil {
			return err
		}
		return status.Error(codes.Unavailable, "restarting")
	}
	if req.GetCursor() != "one" {
		return reasoned(codes.InvalidArgument, "CURSOR_EXPIRED", "cursor %q", req.GetCursor())
	}
	if err := s.Send(&tailv1.TailResponse{
		Cursor:  "two",
		Dropped: []*tailv1.Dropped{{Entries: 1500, From: timestamppb.New(noon), Through: timestamppb.New(noon.Add(time.Second)), Reason: "the tail was too slow"}},
		Streams: []*queryv1.LogStream{{Labels: stream.GetLabels(), Entries: stream.GetEntries()[1:]}},
	}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func (f *fakeServer) BuildInfo(context.Context, *adminv1.BuildInfoRequest) (*adminv1.BuildInfoResponse, error) {
	return &adminv1.BuildInfoResponse{Version: "0.1.0", Revision: "4f2a91c", BuildDate: "2026-02-28T10:00:00Z", GoVersion: "go1.26.8"}, nil
}

func (f *fakeServer) Services(context.Context, *adminv1.ServicesRequest) (*adminv1.ServicesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &adminv1.ServicesResponse{Degraded: []string{"store: the object store does not answer: reads fail since 2026-03-01T11:00:00Z; the log says why"}, Services: []*adminv1.Service{
		{Name: "distributor", State: adminv1.ServiceState_SERVICE_STATE_RUNNING},
		{Name: "ingester", State: f.service},
	}}, nil
}

func (f *fakeServer) Members(context.Context, *adminv1.MembersRequest) (*adminv1.MembersResponse, error) {
	return &adminv1.MembersResponse{ReplicationFactor: 3, Members: []*adminv1.Member{
		{Name: "ingester-1", Roles: []string{"ingester"}, GrpcAddress: "10.0.0.1:9095", Zone: "a", State: "ACTIVE", Healthy: true, Changed: timestamppb.New(noon)},
	}}, nil
}

func (f *fakeServer) Forget(_ context.Context, req *adminv1.ForgetRequest) (*adminv1.ForgetResponse, error) {
	if !req.GetForce() {
		return nil, status.Errorf(codes.FailedPrecondition, "%s may hold entries that are nowhere else", req.GetName())
	}
	return &adminv1.ForgetResponse{}, nil
}

func (f *fakeServer) AcknowledgeLoss(context.Context, *adminv1.AcknowledgeLossRequest) (*adminv1.AcknowledgeLossResponse, error) {
	return &adminv1.AcknowledgeLossResponse{Acknowledged: 1}, nil
}

func (f *fakeServer) Flush(context.Context, *adminv1.FlushRequest) (*adminv1.FlushResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushes = append(f.flushes, "flush")
	return &adminv1.FlushResponse{}, nil
}

func (f *fakeServer) Compact(context.Context, *adminv1.CompactRequest) (*adminv1.CompactResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushes = append(f.flushes, "compact")
	return &adminv1.CompactResponse{}, nil
}
