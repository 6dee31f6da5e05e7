package ingester

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/services/ingester/head"
)

// sequence applies records to the head in the order of the write-ahead log, so
// that whoever has seen the rows of one record has seen those of all before it.
type sequence struct {
	// turn is held around taking a place in the log and in queue, so that both
	// have the same order. A channel, since waiting for it must end with a context.
	turn chan struct{}

	mu    sync.Mutex // guards queue, and the outcome of its items
	queue []*pending // in log order, not applied yet
}

// pending is a record between its append and its insertion into the head.
type pending struct {
	ticket    *wal.Ticket
	tenant    string
	blocks    []head.Block
	batchTime int64

	finished bool // the log has decided
	failed   bool
	broken   error // why applying it failed, which nothing should
	added    int
	applied  chan struct{} // closed when the record is in the head, or has failed
}

func newSequence() *sequence {
	return &sequence{turn: make(chan struct{}, 1)}
}

// begin appends a record to the log; late as for wal.Log.BeginUnless.
func (q *sequence) begin(ctx context.Context, log *wal.Log, late func() bool, typ byte, payload []byte) (*pending, error) {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ticket, err := log.BeginUnless(ctx, late, typ, payload)
	if err != nil {
		return nil, err
	}
	p := &pending{ticket: ticket, applied: make(chan struct{})}
	q.mu.Lock()
	q.queue = append(q.queue, p)
	q.mu.Unlock()
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
