// Package queue keeps batches on disk from before they are sent until every
// client's server has acknowledged them, each client at its own pace.
//
// A queue is a directory of segments, each a sequence of records:
//
//	length  4 bytes, little endian, of the payload; at least 1
//	crc     4 bytes, CRC-32C of the payload
//	payload one byte of type, then
//	  'S'   where all sources and clients were when the segment began, as package
//	        positions encodes it; the first record of each segment
//	  'B'   a batch: sequence (uvarint), time (varint), and with lengths (uvarint)
//	        where its sources go on, and for each tenant its name, the number of
//	        entries (uvarint) and the encoded request
//	  'A'   what the clients' servers had acknowledged by then
//
// A batch is durable when Append returns. An acknowledgement need not be: where
// it is lost, the batch is sent again, which changes nothing. A torn record ends
// its segment; after a failed write the segment is left, and the batch is written
// again in a new one. As each segment begins with a snapshot, the queue alone
// tells where to go on.
package queue

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weir-logs/weir/services/agent/positions"
)

// Bound is how far a client may be behind.
type Bound struct {
	// MaxBytes is how many bytes of segments may wait for it. At least 64 KiB.
	MaxBytes int64
	// DropOldest lets the client skip the oldest segment when it is too far
	// behind; otherwise Append fails with ErrFull.
	DropOldest bool
	// MaxAge is how old a batch may get before the client skips it, with
	// DropOldest. 0: any age.
	MaxAge time.Duration
}

// Options are who reads a queue, and how it is bounded.
type Options struct {
	// Clients are those who read, by name.
	Clients map[string]Bound
	// NoSync leaves durability to the system: for queues that end with the
	// process.
	NoSync bool
	// OnDrop is told of entries that a client skipped before their
	// acknowledgement. Those that it had got from Next already it may still send.
	OnDrop func(client string, entries int)
	// OnDamage is told of records that cannot be read.
	OnDamage func(err error)
	// OnTrouble is told of each attempt to open a segment that fails; first: the one before did
	// not. It is tried again until it can be opened.
	OnTrouble func(err error, first bool)
}

// ErrFull is what Append returns when a client that skips nothing is too far
// behind.
var ErrFull = errors.New("queue: full")

// Queue is an open queue. One goroutine appends; others read.
type Queue struct {
	dir      string
	o        Options
	segBytes int64

	// The writer's own.
	f    *os.File
	size int64 // of the file, what is not durable yet included

	mu      sync.Mutex
	segs    []*segment
	next    uint64 // number of the next segment
	total   int64
	state   *positions.State
	readers map[string]*Reader
	changed chan struct{} // closed when there is something new
}

type segment struct {
	n       uint64
	name    string
	end     int64 // what is durable
	first   uint64
	last    uint64
	newest  int64 // Time of the last batch
	batches int
}

// Open opens the queue in dir, which it makes if need be. saved is what is known
// from elsewhere; the queue's own records go before it where they are newer.
func Open(dir string, saved positions.Snapshot, o Options) (*Queue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	q := &Queue{
		dir: dir, o: o, next: 1, state: positions.NewState(saved), readers: map[string]*Reader{}, changed: make(chan struct{}),
	}
	q.segBytes = 16 << 20
	for _, b := range o.Clients {
		q.segBytes = min(q.segBytes, max(b.MaxBytes, minBytes)/4)
	}
	if q.o.OnDrop == nil {
		q.o.OnDrop = func(string, int) {}
	}
	if q.o.OnTrouble == nil {
		q.o.OnTrouble = func(error, bool) {}
	}
	if q.o.OnDamage == nil {
		q.o.OnDamage = func(error) {}
	}
	var numbers []uint64
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && e.Type().IsRegular() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		s, err := q.replay(n)
		if err != nil {
			return nil, err
		}
		q.segs = append(q.segs, s)
		q.total += s.end
		q.next = n + 1
	}
	// A client that was not there before has nothing to do with what is here.
	start := uint64(0)
	if len(q.state.Clients) > 0 {
		start = q.state.Seq
	}
	known := q.state.Clients
	q.state.Clients = map[string]uint64{}
	for name, bound := range o.Clients {
		bound.MaxBytes = max(bound.MaxBytes, minBytes)
		at, ok := known[name]
		if !ok {
			at = start
		}
		at = min(at, q.state.Seq)
		q.state.Clients[name] = at
		q.readers[name] = &Reader{q: q, name: name, bound: bound, sent: at, acked: at}
	}
	q.trim()
	q.reserve()
	return q, nil
}

// replay reads a segment up to its end or the first record that is not whole.
func (q *Queue) replay(n uint64) (*segment, error) {
	s := &segment{n: n, name: q.name(n)}
	f, err := os.Open(s.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var buf []byte
	for {
		var k int64
		buf, k, err = readRecord(f, s.end, st.Size(), buf)
		if errors.Is(err, io.EOF) && s.end >= st.Size() {
			return s, nil
		}
		if err == nil {
			err = q.apply(s, buf)
		}
		if err != nil {
			if !errors.Is(err, errRecord) {
				return nil, err
			}
			q.o.OnDamage(fmt.Errorf("%s at %d: %w", s.name, s.end, err))
			return s, nil
		}
		s.end += headBytes + k
	}
}

// apply takes a record of a segment in at the start.
func (q *Queue) apply(s *segment, payload []byte) error {
	switch payload[0] {
	case typeSnapshot, typeAck:
		snap, err := positions.Decode(payload[1:])
		if err != nil {
			return errRecord
		}
		if snap.Seq < q.state.Seq {
			snap.Files, snap.Cursors = nil, nil // what is known is newer
		}
		q.state.Apply(snap)
	case typeBatch:
		b, err := decodeBatch(payload[1:])
		if err != nil {
			return err
		}
		if b.Seq > q.state.Seq {
			if b.Seq > q.state.Seq+1 && q.state.Seq > 0 {
				q.o.OnDamage(fmt.Errorf("%s: batches %d to %d are missing", s.name, q.state.Seq+1, b.Seq-1))
			}
			q.state.Apply(b.After)
		}
		s.note(b)
	default:
		return errRecord
	}
	return nil
}

func (s *segment) note(b *Batch) {
	if s.batches == 0 {
		s.first = b.Seq
	}
	s.last, s.newest = max(s.last, b.Seq), b.Time
	s.batches++
}

func (q *Queue) name(n uint64) string { return filepath.Join(q.dir, fmt.Sprintf("%020d", n)) }

// State gives where sources and clients are.
func (q *Queue) State() positions.Snapshot {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state.Snapshot()
}

// Change changes what the state has beside batches: files found or forgotten.
func (q *Queue) Change(f func(*positions.State)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f(q.state)
}

// Append makes batches durable, all or none. After an error it can be called again
// with the same batches.
func (q *Queue) Append(batches []*Batch) error {
	need := int64(0)
	for _, b := range batches {
		if b.Bytes() > maxRecord/2 {
			return fmt.Errorf("queue: batch of %d bytes", b.Bytes())
		}
		need += int64(b.Bytes()) + 1024
	}
	if err := q.makeRoom(need); err != nil {
		return err
	}
	if q.f != nil && q.size >= q.segBytes {
		err := q.f.Close()
		q.f = nil
		if err != nil {
			return err
		}
	}
	err := q.open()
	if err == nil {
		q.mu.Lock()
		acks := encodeAcks(q.state.Clients)
		q.mu.Unlock()
		err = q.write([][]byte{acks})
	}
	for _, b := range batches {
		if err == nil {
			err = q.write(b.parts())
		}
	}
	if err == nil && !q.o.NoSync {
		err = datasync(q.f)
	}
	if err != nil {
		q.abandon()
		q.rescue(err)
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.segs[len(q.segs)-1]
	q.total += q.size - s.end
	s.end = q.size
	for _, b := range batches {
		s.note(b)
		q.state.Apply(b.After)
	}
	q.wake()
	return nil
}

func (q *Queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *Queue) open() error {
	if q.f != nil {
		return nil
	}
	q.mu.Lock()
	n := q.next
	snap := append([]byte{typeSnapshot}, positions.Encode(q.state.Snapshot())...)
	q.mu.Unlock()
	s := &segment{n: n, name: q.name(n)}
	f, err := os.OpenFile(s.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	q.f, q.size = f, 0
	err = q.write([][]byte{snap})
	if err == nil && !q.o.NoSync {
		err = positions.SyncDir(q.dir)
	}
	if err != nil {
		q.f = nil
		return errors.Join(err, f.Close(), os.Remove(s.name))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next++
	q.segs = append(q.segs, s)
	return nil
}

func (q *Queue) write(parts [][]byte) error {
	h, size := head(parts)
	if size > maxRecord {
		return fmt.Errorf("queue: record of %d bytes", size)
	}
	small := h[:]
	for _, p := range parts {
		if len(p) < 4096 {
			small = append(small, p...)
			continue
		}
		if _, err := q.f.Write(small); err != nil {
			return err
		}
		small = small[:0]
		if _, err := q.f.Write(p); err != nil {
			return err
		}
	}
	if _, err := q.f.Write(small); err != nil {
		return err
	}
	q.size += int64(headBytes + size)
	return nil
}

// abandon leaves the segment as it is: after a failed write or sync nothing more
// may be built on it. What is torn at its end goes, to give a full disk room.
func (q *Queue) abandon() {
	if q.f == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.segs[len(q.segs)-1]
	if s.batches == 0 && s.end == 0 {
		_ = os.Remove(s.name)
		q.segs = q.segs[:len(q.segs)-1]
		q.total -= s.end
	} else {
		_ = q.f.Truncate(s.end)
	}
	_ = q.f.Close()
	q.f = nil
}

// Size is the bytes on disk.
func (q *Queue) Size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// Close closes the queue. It can be opened again.
func (q *Queue) Close() error {
	if q.f == nil {
		return nil
	}
	err := q.f.Close()
	q.f = nil
	return err
}
