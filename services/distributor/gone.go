package distributor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/model"
)

// Deletes knows the deletes of tenants that are in force.
type Deletes interface {
	Current(ctx context.Context, tenant string) (*tombstone.Set, error)
}

// How old the known deletes of a tenant may be before they are read again, and how
// long a push waits when nothing is known yet. A store that is away does not keep
// entries out: they are then checked by what was known last.
const (
	deletesAge  = 10 * time.Second
	deletesWait = 500 * time.Millisecond
	// deletesIdle is after how long a tenant that pushes nothing is forgotten.
	deletesIdle = 10 * time.Minute
)

// goneCache knows what of each tenant would vanish as soon as it is stored: entries
// in the range of a delete, and those that retention has ended. They are refused,
// since an entry that was acknowledged must be there.
type goneCache struct {
	deletes Deletes // nil: nothing is deleted
	now     func() time.Time
	reads   sync.WaitGroup // in work

	mu      sync.Mutex // guards what follows
	tenants map[string]*tenantGone
}

type tenantGone struct {
	asked    time.Time     // when reading began last
	used     time.Time     // by a push
	first    chan struct{} // closed when something is known, or reading has failed
	deletes  []deleted
	period   time.Duration // of the rules
	streams  *limits.RetentionStream
	nStreams int
	rules    *compact.Rules
}

type deleted struct {
	*tombstone.Tombstone
	selection *selection.Selection
}

func newGoneCache(d Deletes, now func() time.Time) *goneCache {
	return &goneCache{deletes: d, now: now, tenants: map[string]*tenantGone{}}
}

// gone is what of a tenant would vanish at one moment.
type gone struct {
	deletes []deleted
	rules   *compact.Rules // nil: all is kept
	now     int64
}

// of returns what of a tenant would vanish.
func (g *goneCache) of(ctx context.Context, tenant string, l limits.Limits) gone {
	now := g.now()
	g.mu.Lock()
	t := g.tenants[tenant]
	if t == nil {
		t = &tenantGone{first: make(chan struct{})}
		g.tenants[tenant] = t
		if g.deletes == nil {
			close(t.first)
		}
	}
	t.used = now
	if g.deletes != nil && now.Sub(t.asked) >= deletesAge {
		t.asked = now
		g.reads.Go(func() { g.read(context.WithoutCancel(ctx), tenant, t) })
	}
	var first *limits.RetentionStream
	if len(l.RetentionStream) > 0 {
		first = &l.RetentionStream[0]
	}
	if t.rules == nil || t.period != l.RetentionPeriod || t.streams != first || t.nStreams != len(l.RetentionStream) {
		// Limits are valid, so that the rules are.
		t.rules, _ = compact.NewRules(l)
		t.period, t.streams, t.nStreams = l.RetentionPeriod, first, len(l.RetentionStream)
	}
	out := gone{rules: t.rules, now: now.UnixNano()}
	g.mu.Unlock()
	select {
	case <-t.first:
	default:
		wait := time.NewTimer(deletesWait)
		defer wait.Stop()
		select {
		case <-t.first:
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	g.mu.Lock()
	out.deletes = t.deletes
	g.mu.Unlock()
	if out.rules != nil {
		if _, any := out.rules.Shortest(); !any {
			out.rules = nil
		}
	}
	return out
}

// read reads the deletes of a tenant. What cannot be read stays as it was.
func (g *goneCache) read(ctx context.Context, tenant string, t *tenantGone) {
	ctx, cancel := context.WithTimeout(ctx, deletesAge)
	defer cancel()
	set, err := g.deletes.Current(ctx, tenant)
	var list []deleted
	if err == nil {
		for _, x := range set.All() {
			if sel, err := selection.Parse(x.Query); err == nil {
				list = append(list, deleted{x, sel})
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		t.deletes = list
	}
	select {
	case <-t.first:
	default:
		close(t.first)
	}
}

// sweep forgets tenants that push nothing.
func (g *goneCache) sweep() {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, t := range g.tenants {
		if now.Sub(t.used) > deletesIdle {
			delete(g.tenants, id)
		}
	}
}

// refuse adds the rows of a stream to rej that would vanish, but for those that are
// in it already.
func (x *gone) refuse(text string, ls model.Labels, r *model.Rows, rej *rejects) {
	if len(x.deletes) == 0 && x.rules == nil || r.Len() == 0 {
		return
	}
	least, greatest := slices.Min(r.Times), slices.Max(r.Times)
	var removers []rowRemover
	if x.rules != nil {
		if shortest, _ := x.rules.Shortest(); least < x.now-int64(shortest) {
			if rows := x.rules.Remover(x.now).ForStream(ls); rows != nil {
				removers = append(removers, rowRemover{remove: rows.Remove})
			}
		}
	}
	for _, d := range x.deletes {
		if d.Overlaps(least, greatest) && d.selection.Stream(ls) {
			removers = append(removers, rowRemover{remove: d.selection.ForStream(ls).Match, delete: d.Tombstone})
		}
	}
	if len(removers) == 0 {
		return
	}
	probe := *r // what filters see has a level
	deriveLevel(labelLevel(ls), &probe, &space{})
	already := 0
	n := len(rej.items)
	for i := range probe.Len() {
		for already < n && i >= rej.items[already].row+rej.items[already].count {
			already++
		}
		if already < n && i >= rej.items[already].row {
			continue
		}
		for _, m := range removers {
			if why, bad := m.refusal(text, &probe, i); bad {
				rej.rows++
				rej.items = append(rej.items, rejected{i, 1, why})
				break
			}
		}
	}
	slices.SortFunc(rej.items, func(a, b rejected) int { return cmp.Compare(a.row, b.row) })
	rej.compact()
}

// compact joins items that follow each other for one reason.
func (r *rejects) compact() {
	out := r.items[:0]
	for _, it := range r.items {
		if n := len(out); n > 0 && out[n-1].reason == it.reason && out[n-1].row+out[n-1].count == it.row {
			out[n-1].count += it.count
			continue
		}
		out = append(out, it)
	}
	r.items = out
}

// rowRemover tells which rows would vanish: by a delete, or else by retention.
type rowRemover struct {
	remove func(rows *model.Rows, i int) bool
	delete *tombstone.Tombstone
}

func (m rowRemover) refusal(text string, r *model.Rows, i int) (refusal, bool) {
	t := r.Times[i]
	if m.delete != nil && (t < m.delete.Start || t >= m.delete.End) || !m.remove(r, i) {
		return refusal{}, false
	}
	if m.delete != nil {
		return refusal{pushv1.RejectReason_REJECT_REASON_DELETED_RANGE, fmt.Sprintf(
			"entry for stream '%s' has timestamp %s, in a range that was deleted: %s", text, timeText(t), m.delete.Query)}, true
	}
	return refusal{pushv1.RejectReason_REJECT_REASON_TOO_OLD, fmt.Sprintf(
		"entry for stream '%s' has timestamp too old: %s, retention has ended for it", text, timeText(t))}, true
}
