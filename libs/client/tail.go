package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

// tailSilence is how long a tail may say nothing before its connection counts as
// dead; a server says something every 10 s.
const tailSilence = 35 * time.Second

// Tail follows the entries that match a log query. When the call breaks after a
// response has come, or the server ends it because of its age, it is opened
// again at the last cursor, for ever, with the Client's backoff; nothing is lost
// or repeated by that. If the server no longer knows the cursor, the next
// response has a Dropped that says so, and the tail goes on with what comes from
// then on.
//
// The sequence ends when ctx does, with ctx's error; on any failure before the
// first response; and on errors that a new call would repeat.
func (c *Client) Tail(ctx context.Context, req *tailv1.TailRequest) iter.Seq2[*tailv1.TailResponse, error] {
	return func(yield func(*tailv1.TailResponse, error) bool) {
		t := tailing{c: c, req: proto.CloneOf(req), seen: time.Now()}
		answered := false
		for attempt := 0; ; attempt++ {
			got, err := t.call(ctx, yield)
			answered = answered || got
			if err == nil {
				return // the consumer has left
			}
			if ctx.Err() != nil {
				yield(nil, ctx.Err())
				return
			}
			e := AsError(err)
			switch {
			case e.Reason == "CURSOR_EXPIRED" && t.resumed:
				gap := &tailv1.TailResponse{Dropped: []*tailv1.Dropped{{
					From: timestamppb.New(t.seen), Through: timestamppb.Now(),
					Reason: "the tail was interrupted for longer than the server remembers",
				}}}
				if !yield(gap, nil) {
					return
				}
				t.req.Cursor, t.req.Start, t.resumed = "", nil, false
			case e.verdict() != retry || !answered:
				yield(nil, e)
				return
			}
			if got {
				attempt = 0
			}
			if err := sleep(ctx, c.backoff.Wait(attempt, e.RetryAfter)); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// tailing is a tail over its calls.
type tailing struct {
	c       *Client
	req     *tailv1.TailRequest
	resumed bool      // the cursor is from an earlier call of this tail
	seen    time.Time // when the last response came
}

// call runs one call and says whether a response came. A nil error: the consumer
// wants no more.
func (t *tailing) call(ctx context.Context, yield func(*tailv1.TailResponse, error) bool) (got bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errSilent := &Error{Code: codes.Unavailable, Message: "the server has gone silent"}
	watchdog := time.AfterFunc(tailSilence, func() { cancel(errSilent) })
	defer watchdog.Stop()

	call, err := t.c.tail.Tail(ctx, t.req)
	for err == nil {
		var msg *tailv1.TailResponse
		if msg, err = call.Recv(); err != nil {
			break
		}
		got = true
		watchdog.Stop()
		t.seen = time.Now()
		if !yield(msg, nil) {
			return got, nil
		}
		// Only now: the consumer has processed the response.
		if msg.GetCursor() != "" {
			t.req.Cursor, t.req.Start, t.resumed = msg.GetCursor(), nil, true
		}
		watchdog.Reset(tailSilence)
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		return got, errSilent
	}
	if errors.Is(err, io.EOF) {
		return got, &Error{Code: codes.Unavailable, Message: "the server has ended the tail"}
	}
	return got, err
}

// Entries gives the entries of a tail response in the order of their timestamps.
func Entries(r *tailv1.TailResponse) iter.Seq2[*queryv1.LogStream, *queryv1.LogEntry] {
	return Merged(r.GetStreams(), queryv1.Direction_DIRECTION_FORWARD)
}
