package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
)

// ErrGone means that a record is not in the log any more, or is damaged.
var ErrGone = errors.New("wal: record is gone")

// errReadEnough ends a scan.
var errReadEnough = errors.New("wal: read enough")

// Read delivers the records with from <= LSN < to in order; all of them must be durable. payload
// is valid during the call of fn only. It ends with ErrGone at the first record that is not there,
// when those before it were delivered. An error of fn or ctx is returned as it is.
//
// It may run beside everything else.
func (l *Log) Read(ctx context.Context, from, to uint64, fn func(lsn uint64, typ byte, payload []byte) error) error {
	if to > l.durable.Load() {
		return fmt.Errorf("wal: record %d is not durable yet", to-1)
	}
	if from >= to {
		return nil
	}
	names, err := l.dir.fs.ReadDir(l.dir.path)
	if err != nil {
		return fmt.Errorf("wal: list %s: %w", l.dir.path, err)
	}
	segs := l.dir.segments(names)
	next := from
	for i := range segs {
		limit := uint64(math.MaxUint64)
		if i+1 < len(segs) {
			limit = segs[i+1].first
		}
		if limit <= from || !segs[i].intact {
			continue
		}
		if segs[i].first >= to || segs[i].first > next {
			break
		}
		if err := l.readSegment(ctx, &segs[i], limit, &next, to, fn); err != nil {
			return err
		}
		if next == to {
			return nil
		}
	}
	return fmt.Errorf("%w: %d", ErrGone, next)
}

// readSegment delivers records from *next on, and moves that on.
func (l *Log) readSegment(ctx context.Context, seg *segment, limit uint64, next *uint64, to uint64, fn func(uint64, byte, []byte) error) error {
	f, err := l.dir.fs.Open(l.dir.join(seg.name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %d", ErrGone, *next)
	}
	if err != nil {
		return fmt.Errorf("wal: read: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("wal: read: %w", err)
	}
	var w window
	w.reset(f, size)
	scan := segmentScan{
		w: &w, name: seg.name, first: seg.first, limit: limit, salt: seg.salt, saltKnown: true,
		onDamage: func(Damage) {},
		onRecord: func(lsn uint64, typ byte, payload []byte) error {
			switch {
			case lsn < *next:
				return ctx.Err()
			case lsn > *next:
				return fmt.Errorf("%w: %d", ErrGone, *next)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if typ != TypeVoid {
				if err := fn(lsn, typ, payload); err != nil {
					return err
				}
			}
			if *next++; *next == to {
				return errReadEnough
			}
			return nil
		},
	}
	if _, err := scan.run(segmentHeaderSize); !errors.Is(err, errReadEnough) {
		return err
	}
	return nil
}

// segments returns the segments of names, by first LSN. One whose header cannot be read is not
// intact.
func (d directory) segments(names []string) []segment {
	var segs []segment
	for _, name := range names {
		first, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		seg := segment{name: name, first: first, size: -1}
		if err := d.readHeader(&seg); err != nil {
			continue // of a later version: Open would have failed
		}
		segs = append(segs, seg)
	}
	sortSegments(segs)
	return segs
}

// SizeFrom is Size of the segments that have, or will get, records from lsn on.
func (l *Log) SizeFrom(lsn uint64) (bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes = l.size
	for i := range l.closed {
		if l.closed[i].end <= lsn {
			bytes -= max(l.closed[i].size, 0)
		}
	}
	return bytes
}

// Oldest returns the lowest LSN such that segments that are closed and have records from it on,
// all of them below lsn, take at most so many bytes; lsn itself if none do.
func (l *Log) Oldest(lsn uint64, bytes int64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.closed) - 1; i >= 0; i-- {
		seg := &l.closed[i]
		if seg.end > lsn {
			continue
		}
		if bytes -= max(seg.size, 0); bytes < 0 {
			return seg.end
		}
		if i == 0 {
			return seg.first
		}
	}
	return lsn
}

// FirstLSN returns the lowest LSN of the segments that are closed, NextLSN if there are none.
func (l *Log) FirstLSN() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.closed) > 0 {
		return l.closed[0].first
	}
	return l.next
}
