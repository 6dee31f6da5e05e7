package compactor

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// Cycle looks for work and does it: retention if it is time for it, merges, and the
// deletion of blocks that others replace. A tenant that fails does not keep others
// from theirs.
func (s *Service) Cycle(ctx context.Context) error { return s.cycle(ctx, false, false) }

// Compact does at once what can be done: blocks are merged that would have waited,
// days that are over get their full merge, deletes and retention are applied as far
// as they are due. Merges that wait after failures are tried once. An error says for
// callers what is not done.
func (s *Service) Compact(ctx context.Context) (err error) {
	// What a merge makes may be merged again, a few times.
	for round := range 8 {
		before := s.merges()
		if err = s.cycle(ctx, true, round == 0); ctx.Err() != nil {
			return ctx.Err()
		}
		if s.merges() == before {
			break
		}
	}
	switch told := failure(err); {
	case err == nil, told != err:
		return told
	case errors.Is(err, syscall.ENOSPC):
		return rpcerr.Wrap(err, rpcerr.DiskFull, "not all is merged, the compactor's disk is full: %v", err).WithRetry(30 * time.Second)
	case damaged(err):
		return rpcerr.Wrap(err, rpcerr.DataLoss, "not all is merged: %v", err)
	}
	return rpcerr.Wrap(err, rpcerr.Internal, "not all is merged: %v", err)
}

func (s *Service) merges() int {
	s.working.Lock()
	defer s.working.Unlock()
	return s.made
}

// cycle is one; urgent: what would wait for more blocks is merged, and with retry what waits
// after failures, too.
func (s *Service) cycle(ctx context.Context, urgent, retry bool) (err error) {
	s.working.Lock()
	defer s.working.Unlock()
	began := s.deps.Now()
	defer func() {
		s.metrics.cycleTime.Observe(s.deps.Now().Sub(began).Seconds())
		if err != nil {
			s.metrics.cycles.WithLabelValues("failure").Inc()
			return
		}
		s.metrics.cycles.WithLabelValues("success").Inc()
		s.metrics.lastSuccess.Set(float64(s.deps.Now().UnixNano()) / 1e9)
	}()
	if err := s.deps.Loader.Refresh(ctx); err != nil {
		return err
	}
	c := &cycle{
		s: s, urgent: urgent, retry: retry, budget: int64(s.cfg.DeleteBudget), now: s.deps.Now(),
		clock: s.clock(s.deps.Now()), modified: s.deps.Loader.Modified(),
		retain: began.Sub(s.retained) >= s.cfg.RetentionInterval, allowed: map[catalog.ID]bool{},
	}
	if c.retain {
		s.retained = began
	}
	s.waits.begin()
	var errs []error
	for _, tenant := range s.deps.Loader.Tenants() {
		if err := c.tenant(ctx, tenant); err != nil {
			errs = append(errs, fmt.Errorf("tenant %s: %w", tenant, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	c.publish()
	s.metrics.waiting.Set(float64(s.waits.end()))
	s.forget()
	return errors.Join(errs...)
}

// cycle is one round over all tenants.
type cycle struct {
	s        *Service
	urgent   bool
	retry    bool
	retain   bool // retention removes blocks in this one
	now      time.Time
	clock    time.Time // that ages are judged by
	modified time.Time // when something was written to the store last
	budget   int64     // bytes of objects that may still be deleted

	backlog, backlogBytes int64
	hidden, hiddenBytes   int64
	dueBlocks, deletes    int64
	allowed               map[catalog.ID]bool // retention may take rows of them
}

func (c *cycle) tenant(ctx context.Context, tenant string) error {
	s := c.s
	rules, err := compact.NewRules(s.deps.Limits.For(tenant))
	if err != nil {
		return err
	}
	deletes, err := c.startDeletes(ctx, tenant)
	if err != nil {
		return err
	}
	var errs []error
	if s.ownsTenant(tenant) {
		if c.retain {
			errs = append(errs, c.applyRetention(ctx, tenant, rules))
		}
	}
	errs = append(errs, c.mergeTenant(ctx, tenant, rules, deletes))
	if s.ownsTenant(tenant) && ctx.Err() == nil {
		errs = append(errs, c.clean(ctx, tenant))
		if _, err := s.deps.Loader.SaveIndex(ctx, tenant); err != nil {
			errs = append(errs, err)
		}
		errs = append(errs, c.retire(ctx, tenant, deletes))
	}
	return errors.Join(errs...)
}

// snapshot returns the tenant's blocks as they are known now.
func (s *Service) snapshot(tenant string) (*catalog.Snapshot, error) {
	return s.deps.Loader.Snapshot(tenant)
}

// live returns the tenant's live blocks, with what is due on them; those that cannot be
// read are left out, and unread says so.
func (c *cycle) live(ctx context.Context, tenant string, rules *compact.Rules, deletes []pending) (out []compact.Block, unread []error, err error) {
	snap, err := c.s.snapshot(tenant)
	if err != nil {
		return nil, nil, err
	}
	for _, b := range snap.Live(tenant, compact.MinTime, compact.MaxTime) {
		block := compact.NewBlock(b)
		// Empty ones are only there to hide others. What retention takes the tenant's
		// owner rewrites, who counts it.
		if b.Rows == 0 || !c.s.owns(tenant, block.Partition) && !c.allowed[b.ID] {
			continue
		}
		whole, due, err := c.due(ctx, b, rules, deletes)
		if damaged(err) || errors.Is(err, bug.ErrPanic) {
			unread = append(unread, fmt.Errorf("a block is not merged: %w", err))
			continue
		} else if err != nil {
			return nil, nil, err
		}
		if whole {
			continue // it goes as a whole, when its turn comes
		}
		if block.Due = due; due {
			c.dueBlocks++
		}
		out = append(out, block)
	}
	return out, unread, nil
}

// due reports whether a block goes as a whole, and else whether it is to be rewritten.
func (c *cycle) due(ctx context.Context, b catalog.Block, rules *compact.Rules, deletes []pending) (whole, due bool, err error) {
	v, err := c.s.judge(ctx, b, rules, c.clock.UnixNano())
	if err != nil || v.Whole {
		return v.Whole, false, err
	}
	due = c.allowed[b.ID]
	for _, d := range deletes {
		if due || err != nil {
			break
		}
		due, err = c.s.concerns(ctx, d.Tombstone, b)
	}
	return false, due, err
}

// mergeTenant makes the merges that are worth it. One that fails is left for a later
// cycle, as waits says, and no cycle is good until it is made; others go on.
func (c *cycle) mergeTenant(ctx context.Context, tenant string, rules *compact.Rules, deletes []pending) error {
	blocks, errs, err := c.live(ctx, tenant, rules, deletes)
	if err != nil {
		return err
	}
	policy := c.s.cfg.policy()
	policy.Urgent = c.urgent
	tasks := compact.Plan(blocks, c.now, policy)
	for i := range tasks {
		c.backlog++
		c.backlogBytes += tasks[i].Bytes()
	}
	for i := range tasks {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		set := setOf(tasks[i])
		if err := c.s.waits.over(set); err != nil && !c.retry {
			errs = append(errs, fmt.Errorf("merge of %s %w", partitionText(tasks[i].Partition), err))
			continue
		}
		result := "success"
		err := c.s.run(ctx, tasks[i], c.retention(tasks[i], rules), deletes, c.clock)
		c.s.waits.note(set, err)
		if err != nil {
			errs = append(errs, fmt.Errorf("merge of %s: %w", partitionText(tasks[i].Partition), err))
			result = "failure"
		} else {
			c.backlog--
			c.backlogBytes -= tasks[i].Bytes()
			c.s.made++
		}
		c.s.metrics.merges.WithLabelValues(string(tasks[i].Reason), result).Inc()
	}
	return errors.Join(errs...)
}

// retention returns the rules if a merge is to apply them, else nil. Only what
// retention may take in this cycle is taken.
func (c *cycle) retention(t compact.Task, rules *compact.Rules) *compact.Rules {
	for _, b := range t.Sources {
		if c.allowed[b.ID] {
			return rules
		}
	}
	return nil
}

func (c *cycle) publish() {
	m := c.s.metrics
	m.backlog.Set(float64(c.backlog))
	m.backlogBytes.Set(float64(c.backlogBytes))
	m.hidden.Set(float64(c.hidden))
	m.hiddenBytes.Set(float64(c.hiddenBytes))
	m.due.Set(float64(c.dueBlocks))
	m.deletes.Set(float64(c.deletes))
}
