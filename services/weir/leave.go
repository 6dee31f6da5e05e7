package weir

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	// leaveSpread is how long others are given to hear that an ingester is leaving before it
	// refuses writes.
	leaveSpread = 2 * time.Second
	// leaveAgain is how long after one attempt to have all flush the next follows.
	leaveAgain = 2 * time.Second
	// leaveTails is how long live tails may take for what they have not been sent yet, and
	// leaveLook how often it is looked whether they have.
	leaveTails = 30 * time.Second
	leaveLook  = 100 * time.Millisecond
)

// leaver takes this process' ingester out of the cluster: it takes no more writes, all
// that it has goes into the store, and when every querier is sure to find it there, and live
// tails have taken it, it gives up its place.
type leaver struct {
	log        *slog.Logger
	self       func() ring.Member
	view       func() *ring.View
	setState   func(ring.State) error
	stopWrites func()
	flush      func(ctx context.Context, m *ring.Member) error
	tails      func() int // live tails that have not been sent all
	leave      func(ctx context.Context) error
	// listed is how old a querier's listing of the store may be.
	listed time.Duration
	wait   func(ctx context.Context, d time.Duration) error
}

func (p *Process) leave(ctx context.Context) error {
	m := p.member.Load()
	if m == nil {
		return rpcerr.New(rpcerr.NotReady, "not a member yet").WithRetry(time.Second)
	}
	switch {
	case p.ingester == nil:
		return (*m).Leave(ctx)
	case len(p.cfg.Cluster.Join) == 0:
		return rpcerr.New(rpcerr.Conflict, "this process is alone: there is nobody to hand over to")
	}
	l := &leaver{
		log: p.tel.Log, self: (*m).Self, view: (*m).View, setState: (*m).SetState, stopWrites: p.ingester.StopWrites, tails: p.ingester.TailsBehind,
		flush: p.flushMember, leave: (*m).Leave, listed: catalog.DefaultMaxAge + time.Minute, wait: wait,
	}
	return l.run(ctx)
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run may be called again when it was interrupted: the member is leaving until then, which
// a restart ends.
func (l *leaver) run(ctx context.Context) error {
	self, view := l.self(), l.view()
	others := 0
	for _, m := range view.Ingesters() {
		if m.Name != self.Name && m.State == ring.Active && view.Healthy(m.Name) {
			others++
		}
	}
	if need := view.Quorum(); others < need {
		return rpcerr.New(rpcerr.Conflict, "%d other ingesters are healthy, and without %d nothing can be stored", others, need)
	}
	if err := l.setState(ring.Leaving); err != nil {
		return err
	}
	l.log.Info("leaving the cluster")
	if err := l.wait(ctx, leaveSpread); err != nil {
		return err
	}
	l.stopWrites()
	if err := l.flush(ctx, &self); err != nil {
		return rpcerr.Wrap(err, rpcerr.Unavailable, "what the ingester has cannot be put into the store: %v", err).WithRetry(10 * time.Second)
	}
	if err := l.handOver(ctx, self.Name); err != nil {
		return err
	}
	if err := l.awaitTails(ctx); err != nil {
		return err
	}
	if err := l.leave(ctx); err != nil {
		return err
	}
	l.log.Info("left the cluster")
	return nil
}

// awaitTails returns when live tails have been sent all that the ingester has. Those whose
// clients do not take it in time are told by their queriers that it is missing.
func (l *leaver) awaitTails(ctx context.Context) error {
	for range leaveTails / leaveLook {
		if l.tails() == 0 {
			return nil
		}
		if err := l.wait(ctx, leaveLook); err != nil {
			return err
		}
	}
	l.log.Warn("live tails have not taken all that the ingester has", "tails", l.tails())
	return nil
}

// handOver returns when every querier is sure to find in the store what the ingester has
// put there: since its co-owners have put the same there, and name the blocks in their
// answers, or since every listing that it is not in has become too old.
func (l *leaver) handOver(ctx context.Context, name string) error {
	without := func(v *ring.View, flushed map[string]bool) (bool, []*ring.Member) {
		return v.CompleteAnywhere(func(o *ring.Member) bool { return o.Name != name && (flushed == nil || flushed[o.Incarnation]) })
	}
	for {
		v := l.view()
		if possible, _ := without(v, nil); !possible {
			l.log.Info("the others do not have all that the ingester has; it stays until queriers have listed the store", "wait", l.listed)
			return l.wait(ctx, l.listed)
		}
		ok, missing := without(v, flushAll(ctx, v, l.flush, l.log))
		if ok {
			return nil
		}
		var names []string
		for _, o := range missing {
			if o.Name != name {
				names = append(names, o.Name)
			}
		}
		l.log.Warn("ingesters have not put into the store what they share with the one that leaves; it is tried again", "ingesters", strings.Join(names, ","))
		if err := l.wait(ctx, leaveAgain); err != nil {
			return rpcerr.Wrap(err, rpcerr.Unavailable, "%s have not put into the store what they share with %s", strings.Join(names, ", "), name).WithRetry(10 * time.Second)
		}
	}
}
