package catalog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// State is what an index says about a block's object.
type State uint8

// The states.
const (
	Present State = iota // it was listed
	Gone                 // it was removed on purpose, or given up by an operator
	Lost                 // it vanished
)

// IndexEntry is a block in an index.
type IndexEntry struct {
	Block
	State State
	Since time.Time // of Gone and Lost; milliseconds
}

// Index is the content of a tenant's index object: what footers say, so that a start reads few of
// them, and which blocks there were, so that one that vanishes while no process looks is missed. The
// listing decides what exists; an index can be made again from the footers.
type Index struct {
	Tenant  string
	Taken   time.Time    // of the listing that it was made from; milliseconds
	Entries []IndexEntry // ascending by id
}

// Limits of an index.
const (
	MaxIndexSize    = 256 << 20 // bytes of the object
	maxIndexPayload = 1 << 30   // bytes before compression
	maxIndexWindow  = 16 << 20  // of zstd
	maxIndexText    = 1024      // bytes of an id or a tenant
	maxIndexList    = 1 << 20   // sources or tombstones of a block
)

const (
	indexMagic     = "WIDX"
	indexMajor     = 1
	indexMinor     = 0
	indexHead      = 4 + 2 + 2 + 8
	indexTail      = 8
	minIndexEntry  = 12 // bytes of an entry at the least
	minIndexSource = 4
)

// ErrIndex means that bytes are no index that this version reads.
var ErrIndex = errors.New("damaged index")

func indexErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrIndex, fmt.Sprintf(format, args...))
}

// Encode returns the index object, which docs/format/bucket.md describes. Equal indexes have equal
// bytes.
func (x *Index) Encode() ([]byte, error) {
	p := appendText(nil, x.Tenant)
	p = binary.AppendVarint(p, x.Taken.UnixMilli())
	entries := slices.SortedFunc(slices.Values(x.Entries), func(a, b IndexEntry) int { return cmp.Compare(a.ID, b.ID) })
	p = binary.AppendUvarint(p, uint64(len(entries)))
	for i := range entries {
		e := &entries[i]
		if err := e.validate(); err != nil {
			return nil, err
		}
		if e.Tenant != x.Tenant {
			return nil, fmt.Errorf("block %s of tenant %s in the index of %s", e.ID, e.Tenant, x.Tenant)
		}
		p = appendText(p, string(e.ID))
		p = append(p, byte(e.State))
		if e.State != Present {
			p = binary.AppendVarint(p, e.Since.UnixMilli())
		}
		if e.Partition.IsZero() {
			p = append(p, 0)
		} else {
			p = binary.AppendVarint(append(p, 1), e.Partition.Unix()/int64(day/time.Second))
		}
		p = binary.AppendUvarint(p, uint64(e.Level))
		p = binary.AppendVarint(p, e.MinTime)
		p = binary.AppendUvarint(p, uint64(e.MaxTime)-uint64(e.MinTime))
		p = binary.AppendUvarint(p, uint64(e.Size))
		p = binary.AppendUvarint(p, uint64(e.Rows))
		p = binary.AppendUvarint(p, uint64(e.RawBytes))
		p = binary.AppendUvarint(p, uint64(len(e.Sources)))
		for _, s := range e.Sources {
			p = appendText(p, string(s.ID))
			p = appendText(p, string(s.Merge))
			p = binary.AppendUvarint(p, uint64(s.Part))
			p = binary.AppendUvarint(p, uint64(s.Of))
		}
		p = binary.AppendUvarint(p, uint64(len(e.Tombstones)))
		for _, t := range e.Tombstones {
			p = appendText(p, t)
		}
	}
	if len(p) > maxIndexPayload {
		return nil, fmt.Errorf("index of %d bytes, at most %d are allowed", len(p), maxIndexPayload)
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	defer w.Close() //nolint:errcheck // nothing was streamed
	out := append(make([]byte, 0, indexHead+len(p)/2), indexMagic...)
	out = binary.LittleEndian.AppendUint16(out, indexMajor)
	out = binary.LittleEndian.AppendUint16(out, indexMinor)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(p)))
	out = w.EncodeAll(p, out)
	out = binary.LittleEndian.AppendUint64(out, xxhash.Sum64(out))
	if len(out) > MaxIndexSize {
		return nil, fmt.Errorf("index object of %d bytes, at most %d are allowed", len(out), MaxIndexSize)
	}
	return out, nil
}

func appendText(p []byte, s string) []byte {
	return append(binary.AppendUvarint(p, uint64(len(s))), s...)
}

// DecodeIndex reads what Encode made. The error wraps ErrIndex.
func DecodeIndex(b []byte) (*Index, error) {
	if len(b) < indexHead+indexTail || len(b) > MaxIndexSize || string(b[:4]) != indexMagic {
		return nil, indexErrorf("no index of %d bytes", len(b))
	}
	body, sum := b[:len(b)-indexTail], binary.LittleEndian.Uint64(b[len(b)-indexTail:])
	if xxhash.Sum64(body) != sum {
		return nil, indexErrorf("checksum")
	}
	if major := binary.LittleEndian.Uint16(b[4:]); major != indexMajor {
		return nil, indexErrorf("version %d, this program reads %d", major, indexMajor)
	}
	size := binary.LittleEndian.Uint64(b[8:])
	if size > maxIndexPayload {
		return nil, indexErrorf("payload of %d bytes", size)
	}
	// More than what is announced, or a window, is refused before it is taken.
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(max(size, maxIndexWindow)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	payload, err := r.DecodeAll(body[indexHead:], nil)
	if err != nil {
		return nil, indexErrorf("%v", err)
	}
	if uint64(len(payload)) != size {
		return nil, indexErrorf("payload of %d bytes, not %d", len(payload), size)
	}
	d := indexDecoder{b: payload}
	x := d.index()
	if d.err != nil {
		return nil, d.err
	}
	return x, nil
}

type indexDecoder struct {
	b   []byte
	err error
}

func (d *indexDecoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = indexErrorf(format, args...)
	}
}

func (d *indexDecoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit {
		d.fail("number")
		d.b = nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *indexDecoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("number")
		d.b = nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *indexDecoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("it ends early")
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *indexDecoder) text() string {
	n := d.uvarint(maxIndexText)
	if n > uint64(len(d.b)) {
		d.fail("it ends early")
		d.b = nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// count reads the number of things that take least bytes each.
func (d *indexDecoder) count(limit uint64, least int) int {
	n := d.uvarint(limit)
	if n > uint64(len(d.b)/least) {
		d.fail("%d things in %d bytes", n, len(d.b))
		return 0
	}
	return int(n)
}

// maxMillis bounds times to years that time.Time and its callers take.
const maxMillis = 1 << 53

func (d *indexDecoder) millis() time.Time {
	v := d.varint()
	if v < -maxMillis || v > maxMillis {
		d.fail("time %d", v)
		return time.Time{}
	}
	return time.UnixMilli(v).UTC()
}

func (d *indexDecoder) index() *Index {
	x := &Index{Tenant: d.text(), Taken: d.millis()}
	n := d.count(math.MaxInt32, minIndexEntry)
	x.Entries = make([]IndexEntry, 0, n)
	for i := 0; i < n && d.err == nil; i++ {
		e := d.entry()
		e.Tenant = x.Tenant
		if d.err != nil {
			break
		}
		if err := e.validate(); err != nil {
			d.fail("%v", err)
		}
		if i > 0 && x.Entries[i-1].ID >= e.ID {
			d.fail("block %s is out of order", e.ID)
		}
		x.Entries = append(x.Entries, e)
	}
	return x // what a later minor version has added behind is not read
}

func (d *indexDecoder) entry() (e IndexEntry) {
	e.ID = ID(d.text())
	if e.State = State(d.byte()); e.State > Lost {
		d.fail("state %d", e.State)
	}
	if e.State != Present {
		e.Since = d.millis()
	}
	switch d.byte() {
	case 0:
	case 1:
		days := d.varint()
		if days < -1<<20 || days > 1<<20 {
			d.fail("day %d", days)
		}
		e.Partition = time.Unix(days*int64(day/time.Second), 0).UTC()
	default:
		d.fail("partition")
	}
	e.Level = int(d.uvarint(255))
	e.MinTime = d.varint()
	e.MaxTime = int64(uint64(e.MinTime) + d.uvarint(math.MaxUint64)) // validate refuses what is beyond
	e.Size = int64(d.uvarint(math.MaxInt64))
	e.Rows = int64(d.uvarint(math.MaxInt64))
	e.RawBytes = int64(d.uvarint(math.MaxInt64))
	for n := d.count(maxIndexList, minIndexSource); n > 0 && d.err == nil; n-- {
		e.Sources = append(e.Sources, Source{
			ID: ID(d.text()), Merge: ID(d.text()), Part: int(d.uvarint(math.MaxInt32)), Of: int(d.uvarint(math.MaxInt32)),
		})
	}
	for n := d.count(maxIndexList, 1); n > 0 && d.err == nil; n-- {
		e.Tombstones = append(e.Tombstones, d.text())
	}
	return e
}
