package compactor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/objstore"
)

// verdict is what retention means for a block, and until when.
type verdict struct {
	compact.Verdict
	rules string // that it was judged by
	at    int64  // when
}

// judge says what retention means for a block. Its streams are read only when
// something may have expired, and then not again before that changes.
func (s *Service) judge(ctx context.Context, b catalog.Block, rules *compact.Rules, now int64) (compact.Verdict, error) {
	shortest, any := rules.Shortest()
	if !any || b.Rows == 0 || b.MinTime > now-int64(shortest) {
		return compact.Verdict{Next: compact.MaxTime}, nil
	}
	name := rules.Name()
	s.mu.Lock()
	v, ok := s.verdicts[b.ID]
	s.mu.Unlock()
	if ok && v.rules == name && now >= v.at && now < v.Next {
		return v.Verdict, nil
	}
	streams, err := s.streams(ctx, b)
	if err != nil {
		s.damagedBy(err)
		return compact.Verdict{}, err
	}
	v = verdict{rules.Judge(streams, b.Tombstones, now), name, now}
	s.mu.Lock()
	s.verdicts[b.ID] = v
	s.mu.Unlock()
	return v.Verdict, nil
}

// streams reads a block's streams.
func (s *Service) streams(ctx context.Context, b catalog.Block) (list []compact.Stream, err error) {
	err = s.caught(func() error {
		r, err := s.open(ctx, b)
		if err == nil {
			list, err = compact.Streams(r)
		}
		return err
	}, "block", catalog.Key(b))
	return list, err
}

// expired is what retention would remove of a tenant, in the order in which it goes.
type expired struct {
	total  int64 // bytes of all live blocks, copies counted once
	whole  []compact.Sized
	size   map[catalog.ID]bool // those of whole that go because there is too much
	part   []compact.Sized
	judged map[catalog.ID]compact.Verdict
	unread []unread // in no list, but it may be in size's
}

// unread is a block that could not be read.
type unread struct {
	block catalog.Block
	err   error
}

// findExpired judges the live blocks of a tenant.
func (s *Service) findExpired(ctx context.Context, tenant string, rules *compact.Rules, clock time.Time) (*expired, error) {
	snap, err := s.snapshot(tenant)
	if err != nil {
		return nil, err
	}
	var blocks []compact.Block
	for _, b := range snap.Live(tenant, compact.MinTime, compact.MaxTime) {
		blocks = append(blocks, compact.NewBlock(b))
	}
	// Of a block that cannot be read nothing is a copy: it is told of below.
	none := func(err error) ([]compact.Stream, error) {
		if unreadable(err) {
			err = nil
		}
		return nil, err
	}
	list, err := compact.Count(blocks, func(b compact.Block) ([]compact.Stream, error) {
		if s.deps.Limits.For(tenant).RetentionSize == 0 {
			return nil, nil // what they share does not matter
		}
		streams, err := s.streams(ctx, b.Block)
		if err != nil {
			return none(err)
		}
		return streams, nil
	})
	if err != nil {
		return nil, err
	}
	e := &expired{total: compact.Total(list), size: map[catalog.ID]bool{}, judged: map[catalog.ID]compact.Verdict{}}
	var rest []compact.Sized
	for _, b := range list {
		v, err := s.judge(ctx, b.Block.Block, rules, clock.UnixNano())
		if unreadable(err) {
			e.unread = append(e.unread, unread{b.Block.Block, err})
		} else if err != nil {
			return nil, err
		}
		e.judged[b.ID] = v
		if v.Whole {
			e.whole = append(e.whole, b)
			continue
		}
		if v.Part {
			e.part = append(e.part, b)
		}
		rest = append(rest, b)
	}
	for _, b := range compact.Excess(rest, int64(s.deps.Limits.For(tenant).RetentionSize)) {
		e.whole = append(e.whole, b)
		e.size[b.ID] = true
	}
	return e, nil
}

// applyRetention removes what has expired, and the oldest where a tenant takes too
// much, as far as its share of this cycle goes: blocks that go as a whole are deleted,
// those of which a part goes are due to be rewritten.
func (c *cycle) applyRetention(ctx context.Context, tenant string, rules *compact.Rules) error {
	s := c.s
	l := s.deps.Limits.For(tenant)
	if _, any := rules.Shortest(); !any && l.RetentionSize == 0 {
		return nil
	}
	if err := c.askStoreForTime(ctx, tenant); err != nil {
		return err
	}
	e, err := s.findExpired(ctx, tenant, rules, c.clock)
	if err != nil {
		return err
	}
	candidates := slices.Clone(e.whole)
	for _, b := range e.part {
		if !e.size[b.ID] {
			b.Cost = int64(float64(b.Size) * float64(e.judged[b.ID].Entries) / float64(b.Rows))
			candidates = append(candidates, b)
		}
	}
	some := candidates
	if !l.RetentionForce {
		a := s.allowances[tenant]
		if a == nil {
			a = &compact.Allowance{}
			s.allowances[tenant] = a
		}
		some = a.Spend(candidates, e.total, s.cfg.RetentionShare)
	}
	held := int64(0)
	for _, b := range candidates[len(some):] {
		held += b.Cost
	}
	if held == 0 {
		s.metrics.held.DeleteLabelValues(tenant)
	} else {
		s.metrics.held.WithLabelValues(tenant).Set(float64(held))
		s.log.Warn("retention waits: a larger share of the tenant has expired than may go at once", "tenant", tenant,
			"expired_bytes", held, "tenant_bytes", e.total, "share", s.cfg.RetentionShare)
	}
	snap, err := s.snapshot(tenant)
	if err != nil {
		return err
	}
	going := map[catalog.ID]string{} // and why
	for _, b := range some[:min(len(some), len(e.whole))] {
		going[b.ID] = reasonExpired
		if e.size[b.ID] {
			going[b.ID] = reasonSize
		}
	}
	for _, b := range some[min(len(some), len(e.whole)):] {
		c.allowed[b.ID] = true
	}
	var doomed []doom
	for _, b := range some {
		reason, ok := going[b.ID]
		if !ok {
			continue
		}
		older, ok, err := c.ancestry(ctx, snap, b.Block.Block, going)
		if err != nil {
			return err
		}
		if ok {
			doomed = append(append(doomed, older...), doom{b.Block.Block, reason})
		}
	}
	errs := []error{c.delete(ctx, tenant, doomed)}
	for _, u := range e.unread { // others went without them
		errs = append(errs, fmt.Errorf("retention leaves a block: %w", u.err))
	}
	return errors.Join(errs...)
}

// steady is a time that ages were judged by, and when that was by a clock that nobody
// sets.
type steady struct {
	clock   time.Time
	elapsed time.Duration
}

// clock returns the time that ages are judged by: the lesser of the own clock and the
// newest modification that the store knows of. Where the store has no clock of its own
// it is also as much later as this process has been running since: that much has passed,
// whatever the clock was set to.
func (s *Service) clock(now time.Time) time.Time {
	clock := catalog.SafeNow(now, s.deps.Loader.Modified())
	if !s.deps.OwnClock {
		return clock
	}
	elapsed := s.deps.Elapsed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.steady.clock.IsZero() {
		if t := catalog.SafeNow(now, s.steady.clock.Add(elapsed-s.steady.elapsed)); t.After(clock) {
			return t
		}
	}
	s.steady = steady{clock, elapsed}
	return clock
}

// askStoreForTime writes a tenant's index object again if nothing was written to the
// store for a while: its time is that of the store's own clock. A store whose clock is
// this machine's has nothing to say, but remembers the time for the next start; so it is
// told only a time that can be: the own clock is ahead of what is known for no longer than
// this process has been running with it.
func (c *cycle) askStoreForTime(ctx context.Context, tenant string) error {
	s := c.s
	if c.now.Sub(c.modified) < s.cfg.RetentionInterval || s.deps.OwnClock && c.now.Sub(c.clock) > s.deps.Elapsed() {
		return nil
	}
	key := catalog.IndexKey(tenant)
	body, err := objstore.ReadAll(ctx, s.deps.Bucket, key, catalog.MaxIndexSize)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil // the next cycle finds one
	}
	if err == nil {
		err = objstore.PutBytes(ctx, s.deps.Bucket, key, body)
	}
	if err != nil {
		return err
	}
	o, err := s.deps.Bucket.Stat(ctx, key)
	if err != nil {
		return err
	}
	c.modified = o.Modified
	if t := catalog.SafeNow(c.now, o.Modified); t.After(c.clock) {
		c.clock = t
	}
	return nil
}

// ancestry returns the blocks that b replaces and that are still listed, the oldest
// first: without b they would be live again, so that they go before it. ok is false
// if they may not, since other blocks that replace them have not stood for long enough.
func (c *cycle) ancestry(ctx context.Context, snap *catalog.Snapshot, b catalog.Block, going map[catalog.ID]string) (list []doom, ok bool, err error) {
	for _, src := range b.Sources {
		a, listed := snap.Block(src.ID)
		if !listed || going[a.ID] != "" {
			continue
		}
		for _, id := range snap.HiddenBy(a.ID) {
			h, _ := snap.Block(id)
			if going[id] != "" {
				continue
			}
			if c.now.Sub(h.ID.Time()) < c.s.cfg.DeleteDelay {
				return nil, false, nil // it is read when that matters
			}
			stored, err := c.s.confirm(ctx, h)
			if err != nil {
				return nil, false, err
			}
			if c.now.Sub(stored) < c.s.cfg.DeleteDelay {
				return nil, false, nil
			}
		}
		going[a.ID] = reasonReplaced
		older, ok, err := c.ancestry(ctx, snap, a, going)
		if !ok || err != nil {
			delete(going, a.ID)
			return nil, false, err
		}
		list = append(append(list, older...), doom{a, reasonReplaced})
	}
	return list, true, nil
}

// ancestors reports whether blocks that b was made from are still listed.
func ancestors(snap *catalog.Snapshot, b catalog.Block) bool {
	for _, src := range b.Sources {
		if _, ok := snap.Block(src.ID); ok {
			return true
		}
	}
	return false
}

// confirm reads a block back whole, once, and returns when the store says that it was
// written. It is for blocks that have stood for DeleteDelay: what was damaged until then is the
// reason for which their sources stay for as long.
func (s *Service) confirm(ctx context.Context, b catalog.Block) (time.Time, error) {
	if t, ok := s.verified[b.ID]; ok {
		return t, nil
	}
	key := catalog.Key(b)
	o, err := s.deps.Bucket.Stat(ctx, key)
	if err != nil {
		return time.Time{}, err
	}
	err = s.caught(func() error {
		r, err := s.open(ctx, b)
		if err == nil {
			err = r.Verify(ctx)
		}
		return err
	}, "block", key)
	if err != nil {
		s.damagedBy(err)
		return time.Time{}, fmt.Errorf("read back %s: %w", key, err)
	}
	s.verified[b.ID] = o.Modified
	return o.Modified, nil
}
