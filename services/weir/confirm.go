package weir

import (
	"context"
	"maps"
	"sync"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/ring"
)

// confirmMargin is how long after the creation of a delete entries of it may still
// have come in, since distributors had not heard of it, and by how much clocks differ.
const confirmMargin = 5 * time.Minute

// confirmations finds out which data directories can bring no entry of a delete back:
// those that were flushed after its creation, so long ago that the local copies of
// what they uploaded are gone.
type confirmations struct {
	members func() *ring.View
	flush   func(ctx context.Context, m *ring.Member) error
	// keep is how long local copies stay after an upload.
	keep time.Duration
	now  func() time.Time

	mu      sync.Mutex           // guards what follows, both by incarnation
	flushed map[string]time.Time // when its last flush began
	// confirmed are deletes: what is confirmed stays so.
	confirmed map[string]map[string]time.Time // and when
}

// forgetConfirmed is after how long a confirmation is forgotten: it can be had again.
const forgetConfirmed = 30 * 24 * time.Hour

func (p *Process) newConfirmations() *confirmations {
	return &confirmations{
		members: p.View, now: p.now, flushed: map[string]time.Time{}, confirmed: map[string]map[string]time.Time{}, keep: p.cfg.Ingester.KeepUploaded + time.Hour,
		flush: func(ctx context.Context, m *ring.Member) error {
			c, err := p.clients.Ingester(m)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			_, err = c.Flush(ctx, &ingestv1.FlushRequest{})
			return err
		},
	}
}

// of returns the data directories with which of the deletes they have confirmed. It
// has those flush that must, and once in keep at most. One that cannot be reached
// confirms nothing.
func (c *confirmations) of(ctx context.Context, deletes []*tombstone.Tombstone) ([]tombstone.Incarnation, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	view := c.members()
	var out []tombstone.Incarnation
	for m := range view.Table().Past() {
		if !m.Stores() || m.Noted() {
			continue
		}
		i := tombstone.Incarnation{ID: m.Incarnation, Since: m.Changed()}
		if m.State.Gone() && m.State != ring.Lost { // else the directory may come back
			i.Forgotten = m.Changed()
		}
		out = append(out, i)
	}
	for m := range view.Table().All() {
		if !m.Stores() {
			continue
		}
		i := tombstone.Incarnation{ID: m.Incarnation, Since: m.Changed()}
		if m.State.Gone() {
			i.Forgotten = m.Changed()
			out = append(out, i)
			continue
		}
		at, now := c.flushed[m.Incarnation], c.now()
		known := c.confirmed[m.Incarnation]
		if known == nil {
			known = map[string]time.Time{}
			c.confirmed[m.Incarnation] = known
		}
		maps.DeleteFunc(known, func(_ string, t time.Time) bool { return now.Sub(t) > forgetConfirmed })
		late := false
		for _, d := range deletes {
			covered := d.Created.Add(confirmMargin).Before(at)
			if covered && now.Sub(at) >= c.keep {
				known[d.ID] = now
			}
			switch _, ok := known[d.ID]; {
			case ok:
				i.Confirmed = append(i.Confirmed, d.ID)
			case !covered && now.Sub(d.Created) > confirmMargin:
				late = true
			}
		}
		out = append(out, i)
		if late && now.Sub(at) >= c.keep {
			if err := c.flush(ctx, m); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				continue // another time
			}
			c.flushed[m.Incarnation] = now
		}
	}
	return out, nil
}
