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

	mu      sync.Mutex    // guards everything below
	freed   chan struct{} // closed when there is more room
	waiting int64         // bytes of writes that wait
	waits   uint64        // how many have waited
}

func newRoom(most int64, stop <-chan struct{}) *room {
	return &room{most: most, perStream: 200 * time.Microsecond, stop: stop, freed: make(chan struct{})}
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
	r.mu.Lock()
	freed := r.freed // before the first try: what is freed behind it counts
	r.mu.Unlock()
	n, ok := try()
	if ok || patience <= 0 || !r.enter(n) {
		return n, ok
	}
	held := n
	defer func() { r.leave(held) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-freed:
		case <-timer.C:
			return n, false
		case <-ctx.Done():
			return n, false
		case <-r.stop:
			return n, false
		}
		r.mu.Lock()
		freed = r.freed
		r.mu.Unlock()
		if n, ok = try(); ok {
			return n, true
		}
	}
}

// enter takes a place for a write of n bytes among those that wait, if there is one.
func (r *room) enter(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting+n > r.most {
		return false
	}
	r.waiting += n
	r.waits++
	return true
}

func (r *room) leave(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting -= n
}

// free says that there is more room.
func (r *room) free() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.freed)
	r.freed = make(chan struct{})
}

// stats returns how many bytes wait, and how many writes ever waited.
func (r *room) stats() (bytes int64, waits uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting, r.waits
}
