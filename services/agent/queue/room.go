package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weir-logs/weir/services/agent/positions"
)

const (
	// reserveBytes is what is kept on the disk for the time when it is full.
	reserveBytes = 256 << 10
	// minBytes is the least bound of a client.
	minBytes = 64 << 10
)

func (q *Queue) reserveName() string { return filepath.Join(q.dir, "reserve") }

// reserve makes sure that there is room for a snapshot on a full disk.
func (q *Queue) reserve() {
	if q.o.NoSync {
		return
	}
	q.mu.Lock()
	want := int64(max(reserveBytes, 2*len(positions.Encode(q.state.Snapshot()))))
	q.mu.Unlock()
	if st, err := os.Stat(q.reserveName()); err == nil && st.Size() >= want {
		return
	}
	if os.WriteFile(q.reserveName(), make([]byte, want), 0o600) != nil {
		_ = os.Remove(q.reserveName())
	}
}

// rescue makes room on a full disk whose last segment is of no use any more but
// for its snapshot: it writes that to a new segment, for which a reserve is kept.
func (q *Queue) rescue(cause error) {
	if !errors.Is(cause, syscall.ENOSPC) {
		return
	}
	q.mu.Lock()
	useless := len(q.segs) > 0 && q.segs[len(q.segs)-1].last <= q.least()
	skipped := !useless && q.skipFirst()
	q.mu.Unlock()
	if !useless || skipped {
		return
	}
	_ = os.Remove(q.reserveName())
	if q.open() != nil {
		return
	}
	if datasync(q.f) != nil {
		q.abandon()
		return
	}
	q.mu.Lock()
	s := q.segs[len(q.segs)-1]
	s.end = q.size
	q.total += s.end
	q.trim()
	q.mu.Unlock()
	q.reserve()
}

// makeRoom lets clients skip what is too much or too old for them, if they may.
func (q *Queue) makeRoom(need int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.readers {
		for r.bound.DropOldest {
			s := q.oldest(r)
			tooMuch := s != nil && q.waiting(r)+need > r.bound.MaxBytes
			tooOld := s != nil && r.bound.MaxAge > 0 && s.newest < time.Now().Add(-r.bound.MaxAge).UnixNano()
			if !tooMuch && !tooOld {
				break
			}
			q.skip(r, s)
		}
	}
	q.trim()
	for _, r := range q.readers {
		if n := q.waiting(r); n > 0 && n+need > r.bound.MaxBytes {
			return fmt.Errorf("%w: client %s is %d bytes behind", ErrFull, r.name, n)
		}
	}
	return nil
}

// oldest is the first segment of which a client has something to acknowledge.
func (q *Queue) oldest(r *Reader) *segment {
	for _, s := range q.segs {
		if s.last > r.acked {
			return s
		}
	}
	return nil
}

// waiting says how many bytes of segments a client is not done with.
func (q *Queue) waiting(r *Reader) (n int64) {
	for _, s := range q.segs {
		if s.last > r.acked {
			n += s.end
		}
	}
	return n
}

// skip lets a client pass over what a segment has.
func (q *Queue) skip(r *Reader, s *segment) {
	q.o.OnDrop(r.name, countEntries(s, r.acked))
	r.acked = s.last
	r.sent = max(r.sent, s.last)
	q.state.Clients[r.name] = r.acked
}

// skipFirst makes room on a full disk, if all for whom the oldest segment is kept
// may skip it.
func (q *Queue) skipFirst() bool {
	if len(q.segs) < 2 {
		return false
	}
	s := q.segs[0]
	for _, r := range q.readers {
		if r.acked < s.last && !r.bound.DropOldest {
			return false
		}
	}
	for _, r := range q.readers {
		if r.acked < s.last {
			q.skip(r, s)
		}
	}
	q.trim()
	return true
}

func countEntries(s *segment, after uint64) (n int) {
	f, err := os.Open(s.name)
	if err != nil {
		return 0
	}
	defer f.Close()
	var buf []byte
	for off := int64(0); ; {
		var k int64
		if buf, k, err = readRecord(f, off, s.end, buf); err != nil {
			return n
		}
		off += headBytes + k
		if buf[0] == typeBatch {
			if b, err := decodeBatch(buf[1:]); err == nil && b.Seq > after {
				n += b.Entries()
			}
		}
	}
}

func (q *Queue) remove() {
	_ = os.Remove(q.segs[0].name)
	q.total -= q.segs[0].end
	q.segs = q.segs[1:]
	q.wake() // readers close it: before that, its room is not free
}

func (q *Queue) least() uint64 {
	least := q.state.Seq
	for _, r := range q.readers {
		least = min(least, r.acked)
	}
	return least
}

// trim removes segments that every client is done with, but the newest.
func (q *Queue) trim() {
	least := q.least()
	for len(q.segs) > 1 && q.segs[0].last <= least {
		q.remove()
	}
}
