package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Reader gives a client the batches that it has not acknowledged. Next and Close
// are for one goroutine, the others for any.
type Reader struct {
	q     *Queue
	name  string
	bound Bound

	f *os.File
	// wait is how long it is until a segment that could not be opened is tried again; zero: it
	// could be.
	wait time.Duration
	seg  uint64 // number of the segment that f is
	off  int64

	// Guarded by the queue's mutex.
	sent  uint64 // newest that Next gave
	acked uint64
	free  [][]byte
}

// Reader gives the reader of a client named in the Options.
func (q *Queue) Reader(name string) *Reader { return q.readers[name] }

// Next gives the next batch, which belongs to the caller until Release, and waits
// for it. The error is that of ctx.
func (r *Reader) Next(ctx context.Context) (*Batch, error) {
	q := r.q
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		q.mu.Lock()
		changed := q.changed
		var s *segment
		there := false
		for _, c := range q.segs {
			there = there || c.n == r.seg
			// All of an older one may have been given or dropped.
			if c.n > r.seg || c.n == r.seg && r.off < c.end {
				s = &segment{n: c.n, name: c.name, end: c.end, last: c.last}
				break
			}
		}
		sent := r.sent
		q.mu.Unlock()
		if !there {
			r.closeFile()
		}
		if s == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if s.n != r.seg {
			r.closeFile()
			r.seg, r.off = s.n, 0
		}
		b, err := r.read(s, sent)
		if errors.Is(err, errOpen) {
			q.o.OnTrouble(err, r.wait == 0)
			r.wait = min(max(2*r.wait, firstWait), lastWait)
			select {
			case <-time.After(r.wait):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			q.o.OnDamage(err)
			continue
		}
		if b == nil {
			continue
		}
		q.mu.Lock()
		r.sent = max(r.sent, b.Seq)
		q.mu.Unlock()
		return b, nil
	}
}

// Waits between attempts to open a segment.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

var errOpen = errors.New("a segment cannot be opened")

// read gives the next batch of a segment that is newer than sent; nil if there is
// none.
func (r *Reader) read(s *segment, sent uint64) (*Batch, error) {
	if s.last <= sent && s.last > 0 && r.f == nil {
		r.off = s.end
		return nil, nil
	}
	if r.f == nil {
		f, err := os.Open(s.name)
		if errors.Is(err, os.ErrNotExist) {
			r.off = s.end
			return nil, nil // dropped a moment ago
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errOpen, err) // it is there, as its batches are
		}
		r.f, r.wait = f, 0
	}
	r.q.mu.Lock()
	var payload []byte
	if n := len(r.free); n > 0 {
		payload, r.free = r.free[n-1], r.free[:n-1]
	}
	r.q.mu.Unlock()
	for {
		var n int64
		var err error
		payload, n, err = readRecord(r.f, r.off, s.end, payload)
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			at := r.off
			if n > 0 && errors.Is(err, errRecord) {
				r.off += headBytes + n
			} else {
				r.off = s.end
			}
			return nil, fmt.Errorf("%s at %d: %w", s.name, at, err)
		}
		r.off += headBytes + n
		if payload[0] != typeBatch {
			continue
		}
		b, err := decodeBatch(payload[1:])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		if b.Seq > sent {
			b.raw = payload
			return b, nil
		}
	}
}

// Release gives the memory of a batch back, which must not be used any more.
func (r *Reader) Release(b *Batch) {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if len(r.free) < 4 && cap(b.raw) <= 8<<20 {
		r.free = append(r.free, b.raw)
	}
	b.raw, b.Requests = nil, nil
}

// Ack notes that all batches up to seq are done with, and frees their room.
func (r *Reader) Ack(seq uint64) {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if seq <= r.acked {
		return
	}
	r.acked = seq
	q.state.Clients[r.name] = seq
	q.trim()
}

// Acked is the newest batch that was acknowledged.
func (r *Reader) Acked() uint64 {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	return r.acked
}

// Behind is how many batches are not acknowledged.
func (r *Reader) Behind() uint64 {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	return r.q.state.Seq - min(r.acked, r.q.state.Seq)
}

// Close gives the file back.
func (r *Reader) Close() { r.closeFile() }

func (r *Reader) closeFile() {
	if r.f != nil {
		_ = r.f.Close()
		r.f = nil
	}
}

// BytesBehind is about how many bytes are not acknowledged.
func (r *Reader) BytesBehind() (n int64) {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	for _, s := range r.q.segs {
		switch {
		case s.last <= r.acked:
		case s.first > r.acked || s.batches == 0:
			n += s.end
		default:
			n += int64(float64(s.end) * float64(s.last-r.acked) / float64(s.last-s.first+1))
		}
	}
	return n
}
