package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
)

// unknownSpan is how many records a segment is taken to have held when nothing tells: LSNs are
// never used twice for records that were acknowledged, and there is no shortage of them.
const unknownSpan = 1 << 32

// walker goes through segments in order and accounts for every LSN.
type walker struct {
	dir    directory
	state  state
	window window
	report Report
	gone   func(seg segment) bool // a missing file that TruncateBefore has just removed
	// unsynced is the most bytes that can have been written and not synced.
	unsynced int64
}

// walk delivers the records of segs and returns the first LSN that no record has or ever had.
// next is the LSN that the first segment should begin with, 0 if that is not known. It sets
// segs[i].end and .damaged.
func (w *walker) walk(ctx context.Context, segs []segment, next uint64, onRecord func(uint64, byte, []byte) error) (uint64, error) {
	for i := range segs {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		seg := &segs[i]
		if next != 0 && seg.first > next {
			w.report.add(Damage{FirstLSN: next, LastLSN: seg.first - 1, Reason: ReasonMissing})
		}
		limit := uint64(math.MaxUint64)
		for _, later := range segs[i+1:] {
			if later.first > seg.first {
				limit = later.first
				break
			}
		}
		before := len(w.report.Damage)
		end, err := w.segment(ctx, seg, limit, onRecord)
		if err != nil {
			return 0, err
		}
		seg.end = end
		seg.damaged = len(w.report.Damage) > before
		next = max(next, end)
	}
	if next < w.state.durable {
		if next != 0 {
			w.report.add(Damage{FirstLSN: next, LastLSN: w.state.durable - 1, Reason: ReasonMissing})
		}
		next = w.state.durable
	}
	return max(next, 1), nil
}

// segment returns the LSN behind the segment's last record, lost ones counted. With a limit, the
// first LSN of the next segment, it is the limit.
func (w *walker) segment(ctx context.Context, seg *segment, limit uint64, onRecord func(uint64, byte, []byte) error) (uint64, error) {
	last := limit == math.MaxUint64
	whole := Damage{Segment: seg.name, Bytes: max(seg.size, 0), FirstLSN: seg.first, LastLSN: limit - 1}
	if last {
		whole.LastLSN = seg.first + unknownSpan - 1
	}
	if seg.lost {
		whole.Reason = ReasonMissing
		w.report.add(whole)
		return whole.LastLSN + 1, nil
	}
	f, err := w.dir.fs.Open(w.dir.join(seg.name))
	if errors.Is(err, fs.ErrNotExist) && w.gone(*seg) {
		return limit, nil
	}
	var size int64
	if err == nil {
		defer f.Close()
		size, err = f.Size()
	}
	if err != nil {
		whole.Reason, whole.Detail = ReasonUnreadable, err.Error()
		w.report.add(whole)
		return whole.LastLSN + 1, nil
	}
	w.report.Segments++
	w.window.reset(f, size)
	scan := segmentScan{
		w: &w.window, name: seg.name, first: seg.first, limit: limit, salt: seg.salt, saltKnown: seg.intact,
		onDamage: w.report.add,
		onRecord: func(lsn uint64, typ byte, payload []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if lsn <= w.report.LastLSN { // a second copy of a segment
				w.report.add(Damage{Segment: seg.name, Reason: ReasonOrder, Detail: fmt.Sprintf("record %d was seen before", lsn)})
				return nil
			}
			if typ != TypeVoid {
				if err := onRecord(lsn, typ, payload); err != nil {
					return err
				}
			}
			if w.report.FirstLSN == 0 {
				w.report.FirstLSN = lsn
			}
			w.report.LastLSN = lsn
			w.report.Records++
			w.report.Bytes += uint64(len(payload))
			return nil
		},
	}
	start := int64(0)
	if seg.intact {
		start = segmentHeaderSize
		if parsed, _ := parseSegmentName(seg.name); parsed != seg.first {
			w.report.add(Damage{Segment: seg.name, Reason: ReasonSegment, Detail: "the file's name is not the one that its header says: " + segmentName(seg.first)})
		}
	}
	rest, err := scan.run(start)
	if err != nil {
		return 0, err
	}
	return w.tail(seg, rest, scan.expected, limit), nil
}

// tail judges what follows the last intact record.
func (w *walker) tail(seg *segment, rest tail, expected, limit uint64) uint64 {
	d := rest.Damage
	if limit != math.MaxUint64 {
		// The next segment's first LSN tells how many are missing, even if no byte is left of them.
		switch {
		case expected < limit:
			d.FirstLSN, d.LastLSN = expected, limit-1
			if d.Bytes == 0 {
				d.Reason = ReasonMissing
			}
			w.report.add(d)
		case d.Bytes > 0:
			w.torn(d)
		}
		return limit
	}
	size := d.Offset + d.Bytes
	// The state file names a segment before the first append to it.
	neverStarted := !seg.intact && size <= segmentHeaderSize && w.state.newest != seg.first
	// A power cut may leave a file longer than what reached the disk, NULs in between.
	neverWritten := seg.intact && d.Reason == ReasonZeros && d.Bytes <= w.unsynced
	switch {
	case neverStarted, d.Bytes > 0 && (rest.incomplete || neverWritten) && expected >= w.state.durable:
		w.torn(d)
		return expected
	case size < segmentHeaderSize: // it was longer once and may have held anything
		d.FirstLSN, d.LastLSN = expected, expected+unknownSpan-1
	case d.Bytes > 0:
		d.FirstLSN, d.LastLSN = expected, max(expected+rest.maxPossible, w.state.durable)-1
	default:
		return expected
	}
	w.report.add(d)
	return d.LastLSN + 1
}

func (w *walker) torn(d Damage) {
	d.Reason = ReasonTorn
	w.report.Torn = append(w.report.Torn, d)
}

// withLost adds the place of a newest segment that the state file knows and the directory lacks.
func withLost(segs []segment, s state) []segment {
	if s.newest == 0 || s.newest < s.low {
		return segs
	}
	at := len(segs)
	for i, seg := range segs {
		if seg.first == s.newest {
			return segs
		}
		if seg.first > s.newest {
			at = i
			break
		}
	}
	return slices.Insert(slices.Clone(segs), at, segment{name: segmentName(s.newest), first: s.newest, lost: true})
}

// Replay delivers, in LSN order, every intact record that earlier runs left in the directory:
// those that were there when the log was opened and that TruncateBefore has not removed. It holds
// one record at a time; payload is valid during the call of fn only. An error of fn or ctx ends it
// and is returned as it is; nothing else does, what is damaged is in the report instead.
//
// An intact record was written whole, but perhaps never acknowledged: a crash lies between.
//
// Replay may run beside appends and TruncateBefore, but not beside another Replay.
func (l *Log) Replay(ctx context.Context, fn func(lsn uint64, typ byte, payload []byte) error) (Report, error) {
	l.mu.Lock()
	segs := slices.Clone(l.opened)
	st := l.openedState
	l.mu.Unlock()

	w := walker{dir: l.dir, state: st, unsynced: 2 * l.opts.MaxBatchBytes, gone: func(seg segment) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !slices.ContainsFunc(l.closed, func(c segment) bool { return c.name == seg.name })
	}}
	if l.stateLost {
		w.report.add(Damage{Segment: stateFile, Reason: ReasonState})
	}
	_, err := w.walk(ctx, segs, st.low, fn)

	l.metrics.replayedRecords.Add(float64(w.report.Records))
	l.metrics.tornTails.Add(float64(len(w.report.Torn)))
	for _, d := range w.report.Damage {
		l.metrics.corrupt.WithLabelValues(string(d.Reason)).Inc()
	}
	if err != nil {
		return w.report, err
	}
	for _, d := range w.report.Torn {
		l.logger.Warn("wal: an append was cut short by a crash", "damage", d.String())
	}
	for i, d := range w.report.Damage {
		if i == 20 {
			l.logger.Error("wal: more damaged ranges", "count", len(w.report.Damage)-i)
			break
		}
		l.logger.Error("wal: damaged range", "damage", d.String())
	}
	l.mu.Lock()
	for i := range l.closed {
		if j := slices.IndexFunc(segs, func(s segment) bool { return s.name == l.closed[i].name }); j >= 0 {
			l.closed[i].damaged = segs[j].damaged
		}
	}
	l.mu.Unlock()
	return w.report, nil
}
