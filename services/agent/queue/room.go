package queue

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weir-logs/weir/services/agent/positions"
)

// reserveBytes is what is kept on the disk for the time when it is full.
const reserveBytes = 256 << 10

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
	q.mu.Lock()
	useless := len(q.segs) > 0 && q.unread() == 0
	q.mu.Unlock()
	if !errors.Is(cause, syscall.ENOSPC) || !useless {
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

// makeRoom drops what is too much or too old, if it may.
func (q *Queue) makeRoom(need int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trim()
	old := int64(0)
	if q.o.MaxAge > 0 && q.o.DropOldest {
		old = time.Now().Add(-q.o.MaxAge).UnixNano()
	}
	for len(q.segs) > 0 {
		s := q.segs[0]
		tooMuch := q.total+need > q.o.MaxBytes
		if !tooMuch && (s.newest >= old || s.batches == 0) {
			return nil
		}
		if !q.o.DropOldest {
			// What is being written to counts as empty when all of it was taken.
			if q.unread() == 0 {
				return nil
			}
			return ErrFull
		}
		if len(q.segs) == 1 {
			if q.f == nil {
				q.drop(s)
				continue
			}
			// The one that is written to is ended first.
			_ = q.f.Close()
			q.f = nil
		}
		q.drop(s)
	}
	return nil
}

// unread says how many bytes of segments are not taken by all clients.
func (q *Queue) unread() (n int64) {
	least := q.least()
	for _, s := range q.segs {
		if s.last > least {
			n += s.end
		}
	}
	return n
}

// drop removes the oldest segment although not every client has sent it.
func (q *Queue) drop(s *segment) {
	for _, r := range q.readers {
		if r.acked >= s.last {
			continue
		}
		q.o.OnDrop(r.name, countEntries(s, r.acked))
		r.acked = s.last
		r.sent = max(r.sent, s.last)
		q.state.Clients[r.name] = r.acked
	}
	q.remove()
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
