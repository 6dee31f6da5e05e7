package querier

import (
	"context"
	"errors"
	"time"

	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// Deletes knows the deletes of tenants that are in force.
type Deletes interface {
	// Current returns them as they were a short time ago at the latest: a delete is
	// confirmed to its user only when no older set is answered by.
	Current(ctx context.Context, tenant string) (*tombstone.Set, error)
}

// excluded returns what no answer to a query may hold though it is still stored: what
// was deleted, and what retention has ended by now. Without knowing it nothing can be
// answered, not even in part.
func (s *Service) excluded(ctx context.Context, sc scope) (*engine.Excluded, error) {
	if sc.parts != nil {
		return s.excludedOfAll(ctx, sc)
	}
	out := &engine.Excluded{}
	if s.deps.Deletes != nil {
		set, err := s.deps.Deletes.Current(ctx, sc.tenant)
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if errors.Is(err, tombstone.ErrDamaged) { // to try again will not help
				return nil, rpcerr.Wrap(err, rpcerr.DataLoss, "which entries were deleted cannot be told: %v", err)
			}
			return nil, rpcerr.Wrap(err, rpcerr.Unavailable, "which entries were deleted cannot be told now: %v", err).WithRetry(5 * time.Second)
		}
		for _, t := range set.All() {
			out.Tombstones = append(out.Tombstones, engine.Tombstone{ID: t.ID, Selector: t.Selector(), Start: t.Start, End: t.End})
		}
		if len(out.Tombstones) > 0 {
			out.Version = set.Version()
		}
	}
	rules, err := compact.NewRules(sc.limits)
	if err != nil {
		return nil, err
	}
	if _, any := rules.Shortest(); any {
		for _, c := range rules.Cutoffs(sc.now.UnixNano()) {
			cut := engine.Cutoff{Before: c.Before}
			if c.Selector != nil {
				cut.Matchers, cut.Stages = c.Selector.Matchers, c.Selector.Stages
			}
			out.Retention = append(out.Retention, cut)
		}
		out.Version += "/" + rules.Name()
	}
	if out.Version == "" {
		return nil, nil
	}
	return out, nil
}
