package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// active is the segment being written; only the writer touches it, except for open.
type active struct {
	open  atomic.Bool
	file  File
	name  string
	first uint64
	salt  uint32
	off   int64 // end of the last good record
	dirty bool  // written and not synced, with SyncInterval only
	next  uint64

	headers []byte // reused
	bufs    [][]byte
}

// write is the writer's loop: one write and one sync for all that is queued.
func (l *Log) write() {
	defer close(l.done)
	var timer *time.Timer // runs while something is written and not synced
	var expired <-chan time.Time
	for {
		select {
		case <-l.wake:
		case <-expired:
			timer, expired = nil, nil
			if l.active.dirty {
				if err := l.sync(); err != nil {
					l.fail(nil, err)
				}
			}
			continue
		}
		for batch := l.take(); len(batch) > 0; batch = l.take() {
			l.commit(batch)
		}
		if l.active.dirty && timer == nil {
			timer = time.NewTimer(l.opts.SyncInterval)
			expired = timer.C
		}
		l.mu.Lock()
		closing := l.closing
		l.mu.Unlock()
		if closing {
			if timer != nil {
				timer.Stop()
			}
			l.closeErr = l.finish()
			return
		}
	}
}

// take removes a batch from the queue.
func (l *Log) take() []*Ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	var bytes int64
	n := 0
	for n < len(l.queue) && (n == 0 || bytes+l.queue[n].bytes() <= l.opts.MaxBatchBytes) {
		bytes += l.queue[n].bytes()
		n++
	}
	batch := l.queue[:n:n]
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
}

func (t *Ticket) bytes() int64 {
	if t.cut {
		return 0
	}
	return recordHeaderSize + int64(t.length)
}

// commit writes a batch, segment by segment.
func (l *Log) commit(batch []*Ticket) {
	a := &l.active
	for len(batch) > 0 {
		if l.Err() != nil && errors.Is(l.Err(), ErrFailed) {
			l.complete(batch, l.Err())
			return
		}
		if batch[0].cut {
			if err := l.seal(); err != nil {
				l.fail(batch, err)
				return
			}
			l.complete(batch[:1], nil)
			batch = batch[1:]
			continue
		}
		full := func(size int64) bool { return a.off > segmentHeaderSize && a.off+size > l.opts.SegmentBytes }
		size, n := int64(0), 0
		if !a.open.Load() || full(batch[0].bytes()) {
			if err := l.roll(batch[0].lsn); err != nil {
				l.refuse(batch, err)
				return
			}
		}
		for n < len(batch) && !batch[n].cut && (n == 0 || a.off+size+batch[n].bytes() <= l.opts.SegmentBytes) {
			size += batch[n].bytes()
			n++
		}
		if err := l.checkSpace(size); err != nil {
			l.refuse(batch, err)
			return
		}
		if err := l.append(batch[:n], voidLate(batch[:n])); err != nil {
			l.refuse(batch, err)
			return
		}
		if l.opts.SyncInterval > 0 {
			a.dirty = true
		} else if err := l.sync(); err != nil {
			l.fail(batch, err)
			return
		}
		l.metrics.batchRecords.Observe(float64(n))
		l.complete(batch[:n], nil)
		batch = batch[n:]
	}
}

// voidLate empties the records whose time is over and returns how many bytes are to be written.
func voidLate(batch []*Ticket) (size int64) {
	for _, t := range batch {
		if t.late != nil && t.late() {
			t.typ, t.payload, t.length, t.crc, t.err = TypeVoid, nil, 0, 0, ErrLate
		}
		size += t.bytes()
	}
	return size
}

// append writes the records behind the last good one. An error other than ErrDiskFull is final.
func (l *Log) append(batch []*Ticket, size int64) error {
	a := &l.active
	a.headers = slices.Grow(a.headers[:0], len(batch)*recordHeaderSize)
	a.bufs = a.bufs[:0]
	for _, t := range batch {
		h := recordHeader{salt: a.salt, lsn: t.lsn, length: uint32(t.length), payloadCRC: t.crc, typ: t.typ}
		at := len(a.headers)
		a.headers = h.appendTo(a.headers)
		a.bufs = append(a.bufs, a.headers[at:])
		a.bufs = append(a.bufs, t.payload...)
	}
	n, err := a.file.WritevAt(a.bufs, a.off)
	clear(a.bufs) // the payloads go back to their owners
	if err == nil && int64(n) != size {
		err = io.ErrShortWrite
	}
	if err != nil {
		if isDiskFull(err) {
			if truncateErr := a.file.Truncate(a.off); truncateErr == nil {
				return diskFull(err)
			}
		}
		return fmt.Errorf("write segment %s: %w", a.name, err)
	}
	a.off += size
	a.next = batch[len(batch)-1].lsn + 1
	l.mu.Lock()
	l.size += size
	l.mu.Unlock()
	return nil
}

func (l *Log) sync() error {
	a := &l.active
	start := time.Now()
	if err := a.file.Sync(); err != nil {
		return fmt.Errorf("sync segment %s: %w", a.name, err)
	}
	l.metrics.syncSeconds.Observe(time.Since(start).Seconds())
	a.dirty = false
	l.durable.Store(a.next)
	return nil
}

// seal closes the active segment, if there is one.
func (l *Log) seal() error {
	a := &l.active
	if !a.open.Load() {
		return nil
	}
	if a.dirty {
		if err := l.sync(); err != nil {
			return err
		}
	}
	if l.opts.Preallocate && a.off < l.opts.SegmentBytes {
		if err := a.file.Truncate(a.off); err != nil { // gives back the blocks behind the end
			l.logger.Warn("wal: cannot trim a segment", "segment", a.name, "err", err)
		}
	}
	if err := a.file.Close(); err != nil {
		return fmt.Errorf("close segment %s: %w", a.name, err)
	}
	a.open.Store(false)
	l.mu.Lock()
	l.closed = append(l.closed, segment{name: a.name, first: a.first, end: a.next, size: a.off, salt: a.salt, intact: true})
	l.mu.Unlock()
	return nil
}

// errFinal marks an error of roll after which the directory's contents are uncertain.
type errFinal struct{ error }

func (e errFinal) Unwrap() error { return e.error }

// roll starts the segment whose first record is the given one. Its header, its place in the
// directory and its mention in the state file are durable before the first record is written.
func (l *Log) roll(first uint64) error {
	if err := l.checkSpace(segmentHeaderSize); err != nil {
		return err
	}
	if err := l.seal(); err != nil {
		return errFinal{err}
	}
	name := segmentName(first)
	if err := l.setAside(name, first); err != nil {
		return err
	}
	var salt [4]byte
	if _, err := io.ReadFull(l.opts.Rand, salt[:]); err != nil {
		return errFinal{err}
	}
	h := segmentHeader{version: formatVersion, salt: binary.LittleEndian.Uint32(salt[:]), incarnation: l.incarnation, firstLSN: first}
	path := l.dir.join(name)
	f, err := l.dir.fs.Create(path)
	if err != nil {
		return recoverable(fmt.Errorf("create segment %s: %w", name, err))
	}
	undo := func(err error) error {
		return errors.Join(recoverable(err), f.Close(), l.dir.removeIfThere(path))
	}
	if l.opts.Preallocate {
		if err := f.Allocate(l.opts.SegmentBytes, true); isDiskFull(err) {
			return undo(err)
		}
	}
	if _, err := f.WritevAt([][]byte{h.encode()}, 0); err != nil {
		return undo(fmt.Errorf("write the header of segment %s: %w", name, err))
	}
	if err := f.Sync(); err != nil {
		return errFinal{errors.Join(fmt.Errorf("sync segment %s: %w", name, err), f.Close())}
	}
	if err := l.dir.fs.SyncDir(l.dir.path); err != nil {
		return errFinal{errors.Join(fmt.Errorf("sync the directory of segment %s: %w", name, err), f.Close())}
	}
	if err := l.updateState(func(s *state) { s.newest, s.durable = first, max(s.durable, first) }); err != nil {
		return undo(err)
	}
	a := &l.active
	a.file, a.name, a.first, a.salt = f, name, first, h.salt
	a.off, a.next, a.dirty = segmentHeaderSize, first, false
	a.open.Store(true)
	l.mu.Lock()
	l.size += segmentHeaderSize
	l.mu.Unlock()
	l.publishSizes()
	return nil
}

// setAside renames what an earlier run left under the name of the segment about to be started:
// it began that segment and died before the first record was whole. The bytes are kept until
// TruncateBefore passes them.
func (l *Log) setAside(name string, first uint64) error {
	l.mu.Lock()
	i := slices.IndexFunc(l.closed, func(s segment) bool { return s.name == name })
	var old segment
	if i >= 0 {
		old = l.closed[i]
	}
	l.mu.Unlock()
	if i < 0 {
		return nil
	}
	// Else a crash before the new file is in place would make the segment look lost.
	if err := l.updateState(func(s *state) {
		if s.newest == first {
			s.newest = 0
		}
	}); err != nil {
		return recoverable(err)
	}
	path := l.dir.join(name)
	var err error
	if old.size > segmentHeaderSize {
		err = l.dir.fs.Rename(path, path+tornSuffix)
	} else {
		err = l.dir.removeIfThere(path)
	}
	if err != nil {
		return recoverable(fmt.Errorf("set segment %s aside: %w", name, err))
	}
	l.mu.Lock()
	l.closed = slices.DeleteFunc(l.closed, func(s segment) bool { return s.name == name })
	l.size -= max(old.size, 0)
	l.mu.Unlock()
	return nil
}

// refuse fails the batch for a reason that may be passing; anything else is final.
func (l *Log) refuse(batch []*Ticket, err error) {
	final := errFinal{}
	if errors.As(err, &final) || !(errors.Is(err, ErrDiskFull) || errors.Is(err, ErrReadOnly)) {
		l.fail(batch, err)
		return
	}
	l.metrics.diskFull.Inc()
	l.logger.Warn("wal: refused appends", "count", len(batch), "err", err)
	// Everything begun so far fails, and its LSNs are given out again, so that LSNs have no holes.
	l.mu.Lock()
	batch = append(batch, l.queue...)
	l.queue = nil
	for _, t := range batch {
		if !t.cut {
			l.next = t.lsn
			break
		}
	}
	l.mu.Unlock()
	l.complete(batch, err)
}

// fail ends the log: the segment is left as it is and nothing pending is acknowledged.
func (l *Log) fail(batch []*Ticket, cause error) {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	l.mu.Lock()
	already := errors.Is(l.err, ErrFailed)
	if !already {
		l.err = err
	}
	batch = append(batch, l.queue...)
	l.queue = nil
	l.mu.Unlock()
	if !already {
		l.metrics.failed.Set(1)
		l.logger.Error("wal: failed; nothing more is accepted until it is reopened", "err", cause)
		close(l.died)
	}
	l.active.dirty = false
	l.complete(batch, err)
}

// complete gives the tickets their result and their payloads back.
func (l *Log) complete(batch []*Ticket, err error) {
	var weight, bytes int64
	records := 0
	for _, t := range batch {
		weight += t.weight
		if !t.cut {
			records++
			bytes += int64(t.length)
		}
		t.payload = nil
		if t.err == nil { // else it was too late
			t.err = err
		}
		close(t.done)
	}
	l.room.Release(weight)
	l.metrics.queueBytes.Sub(float64(weight))
	if err == nil {
		l.metrics.appendedRecords.Add(float64(records))
		l.metrics.appendedBytes.Add(float64(bytes))
	}
	_, size := l.Size()
	l.metrics.sizeBytes.Set(float64(size))
}

// finish syncs and closes for Close. A clean end is noted, so that a tail lost later is missed.
func (l *Log) finish() error {
	if err := l.Err(); errors.Is(err, ErrFailed) {
		if l.active.open.Swap(false) {
			_ = l.active.file.Close() // the error that counts was returned to every append
		}
		return nil
	}
	if err := l.seal(); err != nil {
		l.fail(nil, err)
		return err
	}
	next := l.NextLSN()
	err := l.updateState(func(s *state) { s.durable = max(s.durable, next) })
	if isDiskFull(err) {
		return nil // all records are durable; only the note is missing
	}
	return err
}

func isDiskFull(err error) bool {
	return errors.Is(err, ErrDiskFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// diskFull adds ErrDiskFull to an error that says so in the system's words.
func diskFull(err error) error {
	if isDiskFull(err) && !errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// recoverable classifies an error of creating files, before which and after which nothing that
// was acknowledged is at risk.
func recoverable(err error) error {
	if isDiskFull(err) {
		return diskFull(err)
	}
	for _, errno := range []error{syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w: %w", ErrReadOnly, err)
		}
	}
	return err
}
