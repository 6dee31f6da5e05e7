package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"pgregory.net/rapid"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
)

// request makes streams named 0, 1, … of so many entries.
func request(counts ...int) *pushv1.PushRequest {
	req := &pushv1.PushRequest{}
	for i, n := range counts {
		s := &pushv1.Stream{Labels: map[string]string{"stream": fmt.Sprint(i)}}
		for j := range n {
			s.Entries = append(s.Entries, &pushv1.Entry{
				TimestampUnixNano: 1, Line: &pushv1.Entry_Text{Text: fmt.Sprintf("line %d of %d", j, i)},
			})
		}
		req.Streams = append(req.Streams, s)
	}
	return req
}

// lines gives the lines of requests by stream, in order.
func lines(reqs []*pushv1.PushRequest) map[string][]string {
	out := map[string][]string{}
	for _, r := range reqs {
		for _, s := range r.GetStreams() {
			k := s.GetLabels()["stream"]
			for _, e := range s.GetEntries() {
				out[k] = append(out[k], e.GetText())
			}
		}
	}
	return out
}

func TestPusherRetriesWithOneBatchTime(t *testing.T) {
	f := &fake{failures: []error{
		statusErr(codes.Unavailable, "NO_QUORUM", "no quorum", 0),
		statusErr(codes.ResourceExhausted, "RATE_LIMITED", "slow down", 3*time.Millisecond),
		status.Error(codes.DeadlineExceeded, "late"),
		status.Error(codes.Internal, "stream terminated by RST_STREAM"),
	}}
	c := start(t, f, client.WithTenant("acme"), client.WithUserAgent("test/1"))
	type seen struct {
		code codes.Code
		wait time.Duration
	}
	var retries []seen
	p := c.NewPusher(client.PusherOptions{OnRetry: func(e *client.Error, w time.Duration) {
		retries = append(retries, seen{e.Code, w})
	}})
	resp, err := p.Push(context.Background(), request(3))
	if err != nil || resp.GetAcceptedEntries() != 3 {
		t.Fatalf("Push: %v, %v", resp, err)
	}
	if len(f.requests) != 5 || len(retries) != 4 {
		t.Fatalf("%d requests, %d retries; want 5 and 4", len(f.requests), len(retries))
	}
	for _, r := range f.requests {
		if bt := r.GetBatchTimeUnixNano(); bt == 0 || bt != f.requests[0].GetBatchTimeUnixNano() {
			t.Errorf("batch time %d, first %d", bt, f.requests[0].GetBatchTimeUnixNano())
		}
	}
	if retries[1].wait < 3*time.Millisecond {
		t.Errorf("waited %v although the server asked for 3ms", retries[1].wait)
	}
	if f.tenants[0] != "acme" || !strings.HasPrefix(f.agents[0], "test/1 ") || !f.deadline[0] {
		t.Errorf("tenant %q, agent %q, deadline %v", f.tenants[0], f.agents[0], f.deadline[0])
	}
	// A later batch has a later time.
	if _, err := p.Push(context.Background(), request(1)); err != nil {
		t.Fatal(err)
	}
	if a, b := f.requests[0].GetBatchTimeUnixNano(), f.requests[5].GetBatchTimeUnixNano(); b < a+3 {
		t.Errorf("second batch time %d after %d", b, a)
	}
}

func TestPusherFailsAtOnce(t *testing.T) {
	for _, err := range []error{
		status.Error(codes.Unauthenticated, "who"),
		status.Error(codes.PermissionDenied, "no"),
		statusErr(codes.InvalidArgument, "INVALID_TENANT", "bad tenant", 0),
	} {
		f := &fake{failures: []error{err}}
		resp, got := start(t, f).NewPusher(client.PusherOptions{}).Push(context.Background(), request(2))
		if status.Code(got) != status.Code(err) || resp == nil || len(f.requests) != 1 {
			t.Errorf("%v: got %v, %d requests", err, got, len(f.requests))
		}
	}
}

func TestPusherEndsWithContext(t *testing.T) {
	f := &fake{fail: func(*pushv1.PushRequest) error { return status.Error(codes.Unavailable, "down") }}
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	p := start(t, f).NewPusher(client.PusherOptions{OnRetry: func(*client.Error, time.Duration) {
		if n++; n == 3 {
			cancel()
		}
	}})
	if _, err := p.Push(ctx, request(1)); err == nil {
		t.Fatal("no error")
	}
}

func TestPusherIsolates(t *testing.T) {
	bad := map[string]bool{"line 3 of 0": true, "line 0 of 2": true}
	for name, fault := range map[string]error{
		"invalid":   status.Error(codes.InvalidArgument, "cannot decode"),
		"too large": statusErr(codes.ResourceExhausted, "TOO_LARGE", "too large", 0),
		"grpc":      status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"),
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{fail: func(r *pushv1.PushRequest) error {
				for _, s := range r.GetStreams() {
					for _, e := range s.GetEntries() {
						if bad[e.GetText()] {
							return fault
						}
					}
				}
				return nil
			}}
			req := request(5, 4, 3)
			resp, err := start(t, f).NewPusher(client.PusherOptions{}).Push(context.Background(), req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.GetAcceptedEntries() != 10 || resp.GetRejectedEntries() != 2 || len(resp.GetRejections()) != 2 {
				t.Fatalf("response %v", resp)
			}
			r0, r1 := resp.GetRejections()[0], resp.GetRejections()[1]
			if r0.GetStream() != 0 || r0.GetEntry() != 3 || r1.GetStream() != 2 || r1.GetEntry() != 0 {
				t.Errorf("rejections %v", resp.GetRejections())
			}
			var want []string
			for _, e := range req.GetStreams()[0].GetEntries() {
				if !bad[e.GetText()] {
					want = append(want, e.GetText())
				}
			}
			if got := lines(f.stored)["0"]; strings.Join(got, ";") != strings.Join(want, ";") {
				t.Errorf("stored %q, want %q", got, want)
			}
		})
	}
}

// However a request is cut, all of it arrives, in order, within the size, and
// rejections come back with their places in the whole.
func TestPusherSplits(t *testing.T) {
	f := &fake{reject: func(r *pushv1.PushRequest) *pushv1.PushResponse {
		resp := &pushv1.PushResponse{}
		for i, s := range r.GetStreams() {
			for j, e := range s.GetEntries() {
				if strings.HasPrefix(e.GetText(), "bad") {
					resp.RejectedEntries++
					resp.Rejections = append(resp.Rejections, &pushv1.Rejection{Stream: uint32(i), Entry: uint32(j), Count: 1})
				} else {
					resp.AcceptedEntries++
				}
			}
		}
		return resp
	}}
	c := start(t, f)
	rapid.Check(t, func(rt *rapid.T) {
		f.mu.Lock()
		f.stored = nil
		f.mu.Unlock()
		maxBytes := rapid.IntRange(60, 400).Draw(rt, "maxBytes")
		req := request(rapid.SliceOfN(rapid.IntRange(0, 30), 0, 6).Draw(rt, "counts")...)
		var want []string
		for i, s := range req.GetStreams() {
			for j, e := range s.GetEntries() {
				if rapid.IntRange(0, 9).Draw(rt, "bad") == 0 {
					e.Line = &pushv1.Entry_Text{Text: fmt.Sprintf("bad %d %d", i, j)}
					want = append(want, fmt.Sprintf("%d %d", i, j))
				}
			}
		}
		resp, err := c.NewPusher(client.PusherOptions{MaxBytes: maxBytes}).Push(context.Background(), req)
		if err != nil {
			rt.Fatal(err)
		}
		if got, want := lines(f.stored), lines([]*pushv1.PushRequest{req}); fmt.Sprint(got) != fmt.Sprint(want) {
			rt.Fatalf("stored %v, want %v", got, want)
		}
		var got []string
		for _, r := range resp.GetRejections() {
			got = append(got, fmt.Sprintf("%d %d", r.GetStream(), r.GetEntry()))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			rt.Fatalf("rejections %v, want %v", got, want)
		}
		last := int64(0)
		for _, r := range f.stored {
			n := 0
			for _, s := range r.GetStreams() {
				n += len(s.GetEntries())
			}
			if size := proto.Size(r); size > maxBytes && n > 1 {
				rt.Fatalf("%d bytes on the wire, limit %d", size, maxBytes)
			}
			if r.GetBatchTimeUnixNano() <= last {
				rt.Fatalf("batch time %d after %d", r.GetBatchTimeUnixNano(), last)
			}
			last = r.GetBatchTimeUnixNano()
		}
	})
}

func TestErrors(t *testing.T) {
	f := &fake{failures: []error{statusErr(codes.ResourceExhausted, "RATE_LIMITED", "slow down", time.Second)}}
	_, err := start(t, f).Push(context.Background(), request(1))
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatalf("%T is no *client.Error", err)
	}
	if e.Code != codes.ResourceExhausted || e.Reason != "RATE_LIMITED" || e.Domain != "weir" ||
		e.Metadata["k"] != "v" || e.RetryAfter != time.Second || e.Message != "slow down" || !e.Temporary() {
		t.Errorf("error %+v", e)
	}
	if status.Code(err) != codes.ResourceExhausted || client.Reason(err) != "RATE_LIMITED" {
		t.Errorf("code %v, reason %q", status.Code(err), client.Reason(err))
	}
	if st, _ := status.FromError(err); len(st.Details()) != 2 {
		t.Error("the details are lost")
	}
	if client.AsError(nil) != nil || client.Reason(nil) != "" {
		t.Error("nil is not nil")
	}
	if !errors.Is(client.AsError(context.DeadlineExceeded), context.DeadlineExceeded) {
		t.Error("deadline not recognised")
	}
}

func TestBackoff(t *testing.T) {
	b := client.Backoff{Min: 100 * time.Millisecond, Max: 30 * time.Second}
	for _, c := range []struct {
		attempt  int
		after    time.Duration
		low, top time.Duration // for random 0 and (almost) 1
	}{
		{0, 0, 50 * time.Millisecond, 100 * time.Millisecond},
		{1, 0, 100 * time.Millisecond, 200 * time.Millisecond},
		{8, 0, 12800 * time.Millisecond, 25600 * time.Millisecond},
		{9, 0, 15 * time.Second, 30 * time.Second},
		{1 << 30, 0, 15 * time.Second, 30 * time.Second},
		{0, time.Second, time.Second, 1250 * time.Millisecond},
		{0, 24 * time.Hour, 5 * time.Minute, 375 * time.Second},
	} {
		b.Rand = func() float64 { return 0 }
		if got := b.Wait(c.attempt, c.after); got != c.low {
			t.Errorf("attempt %d: shortest %v, want %v", c.attempt, got, c.low)
		}
		b.Rand = func() float64 { return 1 }
		if got := b.Wait(c.attempt, c.after); got != c.top {
			t.Errorf("attempt %d: longest %v, want %v", c.attempt, got, c.top)
		}
	}
}

func TestBatch(t *testing.T) {
	var b client.Batch
	at := time.Unix(1, 2)
	b.Add(map[string]string{"a": "1", "b": "2"}, at, []byte("x"), nil)
	b.Add(map[string]string{"b": "2", "a": "1"}, at, []byte{0xff}, map[string]string{"k": "v"})
	b.Add(map[string]string{"a": "1"}, time.Time{}, []byte("y"), nil)
	if b.Len() != 3 {
		t.Fatalf("%d entries", b.Len())
	}
	size := b.Size()
	req := b.Take()
	if size < proto.Size(req) {
		t.Errorf("estimated %d bytes, has %d", size, proto.Size(req))
	}
	if len(req.GetStreams()) != 2 || len(req.GetStreams()[0].GetEntries()) != 2 {
		t.Fatalf("streams %v", req.GetStreams())
	}
	if e := req.GetStreams()[0].GetEntries()[1]; string(e.GetRaw()) != "\xff" || e.GetTimestampUnixNano() != at.UnixNano() {
		t.Errorf("entry %v", e)
	}
	if req.GetStreams()[1].GetEntries()[0].GetTimestampUnixNano() != 0 {
		t.Error("a zero time got a timestamp")
	}
	if b.Len() != 0 || b.Size() != 0 || len(b.Take().GetStreams()) != 0 {
		t.Error("not empty after Take")
	}
}

func TestPushStream(t *testing.T) {
	f := &fake{failures: []error{nil, statusErr(codes.ResourceExhausted, "RATE_LIMITED", "slow", time.Second)}}
	f.failures[0] = statusErr(codes.Unavailable, "OVERLOADED", "busy", 0)
	c := start(t, f)
	ctx := context.Background()
	s, err := c.PushStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var sent []*client.Pending
	for range 9 {
		p, err := s.Send(ctx, request(2))
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, p)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, p := range sent {
		resp, err := p.Wait(ctx)
		switch i {
		case 0:
			if client.Reason(err) != "OVERLOADED" {
				t.Errorf("first: %v", err)
			}
		case 1:
			if e := client.AsError(err); e == nil || e.RetryAfter != time.Second {
				t.Errorf("second: %v", err)
			}
		default:
			if err != nil || resp.GetAcceptedEntries() != 2 {
				t.Errorf("%d: %v, %v", i, resp, err)
			}
		}
	}
	if _, err := s.Send(ctx, request(1)); err == nil {
		t.Error("Send after Close succeeded")
	}
}

func TestPushStreamBreaks(t *testing.T) {
	c := start(t, &fake{})
	ctx := context.Background()
	s, err := c.PushStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Send(ctx, &pushv1.PushRequest{Streams: []*pushv1.Stream{{Labels: map[string]string{"break": "1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(ctx); status.Code(err) != codes.Unavailable {
		t.Errorf("pending: %v", err)
	}
	if err := s.Close(); status.Code(err) != codes.Unavailable {
		t.Errorf("Close: %v", err)
	}
}

func TestPages(t *testing.T) {
	page := func(next string) *queryv1.QueryRangeResponse { return &queryv1.QueryRangeResponse{NextCursor: next} }
	c := start(t, &fake{pages: map[string]*queryv1.QueryRangeResponse{"": page("a"), "a": page("b"), "b": page(""), "loop": page("loop"), "bad": page("worse")}})
	for start, want := range map[string]string{"": "a b  nil", "a": "b  nil", "loop": "loop error", "bad": "worse error"} {
		var got []string
		end := "nil"
		for p, err := range c.Pages(context.Background(), &queryv1.QueryRangeRequest{Cursor: start}) {
			if err != nil {
				end = "error"
				break
			}
			got = append(got, p.GetNextCursor())
		}
		if g := strings.Join(got, " ") + " " + end; g != want {
			t.Errorf("from %q: %q, want %q", start, g, want)
		}
	}
}

func TestQueryStream(t *testing.T) {
	c := start(t, &fake{})
	for query, want := range map[string]string{"ok": "progress done", "cut": "progress Unavailable"} {
		var got []string
		for m, err := range c.QueryStream(context.Background(), &queryv1.QueryRangeRequest{Query: query}) {
			switch {
			case err != nil:
				got = append(got, status.Code(err).String())
			case m.GetProgress() != nil:
				got = append(got, "progress")
			case m.GetDone() != nil:
				got = append(got, "done")
			}
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s: %q, want %q", query, g, want)
		}
	}
	for range c.QueryStream(context.Background(), &queryv1.QueryRangeRequest{Query: "hang"}) {
		break // cancels the call: nothing leaks
	}
	if q, err := c.FormatQuery(context.Background(), "x"); q != "formatted x" || err != nil {
		t.Errorf("FormatQuery: %q, %v", q, err)
	}
	if _, err := c.Labels(context.Background(), &queryv1.LabelsRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("Labels: %v", err)
	}
}

func TestMerged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var streams []*queryv1.LogStream
		forward := rapid.Bool().Draw(rt, "forward")
		total := 0
		for i := range rapid.IntRange(0, 5).Draw(rt, "streams") {
			s := &queryv1.LogStream{Labels: map[string]string{"s": fmt.Sprint(i)}}
			ts := int64(1000)
			for range rapid.IntRange(0, 10).Draw(rt, "entries") {
				step := int64(rapid.IntRange(0, 3).Draw(rt, "step"))
				if !forward {
					step = -step
				}
				ts += step
				s.Entries = append(s.Entries, &queryv1.LogEntry{TimestampUnixNano: ts})
				total++
			}
			streams = append(streams, s)
		}
		dir := queryv1.Direction_DIRECTION_BACKWARD
		if forward {
			dir = queryv1.Direction_DIRECTION_FORWARD
		}
		next := map[*queryv1.LogStream]int{}
		var last *queryv1.LogEntry
		for s, e := range client.Merged(streams, dir) {
			if s.GetEntries()[next[s]] != e {
				rt.Fatal("a stream's own order is broken")
			}
			next[s]++
			if last != nil && last.GetTimestampUnixNano() != e.GetTimestampUnixNano() &&
				(last.GetTimestampUnixNano() < e.GetTimestampUnixNano()) != forward {
				rt.Fatal("out of order")
			}
			last = e
			total--
		}
		if total != 0 {
			rt.Fatalf("%d entries too few", total)
		}
	})
}

func TestTailResumes(t *testing.T) {
	type stream = grpc.ServerStreamingServer[tailv1.TailResponse]
	send := func(s stream, cursors ...string) error {
		for _, c := range cursors {
			if err := s.Send(&tailv1.TailResponse{Cursor: c}); err != nil {
				return err
			}
		}
		return nil
	}
	f := &fake{tails: []func(*tailv1.TailRequest, stream) error{
		func(_ *tailv1.TailRequest, s stream) error {
			_ = send(s, "1", "2")
			return status.Error(codes.Unavailable, "restart")
		},
		func(*tailv1.TailRequest, stream) error { return status.Error(codes.Unavailable, "not yet") },
		func(_ *tailv1.TailRequest, s stream) error { return send(s, "3") },
		func(_ *tailv1.TailRequest, s stream) error {
			return status.Error(codes.DeadlineExceeded, "1 h is over")
		},
		func(*tailv1.TailRequest, stream) error {
			return statusErr(codes.InvalidArgument, "CURSOR_EXPIRED", "who?", 0)
		},
		func(_ *tailv1.TailRequest, s stream) error {
			_ = send(s, "9")
			return statusErr(codes.InvalidArgument, "PARSE_ERROR", "no", 0)
		},
	}}
	var got []string
	var end error
	for m, err := range start(t, f).Tail(context.Background(), &tailv1.TailRequest{Query: "{}", Limit: 7}) {
		switch {
		case err != nil:
			end = err
		case len(m.GetDropped()) > 0:
			got = append(got, "dropped")
		default:
			got = append(got, m.GetCursor())
		}
	}
	if g := strings.Join(got, " "); g != "1 2 3 dropped 9" {
		t.Errorf("got %q", g)
	}
	if client.Reason(end) != "PARSE_ERROR" {
		t.Errorf("ended with %v", end)
	}
	var cursors []string
	for _, a := range f.asked {
		cursors = append(cursors, a.GetCursor())
	}
	if g := strings.Join(cursors, ","); g != ",2,2,3,3," {
		t.Errorf("asked with cursors %q", g)
	}
}

func TestTailEnds(t *testing.T) {
	// A first call that fails is an error; leaving the loop or ending the
	// context ends the call.
	f := &fake{tails: []func(*tailv1.TailRequest, grpc.ServerStreamingServer[tailv1.TailResponse]) error{
		func(*tailv1.TailRequest, grpc.ServerStreamingServer[tailv1.TailResponse]) error {
			return status.Error(codes.Unavailable, "down")
		},
	}}
	c := start(t, f)
	n := 0
	for _, err := range c.Tail(context.Background(), &tailv1.TailRequest{}) {
		if n++; status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	for _, err := range c.Tail(ctx, &tailv1.TailRequest{}) {
		if n++; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if n != 2 {
		t.Errorf("%d errors, want 2", n)
	}
}

func TestTLSByDefaultOffLoopback(t *testing.T) {
	// A plain server behind a name that is not local: the client must not talk
	// to it in the clear.
	f := &fake{}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := start(t, f, client.WithTLS(&tls.Config{MinVersion: tls.VersionTLS12}))
	if _, err := c.Push(ctx, request(1)); err == nil || len(f.requests) != 0 {
		t.Errorf("err %v, %d requests", err, len(f.requests))
	}
	for addr, local := range map[string]bool{
		"127.0.0.1:9095": true, "localhost:1": true, "[::1]:9095": true, "unix:/run/weir.sock": true,
		"dns:///localhost:1": true, "weir.example:9095": false, "10.0.0.1:9095": false, "localhost.example:1": false,
	} {
		if got := client.IsLocal(addr); got != local {
			t.Errorf("%s: local %v", addr, got)
		}
	}
}
