package wal

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

const (
	readAhead     = 256 << 10
	diskBlock     = 4096 // what one unreadable sector costs at most
	maxReadErrors = 256  // per segment; a dying disk takes seconds for each
)

// window reads a file forward through one buffer, which grows to the largest record and no further.
type window struct {
	r    io.ReaderAt
	size int64
	off  int64 // of buf in the file
	buf  []byte
}

func (w *window) reset(r io.ReaderAt, size int64) { w.r, w.size, w.off, w.buf = r, size, 0, w.buf[:0] }

// some returns up to n bytes at off: fewer only at the end of the file or before bytes that cannot
// be read, none only with an error. They are valid until the next call.
func (w *window) some(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-off))
	if n <= 0 {
		return nil, io.EOF
	}
	end := w.off + int64(len(w.buf))
	if off >= w.off && off+int64(n) <= end {
		return w.buf[off-w.off:][:n], nil
	}
	kept := 0
	if off >= w.off && off < end {
		kept = copy(w.buf[:cap(w.buf)], w.buf[off-w.off:])
	}
	want := int(min(int64(max(n, readAhead)), w.size-off))
	if cap(w.buf) < want {
		grown := make([]byte, kept, want)
		copy(grown, w.buf[:kept])
		w.buf = grown
	}
	w.buf, w.off = w.buf[:want], off
	got, err := w.r.ReadAt(w.buf[kept:], off+int64(kept))
	w.buf = w.buf[:kept+got]
	if len(w.buf) == 0 {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return w.buf[:min(n, len(w.buf))], nil
}

// exactly returns n bytes at off or an error.
func (w *window) exactly(off int64, n int) ([]byte, error) {
	b, err := w.some(off, n)
	if len(b) == n {
		return b, nil
	}
	if err == nil { // ask at the first byte that is missing, for the disk's own error
		if _, err = w.some(off+int64(len(b)), 1); err == nil {
			return w.exactly(off, n)
		}
	}
	return nil, err
}

func (w *window) zeros(from, to int64) bool {
	for from < to {
		b, err := w.some(from, int(min(readAhead, to-from)))
		if err != nil || len(bytes.Trim(b, "\x00")) > 0 {
			return false
		}
		from += int64(len(b))
	}
	return true
}

// segmentScan finds the records of one segment. It takes nothing on trust: a record counts if its
// header and payload match their checksums, its salt is the segment's and its LSN is possible at
// its offset. LSNs in a segment have no holes, so k lost records have left at least k headers'
// worth of bytes; that bound keeps a payload that quotes a record from being taken for one.
type segmentScan struct {
	w         *window
	name      string
	first     uint64 // LSN of the segment's first record
	limit     uint64 // no record here has this LSN or a higher one
	salt      uint32
	saltKnown bool // false if the segment's header is lost: the first intact record then tells

	onRecord func(lsn uint64, typ byte, payload []byte) error
	onDamage func(Damage)

	expected uint64 // LSN of the next record
	base     int64  // offset at which it should start
	failures int
}

// tail is what follows a segment's last intact record.
type tail struct {
	Damage           // Bytes is 0 if nothing follows; LSNs are left to the caller
	incomplete  bool // a record that began well and then the file ends
	maxPossible uint64
}

// run delivers the records and the damage between them, and returns what is behind the last one.
// Only an error of onRecord ends it early.
func (s *segmentScan) run(start int64) (tail, error) {
	s.expected, s.base = s.first, segmentHeaderSize
	off := start
	for off < s.w.size {
		if s.w.size-off < recordHeaderSize && off >= segmentHeaderSize {
			return s.tail(off, ReasonTruncated, true), nil
		}
		failures := s.failures
		head, err := s.w.exactly(off, int(min(recordHeaderSize, s.w.size-off)))
		if err != nil {
			s.failures++
		}
		h, ok := decodeRecordHeader(head)
		if !ok || (s.saltKnown && h.salt != s.salt) || (!s.saltKnown && !s.possible(h, off)) {
			next, found := s.search(off)
			if !found {
				return s.tail(off, s.reason(off, s.w.size, failures), false), nil
			}
			lost := s.reason(off, next.off, failures)
			if off < segmentHeaderSize {
				lost = ReasonSegment
			}
			s.damage(off, next.off-off, s.expected, next.lsn, lost, "")
			s.expected, s.base, off = next.lsn, next.off, next.off
			continue
		}
		end := off + recordHeaderSize + int64(h.length)
		if end > s.w.size {
			return s.tail(off, ReasonTruncated, true), nil
		}
		payload, err := s.w.exactly(off+recordHeaderSize, int(h.length))
		intact := err == nil && crc32.Checksum(payload, castagnoli) == h.payloadCRC
		if err != nil {
			s.failures++
		}
		switch {
		case !s.possible(h, off):
			reason := ReasonChecksum
			if intact {
				reason = ReasonOrder
			}
			s.damage(off, end-off, 0, 0, reason, fmt.Sprintf("record %d where %d should be", h.lsn, s.expected))
			s.base, off = end, end
			continue
		case intact:
			s.salt, s.saltKnown = h.salt, true
			if err := s.onRecord(h.lsn, h.typ, payload); err != nil {
				return tail{}, err
			}
		case err != nil:
			s.damage(off, end-off, h.lsn, h.lsn+1, ReasonUnreadable, err.Error())
		default:
			s.damage(off, end-off, h.lsn, h.lsn+1, ReasonChecksum, "")
		}
		s.expected, s.base, off = h.lsn+1, end, end
	}
	return s.tail(s.w.size, ReasonTruncated, false), nil
}

func (s *segmentScan) possible(h recordHeader, off int64) bool {
	return h.lsn >= s.expected && h.lsn < s.limit && h.lsn-s.expected <= uint64(max(0, off-s.base))/recordHeaderSize
}

type found struct {
	off int64
	lsn uint64
}

// search looks for the next record that can follow, from the given offset on. While the salt is
// unknown the payload has to be intact too; otherwise a header whose payload is damaged is found as
// well, for it tells how far to jump.
func (s *segmentScan) search(from int64) (found, bool) {
	for from+recordHeaderSize <= s.w.size && s.failures < maxReadErrors {
		b, err := s.w.some(from, readAhead)
		if err != nil {
			s.failures++
			from = (from/diskBlock + 1) * diskBlock
			continue
		}
		i := bytes.Index(b, recordMagic)
		if i < 0 {
			from += int64(max(len(b)-len(recordMagic)+1, min(len(b), len(recordMagic)-1)))
			continue
		}
		from += int64(i)
		head, err := s.w.exactly(from, recordHeaderSize)
		if h, ok := decodeRecordHeader(head); err == nil && ok && s.possible(h, from) {
			if s.saltKnown {
				if h.salt == s.salt {
					return found{from, h.lsn}, true
				}
			} else if from+recordHeaderSize+int64(h.length) <= s.w.size {
				payload, err := s.w.exactly(from+recordHeaderSize, int(h.length))
				if err == nil && crc32.Checksum(payload, castagnoli) == h.payloadCRC {
					s.salt, s.saltKnown = h.salt, true
					return found{from, h.lsn}, true
				}
			}
		}
		from++
	}
	return found{}, false
}

func (s *segmentScan) reason(from, to int64, failuresBefore int) Reason {
	switch {
	case s.failures > failuresBefore:
		return ReasonUnreadable
	case s.w.zeros(from, to):
		return ReasonZeros
	}
	return ReasonHeader
}

// damage reports bytes at off; records [first, next) are missing.
func (s *segmentScan) damage(off, n int64, first, next uint64, reason Reason, detail string) {
	d := Damage{Segment: s.name, Offset: off, Bytes: n, Reason: reason, Detail: detail}
	if next > first {
		d.FirstLSN, d.LastLSN = first, next-1
	}
	s.onDamage(d)
}

func (s *segmentScan) tail(off int64, reason Reason, incomplete bool) tail {
	n := s.w.size - off
	lost := uint64(max(0, s.w.size-max(off, segmentHeaderSize))) / recordHeaderSize
	if n > 0 && lost == 0 {
		lost = 1
	}
	return tail{
		Damage:      Damage{Segment: s.name, Offset: off, Bytes: n, Reason: reason},
		incomplete:  incomplete,
		maxPossible: min(lost, math.MaxUint64-s.expected),
	}
}
