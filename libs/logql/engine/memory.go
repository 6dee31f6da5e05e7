package engine

import (
	"context"
	"sync/atomic"
)

// Memory meters what one query holds, or one question about streams. It is safe for
// concurrent use; nil is without limit.
type Memory struct {
	limit      int64
	used, peak atomic.Int64
	claimed    atomic.Int64 // by plans and lists, besides used
	refused    atomic.Bool  // a Claim was
}

// NewMemory returns a meter that refuses more than limit bytes, see Claim for what may be
// held besides; 0: no limit.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Reserve takes n bytes, or fails with ErrLimit and takes none. A failed
// reservation never waits.
func (m *Memory) Reserve(n int) error {
	if m == nil {
		return nil
	}
	used := m.used.Add(int64(n))
	held := used + m.claimed.Load()
	if m.limit > 0 && (used > m.limit || held > timesLimit*m.limit) {
		m.used.Add(int64(-n))
		return m.err()
	}
	m.top(held)
	return nil
}

// top notes how much is held.
func (m *Memory) top(held int64) {
	for {
		peak := m.peak.Load()
		if held <= peak || m.peak.CompareAndSwap(peak, held) {
			return
		}
	}
}

func (m *Memory) err() error {
	return Errorf(ErrMemory, "the query would need more memory than its limit of %d bytes; consider adding more specific stream selectors, reducing the time range, or aggregating over fewer labels; the server's memory.limit and querier.max_concurrent say what a query may use", m.limit)
}

// timesLimit is how many times its limit a query may hold of everything: its plans and lists of
// streams are the same however little is asked, and so may be as much again as its rows and
// results, or what these leave.
const timesLimit = 2

// Claim is Reserve for plans and lists of streams, which have no error to return. They may take
// what is left of twice the limit. That it was refused is kept: from then on Err says so, and
// whoever can ends the query with that.
func (m *Memory) Claim(n int) bool {
	if m == nil {
		return true
	}
	held := m.claimed.Add(int64(n)) + m.used.Load()
	if m.limit > 0 && held > timesLimit*m.limit {
		m.claimed.Add(int64(-n))
		m.refused.Store(true)
		return false
	}
	m.top(held)
	return true
}

// Unclaim gives back n bytes that were claimed.
func (m *Memory) Unclaim(n int) {
	if m != nil {
		m.claimed.Add(int64(-n))
	}
}

// Err returns why a Claim was refused; nil: none was.
func (m *Memory) Err() error {
	if m == nil || !m.refused.Load() {
		return nil
	}
	return m.err()
}

// Release gives n bytes back.
func (m *Memory) Release(n int) {
	if m != nil {
		m.used.Add(int64(-n))
	}
}

// Held is what is held now.
func (m *Memory) Held() int64 {
	if m == nil {
		return 0
	}
	return m.used.Load() + m.claimed.Load()
}

// Peak is the most that was held at once.
func (m *Memory) Peak() int64 {
	if m == nil {
		return 0
	}
	return m.peak.Load()
}

type memoryKey struct{}

// WithMemory makes sources that run under ctx meter what they hold by m.
func WithMemory(ctx context.Context, m *Memory) context.Context {
	return context.WithValue(ctx, memoryKey{}, m)
}

// MemoryOf returns the meter of a context; nil: there is none.
func MemoryOf(ctx context.Context) *Memory { return memoryOf(ctx) }

func memoryOf(ctx context.Context) *Memory {
	m, _ := ctx.Value(memoryKey{}).(*Memory)
	return m
}

// holder is memory that is held until the end. It is used by one goroutine.
type holder struct {
	mem     *Memory
	held    int
	claimed int
}

func (h *holder) reserve(n int) error {
	if err := h.mem.Reserve(n); err != nil {
		return err
	}
	h.held += n
	return nil
}

// claim is Memory.Claim.
func (h *holder) claim(n int) bool {
	ok := h.mem.Claim(n)
	if ok {
		h.claimed += n
	}
	return ok
}

// give gives n bytes back.
func (h *holder) give(n int) {
	h.mem.Release(n)
	h.held -= n
}

func (h *holder) release() {
	h.mem.Release(h.held)
	h.mem.Unclaim(h.claimed)
	h.held, h.claimed = 0, 0
}
