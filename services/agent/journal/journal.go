// Package journal keeps batches on disk from before they are sent until they are
// acknowledged, so that after a crash they are sent again as they were, byte for
// byte, with the same timestamps, wherever their files have gone since.
//
// A journal is a directory of segments, each a sequence of records:
//
//	length  4 bytes, little endian, of the payload; at least 1
//	crc     4 bytes, CRC-32C of the payload
//	payload one byte of type, then
//	  'B'   a batch: sequence (uvarint), length of the positions (uvarint),
//	        the positions as package positions encodes them, the request
//	  'A'   acknowledgement of all batches up to a sequence (uvarint)
//
// A batch is durable when Append returns. An acknowledgement need not be: where
// it is lost, the batch is sent again, which changes nothing. A torn record ends
// its segment; after a failed write the segment is left, and the batch is written
// again in a new one.
package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"

	"github.com/weir-logs/weir/services/agent/positions"
)

const (
	typeBatch = 'B'
	typeAck   = 'A'

	// segmentBytes is when a segment is full.
	segmentBytes = 16 << 20
	// maxRecord is the largest payload that is read.
	maxRecord = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one record.
type Batch struct {
	// Seq numbers batches from 1 without gaps.
	Seq uint64
	// After is the positions behind the batch of the files that it is from; its
	// Seq is the batch's.
	After positions.Snapshot
	// Request is the encoded push request.
	Request []byte
}

// Journal is an open journal. Not safe for concurrent use.
type Journal struct {
	dir      string
	segments []segment
	next     uint64 // number of the next segment
	f        *os.File
	size     int64
	total    int64
	buf      []byte
}

type segment struct {
	name string
	last uint64 // newest batch in it
	size int64
}

// Recovered is what a journal holds beyond a snapshot.
type Recovered struct {
	// Acked is batches that need not be sent again, without their requests.
	Acked []Batch
	// Pending is batches whose acknowledgement is not known, in order.
	Pending []Batch
	// Damaged is how many records could not be read. Their lines, and those of
	// the batches behind them, will be read and sent again, with new timestamps.
	Damaged int
}

// Open opens the journal in dir, which it makes if need be, and gives the batches
// behind after.
func Open(dir string, after uint64) (*Journal, Recovered, error) {
	var rec Recovered
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, rec, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, rec, err
	}
	j := &Journal{dir: dir, next: 1}
	var numbers []uint64
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && e.Type().IsRegular() {
			numbers = append(numbers, n)
		}
	}
	sort.Slice(numbers, func(a, b int) bool { return numbers[a] < numbers[b] })

	var (
		all     []Batch
		acked   uint64
		seq     = after
		skipped bool
	)
	for _, n := range numbers {
		s := segment{name: j.name(n)}
		damaged, err := replay(s.name, &s, func(b Batch) {
			switch {
			case b.Seq == seq+1:
				seq = b.Seq
				all = append(all, b)
			case b.Seq > seq: // one is missing: positions must not pass it
				skipped = true
			}
			// Else it is old, or comes again after a failed write.
		}, func(n uint64) {
			if n <= seq {
				acked = max(acked, n)
			}
		})
		if err != nil {
			return nil, rec, err
		}
		if damaged {
			rec.Damaged++
		}
		j.segments = append(j.segments, s)
		j.total += s.size
		j.next = n + 1
	}
	if skipped || rec.Damaged > 0 {
		if err := j.rewrite(all, acked); err != nil {
			return nil, rec, err
		}
	}
	for _, b := range all {
		if b.Seq <= acked {
			b.Request = nil
			rec.Acked = append(rec.Acked, b)
		} else {
			rec.Pending = append(rec.Pending, b)
		}
	}
	return j, rec, nil
}

// rewrite leaves nothing but these batches, so that what was skipped cannot be
// taken for a later batch of the same number.
func (j *Journal) rewrite(all []Batch, acked uint64) error {
	old := j.segments
	for _, b := range all {
		if err := j.Append(b); err != nil {
			return err
		}
	}
	j.Ack(acked)
	j.segments = append([]segment(nil), j.segments[len(old):]...)
	for _, s := range old {
		if err := os.Remove(s.name); err != nil {
			return err
		}
		j.total -= s.size
	}
	return positions.SyncDir(j.dir)
}

func (j *Journal) name(n uint64) string { return filepath.Join(j.dir, fmt.Sprintf("%020d", n)) }

// replay reads a segment up to its end or the first record that is not whole.
func replay(name string, s *segment, batch func(Batch), ack func(uint64)) (damaged bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	for {
		payload, err := readRecord(r)
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case errors.Is(err, errRecord):
			return true, nil
		case err != nil:
			return false, err
		}
		s.size += int64(8 + len(payload))
		switch payload[0] {
		case typeAck:
			n, k := binary.Uvarint(payload[1:])
			if k <= 0 {
				return true, nil
			}
			ack(n)
		case typeBatch:
			b, err := decodeBatch(payload[1:])
			if err != nil {
				return true, nil //nolint:nilerr // counted as damaged
			}
			s.last = max(s.last, b.Seq)
			batch(b)
		default:
			return true, nil
		}
	}
}

var errRecord = errors.New("journal: damaged record")

// readRecord gives the payload of the next record, io.EOF at the end, errRecord
// if it is not whole.
func readRecord(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errRecord
		}
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > maxRecord {
		return nil, errRecord
	}
	// The length may be wrong: what is not there must not be allocated.
	payload, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return nil, err
	}
	if len(payload) != int(n) || crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errRecord
	}
	return payload, nil
}

func decodeBatch(p []byte) (b Batch, err error) {
	seq, k := binary.Uvarint(p)
	if k <= 0 {
		return b, errRecord
	}
	p = p[k:]
	n, k := binary.Uvarint(p)
	if k <= 0 || n > uint64(len(p)-k) {
		return b, errRecord
	}
	p = p[k:]
	b.Seq, b.Request = seq, p[n:]
	if b.After, err = positions.Decode(p[:n]); err != nil {
		return b, errRecord
	}
	if b.After.Seq != seq {
		return b, errRecord
	}
	return b, nil
}

// Append makes a batch durable. After an error it can be called again with the
// same batch.
func (j *Journal) Append(b Batch) error {
	after := positions.Encode(b.After)
	p := append(j.buf[:0], typeBatch)
	p = binary.AppendUvarint(p, b.Seq)
	p = binary.AppendUvarint(p, uint64(len(after)))
	p = append(p, after...)
	p = append(p, b.Request...)
	j.buf = p
	if len(p) > maxRecord {
		return fmt.Errorf("journal: batch of %d bytes", len(p))
	}
	if j.f != nil && j.size >= segmentBytes {
		err := j.f.Close()
		j.f = nil
		if err != nil {
			return err
		}
	}
	err := j.open()
	if err == nil {
		err = j.write(p)
	}
	if err == nil {
		err = datasync(j.f)
	}
	if err != nil {
		j.abandon()
		return err
	}
	s := &j.segments[len(j.segments)-1]
	s.last = b.Seq
	if cap(j.buf) > 8<<20 {
		j.buf = nil
	}
	return nil
}

// Ack notes that all batches up to seq were acknowledged. Not durable until the
// next Append.
func (j *Journal) Ack(seq uint64) {
	if j.f == nil {
		return
	}
	if err := j.write(binary.AppendUvarint([]byte{typeAck}, seq)); err != nil {
		j.abandon()
	}
}

func (j *Journal) open() error {
	if j.f != nil {
		return nil
	}
	name := j.name(j.next)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := positions.SyncDir(j.dir); err != nil {
		return errors.Join(err, f.Close(), os.Remove(name))
	}
	j.f, j.size = f, 0
	j.next++
	j.segments = append(j.segments, segment{name: name})
	return nil
}

func (j *Journal) write(payload []byte) error {
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(payload, castagnoli))
	if _, err := j.f.Write(head[:]); err != nil {
		return err
	}
	if _, err := j.f.Write(payload); err != nil {
		return err
	}
	n := int64(8 + len(payload))
	j.size += n
	j.total += n
	j.segments[len(j.segments)-1].size += n
	return nil
}

// abandon leaves the segment as it is: after a failed write or sync nothing more
// may be built on it. What is torn at its end goes, to give a full disk room.
func (j *Journal) abandon() {
	if j.f == nil {
		return
	}
	s := j.segments[len(j.segments)-1]
	if s.last == 0 {
		_ = os.Remove(s.name)
		j.segments = j.segments[:len(j.segments)-1]
		j.total -= s.size
	}
	_ = j.f.Close()
	j.f = nil
}

// Trim removes segments that hold nothing beyond seq. The newest stays while it
// is written to.
func (j *Journal) Trim(seq uint64) error {
	n := 0
	for n < len(j.segments) && j.segments[n].last <= seq && (n < len(j.segments)-1 || j.f == nil) {
		if err := os.Remove(j.segments[n].name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		j.total -= j.segments[n].size
		n++
	}
	j.segments = append(j.segments[:0], j.segments[n:]...)
	return nil
}

// Size is the bytes on disk.
func (j *Journal) Size() int64 { return j.total }

// Segments is how many segments there are.
func (j *Journal) Segments() int { return len(j.segments) }

// Close closes the journal. It can be opened again.
func (j *Journal) Close() error {
	if j.f == nil {
		return nil
	}
	err := j.f.Close()
	j.f = nil
	return err
}
