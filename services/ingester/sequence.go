package ingester

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/services/ingester/head"
)

// sequence applies records to the head in the order of the write-ahead log, so
// that whoever has seen the rows of one record has seen those of all before it.
type sequence struct {
	// turn is held around taking a place in the log and in queue, so that both
	// have the same order. A channel, since waiting for it must end with a context.
	turn chan struct{}

	mu        sync.Mutex // guards what follows, and the outcome of the queue's items
	queue     []*pending // in log order, not applied yet
	beginning time.Time  // of the record that is on its way into queue, zero if none is
	times     times      // of what was begun lately
}

// pending is a record between its append and its insertion into the head.
type pending struct {
	ticket    *wal.Ticket
	tenant    string
	blocks    []head.Block
	batchTime int64
	begun     time.Time

	finished bool // the log has decided
	failed   bool
	broken   error // why applying it failed, which nothing should
	added    int
	applied  chan struct{} // closed when the record is in the head, or has failed
}

func newSequence() *sequence {
	return &sequence{turn: make(chan struct{}, 1)}
}

// ready says which record comes next, first of all.
func (q *sequence) ready(next uint64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.times.before, q.times.from = next-1, now
}

// begin appends a record to the log; late as for wal.Log.BeginUnless.
func (q *sequence) begin(ctx context.Context, log *wal.Log, late func() bool, typ byte, payload []byte) (*pending, error) {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p := &pending{applied: make(chan struct{})}
	q.mu.Lock()
	p.begun = time.Now() // not before, or settled might already have passed it
	q.beginning = p.begun
	q.mu.Unlock()
	ticket, err := log.BeginUnless(ctx, late, typ, payload)
	p.ticket = ticket
	q.mu.Lock()
	defer q.mu.Unlock()
	q.beginning = time.Time{}
	if err != nil {
		return nil, err
	}
	q.queue = append(q.queue, p)
	q.times.note(ticket.LSN(), p.begun)
	return p, nil
}

// finish notes the outcome of a record and applies all that are next in order.
func (q *sequence) finish(p *pending, err error, apply func(*pending)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.finished, p.failed = true, err != nil
	for len(q.queue) > 0 && q.queue[0].finished {
		next := q.queue[0]
		q.queue[0] = nil
		q.queue = q.queue[1:]
		if !next.failed {
			next.broken = attempt(apply, next)
		}
		close(next.applied)
	}
}

// settled returns a time before which no record was begun that is still to be applied.
func (q *sequence) settled() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.queue) > 0:
		return q.queue[0].begun
	case !q.beginning.IsZero():
		return q.beginning
	}
	return time.Now()
}

// since returns a position for what was begun at a time or later, and whether all of that
// is known to be behind it: not if it is longer ago than is remembered.
func (q *sequence) since(at time.Time) (position uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.times.since(at)
}

// hold calls f between two records: all before it are in the head, and none behind.
func (q *sequence) hold(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
}

// attempt makes an error of a panic, so that one record cannot stop all behind it.
func attempt(apply func(*pending), p *pending) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("apply record %d: %v\n%s", p.ticket.LSN(), r, debug.Stack())
		}
	}()
	apply(p)
	return nil
}
