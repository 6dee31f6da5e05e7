package lines

import (
	"fmt"
	"math"
	"sync"
	"unsafe"

	"github.com/weir-logs/weir/libs/block/column"
)

// Body is a block opened for reading. Its frames are decompressed when they are
// asked for, once, and kept. Safe for concurrent use; one caller at a time
// decompresses.
type Body struct {
	section *Section
	info    *BlockInfo
	block   int
	data    []byte // frames; nil: they are read one by one
	size    int    // of all frames
	read    func(off, n int) ([]byte, error)
	reads   int               // how often it was called
	stored  [][]byte          // frames that were read before they are needed, until they are
	offsets []int             // of frames, and where the last one ends
	paged   map[uint32]*pages // frames that are pages
	timesAt uint32            // frame
	reach   []uint32          // of each frame, the bytes of its payload that columns are in
	tid     column.Info
	columns []column.Info
	numbers []int32 // places of columns by their numbers in the section, from that of the first on; -1: not here
	within  []int32 // of columns in pages of rows, which of these columns; nil: there are none
	least   int     // bytes of memory of what is above
	learned *learned

	mu      sync.Mutex
	frames  [][]byte
	alone   map[*column.Info][]byte // payloads of columns that were taken out of pages of rows
	opened  []*column.Values        // nil: none
	views   []*column.View          // of columns that few values are read of
	tids    []uint16
	packed  packedTemplates // likewise, for who looks at few rows; no rows: not known
	times   []int64
	lengths []uint32   // of lines
	moves   []movement // of all templates
	idle    *Printer   // given back
	spare   *Printer   // of another block, see Inherit
	memory  int
	ahead   []ahead

	users   []uint16 // templates that have values in each column, once for each; printFew needs them
	usersAt []int32  // where those of each column begin, and how many there are

	passed   []uint32 // rows of each template before row passedTo
	passedTo int
	fews     int // how often it was called
	// The rows of each template, and where they begin; nil: printFew did not need them.
	listed   []uint16
	listedAt []uint32
	sums     map[int32][]uint16 // of columns that many templates have values in: how many are before rows
}

// Body opens block i, given its bytes: those from Offset on, Size of them. It reads
// the directory and no frame. The body aliases b.
func (s *Section) Body(i int, b []byte) (*Body, error) {
	k := &s.Blocks[i]
	if int64(len(b)) != k.Size {
		return nil, at(i, column.Corrupt("%d bytes of %d", len(b), k.Size))
	}
	split := len(b) - k.directory
	body := &Body{section: s, info: k, block: i, data: b[:split:split], size: split}
	if err := body.open(b[split:]); err != nil {
		return nil, at(i, err)
	}
	return body, nil
}

// Directory returns which of a block's bytes are its directory: the last ones.
func (s *Section) Directory(i int) (off, n int) {
	k := &s.Blocks[i]
	return int(k.Size) - k.directory, k.directory
}

// SparseBody is Body given the block's directory alone: other bytes of the block are asked
// for when they are needed, with the place in the block where they begin. The body keeps
// them. Once it has asked a few times it asks for all.
func (s *Section) SparseBody(i int, directory []byte, read func(off, n int) ([]byte, error)) (*Body, error) {
	off, n := s.Directory(i)
	if len(directory) != n {
		return nil, at(i, column.Corrupt("%d bytes of a directory of %d", len(directory), n))
	}
	body := &Body{section: s, info: &s.Blocks[i], block: i, size: off, read: read}
	if err := body.open(directory); err != nil {
		return nil, at(i, err)
	}
	return body, nil
}

func (b *Body) open(directory []byte) error {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	d, err := column.ReadFrameIn(*buf, directory, maxFooter)
	if err != nil {
		return err
	}
	keepScratch(buf, directory, d)
	if len(d) == 0 {
		return column.Corrupt("directory without a version")
	}
	if d[0] < directoryVersion || d[0] > rowsVersion {
		return column.Corrupt("directory of version %d, this is a reader of versions %d to %d", d[0], directoryVersion, rowsVersion)
	}
	r := reader{b: d[1:]}
	b.offsets = make([]int, r.count()+1)
	b.frames = make([][]byte, len(b.offsets)-1)
	for i := range b.frames {
		b.offsets[i+1] = b.offsets[i] + r.int(math.MaxInt32)
		if b.offsets[i+1] > b.size {
			return column.Corrupt("frames of more than %d bytes", b.size)
		}
	}
	b.timesAt = uint32(r.int(math.MaxInt32))
	if r.bad || b.offsets[len(b.frames)] != b.size {
		return column.Corrupt("directory of frames")
	}
	if d[0] >= pagedVersion {
		flags := flagPacked | flagParts
		if d[0] == rowsVersion {
			flags |= flagRows
		}
		if b.paged, err = parsePages(&r, b.offsets, flags); err != nil {
			return err
		}
		if r.bad {
			return column.Corrupt("directory of pages")
		}
	}
	tids, rest, err := column.ParseInfos(r.b)
	if err != nil {
		return err
	}
	if b.columns, rest, err = column.ParseInfos(rest); err != nil {
		return err
	}
	if len(tids) != 1 || tids[0].Kind != column.Signed || tids[0].N != b.info.Rows || len(rest) > 0 {
		return column.Corrupt("directory without one column of templates")
	}
	b.tid = tids[0]
	b.memory = len(b.data) + 40*len(b.frames) + infoSize*len(b.columns) + 256
	for i := range b.columns {
		c := &b.columns[i]
		if b.memory += len(c.Prefix); c.Values != nil {
			b.memory += infoSize + len(c.Values.Prefix)
		}
	}
	if err := b.checkColumns(); err != nil {
		return err
	}
	if err := b.checkFrames(); err != nil {
		return err
	}
	if err := b.checkPages(); err != nil {
		return err
	}
	b.least, b.learned = b.memory-len(b.data), &learned{}
	return nil
}

// checkColumns checks that every column has as many values as the templates' rows use.
func (b *Body) checkColumns() error {
	table := b.section.Table
	if n := len(b.columns); n > 0 {
		first, last := b.columns[0].ID, b.columns[n-1].ID
		if last < first || int(last) >= len(table.Columns) {
			return column.Corrupt("columns %d to %d of %d", first, last, len(table.Columns))
		}
		b.numbers = make([]int32, last-first+1)
		for i := range b.numbers {
			b.numbers[i] = -1
		}
		b.memory += 4 * len(b.numbers)
	}
	for i := range b.columns {
		c := &b.columns[i]
		if i > 0 && c.ID <= b.columns[i-1].ID {
			return column.Corrupt("column %d after %d", c.ID, b.columns[i-1].ID)
		}
		if table.Columns[c.ID].IsTime != (c.Kind == column.Signed) {
			return column.Corrupt("column %d of %v", c.ID, c.Kind)
		}
		b.numbers[c.ID-b.columns[0].ID] = int32(i)
	}
	uses := make([]int, len(b.columns))
	first, numbers := uint32(0), b.numbers
	if len(b.columns) > 0 {
		first = b.columns[0].ID
	}
	for _, c := range b.info.Templates {
		rows := int(c.Rows)
		for _, id := range table.Templates[c.Template].Columns {
			at := id - first // of a smaller one it is beyond all
			if int(at) >= len(numbers) || numbers[at] < 0 {
				return column.Corrupt("no column %d, which template %d uses", id, c.Template)
			}
			uses[numbers[at]] += rows
		}
	}
	for i := range b.columns {
		if c := &b.columns[i]; uses[i] != c.N || c.N == 0 {
			return column.Corrupt("column %d of %d values: the templates use %d", c.ID, c.N, uses[i])
		}
	}
	return nil
}

// place returns the place among the block's columns of one that it has.
func (b *Body) place(id uint32) int { return int(b.numbers[id-b.columns[0].ID]) }

// Info returns what the footer says about the block.
func (b *Body) Info() *BlockInfo { return b.info }

// MemorySize returns about how many bytes of memory the body takes, with what was
// decompressed so far.
func (b *Body) MemorySize() int {
	known := b.learned.memorySize()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.memory + known
}

// Columns describes the block's columns, ascending by their numbers in the section.
func (b *Body) Columns() []column.Info { return b.columns }

// Number returns the place among Columns of a column of the section; -1 if the block
// has no values of it.
func (b *Body) Number(id uint32) int {
	if len(b.columns) == 0 || id < b.columns[0].ID || id > b.columns[len(b.columns)-1].ID {
		return -1
	}
	return b.place(id)
}

// frame returns a frame's payload. Call with mu held.
func (b *Body) frame(n uint32) ([]byte, error) {
	if int(n) >= len(b.frames) {
		return nil, column.Corrupt("frame %d of %d", n, len(b.frames))
	}
	if b.frames[n] == nil {
		if p := b.paged[n]; p != nil {
			all, err := b.join(p, nil)
			if err != nil {
				return nil, err
			}
			b.frames[n] = all
			b.memory += len(all)
			b.drop(p)
			if b.stored != nil {
				b.memory -= len(b.stored[n])
				b.stored[n] = nil
			}
			return all, nil
		}
		frame, kept, err := b.span(int(n), b.offsets[n], b.offsets[n+1])
		if err != nil {
			return nil, err
		}
		p, err := column.ReadFrame(frame, b.frameLimit(int(n)))
		if err != nil {
			return nil, err
		}
		if b.ahead != nil {
			p = own(frame, p, kept)
		}
		counted := 0
		if kept && b.read != nil {
			counted = len(frame)
		}
		b.frames[n] = p
		switch {
		case !within(frame, p):
			b.memory += len(p) - counted
		case b.read != nil: // it goes on as the payload
			b.memory += len(frame) - counted
		}
		if b.stored != nil {
			b.stored[n] = nil
		}
	}
	return b.frames[n], nil
}

const infoSize = int(unsafe.Sizeof(column.Info{}))

// within reports whether p is part of b: frames that are not compressed are not copied.
func within(b, p []byte) bool {
	if len(b) == 0 || len(p) == 0 {
		return false
	}
	from, at := uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&p[0]))
	return from <= at && at < from+uintptr(len(b))
}

// Frame returns the payload of the frame that column i of Columns is in; nil if it
// is in none. It is shared.
func (b *Body) Frame(i int) ([]byte, error) {
	c := &b.columns[i]
	if c.Size == 0 {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.frame(c.Frame)
	return p, at(b.block, err)
}

// Values returns the values of column i of Columns, in the order of the rows.
func (b *Body) Values(i int) (*column.Values, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, err := b.values(i)
	return v, at(b.block, err)
}

// View returns a view of column i of Columns, which is the caller's: it takes little memory
// that is not the body's already.
func (b *Body) View(i int) (*column.View, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.columns[i]
	p, err := b.payload(c)
	if err != nil {
		return nil, at(b.block, err)
	}
	v, err := column.NewView(c, p)
	return v, at(b.block, err)
}

// Text returns the values of column i of Columns, or the distinct ones, end to end, where
// they are kept as text: it does not open them. It is shared.
func (b *Body) Text(i int) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.columns[i]
	p, err := b.payload(c)
	if err != nil {
		return nil, at(b.block, err)
	}
	if c.Kind == column.Dict && c.Values != nil {
		if c.IndexAt > len(p) {
			return nil, at(b.block, column.Corrupt("indexes at %d of %d bytes", c.IndexAt, len(p)))
		}
		p, c = p[:c.IndexAt], c.Values
	}
	if lengths := c.N * int(c.Width); c.Kind == column.Bytes && lengths >= 0 && lengths <= len(p) {
		return p[lengths:], nil
	}
	return nil, at(b.block, column.Corrupt("%v column of %d bytes has no text", c.Kind, len(p)))
}

// Find calls hit with the number of each value of column i of Columns that is that text,
// ascending.
func (b *Body) Find(i int, text []byte, hit func(n int)) error {
	v, err := b.indexed(i)
	if err != nil {
		return at(b.block, err)
	}
	v.Find(text, hit)
	return nil
}

func (b *Body) indexed(i int) (*column.Values, error) {
	b.mu.Lock()
	defer b.mu.Unlock() // a panic must not lock others out
	v, err := b.values(i)
	if err == nil {
		b.memory += v.Index()
	}
	return v, err
}

func (b *Body) values(i int) (*column.Values, error) {
	if b.opened == nil {
		b.opened = make([]*column.Values, len(b.columns))
		b.memory += 8 * len(b.opened)
	}
	if b.opened[i] == nil {
		v, err := b.column(&b.columns[i])
		if err != nil {
			return nil, err
		}
		b.opened[i] = v
		b.memory += v.MemorySize()
	}
	return b.opened[i], nil
}

// openedAt returns the values of a column that were opened; nil: they were not.
func (b *Body) openedAt(i int) *column.Values {
	if b.opened == nil {
		return nil
	}
	return b.opened[i]
}

func (b *Body) column(c *column.Info) (*column.Values, error) {
	p, err := b.payload(c)
	if err != nil {
		return nil, err
	}
	return column.Open(c, p)
}

func (b *Body) payload(c *column.Info) ([]byte, error) {
	if c.Size == 0 {
		return nil, nil
	}
	if p := b.alone[c]; p != nil {
		return p, nil
	}
	p, err := b.frame(c.Frame)
	if err != nil {
		return nil, err
	}
	if uint64(c.Offset)+uint64(c.Size) > uint64(len(p)) {
		return nil, column.Corrupt("column at %d+%d of a frame of %d bytes", c.Offset, c.Size, len(p))
	}
	return p[c.Offset : c.Offset+c.Size], nil
}

// SharedTimes returns the times of all rows. They are shared.
func (b *Body) SharedTimes() ([]int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.sharedTimes()
	return t, at(b.block, err)
}

func (b *Body) sharedTimes() ([]int64, error) {
	if b.times != nil {
		return b.times, nil
	}
	times, err := b.decodeTimes()
	if err != nil {
		return nil, err
	}
	if err := b.checkTimes(times); err != nil {
		return nil, err
	}
	b.times = times
	b.memory += 8 * len(times)
	if p := b.paged[b.timesAt]; p != nil {
		b.drop(p)
		if b.stored != nil { // not before they are known to be right: they are asked for again
			b.memory -= len(b.stored[p.number])
			b.stored[p.number] = nil
		}
	}
	return times, nil
}

func (b *Body) checkTimes(times []int64) error {
	k := b.info
	for _, t := range times {
		if t < k.MinTime || t > k.MaxTime {
			return column.Corrupt("time %d is not within %d to %d", t, k.MinTime, k.MaxTime)
		}
	}
	return nil
}

func (b *Body) checkRange(from, to int) error {
	if from < 0 || from > to || to > b.info.Rows {
		return fmt.Errorf("no rows %d to %d of %d", from, to, b.info.Rows)
	}
	return nil
}
