package distributor

import (
	"sync"
	"time"
)

// generation is how long a stream counts as active at least after its last entry;
// at most twice that.
const generation = time.Hour

// streamCounter knows the active streams of each tenant, so that new ones past
// the limit can be refused.
type streamCounter struct {
	now func() time.Time

	mu      sync.Mutex // guards everything below
	tenants map[string]*activeStreams
}

type activeStreams struct {
	new, old map[uint64]struct{} // fingerprints, by generation
	since    time.Time
}

func newStreamCounter(now func() time.Time) *streamCounter {
	return &streamCounter{now: now, tenants: map[string]*activeStreams{}}
}

// admit notes that a stream gets entries and returns false if it is new and the
// tenant has as many as the limit already. Existing streams are never refused.
func (c *streamCounter) admit(tenantID string, fingerprint uint64, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	a := c.tenants[tenantID]
	if a == nil {
		a = &activeStreams{new: map[uint64]struct{}{}, since: now}
		c.tenants[tenantID] = a
	}
	if now.Sub(a.since) >= generation {
		a.old, a.new, a.since = a.new, map[uint64]struct{}{}, now
	}
	if _, ok := a.new[fingerprint]; ok {
		return true
	}
	if _, ok := a.old[fingerprint]; ok {
		delete(a.old, fingerprint)
		a.new[fingerprint] = struct{}{}
		return true
	}
	if len(a.new)+len(a.old) >= limit {
		return false
	}
	a.new[fingerprint] = struct{}{}
	return true
}

// sweep forgets tenants without active streams.
func (c *streamCounter) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for id, a := range c.tenants {
		if now.Sub(a.since) >= 2*generation {
			delete(c.tenants, id)
		}
	}
}

// count returns the active streams of all tenants.
func (c *streamCounter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, a := range c.tenants {
		n += len(a.new) + len(a.old)
	}
	return n
}
