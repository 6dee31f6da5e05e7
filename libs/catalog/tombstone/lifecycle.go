package tombstone

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
)

// DefaultGrace is how long a delete can be cancelled before rewriting starts.
const DefaultGrace = 24 * time.Hour

// MayStart reports whether rewriting may start: grace has passed since the creation.
func (t *Tombstone) MayStart(now time.Time, grace time.Duration) bool {
	return now.Sub(t.Created) >= grace
}

// Progress divides the tenant's live blocks that may hold entries of t: of those in done it was applied
// to every row, those in pending are still to be written anew.
func (t *Tombstone) Progress(s *catalog.Snapshot) (done, pending []catalog.Block) {
	for _, b := range s.Live(t.Tenant, t.Start, t.End) {
		if slices.Contains(b.Tombstones, t.ID) {
			done = append(done, b)
		} else {
			pending = append(pending, b)
		}
	}
	return done, pending
}

// Covers returns the ids of the tombstones that a block made from sources is to list: of all, those that
// may concern a row of it and were applied to every one, while it was made or when its sources were.
func Covers(applied, all []*Tombstone, sources []catalog.Block) []string {
	var out []string
	for _, t := range all {
		concerned, covered := false, true
		for _, b := range sources {
			if t.Overlaps(b.MinTime, b.MaxTime) {
				concerned = true
				covered = covered && slices.Contains(b.Tombstones, t.ID)
			}
		}
		now := slices.ContainsFunc(applied, func(a *Tombstone) bool { return a.ID == t.ID })
		if concerned && (covered || now) {
			out = append(out, t.ID)
		}
	}
	slices.Sort(out)
	return out
}

// Incarnation is a data directory that may hold rows which were pushed before a tombstone.
type Incarnation struct {
	ID string
	// Since is when the member table first had it, Forgotten when it was forgotten; zero: it is not.
	// What was forgotten returns only by import.
	Since, Forgotten time.Time
	// Confirmed are the ids of the tombstones of which it holds no entry any more, in memory, in its
	// write-ahead log and in its local blocks.
	Confirmed []string
}

// Retirable returns nil if nobody can bring back an entry of t, so that it may be retired, else what is
// in the way. Rewriting must have started. incarnations are all that the member table knows.
func (t *Tombstone) Retirable(s *catalog.Snapshot, incarnations []Incarnation) error {
	// Hidden blocks count: they live again if what hides them vanishes.
	for _, b := range s.Listed() {
		if b.Tenant == t.Tenant && t.Overlaps(b.MinTime, b.MaxTime) && !slices.Contains(b.Tombstones, t.ID) {
			return fmt.Errorf("block %s is still to be written anew or deleted", b.ID)
		}
	}
	for _, p := range s.Problems(t.Tenant, t.Start, t.End) {
		return fmt.Errorf("block %s is %s", p.Block.ID, p.Kind)
	}
	var waiting []string
	for _, i := range incarnations {
		// One that joined after the creation has only what was pushed after it, which t does not concern,
		// and copies from others, which have applied it. But clocks differ, so all are asked.
		if i.Forgotten.IsZero() && !slices.Contains(i.Confirmed, t.ID) {
			waiting = append(waiting, i.ID)
		}
	}
	if len(waiting) > 0 {
		slices.Sort(waiting)
		return fmt.Errorf("waiting for %s", strings.Join(waiting, ", "))
	}
	return nil
}
