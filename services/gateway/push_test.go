package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	logsv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/services/gateway"
)

func batch(lines ...string) *pushv1.PushRequest {
	s := &pushv1.Stream{Labels: map[string]string{"app": "shop"}}
	for i, l := range lines {
		s.Entries = append(s.Entries, &pushv1.Entry{TimestampUnixNano: int64(i + 1), Line: &pushv1.Entry_Text{Text: l}})
	}
	return &pushv1.PushRequest{BatchTimeUnixNano: 99, Streams: []*pushv1.Stream{s}}
}

func TestPush(t *testing.T) {
	e := start(t)
	c := pushv1.NewPushServiceClient(e.grpc)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "team-a")
	resp, err := c.Push(ctx, batch("one", "two"))
	if err != nil || resp.GetAcceptedEntries() != 2 {
		t.Fatal(resp, err)
	}
	got := last[*ingestv1.WriteRequest](t, e.backend)
	want := &ingestv1.WriteRequest{
		BatchTimeUnixNano: 99, Door: "grpc", Stamp: true,
		Streams: []*ingestv1.StreamBlock{{Labels: `{app="shop"}`, Times: []int64{1, 2}, LineEnds: []uint32{3, 6}, Slab: []byte("onetwo")}},
	}
	if !proto.Equal(got, want) || e.backend.tenants[0] != "team-a" {
		t.Fatal(got, e.backend.tenants)
	}

	e.backend.write = func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		return &ingestv1.WriteResponse{AcceptedEntries: 1, RejectedEntries: 1, StampedEntries: 1, Rejections: []*ingestv1.Rejection{
			{Stream: 0, Row: 1, Count: 1, Reason: uint32(pushv1.RejectReason_REJECT_REASON_TOO_OLD), Message: "too old"},
		}}, nil
	}
	resp, err = c.Push(ctx, batch("one", "two"))
	if err != nil || !proto.Equal(resp, &pushv1.PushResponse{AcceptedEntries: 1, RejectedEntries: 1, StampedEntries: 1, Rejections: []*pushv1.Rejection{
		{Entry: 1, Count: 1, Reason: pushv1.RejectReason_REJECT_REASON_TOO_OLD, Message: "too old"},
	}}) {
		t.Fatal(resp, err)
	}

	e.backend.write = func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		return nil, rpcerr.New(rpcerr.RateLimited, "slow down").WithRetry(3 * time.Second)
	}
	_, err = c.Push(ctx, batch("one"))
	if status.Code(err) != codes.ResourceExhausted || !rpcerr.Is(err, rpcerr.RateLimited) || rpcerr.RetryAfter(err) != 3*time.Second {
		t.Fatal(err)
	}
	_, err = c.Push(metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "../etc"), batch("one"))
	if !rpcerr.Is(err, rpcerr.InvalidTenant) {
		t.Fatal(err)
	}
	// What cannot be decoded is the caller's fault.
	_, err = c.Push(ctx, nil, grpc.ForceCodec(rawCodec("garbage")))
	if !rpcerr.Is(err, rpcerr.InvalidArgument) {
		t.Fatal(err)
	}
}

// rawCodec sends text for every message.
type rawCodec string

func (r rawCodec) Marshal(any) ([]byte, error)   { return []byte(r), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }
func (rawCodec) Name() string                    { return "proto" }

func TestPushMemoryIsBounded(t *testing.T) {
	e := start(t, func(_ *limits.Limits, c *gateway.Config) { c.DecodeMemory = 16 << 20 })
	c := pushv1.NewPushServiceClient(e.grpc)
	release := make(chan struct{})
	arrived := make(chan struct{}, 1)
	e.backend.write = func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		arrived <- struct{}{}
		<-release
		return &ingestv1.WriteResponse{AcceptedEntries: 1}, nil
	}
	big := strings.Repeat("x", 7<<20)
	first := make(chan error, 1)
	go func() {
		_, err := c.Push(t.Context(), batch(big))
		first <- err
	}()
	<-arrived
	e.backend.write = nil
	if _, err := c.Push(t.Context(), batch(big+big[:3<<20])); !rpcerr.Is(err, rpcerr.Overloaded) || rpcerr.RetryAfter(err) == 0 {
		t.Error(err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := c.Push(t.Context(), batch(big)); err != nil {
		t.Error(err)
	}
	if _, err := c.Push(t.Context(), batch(big, big)); !rpcerr.Is(err, rpcerr.TooLarge) {
		t.Error(err)
	}
}

func TestPushStream(t *testing.T) {
	e := start(t)
	var mu sync.Mutex
	inWork, most := 0, 0
	full, release := make(chan struct{}), make(chan struct{})
	times := map[int64]bool{}
	e.backend.write = func(_ context.Context, r *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		mu.Lock()
		inWork++
		most = max(most, inWork)
		if inWork == 16 {
			close(full)
		}
		times[r.GetBatchTimeUnixNano()] = true
		mu.Unlock()
		<-release
		mu.Lock()
		inWork--
		mu.Unlock()
		if string(r.GetStreams()[0].GetSlab()) == "line 7" {
			return nil, rpcerr.New(rpcerr.NoQuorum, "no quorum").WithRetry(2 * time.Second)
		}
		return &ingestv1.WriteResponse{AcceptedEntries: 1}, nil
	}
	stream, err := pushv1.NewPushServiceClient(e.grpc).PushStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const n = 40
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			b := batch(fmt.Sprintf("line %d", i))
			b.BatchTimeUnixNano = 0
			if err := stream.Send(&pushv1.PushStreamRequest{Sequence: uint64(i), Batch: b}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	<-full
	close(release)
	acks := map[uint64]*pushv1.PushStreamResponse{}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		acks[m.GetSequence()] = m
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if len(acks) != n || most != 16 || len(times) != n || times[0] {
		t.Fatalf("%d acks, at most %d batches in work, %d batch times", len(acks), most, len(times))
	}
	for i, a := range acks {
		if i == 7 {
			want := &pushv1.PushError{Code: int32(codes.Unavailable), Reason: "NO_QUORUM", Message: "no quorum", RetryAfterMillis: 2000}
			if !proto.Equal(a.GetError(), want) {
				t.Error(a)
			}
		} else if a.GetResponse().GetAcceptedEntries() != 1 {
			t.Error(a)
		}
	}
}

func TestPushStreamGoesOnAfterABadBatch(t *testing.T) {
	e := start(t)
	stream, err := e.grpc.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		pushv1.PushService_PushStream_FullMethodName, grpc.ForceCodec(rawCodec("\x08\x05\x12\x01\xff")))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stream.SendMsg(&pushv1.PushStreamRequest{}); err != nil {
			t.Fatal(err)
		}
		var ack pushv1.PushStreamResponse
		if err := stream.RecvMsg(&ack); err != nil {
			t.Fatal(err)
		}
		if ack.GetSequence() != 5 || ack.GetError().GetReason() != "INVALID_ARGUMENT" {
			t.Fatal(&ack)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&pushv1.PushStreamResponse{}); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestLargeRequestsAreSplit(t *testing.T) {
	e := start(t)
	var lines []string
	for i := range 200 {
		lines = append(lines, strings.Repeat("x", 70<<10)+fmt.Sprint(i))
	}
	calls := 0
	e.backend.write = func(_ context.Context, r *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		calls++
		if calls == 2 {
			return nil, rpcerr.New(rpcerr.RateLimited, "wait").WithRetry(time.Millisecond)
		}
		n := uint64(len(r.GetStreams()[0].GetTimes()))
		return &ingestv1.WriteResponse{AcceptedEntries: n - 1, RejectedEntries: 1, Rejections: []*ingestv1.Rejection{{Row: uint32(n - 1), Count: 1}}}, nil
	}
	resp, err := pushv1.NewPushServiceClient(e.grpc).Push(t.Context(), batch(lines...))
	if err != nil {
		t.Fatal(err)
	}
	if calls != 3 || resp.GetAcceptedEntries() != 198 || resp.GetRejectedEntries() != 2 {
		t.Fatal(calls, resp)
	}
	if last := resp.GetRejections()[1].GetEntry(); last != 199 {
		t.Errorf("the last line refused is %d", last)
	}
	first, second := e.backend.asked[0].(*ingestv1.WriteRequest), e.backend.asked[2].(*ingestv1.WriteRequest)
	if first.GetBatchTimeUnixNano() != 99 || second.GetBatchTimeUnixNano() != 100 {
		t.Error("the second part does not come after the first")
	}
}

// TestMemoryOfPushesIsUsedAgain: what was made of a push lies where that of an earlier one lay, by
// each door; that of one that failed does not, for who was asked may still look at it.
func TestMemoryOfPushesIsUsedAgain(t *testing.T) {
	e := start(t)
	var at *ingestv1.StreamBlock
	e.backend.handed = func(r *ingestv1.WriteRequest) { at = r.GetStreams()[0] }
	push, export := &pushv1.PushRequest{}, &logsv1.ExportLogsServiceRequest{}
	for range 16 { // as one stream has no page
		push.Streams = append(push.Streams, batch("a line of a stream, such as it is").Streams...)
		export.ResourceLogs = append(export.ResourceLogs, exportRequest().ResourceLogs...)
	}
	body, err := proto.Marshal(export)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := pushv1.NewPushServiceClient(e.grpc).PushStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("it failed")
	doors := map[string]func() error{
		"Push": func() error {
			_, err := pushv1.NewPushServiceClient(e.grpc).Push(t.Context(), push)
			return err
		},
		"PushStream": func() error {
			if err := stream.Send(&pushv1.PushStreamRequest{Batch: push}); err != nil {
				t.Fatal(err)
			}
			m, err := stream.Recv()
			if err == nil && m.GetError() != nil {
				err = failed
			}
			return err
		},
		"Export": func() error {
			_, err := logsv1.NewLogsServiceClient(e.grpc).Export(t.Context(), export)
			return err
		},
		"/otlp/v1/logs": func() error {
			if resp, _ := e.call("POST", "/otlp/v1/logs", body, "Content-Type", "application/x-protobuf"); resp.StatusCode != 204 {
				return failed
			}
			return nil
		},
	}
	for door, send := range doors {
		again := func(fails bool) bool {
			seen := map[*ingestv1.StreamBlock]bool{}
			for range 100 { // a pool may lose what it is given
				if err := send(); (err != nil) != fails {
					t.Fatal(door, err)
				}
				if seen[at] {
					return true
				}
				seen[at] = true // and so it is not freed
			}
			return false
		}
		e.backend.write = nil
		if !again(false) {
			t.Errorf("%s: memory is not used again", door)
		}
		e.backend.write = func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
			return nil, rpcerr.New(rpcerr.NoQuorum, "no quorum")
		}
		if again(true) {
			t.Errorf("%s: memory of a push that failed is used again", door)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
}
