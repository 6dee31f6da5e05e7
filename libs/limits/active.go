package limits

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// activeFor is how long a stream counts as active at least after its last entry; at most
// twice that.
const activeFor = time.Hour

// ActiveStreams knows the active streams of each tenant by a 64-bit key. It may be used
// by several goroutines. It takes some forty bytes for each stream.
type ActiveStreams struct {
	now func() time.Time

	mu      sync.Mutex // guards everything below
	tenants map[string]*activeSet
	numbers uint64 // generations that there were, of all tenants
}

type activeSet struct {
	new, old map[uint64]struct{} // keys, by generation
	since    time.Time
	number   uint64 // of the generation of new
}

// NewActiveStreams returns an ActiveStreams without streams.
func NewActiveStreams(now func() time.Time) *ActiveStreams {
	return &ActiveStreams{now: now, tenants: map[string]*activeSet{}}
}

// Generation returns the number of the time span that a tenant's streams are noted in at
// present, which no other span has, of no tenant: a stream that was noted after it was asked
// for need not be noted again until the number is another. It is never 0.
func (a *ActiveStreams) Generation(tenant string) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set(tenant).number
}

// Touch notes that a stream gets entries if it is active, and reports that.
func (a *ActiveStreams) Touch(tenant string, key uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.touch(a.set(tenant), key)
}

// Add notes that a stream gets entries, and reports whether it was active before.
func (a *ActiveStreams) Add(tenant string, key uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.set(tenant)
	if a.touch(s, key) {
		return true
	}
	s.new[key] = struct{}{}
	return false
}

// AddBelow notes that a stream gets entries unless it is new and the tenant has limit
// streams or more already, and reports whether it did.
func (a *ActiveStreams) AddBelow(tenant string, key uint64, limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.set(tenant)
	if a.touch(s, key) {
		return true
	}
	if len(s.new)+len(s.old) >= limit {
		return false
	}
	s.new[key] = struct{}{}
	return true
}

// Has reports whether a stream is active.
func (a *ActiveStreams) Has(tenant string, key uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.tenants[tenant]
	if s == nil {
		return false
	}
	a.turn(s)
	_, recent := s.new[key]
	_, earlier := s.old[key]
	return recent || earlier
}

// Count returns how many active streams a tenant has.
func (a *ActiveStreams) Count(tenant string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.tenants[tenant]
	if s == nil {
		return 0
	}
	a.turn(s)
	return len(s.new) + len(s.old)
}

// Total returns how many active streams all tenants have.
func (a *ActiveStreams) Total() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, s := range a.tenants {
		n += len(s.new) + len(s.old)
	}
	return n
}

// TenantStreams is how many active streams a tenant has.
type TenantStreams struct {
	Tenant  string
	Streams int
}

// Counts returns the tenants that have streams, those with most first, and forgets the
// others.
func (a *ActiveStreams) Counts() []TenantStreams {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []TenantStreams
	for id, s := range a.tenants {
		a.turn(s)
		if n := len(s.new) + len(s.old); n > 0 {
			out = append(out, TenantStreams{id, n})
		} else {
			delete(a.tenants, id)
		}
	}
	slices.SortFunc(out, func(x, y TenantStreams) int {
		return cmp.Or(cmp.Compare(y.Streams, x.Streams), cmp.Compare(x.Tenant, y.Tenant))
	})
	return out
}

// Sweep forgets tenants without active streams.
func (a *ActiveStreams) Sweep() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.tenants {
		if a.turn(s); len(s.new)+len(s.old) == 0 {
			delete(a.tenants, id)
		}
	}
}

// set returns the set of a tenant, which has one from then on. mu is held.
func (a *ActiveStreams) set(tenant string) *activeSet {
	s := a.tenants[tenant]
	if s == nil {
		a.numbers++
		s = &activeSet{new: map[uint64]struct{}{}, since: a.now(), number: a.numbers}
		a.tenants[tenant] = s
	}
	a.turn(s)
	return s
}

// turn begins a new generation where one is over, at the time when it was and not when
// that is noticed: else streams would count for up to three times activeFor. mu is held.
func (a *ActiveStreams) turn(s *activeSet) {
	switch now := a.now(); {
	case now.Sub(s.since) >= 2*activeFor:
		s.old, s.new, s.since = nil, map[uint64]struct{}{}, now
		a.numbers++
		s.number = a.numbers
	case now.Sub(s.since) >= activeFor:
		s.old, s.new, s.since = s.new, map[uint64]struct{}{}, s.since.Add(activeFor)
		a.numbers++
		s.number = a.numbers
	}
}

// touch moves an active stream to the present generation. mu is held.
func (a *ActiveStreams) touch(s *activeSet, key uint64) bool {
	if _, ok := s.new[key]; ok {
		return true
	}
	if _, ok := s.old[key]; ok {
		delete(s.old, key)
		s.new[key] = struct{}{}
		return true
	}
	return false
}
