package compactor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

// doom is a block that is to be deleted.
type doom struct {
	block  catalog.Block
	reason string
}

// clean deletes the blocks that others replace, those that hold nothing, and what
// puts that were cut have left.
func (c *cycle) clean(ctx context.Context, tenant string) error {
	s := c.s
	snap, err := s.snapshot(tenant)
	if err != nil {
		return err
	}
	var errs []error
	rules := catalog.DeletionRules{
		// What goes is in other blocks: no clock can lose it.
		Now: c.now, Delay: s.cfg.DeleteDelay, InUse: s.deps.InUse, MaxBlocks: math.MaxInt,
		Confirmed: func(id catalog.ID) (time.Time, bool) {
			b, ok := snap.Block(id)
			// One that is too young need not be read yet.
			if !ok || c.now.Sub(b.ID.Time()) < s.cfg.DeleteDelay {
				return time.Time{}, false
			}
			stored, err := s.confirm(ctx, b)
			if err != nil {
				errs = append(errs, err)
			}
			return stored, err == nil
		},
	}
	plan, _ := rules.Plan(snap, tenant)
	var doomed []doom
	for _, d := range plan {
		doomed = append(doomed, doom{d.Block, reasonReplaced})
	}
	for _, b := range snap.Listed() {
		switch {
		case len(snap.HiddenBy(b.ID)) > 0:
			c.hidden++
			c.hiddenBytes += b.Size
		case b.Rows == 0 && !ancestors(snap, b) && c.now.Sub(b.ID.Time()) >= s.cfg.DeleteDelay:
			// It was there to replace blocks of which nothing remained.
			doomed = append(doomed, doom{b, reasonEmpty})
		}
	}
	errs = append(errs, c.delete(ctx, tenant, doomed))
	if c.retain {
		errs = append(errs, c.cleanHalf(ctx, tenant))
	}
	return errors.Join(errs...)
}

// delete deletes blocks, as far as the cycle's budget goes. Each is gone from every
// account of what there is before its object goes.
func (c *cycle) delete(ctx context.Context, tenant string, doomed []doom) error {
	s := c.s
	var ids []catalog.ID
	some := doomed[:0]
	for _, d := range doomed {
		if s.deps.InUse(d.block.ID) {
			continue
		}
		if d.block.Size > c.budget && c.budget < int64(s.cfg.DeleteBudget) {
			break // the next cycle has a new one
		}
		c.budget -= d.block.Size
		ids, some = append(ids, d.block.ID), append(some, d)
	}
	if len(ids) == 0 {
		return nil
	}
	if err := s.step("removing"); err != nil {
		return err
	}
	if err := s.deps.Loader.Removing(ctx, tenant, ids...); err != nil {
		return err
	}
	for _, d := range some {
		if err := s.step("delete"); err != nil {
			return err
		}
		if s.deps.InUse(d.block.ID) {
			continue // since a moment; the next cycle takes it
		}
		key := catalog.Key(d.block)
		if err := s.deps.Bucket.Delete(ctx, key); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		s.metrics.deleted.WithLabelValues(d.reason).Inc()
		s.metrics.deletedBytes.WithLabelValues(d.reason).Add(float64(d.block.Size))
		s.log.Info("block deleted", "key", key, "reason", d.reason)
	}
	return s.deps.Loader.RefreshTenant(ctx, tenant)
}

// cleanHalf deletes objects that a put left whose size is not that of their key: they
// do not exist for anybody.
func (c *cycle) cleanHalf(ctx context.Context, tenant string) error {
	s := c.s
	delay := max(s.cfg.DeleteDelay, s.cfg.CloseAfter) // a put may be under way
	var keys []string
	err := s.deps.Bucket.List(ctx, catalog.Prefix(tenant), func(o objstore.Object) error {
		b, err := catalog.ParseKey(o.Key)
		if err == nil && b.Size != o.Size && c.now.Sub(o.Modified) >= delay {
			keys = append(keys, o.Key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := s.deps.Bucket.Delete(ctx, key); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		s.metrics.deleted.WithLabelValues(reasonHalf).Inc()
	}
	return nil
}

// forget drops what is remembered of blocks that are not listed any more.
func (s *Service) forget() {
	listed := map[catalog.ID]bool{}
	for _, tenant := range s.deps.Loader.Tenants() {
		snap, err := s.snapshot(tenant)
		if err != nil {
			return
		}
		for _, b := range snap.Listed() {
			listed[b.ID] = true
		}
	}
	maps.DeleteFunc(s.verified, func(id catalog.ID, _ time.Time) bool { return !listed[id] })
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.verdicts, func(id catalog.ID, _ verdict) bool { return !listed[id] })
	maps.DeleteFunc(s.touches, func(t touch, _ bool) bool { return !listed[t.block] })
}
