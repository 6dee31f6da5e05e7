package remote

import (
	"context"
	"time"
)

// Hedge says when a server that is silent is given up before its time. Its methods may be
// called by several goroutines.
type Hedge interface {
	// After is how long a server may say nothing before Give is asked: while it opens, or
	// while it reads. A server that is at work says something every second, so that less
	// than two seconds give up one that works, too.
	After(opening bool) time.Duration
	// Give reports whether the answer can do without the server. It is asked again and
	// again while that is silent, and what it says yes to has happened.
	Give(opening bool) bool
}

// WithHedge makes sources that are opened under ctx ask h of a server that is silent.
func WithHedge(ctx context.Context, h Hedge) context.Context {
	return context.WithValue(ctx, hedgeKey{}, h)
}

type hedgeKey struct{}

// hedgeAgain is how long after Hedge.Give has said no it is asked again.
const hedgeAgain = 50 * time.Millisecond

// watch calls give when the server has said nothing for as long as it may, or for less if
// that is granted. The function that it returns ends that.
func (s *session) watch(give func(after time.Duration)) (stop func()) {
	h, _ := s.ctx.Value(hedgeKey{}).(Hedge)
	if h == nil {
		timer := time.AfterFunc(silence, func() { give(silence) })
		return func() { timer.Stop() }
	}
	opening, began := s.opened == nil, time.Now()
	end := make(chan struct{})
	next := min(h.After(opening), silence)
	timer := time.AfterFunc(next, func() {
		tick := time.NewTicker(hedgeAgain)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			default:
			}
			if since := time.Since(began); since >= silence || h.Give(opening) {
				give(since.Round(time.Millisecond))
				return
			}
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	return func() { timer.Stop(); close(end) }
}
