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
