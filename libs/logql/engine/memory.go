package engine

import (
	"context"
	"sync/atomic"
)

// Memory meters what one query holds. It is safe for concurrent use; nil is
// without limit.
type Memory struct {
	limit      int64
	used, peak atomic.Int64
	refused    atomic.Bool // a Claim was
}

// NewMemory returns a meter that refuses more than limit bytes; 0: no limit.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Reserve takes n bytes, or fails with ErrLimit and takes none. A failed
// reservation never waits.
func (m *Memory) Reserve(n int) error {
	if m == nil {
		return nil
	}
	used := m.used.Add(int64(n))
	if m.limit > 0 && used > m.limit {
		m.used.Add(int64(-n))
		return m.err()
	}
	for {
		peak := m.peak.Load()
		if used <= peak || m.peak.CompareAndSwap(peak, used) {
			return nil
		}
	}
}

func (m *Memory) err() error {
	return Errorf(ErrLimit, "the query would need more memory than its limit of %d bytes; consider adding more specific stream selectors, reducing the time range, or aggregating over fewer labels", m.limit)
}

// Claim is Reserve for what has no error to return, such as a list of streams. That it was
// refused is kept: from then on Err says so, and whoever can ends the query with that.
func (m *Memory) Claim(n int) bool {
	err := m.Reserve(n)
	if err != nil {
		m.refused.Store(true)
	}
	return err == nil
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
	return m.used.Load()
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

// MemoryOf returns what sources that run under ctx are to meter what they hold by; nil:
// they need not.
func MemoryOf(ctx context.Context) *Memory { return memoryOf(ctx) }

// memoryOf returns the meter of a context, or nil.
func memoryOf(ctx context.Context) *Memory {
	m, _ := ctx.Value(memoryKey{}).(*Memory)
	return m
}

// holder is memory that is held until the end. It is used by one goroutine.
type holder struct {
	mem  *Memory
	held int
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
		h.held += n
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
	h.held = 0
}
