package querier

import (
	"context"
	"errors"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	// refollow is how long a tail waits before it calls a lost ingester again.
	refollow = 500 * time.Millisecond
	// awayFor is how long an ingester may say nothing before a tail counts it as away; one
	// that is well says something every 5 s.
	awayFor = time.Minute
)

// errLeft says that an ingester is a member no more.
var errLeft = errors.New("it is no member")

// ingester returns the client of a member by its name.
func (s *Service) ingester(name string) (ingestv1.IngestServiceClient, error) {
	for _, m := range s.deps.Ring.View().Ingesters() {
		if m.Name == name {
			return s.deps.Ingesters.Ingester(m)
		}
	}
	return nil, errLeft
}

// tailEvent is what a follower has to say.
type tailEvent struct {
	ingester string
	messages []*ingestv1.FollowResponse // what leads to one position, the last one's
	complete time.Time                  // what was appended before has come with this; zero: it does not say
	now      bool                       // the first of all, and it goes on from when it was made
	away     bool                       // nothing has been heard for awayFor
	left     bool                       // the ingester is no member, and not followed any more
	err      error                      // a lasting one: the tail ends
}

// follower follows one ingester, and calls it again when the connection is lost.
type follower struct {
	name    string
	client  func() (ingestv1.IngestServiceClient, error) // asked for each call: a member may come back at another address
	query   string
	at      position
	since   time.Time // without a position: follow from here on; zero: from now on
	events  chan<- tailEvent
	started func()          // called once, when the ingester has answered
	begun   <-chan struct{} // closed when more than its first message is asked for
	heard   func()          // ends the wait that tells that it is away
}

func (f *follower) run(ctx context.Context) {
	f.listen(ctx)
	defer func() { f.heard() }()
	for ctx.Err() == nil {
		err := f.follow(ctx)
		switch {
		case errors.Is(err, errLeft):
			f.tell(ctx, tailEvent{ingester: f.name, left: true})
			return
		case err != nil && lasting(err):
			f.tell(ctx, tailEvent{ingester: f.name, err: err})
			return
		}
		select {
		case <-time.After(refollow):
		case <-ctx.Done():
		}
	}
}

// listen tells that the ingester is away, unless it is heard of before.
func (f *follower) listen(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(awayFor, func() { f.tell(ctx, tailEvent{ingester: f.name, away: true}) })
	f.heard = func() { timer.Stop(); cancel() }
}

func (f *follower) follow(ctx context.Context) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &ingestv1.FollowRequest{Query: f.query, Incarnation: f.at.Incarnation, Position: f.at.Position}
	if f.at.Position == 0 && !f.since.IsZero() {
		resp, err := c.Clock(ctx, &ingestv1.ClockRequest{})
		if err != nil {
			return err
		}
		// The clock was read before now, so this is not later than since.
		req.Since = resp.GetClock()
		req.Since.Nanos -= int64(time.Since(f.since))
	}
	began := time.Now() // not later than by the ingester
	stream, err := c.Follow(ctx, req)
	if err != nil {
		return err
	}
	now := req.GetPosition() == 0 && req.GetSince() == nil
	var pieces []*ingestv1.FollowResponse
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		f.heard()
		at := position{Incarnation: m.GetIncarnation(), Position: m.GetPosition()}
		pieces = append(pieces, m)
		if at == f.at && len(m.GetRows().GetTimes()) > 0 {
			f.listen(outer)
			continue // of something that is too large for one message, and comes again if its end does not come
		}
		f.at = at
		ev := tailEvent{ingester: f.name, messages: pieces, now: now}
		now = false
		if n := m.GetCompleteNanos(); n > 0 {
			ev.complete = began.Add(time.Duration(n))
		}
		if !f.tell(ctx, ev) {
			return ctx.Err()
		}
		pieces = nil
		if f.started != nil {
			f.started()
			f.started = nil
		}
		select {
		case <-f.begun:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.listen(outer)
	}
}

func (f *follower) tell(ctx context.Context, ev tailEvent) bool {
	select {
	case f.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// lasting reports whether calling again would not help.
func lasting(err error) bool {
	switch rpcerr.ReasonOf(err) {
	case rpcerr.InvalidArgument, rpcerr.ParseError, rpcerr.LimitExceeded, rpcerr.PermissionDenied, rpcerr.Unauthenticated:
		return true
	}
	return false
}
