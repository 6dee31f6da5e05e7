package weir

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/ring/gossip"
	"github.com/weir-logs/weir/services/distributor"
)

const (
	// factorsEvery is how often it is looked whether the replication factor has changed.
	factorsEvery = 2 * time.Second
	// factorMargin is how long after that entries placed by the former one may come: as
	// long as distributors may take to hear of it, and their requests may last.
	factorMargin = 30 * time.Second
)

// factors ends a change of the replication factor for this process' ingester: what was
// placed by a former one is put into the store, where it makes no difference any more.
type factors struct {
	log   *slog.Logger
	self  func() ring.Member
	view  func() *ring.View
	drop  func(keep ring.Factors) error
	flush func(ctx context.Context) error
	now   func() time.Time

	held *held

	former ring.Factors // that are not in use, as of the last look
	since  time.Time    // when they were first all of them
}

// held knows by which replication factors the writes are placed that are in work, and how
// many there were.
type held struct {
	dropping sync.RWMutex // held for reading while a write is begun, for writing while factors are dropped
	working  [ring.MaxReplicationFactor + 1]atomic.Int64
	begun    [ring.MaxReplicationFactor + 1]atomic.Uint64
}

// begin notes that a write is in work until done is called, before note is.
func (h *held) begin(rf int, note func(rf int) error) (done func(), err error) {
	if ring.FactorsOf(rf) == 0 {
		return func() {}, nil
	}
	h.dropping.RLock()
	defer h.dropping.RUnlock()
	h.begun[rf].Add(1)
	h.working[rf].Add(1)
	done = func() { h.working[rf].Add(-1) }
	if err := note(rf); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// seen returns how many writes were begun that were placed by some factors, and whether any of
// them is in work.
func (h *held) seen(factors ring.Factors) (begun uint64, working bool) {
	for _, rf := range factors.Slice() {
		begun += h.begun[rf].Load()
		working = working || h.working[rf].Load() > 0
	}
	return begun, working
}

func (p *Process) newFactors() *factors {
	m := *p.member.Load()
	return &factors{log: p.tel.Log, held: &p.held, self: m.Self, view: m.View, drop: m.DropFactors, now: p.now,
		flush: func(ctx context.Context) error {
			self := m.Self()
			return p.flushMember(ctx, &self)
		}}
}

func (f *factors) run(ctx context.Context) {
	tick := time.NewTicker(factorsEvery)
	defer tick.Stop()
	for {
		f.pass(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pass looks once.
func (f *factors) pass(ctx context.Context) {
	used := ring.FactorsOf(f.view().Config().ReplicationFactor)
	switch former := f.self().Factors &^ used; {
	case former == 0:
		f.former = 0
		return
	case former != f.former:
		f.former, f.since = former, f.now()
		return
	case f.now().Sub(f.since) < factorMargin:
		return
	}
	// What is stored before the flush is in the store behind it. Writes that are in work now, or
	// begin until the factors are dropped, may not be: they keep them, and it is tried again.
	begun, working := f.held.seen(f.former)
	if working {
		return
	}
	if err := f.flush(ctx); err != nil {
		f.log.Warn("entries that were placed by a former replication factor cannot be put into the store now", "factors", f.former.Slice(), "err", err)
		return
	}
	f.held.dropping.Lock()
	defer f.held.dropping.Unlock()
	if now, _ := f.held.seen(f.former); now != begun {
		return
	}
	// What came meanwhile by one that was not known of stays.
	if err := f.drop(^f.former); err != nil {
		f.log.Error("the member table cannot be changed", "err", err)
		return
	}
	f.log.Info("all entries that were placed by a former replication factor are in the store", "factors", f.former.Slice())
	f.former = 0
}

// holdFactor notes by which replication factor the entries of a write of this process' ingester
// are placed.
func (p *Process) holdFactor(rf int) (done func(), err error) {
	m := p.member.Load()
	if m == nil {
		return func() {}, nil // nobody finds an ingester that has not joined
	}
	return p.held.begin(rf, (*m).HoldFactor)
}

// tellStreams tells distributors how many streams the ingester has.
func (p *Process) tellStreams(ctx context.Context) {
	m := *p.member.Load()
	tick := time.NewTicker(distributor.CountsEvery)
	defer tick.Stop()
	for {
		for _, message := range distributor.EncodeCounts(p.ingester.StreamCounts()) {
			m.Tell(ring.Distributor, gossip.TopicStreams, message)
			if p.distributor != nil { // the gossip does not carry it back
				p.distributor.HearStreams(m.Self().Name, message)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
