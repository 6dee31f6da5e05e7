// Package block writes and reads block objects: the rows of one tenant, with a
// template table and filters per section, columns of structured metadata, and an
// index of streams. See docs/format/block.md.
//
// Nothing in it is asynchronous: a Writer writes to an io.Writer as it goes, a Reader
// asks a RangeReader for what it needs and keeps the index of streams, nothing else;
// package blockstore adds the cache.
//
// All bytes read are covered by checksums. Bytes that no writer wrote give errors
// that wrap column.ErrCorrupt and, from readers, name the block, the section and the
// row group; never a wrong row. Lengths are checked before anything is allocated.
package block

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
)

// Limits of a block. Writers refuse what is beyond them, or begin another row group
// or section; readers refuse it too.
const (
	MaxLine        = lines.MaxBytes // bytes
	MaxRowMetadata = 16 << 20       // bytes of names and values of a row
	MaxStreams     = 1 << 22        // in a block
	MaxRuns        = 1 << 22        // in a block
	MaxNames       = 1 << 16        // columns of metadata of a row group; labels of a block
	MaxSections    = 1 << 16        // in a block
	MaxRowGroups   = lines.MaxBlocks

	maxFooter   = 64 << 20  // payloads of frames
	maxIndex    = 256 << 20 // in all
	maxLabels   = 1 << 30   // payloads of all frames of an index' labels; as many as eight may have
	maxSideData = 64 << 20
	maxCells    = 1 << 28 // streams times names of labels
	maxMeta     = 1 << 20 // strings of the footer that Meta becomes
	maxSize     = 1 << 46 // bytes of an object
)

const (
	magic        = "LOGB"
	majorVersion = 1
	minorVersion = 1
	minorChosen  = 1 // since which gram matrices have chosen grams
	headSize     = len(magic) + 2 + 2
	tailSize     = 4 + 2 + 2 + 8 + len(magic)
)

// Meta is what a block says about itself besides its rows.
type Meta struct {
	ID         catalog.ID
	Tenant     string
	Partition  time.Time // the UTC day that its entries belong to; zero: any
	Level      int       // how often it was merged
	Sources    []catalog.Source
	Tombstones []string // those that were applied to every row
	// Ordered says that the order of equal times is fixed: batch times and positions
	// are not kept.
	Ordered bool
}

// Info is what a block's footer says.
type Info struct {
	Meta
	MinTime, MaxTime int64 // of the rows, inclusive
	Streams, Rows    int64
	RawBytes         int64 // of lines
	MetadataBytes    int64 // of names and values, as sent and derived
	Size             int64 // bytes of the object
	IndexSize        int64 // bytes of the index of streams
	Sections         int
	RowGroups        int
	HashVersion      uint32 // of the digests, see model.HashVersion
}

// Catalog returns the block as the catalog knows it.
func (i *Info) Catalog() catalog.Block {
	return catalog.Block{ID: i.ID, Tenant: i.Tenant, Partition: i.Partition, Level: i.Level,
		MinTime: i.MinTime, MaxTime: i.MaxTime, Size: i.Size, Sources: i.Sources,
		Tombstones: i.Tombstones, Rows: i.Rows, RawBytes: i.RawBytes}
}

// Group returns the affinity group of a stream: streams of one group are likely to
// share templates, and lie together.
func Group(ls model.Labels) string {
	for _, name := range [...]string{"service_name", "app", "job", "container"} {
		if v, ok := ls.Lookup(name); ok {
			return v
		}
	}
	return ""
}

// Compare is the order of streams in a block: by group, then by labels.
func Compare(a, b model.Labels) int {
	return cmp.Or(cmp.Compare(Group(a), Group(b)), a.Compare(b))
}

// Error is an error in a block.
type Error struct {
	Block   catalog.ID
	Section int // -1: none in particular
	Group   int // row group of the section; -1: none in particular
	Err     error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("block %s", e.Block)
	if e.Section >= 0 {
		s += fmt.Sprintf(", section %d", e.Section)
	}
	if e.Group >= 0 {
		s += fmt.Sprintf(", row group %d", e.Group)
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// decoder reads varints and strings; after a failure it is bad and returns zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, k := binary.Uvarint(d.b)
	if k <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[k:]
	return v
}

func (d *decoder) varint() int64 {
	v, k := binary.Varint(d.b)
	if k <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[k:]
	return v
}

func (d *decoder) int(limit int64) int64 {
	v := d.uvarint()
	if v > uint64(limit) {
		d.bad = true
		return 0
	}
	return int64(v)
}

func (d *decoder) byte() byte {
	b := d.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) string(limit int64) string { return string(d.take(int(d.int(limit)))) }

// count reads the number of things that take at least one byte each.
func (d *decoder) count(limit int64) int {
	n := d.int(min(limit, math.MaxInt32))
	if n > int64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func corrupt(format string, args ...any) error { return column.Corrupt(format, args...) }
