package ingester

import (
	"context"
	"sync"
	"time"
)

// room is where writes wait for memory for their rows while that is full: for the blocks that
// are being written, mostly, and not for long. To refuse them at once throws away all that
// was done for them, and they come again. It may be used by several goroutines.
type room struct {
	most      int64           // bytes that may wait
	perStream time.Duration   // see patience
	stop      <-chan struct{} // nobody waits any longer

	mu      sync.Mutex           // guards everything below
	waiters map[*waiter]struct{} // writes that wait
	waiting int64                // their bytes
	waits   uint64               // how many have waited
}

// waiter is a write that waits.
type waiter struct {
	need  int64         // bytes that it lacked room for; 0: it is trying
	bytes int64         // that it counts as
	woken chan struct{} // capacity 1
}

func newRoom(most int64, stop <-chan struct{}) *room {
	return &room{most: most, perStream: 200 * time.Microsecond, stop: stop, waiters: map[*waiter]struct{}{}}
}

// patience is how long a write of some streams waits, at most for that long: what is thrown
// away with it is by its streams, and one of few is better sent again than kept waiting.
func (r *room) patience(most time.Duration, streams int) time.Duration {
	return min(most, time.Duration(streams)*r.perStream)
}

// take calls try, which reserves what it says it needs or says that it cannot, until it can,
// for up to that long. It is false if there is no room until then, or until ctx ends, or if
// enough others wait.
func (r *room) take(ctx context.Context, patience time.Duration, try func() (int64, bool)) (int64, bool) {
	n, ok := try()
	if ok || patience <= 0 {
		return n, ok
	}
	w := r.enter(n)
	if w == nil {
		return n, false
	}
	defer r.leave(w)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		// What was freed before it was known to wait counts as well.
		if n, ok = try(); ok {
			return n, true
		}
		r.lacks(w, n)
		select {
		case <-w.woken:
		case <-timer.C:
			return n, false
		case <-ctx.Done():
			return n, false
		case <-r.stop:
			return n, false
		}
	}
}

// enter takes a place for a write of n bytes among those that wait, if there is one.
func (r *room) enter(n int64) *waiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting+n > r.most {
		return nil
	}
	w := &waiter{bytes: n, woken: make(chan struct{}, 1)}
	r.waiters[w] = struct{}{}
	r.waiting += n
	r.waits++
	return w
}

// lacks notes how much room one lacked.
func (r *room) lacks(w *waiter, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.need = n
}

func (r *room) leave(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiters, w)
	r.waiting -= w.bytes
}

// free says that there is room for n bytes now: those try again who lacked no more, for to try
// takes as long as a write has streams.
func (r *room) free(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.waiters {
		if w.need > n {
			continue
		}
		w.need = 0
		select {
		case w.woken <- struct{}{}:
		default:
		}
	}
}

// stats returns how many bytes wait, and how many writes ever waited.
func (r *room) stats() (bytes int64, waits uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting, r.waits
}
