package client_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"pgregory.net/rapid"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/client"
)

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

// Where the server asks for a longer wait than there is time for, nothing is waited for.
func TestPusherHasNoTimeForTheServersWait(t *testing.T) {
	f := &fake{fail: func(*pushv1.PushRequest) error {
		return statusErr(codes.ResourceExhausted, "RATE_LIMITED", "slow down", 2*time.Hour)
	}}
	p := start(t, f).NewPusher(client.PusherOptions{OnRetry: func(_ *client.Error, wait time.Duration) {
		t.Errorf("it will be tried again in %v", wait)
	}})
	req := request(1)
	req.BatchTimeUnixNano = 1
	body, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	for what, push := range map[string]func(context.Context) error{
		"push":    func(ctx context.Context) error { _, err := p.Push(ctx, req); return err },
		"encoded": func(ctx context.Context) error { _, _, err := p.PushEncoded(ctx, body); return err },
	} {
		// Longer than the test may take, shorter than the longest wait that is granted.
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		if err := push(ctx); client.AsError(err).RetryAfter != 2*time.Hour || ctx.Err() != nil {
			t.Errorf("%s: %v, %v", what, err, ctx.Err())
		}
		cancel()
	}
	if len(f.requests) != 2 {
		t.Errorf("%d requests", len(f.requests))
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
