package wal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

var (
	// ErrFailed means that a write or fsync failed. It is final: reopen the log, best in a new
	// process. The error that caused it is wrapped too.
	ErrFailed = errors.New("wal: failed, must be reopened")
	// ErrDiskFull means that nothing was written; later appends may succeed.
	ErrDiskFull = errors.New("wal: disk full")
	// ErrReadOnly means that no new segment can be started (read-only file system, no file
	// descriptors left); nothing was written, later appends may succeed.
	ErrReadOnly = errors.New("wal: cannot start a segment")
	// ErrOverloaded means that the queue stayed full until the context ended.
	ErrOverloaded = errors.New("wal: overloaded")
	// ErrTooLarge means that the payload exceeds Options.MaxRecordBytes.
	ErrTooLarge = errors.New("wal: record too large")
	// ErrLate means that the record's time was over when it was its turn to be written.
	ErrLate = errors.New("wal: too late")
	// ErrClosed means that Close was called before.
	ErrClosed = errors.New("wal: closed")
)

// Log is an open write-ahead log. All methods may be called concurrently.
type Log struct {
	opts        Options
	dir         directory
	lock        io.Closer
	logger      *slog.Logger
	metrics     *metrics
	incarnation Incarnation
	fresh       bool
	stateLost   bool
	openedState state

	room *semaphore.Weighted // payload bytes queued or being written
	wake chan struct{}       // capacity 1: the queue is not empty, or closing is set
	done chan struct{}       // closed when the writer has returned
	died chan struct{}       // closed when err becomes ErrFailed

	durable atomic.Uint64 // every record below is durable

	// mu guards what follows. It is never held during I/O.
	mu      sync.Mutex
	queue   []*Ticket
	next    uint64 // LSN of the next record
	err     error  // ErrFailed or ErrClosed: no more appends
	closing bool
	opened  []segment // what was there at Open, lost ones included
	closed  []segment // what is there and not written to, in order
	size    int64     // bytes of closed and active segments

	// stateMu guards state and is held while it is written.
	stateMu sync.Mutex
	state   state

	reserveMu sync.Mutex // held while the reserve file is created or removed

	active active // the writer's own

	closeOnce sync.Once
	closeErr  error
}

// Open opens the log in dir, creating both as needed, and locks it against other processes (a
// *LockedError says who has it). Damage found in it is no reason to fail; a segment written by
// a later version, or a directory that cannot be read or locked, is.
//
// If the disk is full the reserve file is removed first. Opening an existing log takes no space.
func Open(dir string, opts Options) (*Log, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	l := &Log{
		opts:   opts,
		dir:    directory{fs: opts.FS, path: dir},
		logger: opts.Logger.With("wal", dir),
		room:   semaphore.NewWeighted(opts.QueueBytes),
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
		died:   make(chan struct{}),
	}
	if err := opts.FS.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("wal: create the data directory: %w", err)
	}
	lock, err := opts.FS.Lock(l.dir.join(lockFile))
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	l.lock = lock
	if err := l.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	l.metrics = newMetrics(opts.Registerer)
	l.metrics.failed.Set(0)
	l.publishSizes()
	l.logger.Info("wal: opened", "incarnation", l.incarnation.String(), "fresh", l.fresh, "segments", len(l.closed), "next_lsn", l.next)
	go l.write()
	return l, nil
}

func (l *Log) load() error {
	l.makeRoom()
	segs, err := l.dir.list()
	if err != nil {
		return err
	}
	if l.incarnation, l.fresh, err = l.dir.incarnation(l.opts.Rand); err != nil {
		return diskFull(err)
	}
	st, exists, ok := l.dir.loadState()
	switch {
	case !exists && len(segs) == 0:
		st = state{low: 1, durable: 1}
		if err := l.dir.writeSmall(stateFile, st.encode()); err != nil {
			return diskFull(fmt.Errorf("wal: write the state file: %w", err))
		}
	case !ok:
		st, l.stateLost = state{}, true
		if n := len(segs); n > 0 {
			// Err on the side of data: had the newest segment not been started, nothing could be lost in it.
			st.newest = segs[n-1].first
		} else {
			st.durable = unknownSpan
		}
	}
	// What was removed was durable: its numbers are not given out again, even if the process
	// was killed when no segment was left.
	st.durable = max(st.durable, st.low)
	l.state, l.openedState = st, st

	l.opened = withLost(segs, st)
	for len(l.opened) > 1 && l.opened[1].first <= st.low {
		l.opened = l.opened[1:] // its removal was interrupted; TruncateBefore takes it up again
	}
	w := walker{dir: l.dir, state: st, unsynced: 2 * l.opts.MaxBatchBytes, gone: func(segment) bool { return false }}
	ignore := func(uint64, byte, []byte) error { return nil }
	l.next, err = w.walk(context.Background(), slices.Clone(l.opened[max(0, len(l.opened)-1):]), 0, ignore)
	if err != nil {
		return err
	}
	l.durable.Store(l.next)
	for i, seg := range segs {
		seg.end = l.next
		if i+1 < len(segs) {
			seg.end = segs[i+1].first
		}
		l.closed = append(l.closed, seg)
		l.size += max(seg.size, 0)
	}
	if n := len(segs); n > 0 {
		// What a killed process had written but not synced was delivered, or will be: make it as
		// durable as the records that follow it.
		if err := l.syncExisting(segs[n-1].name); err != nil {
			l.logger.Error("wal: cannot sync the newest segment", "segment", segs[n-1].name, "err", err)
		}
	}
	l.keepReserve()
	return nil
}

func (l *Log) syncExisting(name string) error {
	f, err := l.dir.fs.Open(l.dir.join(name))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Incarnation returns the directory's id, and whether this Open drew it because there was none.
func (l *Log) Incarnation() (id Incarnation, fresh bool) { return l.incarnation, l.fresh }

// NextLSN returns the LSN that the next Begin gets.
func (l *Log) NextLSN() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// DurableLSN returns the LSN below which every record is durable.
func (l *Log) DurableLSN() uint64 { return l.durable.Load() }

// Size returns the number of segments and their bytes.
func (l *Log) Size() (segments int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	segments = len(l.closed)
	if l.active.open.Load() {
		segments++
	}
	return segments, l.size
}

// Failed is closed when the log has failed (ErrFailed): the owner should restart.
func (l *Log) Failed() <-chan struct{} { return l.died }

// Err returns nil while appends are accepted, else the error that they get.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Ticket is a record on its way to the disk.
type Ticket struct {
	lsn     uint64
	typ     byte
	cut     bool // no record, but the request to close the active segment
	length  int
	crc     uint32
	payload [][]byte
	weight  int64
	late    func() bool // nil: never; asked right before the record is written

	done chan struct{} // closed once err is final
	err  error
}

// LSN returns the record's place in the log. If the ticket fails the LSN may be given out again:
// identify pending records by their tickets.
func (t *Ticket) LSN() uint64 { return t.lsn }

// Done is closed when the record is durable or has failed. Until then the log owns the payload.
func (t *Ticket) Done() <-chan struct{} { return t.done }

// Wait returns nil once the record is durable, and otherwise why it is not and never will be. If
// ctx ends first its error is returned and the outcome is unknown; Wait may be called again.
func (t *Ticket) Wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	default:
	}
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Begin gives the record, whose payload is the concatenation of the slices, the next LSN and
// queues it. The order of Begin calls is the order of LSNs, of the file and of replay, so a caller
// that must apply records in the same order holds its own mutex around Begin and its note of the
// ticket. A record becomes durable only if all before it in the segment did.
//
// Begin blocks while the queue is full, and returns ErrOverloaded if ctx ends before there is
// room. The slices, the outer one included, belong to the log until Done.
func (l *Log) Begin(ctx context.Context, typ byte, payload ...[]byte) (*Ticket, error) {
	return l.BeginUnless(ctx, nil, typ, payload...)
}

// BeginUnless is Begin for a record that is not to be written any more from some time on: late is
// asked right before that, by the log's goroutine. If it says so the ticket fails with ErrLate, and
// an empty record of TypeVoid takes the record's place.
func (l *Log) BeginUnless(ctx context.Context, late func() bool, typ byte, payload ...[]byte) (*Ticket, error) {
	if typ == TypeVoid {
		return nil, fmt.Errorf("wal: records of type %d are the log's own", typ)
	}
	t := &Ticket{typ: typ, payload: payload, late: late, done: make(chan struct{})}
	for _, p := range payload {
		t.length += len(p)
		if t.length > l.opts.MaxRecordBytes {
			return nil, fmt.Errorf("%w: over %d bytes", ErrTooLarge, l.opts.MaxRecordBytes)
		}
		t.crc = crc32.Update(t.crc, castagnoli, p)
	}
	if err := l.enqueue(ctx, t); err != nil {
		return nil, err
	}
	return t, nil
}

// Append is Begin and Wait. On an error of ctx the outcome is unknown and the log still owns the
// payload; who reuses buffers calls Begin and waits for Done.
func (l *Log) Append(ctx context.Context, typ byte, payload ...[]byte) (uint64, error) {
	t, err := l.Begin(ctx, typ, payload...)
	if err != nil {
		return 0, err
	}
	return t.lsn, t.Wait(ctx)
}

// Cut closes the active segment once all that was begun before is durable, so that TruncateBefore
// can remove it.
func (l *Log) Cut(ctx context.Context) error {
	t := &Ticket{cut: true, done: make(chan struct{})}
	if err := l.enqueue(ctx, t); err != nil {
		return err
	}
	return t.Wait(ctx)
}

func (l *Log) enqueue(ctx context.Context, t *Ticket) error {
	// Records without payload cost memory too; one larger than the queue has it to itself.
	t.weight = min(int64(t.length)+recordHeaderSize, l.opts.QueueBytes)
	if err := l.room.Acquire(ctx, t.weight); err != nil {
		l.metrics.overloaded.Inc()
		return fmt.Errorf("%w: %w", ErrOverloaded, err)
	}
	l.mu.Lock()
	if l.err != nil {
		err := l.err
		l.mu.Unlock()
		l.room.Release(t.weight)
		return err
	}
	if !t.cut {
		t.lsn = l.next
		l.next++
	}
	l.queue = append(l.queue, t)
	l.mu.Unlock()
	l.metrics.queueBytes.Add(float64(t.weight))
	l.signal()
	return nil
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close writes and syncs what was begun, then gives the directory free. Later calls return the
// same result.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.mu.Lock()
		l.closing = true
		if l.err == nil {
			l.err = ErrClosed
		}
		l.mu.Unlock()
		l.signal()
		<-l.done
		l.closeErr = errors.Join(l.closeErr, l.lock.Close())
	})
	return l.closeErr
}

// TruncateBefore removes the segments all of whose records are below lsn, oldest first. It is the
// caller's claim that those records are durable elsewhere. Segments in which Replay found damage
// are set aside under the suffix .damaged instead, for an operator to look at and remove.
func (l *Log) TruncateBefore(lsn uint64) error {
	l.mu.Lock()
	n := 0
	for n < len(l.closed) && l.closed[n].end <= lsn {
		n++
	}
	victims := slices.Clone(l.closed[:n])
	l.mu.Unlock()
	if n == 0 {
		return nil
	}
	// The state first: segments that vanish before it would look lost. On a full disk it has to
	// come last, for the removal is what makes room for it.
	early := l.updateState(func(s *state) { s.low = max(s.low, victims[n-1].end) })
	if early != nil && !isDiskFull(early) {
		return fmt.Errorf("wal: truncate: %w", early)
	}
	for _, seg := range victims {
		if err := l.discard(seg); err != nil {
			return fmt.Errorf("wal: truncate: %w", err)
		}
	}
	if err := l.dir.fs.SyncDir(l.dir.path); err != nil {
		return fmt.Errorf("wal: truncate: %w", err)
	}
	if early != nil {
		if err := l.updateState(func(s *state) { s.low = max(s.low, victims[n-1].end) }); err != nil {
			return diskFull(fmt.Errorf("wal: truncate: %w", err))
		}
	}
	l.publishSizes()
	l.keepReserve()
	l.logger.Info("wal: removed segments", "count", n, "before_lsn", lsn)
	return nil
}

// discard removes a closed segment, and what was set aside when it was started.
func (l *Log) discard(seg segment) error {
	path := l.dir.join(seg.name)
	// Out of the list first, so that a concurrent Replay knows why the file is gone.
	l.mu.Lock()
	i := slices.IndexFunc(l.closed, func(c segment) bool { return c.name == seg.name })
	if i < 0 {
		l.mu.Unlock()
		return nil
	}
	seg = l.closed[i]
	l.closed = slices.Delete(l.closed, i, i+1)
	l.size -= max(seg.size, 0)
	l.mu.Unlock()
	var err error
	if seg.damaged {
		if err = l.dir.fs.Rename(path, path+damagedSuffix); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		l.logger.Warn("wal: set a damaged segment aside", "file", path+damagedSuffix)
	} else {
		err = l.dir.removeIfThere(path)
	}
	return errors.Join(err, l.dir.removeIfThere(path+tornSuffix))
}

// updateState changes the state and writes it; on an error the old one stays in force.
func (l *Log) updateState(change func(*state)) error {
	l.stateMu.Lock()
	defer l.stateMu.Unlock()
	changed := l.state
	change(&changed)
	if changed == l.state {
		return nil
	}
	if err := l.dir.writeSmall(stateFile, changed.encode()); err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	l.state = changed
	return nil
}

func (l *Log) publishSizes() {
	segments, bytes := l.Size()
	l.metrics.segments.Set(float64(segments))
	l.metrics.sizeBytes.Set(float64(bytes))
}
