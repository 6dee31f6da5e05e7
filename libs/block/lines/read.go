package lines

import (
	"encoding/binary"
	"math"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lazy"
	"github.com/weir-logs/weir/libs/block/template"
)

// Section is the footer of a section, opened for reading, and its blocks' bytes if
// it was opened with them. Safe for concurrent use.
type Section struct {
	Table  *template.Table
	Blocks []BlockInfo
	// Columns sums up the columns of the table, as texts, over all blocks; nil in
	// sections that do not tell. Those of in-line times are zero.
	Columns []column.Summary
	// Plain is what all values of the columns of the table are plain for, likewise. Those of
	// in-line times tell nothing.
	Plain []column.Plain
	// TellsShared says that Shared tells something; sections of old do not.
	TellsShared bool

	data   []byte // blocks; nil: only the footer is here
	memory int

	once    lazy.Once
	derived any
	more    atomic.Int64 // bytes of memory that it takes
}

// Derived returns what make returned when it first did: for readers to keep what they
// work out of a section's templates. size is about how many bytes of memory that takes.
// A panic of make is its caller's, and nobody else's.
func (s *Section) Derived(make func() (derived any, size int)) any {
	s.once.Do(func() {
		derived, size := make()
		s.derived = derived
		s.more.Add(int64(size))
	})
	return s.derived
}

// Grow notes that what was derived takes so many bytes of memory more.
func (s *Section) Grow(bytes int) { s.more.Add(int64(bytes)) }

// TailSize is how many of a section's last bytes FooterSize needs.
const TailSize = 4 + 2 + 2 + len(magic)

// FooterSize returns the bytes of a section's footer, tail included, given the
// section's last TailSize bytes.
func FooterSize(tail []byte) (int64, error) {
	if len(tail) < TailSize || string(tail[len(tail)-len(magic):]) != magic {
		return 0, column.Corrupt("no section of lines")
	}
	tail = tail[len(tail)-TailSize:]
	if v := binary.LittleEndian.Uint16(tail[4:]); v != majorVersion {
		return 0, column.Corrupt("section of version %d, this is a reader of version %d", v, majorVersion)
	}
	return int64(binary.LittleEndian.Uint32(tail)) + int64(TailSize), nil
}

// Open opens a section that is here as a whole. The section aliases b.
func Open(b []byte) (*Section, error) {
	n, err := FooterSize(b)
	if err != nil {
		return nil, err
	}
	if n > int64(len(b)) {
		return nil, column.Corrupt("footer of %d bytes in a section of %d", n, len(b))
	}
	s, err := OpenFooter(b[int64(len(b))-n:], int64(len(b)))
	if err != nil {
		return nil, err
	}
	s.data = b[:int64(len(b))-n]
	return s, nil
}

// OpenFooter opens a section of size bytes, given its last FooterSize bytes. The
// section may alias them. Blocks are read with Body.
func OpenFooter(footer []byte, size int64) (*Section, error) {
	n, err := FooterSize(footer)
	if err != nil {
		return nil, err
	}
	if n != int64(len(footer)) || n > size {
		return nil, column.Corrupt("footer of %d bytes, %d are here, in a section of %d", n, len(footer), size)
	}
	foot, err := column.ReadFrame(footer[:n-int64(TailSize)], maxFooter)
	if err != nil {
		return nil, err
	}
	s := &Section{memory: len(foot) + 256}
	r := reader{b: foot}
	table := r.take(r.int(maxFooter))
	if r.bad {
		return nil, column.Corrupt("footer ends within the template table")
	}
	if s.Table, err = template.ParseTable(table); err != nil {
		return nil, err
	}
	s.memory += s.Table.MemorySize()
	blocks := size - n
	count := r.int(MaxBlocks)
	listed := make([]uint32, len(s.Table.Templates))
	for i := 0; i < count && !r.bad; i++ {
		k := r.block()
		if r.bad {
			break
		}
		if i > 0 {
			k.Offset = s.Blocks[i-1].Offset + s.Blocks[i-1].Size
		}
		if k.Size > blocks-k.Offset || int64(k.directory) > k.Size {
			return nil, at(i, column.Corrupt("%d bytes at %d of %d", k.Size, k.Offset, blocks))
		}
		if err := k.check(i, listed); err != nil {
			return nil, at(i, err)
		}
		if err := checkRuns(k.RunEnds, k.Rows); err != nil {
			return nil, at(i, err)
		}
		s.memory += 128 + 4*len(k.RunEnds) + 8*len(k.Templates)
		s.Blocks = append(s.Blocks, k)
	}
	if r.bad { // what follows the blocks is a later minor version's
		return nil, column.Corrupt("footer ends within the blocks")
	}
	minor := binary.LittleEndian.Uint16(footer[len(footer)-len(magic)-2:])
	if minor >= 1 {
		if s.Columns, r.b, err = column.ParseSummaries(r.b, len(s.Table.Columns)); err != nil {
			return nil, err
		}
		s.memory += 48 * len(s.Columns)
	}
	if minor >= 2 {
		for i := range s.Blocks {
			s.Blocks[i].shared = r.take(r.count())
		}
		if r.bad {
			return nil, column.Corrupt("footer ends within the grams that templates and values share")
		}
		s.TellsShared = true
	}
	if minor >= 3 {
		if s.Plain, r.b, err = column.ParsePlain(r.b, len(s.Table.Columns)); err != nil {
			return nil, err
		}
		s.memory += len(s.Plain)
	}
	return s, nil
}

// MemorySize returns about how many bytes of memory the opened footer takes, with what was
// derived from it so far.
func (s *Section) MemorySize() int { return s.memory + int(s.more.Load()) }

// reader reads a footer or directory; after a failure it is bad and returns zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, k := binary.Uvarint(r.b)
	if k <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[k:]
	return v
}

func (r *reader) int(limit int) int {
	v := r.uvarint()
	if v > uint64(limit) {
		r.bad = true
		return 0
	}
	return int(v)
}

func (r *reader) varint() int64 {
	v, k := binary.Varint(r.b)
	if k <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[k:]
	return v
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// count reads the number of things that take at least one byte each.
func (r *reader) count() int {
	n := r.int(math.MaxInt32)
	if n > len(r.b) {
		r.bad = true
		return 0
	}
	return n
}

func (r *reader) block() BlockInfo {
	k := BlockInfo{Rows: r.int(MaxRows), Bytes: r.int(MaxBytes), Size: int64(r.int(math.MaxInt32)), directory: r.int(math.MaxInt32)}
	k.MinTime = r.varint()
	k.MaxTime = int64(uint64(k.MinTime) + r.uvarint())
	k.RunEnds = make([]uint32, r.count())
	from := 0
	for i := range k.RunEnds {
		from += r.int(MaxRows)
		if from > MaxRows {
			r.bad = true
			break
		}
		k.RunEnds[i] = uint32(from)
	}
	k.Templates = make([]template.Count, r.count())
	for i := range k.Templates {
		k.Templates[i].Template = uint32(r.int(math.MaxInt32))
	}
	for i := range k.Templates {
		k.Templates[i].Rows = uint32(r.int(MaxRows))
	}
	return k
}

// Patterns returns the texts of the templates with <_> in place of each slot.
func (s *Section) Patterns() []string {
	out := make([]string, len(s.Table.Templates))
	for i := range out {
		out[i] = s.Table.Templates[i].Pattern()
	}
	return out
}
