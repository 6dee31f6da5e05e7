package client

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

// Push sends one request once. Most callers want a Pusher instead.
func (c *Client) Push(ctx context.Context, req *pushv1.PushRequest) (*pushv1.PushResponse, error) {
	return c.push.Push(ctx, req)
}

// maxRejections is how many rejections a response lists.
const maxRejections = 1000

// PusherOptions says how a Pusher sends. The zero value is the default.
type PusherOptions struct {
	// MaxBytes is the most that one request has on the wire. Default and
	// maximum: 4 MiB, which every gRPC server accepts.
	MaxBytes int
	// Timeout is how long one attempt may take. Default: 15 s.
	Timeout time.Duration
	// Backoff is the waits between attempts. Default: the Client's.
	Backoff Backoff
	// Now is the clock that batch times come from. Default: time.Now.
	Now func() time.Time
	// OnRetry is told of each failed attempt that will be repeated after wait.
	// It must not block.
	OnRetry func(err *Error, wait time.Duration)
}

// Pusher sends batches until they are stored.
type Pusher struct {
	push pushv1.PushServiceClient
	conn *conn
	o    PusherOptions

	mu   sync.Mutex
	last int64 // newest batch time given out
}

// NewPusher makes a Pusher that sends over this client.
func (c *Client) NewPusher(o PusherOptions) *Pusher {
	const most = 4 << 20
	if o.MaxBytes <= 0 || o.MaxBytes > most {
		o.MaxBytes = most
	}
	if o.Timeout <= 0 {
		o.Timeout = 15 * time.Second
	}
	if o.Backoff.Min <= 0 && o.Backoff.Max <= 0 && o.Backoff.Rand == nil {
		o.Backoff = c.backoff
	}
	o.Backoff = o.Backoff.withDefaults()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnRetry == nil {
		o.OnRetry = func(*Error, time.Duration) {}
	}
	return &Pusher{push: c.push, conn: c.conn, o: o}
}

// Push sends a request until all of it is stored or refused, and says what
// became of it, with indexes into req. The rejections listed are the first
// 1,000; the count is of all.
//
// The batch time is req's, or, if that is 0, chosen once and repeated by every
// attempt. A request larger than MaxBytes goes in parts, in order. What the
// server refuses as a whole because of its content (INVALID_ARGUMENT, too large)
// is halved until the entries at fault stand alone; they are reported as
// rejections and the rest is stored.
//
// Temporary failures are retried for ever. Push returns an error when ctx ends, or
// before, if the server asks for a longer wait than that, or at once for failures that
// no retry and no other batch will cure
// (UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED, INVALID_TENANT, …). Parts
// before it may then be stored, as the response, which is never nil, says;
// sending the whole request again, with the same batch time, does no harm.
//
// req is not changed and must not be while Push runs.
func (p *Pusher) Push(ctx context.Context, req *pushv1.PushRequest) (*pushv1.PushResponse, error) {
	total := &pushv1.PushResponse{}
	parts := split(req, p.o.MaxBytes)
	batchTime := req.GetBatchTimeUnixNano()
	if batchTime == 0 {
		n := 0
		for _, part := range parts {
			n += part.units()
		}
		batchTime = p.batchTime(n)
	}
	for _, part := range parts {
		if err := p.part(ctx, req, part, batchTime, total); err != nil {
			return total, err
		}
	}
	return total, nil
}

// batchTime gives a time that no batch of this Pusher has had, nor any part of
// one, for a batch of n units.
func (p *Pusher) batchTime(n int) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := max(p.o.Now().UnixNano(), p.last+1)
	p.last = t + int64(n)
	return t
}

// part sends one part until it is settled and adds the outcome to total.
func (p *Pusher) part(ctx context.Context, req *pushv1.PushRequest, pt part, batchTime int64, total *pushv1.PushResponse) error {
	msg := pt.request(req, batchTime)
	for attempt := 0; ; attempt++ {
		resp, err := p.attempt(ctx, msg)
		if err == nil {
			merge(total, resp, pt)
			return nil
		}
		if ctx.Err() != nil {
			return AsError(err)
		}
		e := AsError(err)
		switch e.verdict() {
		case fail:
			return e
		case isolate:
			if pt.units() == 1 {
				refuse(total, pt, e)
				return nil
			}
			a, b := pt.halves()
			if err := p.part(ctx, req, a, batchTime, total); err != nil {
				return err
			}
			return p.part(ctx, req, b, batchTime, total)
		}
		if !p.pause(ctx, attempt, e) {
			return e
		}
	}
}

// pause waits until it is time for the next attempt, and reports whether there is one. Where the
// server asks for longer than ctx lasts there is none, and nothing is waited for.
func (p *Pusher) pause(ctx context.Context, attempt int, e *Error) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < min(e.RetryAfter, maxRetryAfter) {
		return false
	}
	wait := p.o.Backoff.Wait(attempt, e.RetryAfter)
	p.o.OnRetry(e, wait)
	return sleep(ctx, wait) == nil
}

func (p *Pusher) attempt(ctx context.Context, msg *pushv1.PushRequest) (*pushv1.PushResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	return p.push.Push(ctx, msg)
}

// merge adds the answer to a part to the answer to the whole.
func merge(total, resp *pushv1.PushResponse, pt part) {
	total.AcceptedEntries += resp.GetAcceptedEntries()
	total.RejectedEntries += resp.GetRejectedEntries()
	total.StampedEntries += resp.GetStampedEntries()
	for _, r := range resp.GetRejections() {
		if len(total.Rejections) >= maxRejections {
			return
		}
		r := proto.CloneOf(r)
		r.Stream, r.Entry = pt.locate(r)
		total.Rejections = append(total.Rejections, r)
	}
}

// refuse records that the one entry of a part, or its empty stream, was refused
// as a request of its own.
func refuse(total *pushv1.PushResponse, pt part, e *Error) {
	s := pt.spans[0]
	count := uint32(s.to - s.from)
	total.RejectedEntries += uint64(count)
	if len(total.Rejections) >= maxRejections {
		return
	}
	reason := pushv1.RejectReason_REJECT_REASON_UNSPECIFIED
	if e.tooLarge() {
		reason = pushv1.RejectReason_REJECT_REASON_LINE_TOO_LONG
	}
	total.Rejections = append(total.Rejections, &pushv1.Rejection{
		Stream: uint32(s.stream), Entry: uint32(s.from), Count: count, Reason: reason, Message: e.Error(),
	})
}
