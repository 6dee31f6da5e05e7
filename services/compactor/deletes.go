package compactor

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// keepProof is how long what a delete removed is on record after it has retired.
const keepProof = 90 * 24 * time.Hour

// pending is a delete whose rewriting has started.
type pending struct {
	*tombstone.Tombstone
	selection *selection.Selection
}

var _ compact.Remover = pending{}

// Name implements compact.Remover.
func (d pending) Name() string { return d.ID }

// ForStream implements compact.Remover.
func (d pending) ForStream(ls model.Labels) compact.RowRemover {
	if !d.selection.Stream(ls) {
		return nil
	}
	return deleteRows{d.selection.ForStream(ls), d.Start, d.End}
}

type deleteRows struct {
	rows       *selection.Rows
	start, end int64
}

// Remove implements compact.RowRemover.
func (d deleteRows) Remove(rows *model.Rows, i int) bool {
	t := rows.Times[i]
	return t >= d.start && t < d.end && d.rows.Match(rows, i)
}

// startDeletes starts the rewriting of deletes that were not cancelled in time, and
// returns all whose rewriting has started.
func (c *cycle) startDeletes(ctx context.Context, tenant string) (out []pending, err error) {
	s := c.s
	set, err := s.deps.Tombstones.Fresh(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if s.ownsTenant(tenant) {
		changed := false
		c.deletes += int64(len(set.All()))
		started := set.Started()
		for _, t := range set.All() {
			if slices.Contains(started, t) || !t.MayStart(c.now, s.cfg.RewriteDelay) {
				continue
			}
			if err := s.step("start delete"); err != nil {
				return nil, err
			}
			err := s.deps.Tombstones.Start(ctx, tenant, t.ID, s.name())
			if err != nil && !errors.Is(err, tombstone.ErrCancelled) {
				return nil, err
			}
			changed = true
		}
		if changed {
			if set, err = s.deps.Tombstones.Fresh(ctx, tenant); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range set.Started() {
		sel, err := selection.Parse(t.Query)
		if err != nil {
			return nil, err
		}
		out = append(out, pending{t, sel})
	}
	return out, nil
}

func (s *Service) name() string {
	if s.deps.Self == nil {
		return "compactor"
	}
	return s.deps.Self()
}

// touch is a delete and a block.
type touch struct {
	delete string
	block  catalog.ID
}

// concerns reports whether a block may hold entries of a delete that were not
// removed: it has streams of it in the range, and was not rewritten for it.
func (s *Service) concerns(ctx context.Context, d *tombstone.Tombstone, b catalog.Block) (bool, error) {
	if b.Rows == 0 || !d.Overlaps(b.MinTime, b.MaxTime) || slices.Contains(b.Tombstones, d.ID) {
		return false, nil
	}
	s.mu.Lock()
	v, ok := s.touches[touch{d.ID, b.ID}]
	s.mu.Unlock()
	if ok {
		return v, nil
	}
	found := false
	err := s.caught(func() error {
		r, err := s.open(ctx, b)
		if err == nil {
			found = len(r.Match(d.Selector().Matchers, d.Start, d.End)) > 0
		}
		return err
	}, "delete", d.ID, "block", catalog.Key(b))
	if err != nil {
		s.damagedBy(err)
		return false, err
	}
	s.mu.Lock()
	s.touches[touch{d.ID, b.ID}] = found
	s.mu.Unlock()
	return found, nil
}

// recordRemovals puts on record what a merge removed by deletes, before its results
// are there: what is not on record was not removed.
func (j *job) recordRemovals(ctx context.Context) error {
	for _, d := range j.deletes {
		for _, r := range j.results {
			n := r.removed[d.ID]
			if n == 0 {
				continue
			}
			var sources []catalog.ID
			for _, src := range j.infos {
				sources = append(sources, src.ID)
			}
			if err := j.s.step("record removal"); err != nil {
				return err
			}
			err := j.s.deps.Tombstones.Record(ctx, j.task.Tenant, d.ID, tombstone.Removal{Block: r.info.ID, Sources: sources, Entries: n, Time: j.s.deps.Now()})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// retire takes deletes out of force that nobody can bring entries back of, and
// removes what is left of those that were cancelled.
func (c *cycle) retire(ctx context.Context, tenant string, deletes []pending) error {
	s := c.s
	if s.deps.Incarnations != nil {
		snap, err := s.snapshot(tenant)
		if err != nil {
			return err
		}
		var done []*tombstone.Tombstone // as far as blocks go
		for _, d := range deletes {
			waits, err := s.inBlocks(ctx, d.Tombstone, snap)
			if err != nil {
				return err
			}
			if !waits {
				done = append(done, d.Tombstone)
			}
		}
		if err := s.retireConfirmed(ctx, tenant, done, snap.Taken()); err != nil {
			return err
		}
	}
	if !c.retain {
		return nil
	}
	return s.deps.Tombstones.Sweep(ctx, tenant, keepProof)
}

// retireConfirmed retires those of the deletes that every data directory has
// confirmed.
func (s *Service) retireConfirmed(ctx context.Context, tenant string, done []*tombstone.Tombstone, at time.Time) error {
	if len(done) == 0 {
		return nil
	}
	incarnations, err := s.deps.Incarnations(ctx, done)
	if err != nil {
		return err
	}
	none, err := catalog.NewSnapshot(nil, at) // blocks have been looked at
	if err != nil {
		return err
	}
	for _, t := range done {
		if t.Retirable(none, incarnations) != nil {
			continue
		}
		if err := s.step("retire delete"); err != nil {
			return err
		}
		if err := s.deps.Tombstones.Retire(ctx, tenant, t.ID); err != nil {
			return err
		}
		s.log.Info("delete retired", "tenant", tenant, "delete", t.ID)
	}
	return nil
}

// inBlocks reports whether a block, a hidden one too, may bring entries of a delete
// back, or cannot be read. Blocks that have no streams of it need not list it.
func (s *Service) inBlocks(ctx context.Context, t *tombstone.Tombstone, snap *catalog.Snapshot) (bool, error) {
	if len(snap.Problems(t.Tenant, t.Start, t.End)) > 0 {
		return true, nil
	}
	for _, b := range snap.Listed() {
		if found, err := s.concerns(ctx, t, b); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// createDelete stores a delete.
func (s *Service) createDelete(ctx context.Context, tenant, query string, start, end int64) (*tombstone.Tombstone, error) {
	t, err := tombstone.New(s.deps.Now(), s.deps.Rand, tenant, query, start, end)
	if err == nil {
		err = s.deps.Tombstones.Create(ctx, t)
	}
	switch {
	case errors.Is(err, tombstone.ErrInvalid):
		return nil, rpcerr.Wrap(err, rpcerr.InvalidArgument, "%v", err)
	case errors.Is(err, tombstone.ErrCancels):
		s.metrics.refused.WithLabelValues(limitCancelled).Inc()
		return nil, rpcerr.Wrap(err, rpcerr.LimitExceeded, "%v: wait until some are older than that", err)
	case errors.Is(err, tombstone.ErrTooMany):
		s.metrics.refused.WithLabelValues(limitInForce).Inc()
		return nil, rpcerr.Wrap(err, rpcerr.LimitExceeded, "%v: cancel some, or wait until they have retired", err)
	}
	return t, err
}

// cancelDelete takes a delete back.
func (s *Service) cancelDelete(ctx context.Context, tenant, id string) error {
	err := s.deps.Tombstones.Cancel(ctx, tenant, id, s.name())
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return rpcerr.Wrap(err, rpcerr.NotFound, "there is no delete %q", id)
	case errors.Is(err, tombstone.ErrStarted):
		return rpcerr.Wrap(err, rpcerr.Conflict, "delete %s cannot be cancelled: rewriting has started, entries may be gone", id)
	}
	return err
}

func deleteMessage(t *tombstone.Tombstone) *storagev1.Delete {
	return &storagev1.Delete{
		Id: t.ID, Query: t.Query, Start: timestamppb.New(time.Unix(0, t.Start)), End: timestamppb.New(time.Unix(0, t.End)),
		Created: timestamppb.New(t.Created), State: storagev1.DeleteState_DELETE_STATE_RECEIVED,
	}
}

// deleteStatus returns a delete with how far it is.
func (s *Service) deleteStatus(ctx context.Context, snap *catalog.Snapshot, st tombstone.Status) (*storagev1.Delete, error) {
	m := deleteMessage(st.Tombstone)
	for _, b := range snap.Live(st.Tenant, st.Start, st.End) {
		if slices.Contains(b.Tombstones, st.ID) {
			m.BlocksDone++
			m.BytesDone += uint64(b.Size)
			continue
		}
		waits, err := s.concerns(ctx, st.Tombstone, b)
		if err != nil && !damaged(err) && !errors.Is(err, bug.ErrPanic) {
			return nil, err
		}
		if waits || err != nil { // what cannot be read may hold entries of it
			m.BlocksPending++
			m.BytesPending += uint64(b.Size)
		}
	}
	if st.Decision.State == tombstone.Rewriting {
		m.State = storagev1.DeleteState_DELETE_STATE_REWRITING
		if m.BlocksPending == 0 {
			m.State = storagev1.DeleteState_DELETE_STATE_DONE
		}
	}
	removals, err := s.deps.Tombstones.Removals(ctx, st, maxRemovals)
	if err != nil {
		return nil, err
	}
	for _, r := range removals {
		// A merge that was not finished has left a record of what it would have removed.
		_, listed := snap.Block(r.Block)
		_, replaced := snap.Covering(r.Block)
		if !listed && !replaced {
			continue
		}
		out := &storagev1.Removal{Block: string(r.Block), Entries: r.Entries, Time: timestamppb.New(r.Time)}
		for _, src := range r.Sources {
			out.Sources = append(out.Sources, string(src))
		}
		m.RemovedEntries += r.Entries
		m.Removals = append(m.Removals, out)
	}
	return m, nil
}
