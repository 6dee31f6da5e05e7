package compactor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// Dry runs read footers, exact ones rows, too: maxDryRuns shares of that are taken at
// once, of which an exact one takes exactDryRun.
const (
	maxDryRuns  = 4
	exactDryRun = 2
)

// admit takes the share of a dry run. Whoever gets no error calls release.
func (s *Service) admit(exact bool) (release func(), err error) {
	n := 1
	if exact {
		n = exactDryRun
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dryRuns+n > maxDryRuns {
		s.metrics.refusedDryRuns.Inc()
		return nil, rpcerr.New(rpcerr.Overloaded, "as many dry runs of retention are reading blocks as may at once, which is %d, or %d exact ones: try again when one of them has ended, or is cancelled",
			maxDryRuns, maxDryRuns/exactDryRun).WithRetry(5 * time.Second)
	}
	s.dryRuns += n
	s.metrics.dryRuns.Inc()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dryRuns -= n
		s.metrics.dryRuns.Dec()
	}, nil
}

// RetentionDryRun implements storagev1.StorageServiceServer.
func (s *Service) RetentionDryRun(ctx context.Context, r *storagev1.RetentionDryRunRequest) (*storagev1.RetentionDryRunResponse, error) {
	id, err := tenant.Require(ctx)
	if err != nil {
		return nil, err
	}
	release, err := s.admit(r.GetExact())
	if err != nil {
		return nil, err
	}
	defer release()
	l := s.deps.Limits.For(id)
	rules, err := compact.NewRules(l)
	if err != nil {
		return nil, err
	}
	if err := s.deps.Loader.RefreshTenant(ctx, id); err != nil {
		return nil, failure(err)
	}
	clock := s.clock(s.deps.Now())
	if t := r.GetTime(); t != nil {
		clock = t.AsTime()
	}
	d := dryRun{s: s, limits: l, rules: rules, clock: clock, exact: r.GetExact(), resp: &storagev1.RetentionDryRunResponse{Time: timestamppb.New(clock)}}
	if err := d.run(ctx, id); err != nil {
		return nil, failure(err)
	}
	return d.resp, nil
}

// dryRun is a dry run of retention.
type dryRun struct {
	s      *Service
	limits limits.Limits
	rules  *compact.Rules
	clock  time.Time
	exact  bool
	resp   *storagev1.RetentionDryRunResponse
}

func (d *dryRun) run(ctx context.Context, tenant string) error {
	snap, err := d.s.snapshot(tenant)
	if err != nil {
		return err
	}
	for _, p := range snap.Problems(tenant, compact.MinTime, compact.MaxTime) {
		err := p.Err
		if err == nil {
			err = errors.New("it has vanished from the store")
		}
		d.unread(p.Block, err)
	}
	e, err := d.s.findExpired(ctx, tenant, d.rules, d.clock)
	if err != nil {
		return err
	}
	share := d.s.cfg.RetentionShare
	if d.limits.RetentionForce {
		share = 1
	}
	d.resp.Bytes, d.resp.BytesPerCycle = uint64(e.total), uint64(share*float64(e.total))
	for _, u := range e.unread {
		if !e.size[u.block.ID] { // else it goes, whatever is in it
			d.unread(u.block, u.err)
		}
	}
	for _, b := range e.whole {
		d.step(b, e, false)
	}
	for _, b := range e.part {
		if e.size[b.ID] {
			continue
		}
		step := d.step(b, e, true)
		if !d.exact {
			continue
		}
		n, err := d.s.countExpired(ctx, b.Block.Block, d.rules, d.clock)
		switch {
		case err == nil:
			step.Entries, step.Estimated = n, false
		case unreadable(err):
			d.s.damagedBy(err)
			d.unread(b.Block.Block, err)
		default:
			return err
		}
	}
	return nil
}

// step adds what would become of a block.
func (d *dryRun) step(b compact.Sized, e *expired, rewrite bool) *storagev1.RetentionStep {
	v := e.judged[b.ID]
	step := &storagev1.RetentionStep{Block: blockMessage(b.Block.Block), Rewrite: rewrite, Reason: v.Reason, Entries: v.Entries, Estimated: rewrite}
	if e.size[b.ID] {
		step.Reason = fmt.Sprintf("the oldest, and the tenant takes more than %s", d.limits.RetentionSize)
		step.Entries = uint64(b.Rows)
	}
	if !rewrite {
		d.resp.BytesExpired += uint64(b.Size)
	}
	d.resp.Steps = append(d.resp.Steps, step)
	return step
}

// unread adds a block that could not be read.
func (d *dryRun) unread(b catalog.Block, err error) {
	d.resp.Incomplete = true
	d.resp.Unread = append(d.resp.Unread, &storagev1.UnreadBlock{Block: blockMessage(b), Error: err.Error()})
}

// unreadable reports whether an error tells that a block cannot be read, now and later,
// as others may be.
func unreadable(err error) bool {
	return damaged(err) || errors.Is(err, objstore.ErrNotFound) || errors.Is(err, bug.ErrPanic)
}

// countExpired reads a block, and returns how many of its entries have expired.
func (s *Service) countExpired(ctx context.Context, b catalog.Block, rules *compact.Rules, clock time.Time) (n uint64, err error) {
	r, err := s.open(ctx, b)
	if err != nil {
		return 0, err
	}
	remover := rules.Remover(clock.UnixNano())
	var labels model.Labels
	var of compact.RowRemover // of the stream with these labels
	err = r.Each(ctx, func(ls model.Labels, rows *model.Rows) error {
		if labels == nil || !labels.Equal(ls) {
			labels, of = ls, remover.ForStream(ls)
		}
		for i := 0; of != nil && i < rows.Len(); i++ {
			if of.Remove(rows, i) {
				n++
			}
		}
		return nil
	})
	return n, err
}
