// Package local keeps an ingester's blocks on its disk: many blocks of many tenants in
// one file, a container, so that a thousand small tenants make one file and not
// thousands. docs/format/local.md describes the bytes.
package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/catalog"
)

const (
	magic    = "\xf5WEIRLOC"
	version  = 1
	tailSize = 8 + 4 + 4 + 8 + 8 + 8

	maxDirectory = 1 << 30
	maxText      = 1 << 12
)

// ErrDamaged means that a container is not what was written.
var ErrDamaged = errors.New("damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Range is the records First to Last, both inclusive, of a write-ahead log.
type Range struct {
	First, Last uint64
}

// Ranges is ranges that ascend and do not touch.
type Ranges []Range

// Add returns the ranges with r in them.
func (rs Ranges) Add(r Range) Ranges {
	out := make(Ranges, 0, len(rs)+1)
	for _, o := range rs {
		switch {
		case o.Last != math.MaxUint64 && o.Last+1 < r.First:
			out = append(out, o)
		case r.Last != math.MaxUint64 && r.Last+1 < o.First:
			out = append(out, r)
			r = o
		default:
			r = Range{min(r.First, o.First), max(r.Last, o.Last)}
		}
	}
	return append(out, r)
}

// Has reports whether a record lies in the ranges.
func (rs Ranges) Has(lsn uint64) bool {
	i, found := slices.BinarySearchFunc(rs, lsn, func(r Range, lsn uint64) int {
		switch {
		case r.Last < lsn:
			return -1
		case r.First > lsn:
			return 1
		}
		return 0
	})
	return found && i < len(rs)
}

// Directory says what a container holds.
type Directory struct {
	// Incarnation is the write-ahead log that Covers is about.
	Incarnation [16]byte
	// Covers are the records of the log whose rows are all in the container.
	Covers Ranges
	// Created is when it was written.
	Created time.Time
	// Replaces are the names of the containers that it was merged from.
	Replaces []string
	Blocks   []Block
}

// Block is a block of a container.
type Block struct {
	ID        catalog.ID
	Tenant    string
	Partition time.Time // the UTC day that its rows belong to; zero: any
	Level     int
	MinTime   int64
	MaxTime   int64
	Streams   int64
	Rows      int64
	RawBytes  int64
	Offset    int64 // in the container
	Size      int64
	Sum       uint64    // xxh64 of its bytes
	Born      time.Time // when the oldest of its rows left the head
}

// Overlaps reports whether the block may hold rows with start <= time < end.
func (b *Block) Overlaps(start, end int64) bool { return b.MinTime < end && b.MaxTime >= start }

const day = 24 * time.Hour

// encode returns the directory's bytes.
func (d *Directory) encode() []byte {
	var b []byte
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = append(b, d.Incarnation[:]...)
	b = binary.AppendVarint(b, d.Created.UnixNano())
	b = binary.AppendUvarint(b, uint64(len(d.Covers)))
	for _, r := range d.Covers {
		b = binary.AppendUvarint(binary.AppendUvarint(b, r.First), r.Last-r.First)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Replaces)))
	for _, s := range d.Replaces {
		text(s)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Blocks)))
	for i := range d.Blocks {
		k := &d.Blocks[i]
		text(string(k.ID))
		text(k.Tenant)
		if k.Partition.IsZero() {
			b = append(b, 0)
		} else {
			b = binary.AppendVarint(append(b, 1), k.Partition.Unix()/int64(day/time.Second))
		}
		for _, v := range []int64{k.MinTime, k.MaxTime, k.Born.UnixNano()} {
			b = binary.AppendVarint(b, v)
		}
		for _, v := range []int64{int64(k.Level), k.Streams, k.Rows, k.RawBytes, k.Offset, k.Size} {
			b = binary.AppendUvarint(b, uint64(v))
		}
		b = binary.LittleEndian.AppendUint64(b, k.Sum)
	}
	return b
}

// encodeTail returns the end of a container: where the directory is and how to know it.
func encodeTail(dir []byte, offset int64) []byte {
	b := make([]byte, 0, tailSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(dir)))
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	b = binary.LittleEndian.AppendUint64(b, xxhash.Sum64(dir))
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

// decodeTail returns where the directory is. size is the container's.
func decodeTail(b []byte, size int64) (offset, length int64, sum uint64, err error) {
	if len(b) != tailSize || string(b[:8]) != magic {
		return 0, 0, 0, damaged("it does not end as a container does")
	}
	if xxhash.Sum64(b[:tailSize-8]) != binary.LittleEndian.Uint64(b[tailSize-8:]) {
		return 0, 0, 0, damaged("the checksum of its tail is wrong")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return 0, 0, 0, fmt.Errorf("the container has format version %d, this program reads version %d: %w", v, version, errors.ErrUnsupported)
	}
	length = int64(binary.LittleEndian.Uint32(b[12:]))
	offset = int64(binary.LittleEndian.Uint64(b[16:]))
	if offset < 0 || length > maxDirectory || offset > size || offset+length+tailSize != size {
		return 0, 0, 0, damaged("a directory of %d bytes at %d in %d bytes", length, offset, size)
	}
	return offset, length, binary.LittleEndian.Uint64(b[24:]), nil
}

// decodeDirectory reads a directory. offset is where it begins in the container, which
// is where the blocks end.
func decodeDirectory(b []byte, offset int64) (*Directory, error) {
	d := &Directory{}
	r := reader{b: b}
	copy(d.Incarnation[:], r.bytes(16))
	d.Created = time.Unix(0, r.varint()).UTC()
	for range r.count(2) {
		first := r.uvarint()
		d.Covers = append(d.Covers, Range{first, first + r.uvarint()})
	}
	for i, c := range d.Covers {
		if c.Last < c.First || i > 0 && d.Covers[i-1].Last >= c.First {
			return nil, damaged("its ranges of records are out of order")
		}
	}
	for range r.count(1) {
		d.Replaces = append(d.Replaces, r.text())
	}
	end := int64(0)
	for range r.count(20) {
		k := Block{ID: catalog.ID(r.text()), Tenant: r.text()}
		if any := r.bytes(1); len(any) == 1 && any[0] != 0 {
			k.Partition = time.Unix(r.days()*int64(day/time.Second), 0).UTC()
		}
		k.MinTime, k.MaxTime, k.Born = r.varint(), r.varint(), time.Unix(0, r.varint()).UTC()
		k.Level, k.Streams, k.Rows, k.RawBytes, k.Offset, k.Size = int(r.number()), r.number(), r.number(), r.number(), r.number(), r.number()
		if sum := r.bytes(8); sum != nil {
			k.Sum = binary.LittleEndian.Uint64(sum)
		}
		if r.err == nil && (k.ID == "" || k.Tenant == "" || k.MinTime > k.MaxTime || k.Offset != end || k.Size > offset-end) {
			return nil, damaged("block %d of its directory cannot be", len(d.Blocks))
		}
		end += k.Size
		d.Blocks = append(d.Blocks, k)
		if r.err != nil {
			break
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(r.b) > 0 || end != offset {
		return nil, damaged("its directory does not account for all of it")
	}
	return d, nil
}

// reader reads numbers and texts; after an error it returns zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = damaged("its directory ends too early or holds a number that cannot be")
	}
	r.b = nil
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// days reads a day number that nanoseconds can tell.
func (r *reader) days() int64 {
	v := r.varint()
	if v < -110_000 || v > 110_000 {
		r.fail()
		return 0
	}
	return v
}

func (r *reader) number() int64 {
	v := r.uvarint()
	if v > math.MaxInt64/2 {
		r.fail()
		return 0
	}
	return int64(v)
}

// count reads how many items of at least size bytes follow.
func (r *reader) count(size int) uint64 {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return n
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > maxText {
		r.fail()
		return ""
	}
	return string(r.bytes(int(n)))
}
