package catalog

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// SafeNow is the time that ages are judged by when something is to be deleted: the lesser of the own
// clock and the newest modification that the store knows of. A clock that jumps ahead makes nothing old.
func SafeNow(own, newest time.Time) time.Time {
	if newest.Before(own) {
		return newest
	}
	return own
}

// ExpiredAt reports whether all entries of a block are older than keep at now. A keep of 0 or less
// is for ever.
func ExpiredAt(b Block, now time.Time, keep time.Duration) bool {
	if keep <= 0 || now.IsZero() {
		return false
	}
	limit := now.Add(-keep)
	if limit.Before(time.Unix(0, math.MinInt64)) {
		return false
	}
	return b.MaxTime < limit.UnixNano()
}

// Reason says why a block may be deleted.
type Reason int

// The reasons.
const (
	Hidden  Reason = iota // live blocks contain it
	Expired               // its retention is over
)

// Deletion is a block whose object may be deleted.
type Deletion struct {
	Block  Block
	Reason Reason
}

// DefaultMaxShare is the share of a tenant's bytes that retention removes in one cycle at most.
const DefaultMaxShare = 0.2

// DeletionRules are what a deleter knows and may do.
type DeletionRules struct {
	Now   time.Time     // by SafeNow
	Delay time.Duration // that what hides a block must have stood; 0: none, for a store that one process has
	// Confirmed tells when the store says that a block was written, and whether this deleter has read
	// it back whole with its checksums. That it is listed proves nothing.
	Confirmed func(id ID) (stored time.Time, ok bool)
	// Expired reports whether retention has ended for all that a block holds, by Now. nil: never.
	Expired func(b Block) bool
	// InUse reports whether a reader holds the block. nil: never.
	InUse func(id ID) bool
	// MaxShare is the share of the tenant's bytes that may go as expired; one block may go in any case.
	// 0: DefaultMaxShare. 1 is by force.
	MaxShare float64
	// MaxBlocks may go in all. 0: 1000.
	MaxBlocks int
}

// Plan returns the tenant's blocks whose objects may be deleted now, in the order in which that is to
// happen, and how many more could go but for the budget. The snapshot must be fresh.
//
// A block goes if its sources are gone: of what a delete has removed from a block, sources would bring
// it back. So descendants outlive their ancestors.
func (r *DeletionRules) Plan(s *Snapshot, tenant string) (plan []Deletion, deferred int) {
	share := r.MaxShare
	if share == 0 {
		share = DefaultMaxShare
	}
	left := r.MaxBlocks
	if left == 0 {
		left = 1000
	}
	there := map[ID]bool{} // listed, whether they can be read or not
	for _, p := range s.problems {
		if p.Kind != Vanished {
			there[p.Block.ID] = true
		}
	}
	total := int64(0)
	var all []Block
	for id, b := range s.lineage.listed {
		there[id] = true
		if b.Tenant == tenant {
			all = append(all, *b)
			total += b.Size
		}
	}
	// The oldest first; among equals the one that was merged less, and then any fixed order.
	slices.SortFunc(all, func(a, b Block) int {
		return cmp.Or(cmp.Compare(a.MaxTime, b.MaxTime), cmp.Compare(a.Level, b.Level), cmp.Compare(a.ID, b.ID))
	})
	budget := int64(share * float64(total))
	if share >= 1 {
		budget = total
	}
	spent := int64(0)
	for _, b := range all {
		hidden := r.hidden(s, b.ID)
		if !hidden && (r.Expired == nil || !r.Expired(b)) || r.InUse != nil && r.InUse(b.ID) ||
			slices.ContainsFunc(b.Sources, func(src Source) bool { return there[src.ID] }) {
			continue
		}
		if left == 0 || !hidden && spent > 0 && spent+b.Size > budget {
			deferred++
			continue
		}
		left--
		reason := Hidden
		if !hidden {
			reason = Expired
			spent += max(b.Size, 1)
		}
		plan = append(plan, Deletion{b, reason})
	}
	return plan, deferred
}

// hidden reports whether all blocks of a cut that hides id were read back and have stood long enough.
func (r *DeletionRules) hidden(s *Snapshot, id ID) bool {
	return slices.ContainsFunc(s.lineage.hiding(id), func(c cut) bool {
		return !slices.ContainsFunc(c.holders, func(h ID) bool {
			stored, ok := r.Confirmed(h)
			return !ok || stored.After(r.Now.Add(-r.Delay))
		})
	})
}
