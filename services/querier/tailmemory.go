package querier

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// seenBytes is about what an entry takes that a tail remembers.
const seenBytes = 80

// tailMemory is what all tails remember of what they have sent. Where it is at its limit
// no tail begins, and those that remember more than an equal part of it forget what is
// oldest: entries of an ingester that was long about to send them may come again.
type tailMemory struct {
	limit int64 // 0: none

	mu    sync.Mutex
	used  int64
	tails int64

	bytes     prometheus.Gauge
	forgotten prometheus.Counter
}

func newTailMemory(limit int64, f promauto.Factory) *tailMemory {
	return &tailMemory{
		limit: limit,
		bytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_querier_tail_memory_bytes", Help: "Memory for what live tails remember of the entries that they have sent."}),
		forgotten: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_forgotten_tail_entries_total", Help: "Entries that live tails forgot, as they remembered too many, before all replicas had sent them: these may be sent twice."}),
	}
}

// join counts a tail, if there is room for what it will remember.
func (m *tailMemory) join() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit > 0 && m.used >= m.limit {
		return false
	}
	m.tails++
	return true
}

// leave is for a tail that joined and holds nothing any more.
func (m *tailMemory) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tails--
}

// resize changes what is held.
func (m *tailMemory) resize(by int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used += by
	m.bytes.Set(float64(m.used))
}

// most is how many entries a tail may remember now.
func (m *tailMemory) most() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit <= 0 || m.used <= m.limit {
		return maxSeen
	}
	return int(min(m.limit/max(m.tails, 1)/seenBytes, maxSeen))
}

// age lets a tail forget what it need not remember, or may not.
func (m *tailMemory) age(s *seen, age func() (forgotten int)) {
	before := s.held
	s.most = m.most()
	m.forgotten.Add(float64(age()))
	s.held = s.size()
	m.resize(s.held - before)
}

// release is for a tail that ends.
func (m *tailMemory) release(s *seen) {
	m.resize(-s.held)
	s.held = 0
	m.leave()
}

func (s *Service) takeTail(sc scope) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.tails[sc.tenant] + 1; n > sc.limits.MaxTails {
		s.tooMany.Inc()
		return rpcerr.New(rpcerr.Overloaded, "max concurrent tail requests limit exceeded, count > limit (%d > %d)", n, sc.limits.MaxTails).WithRetry(time.Second)
	}
	if !s.tailMemory.join() {
		s.tooMany.Inc()
		return rpcerr.New(rpcerr.Overloaded, "live tails remember as much as they may together (%d bytes): try again later, or at another querier", s.tailMemory.limit).WithRetry(10 * time.Second)
	}
	s.tails[sc.tenant]++
	s.open.Inc()
	return nil
}

func (s *Service) giveTail(sc scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open.Dec()
	if s.tails[sc.tenant]--; s.tails[sc.tenant] == 0 {
		delete(s.tails, sc.tenant)
	}
}
