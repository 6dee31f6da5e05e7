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
		return Errorf(ErrLimit, "the query would need more memory than its limit of %d bytes; consider adding more specific stream selectors, reducing the time range, or aggregating over fewer labels", m.limit)
	}
	for {
		peak := m.peak.Load()
		if used <= peak || m.peak.CompareAndSwap(peak, used) {
			return nil
		}
	}
}

// Release gives n bytes back.
func (m *Memory) Release(n int) {
	if m != nil {
		m.used.Add(int64(-n))
	}
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

// memoryOf returns the meter of a context, or nil.
func memoryOf(ctx context.Context) *Memory {
	m, _ := ctx.Value(memoryKey{}).(*Memory)
	return m
}
