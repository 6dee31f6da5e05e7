// Package lazy does what is kept for many, but not before somebody asks.
package lazy

import (
	"sync"
	"sync/atomic"
)

// Once is a [sync.Once] that is not done if what it calls panics: whoever asks next calls it
// again, and does not take what the panic left for a result. The zero value is ready. Safe for
// concurrent use.
type Once struct {
	done atomic.Bool
	mu   sync.Mutex
}

// Do calls f unless a call has returned; who asks meanwhile waits. f must be able to begin anew
// where a panic ended it.
func (o *Once) Do(f func()) {
	if o.done.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done.Load() {
		return
	}
	f()
	o.done.Store(true)
}
