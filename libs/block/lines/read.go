package lines

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

// Section is a section opened for reading. Safe for concurrent use.
type Section struct {
	Table  *template.Table
	Blocks []BlockInfo
	data   []byte
}

// Open reads a section's footer. The section aliases b.
func Open(b []byte) (*Section, error) {
	if len(b) < tailLen || string(b[len(b)-len(magic):]) != magic {
		return nil, column.Corrupt("no section of lines")
	}
	tail := b[len(b)-tailLen:]
	if v := binary.LittleEndian.Uint16(tail[4:]); v != majorVersion {
		return nil, column.Corrupt("section of version %d, this is a reader of version %d", v, majorVersion)
	}
	size := int64(binary.LittleEndian.Uint32(tail))
	rest := b[:len(b)-tailLen]
	if size > int64(len(rest)) {
		return nil, column.Corrupt("footer of %d bytes in a section of %d", size, len(b))
	}
	foot, err := column.ReadFrame(rest[len(rest)-int(size):], maxFooter)
	if err != nil {
		return nil, err
	}
	s := &Section{data: rest[:len(rest)-int(size)]}
	r := reader{b: foot}
	table := r.take(r.int(maxFooter))
	if r.bad {
		return nil, column.Corrupt("footer ends within the template table")
	}
	if s.Table, err = template.ParseTable(table); err != nil {
		return nil, err
	}
	n := r.int(MaxBlocks)
	for i := 0; i < n && !r.bad; i++ {
		k := r.block()
		if r.bad {
			break
		}
		if i > 0 {
			k.offset = s.Blocks[i-1].offset + s.Blocks[i-1].size
		}
		if k.size > len(s.data)-k.offset || k.directory > k.size {
			return nil, at(i, column.Corrupt("%d bytes at %d of %d", k.size, k.offset, len(s.data)))
		}
		if err := k.check(len(s.Table.Templates)); err != nil {
			return nil, at(i, err)
		}
		if err := checkRuns(k.RunEnds, k.Rows); err != nil {
			return nil, at(i, err)
		}
		s.Blocks = append(s.Blocks, k)
	}
	if r.bad { // what follows the blocks is a later minor version's
		return nil, column.Corrupt("footer ends within the blocks")
	}
	return s, nil
}

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
	k := BlockInfo{Rows: r.int(MaxRows), Bytes: r.int(MaxBytes), size: r.int(math.MaxInt32), directory: r.int(math.MaxInt32)}
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

// Decode appends the lines and times of a block to the rows: those columns of rows
// and no others. Nothing is appended if it fails.
func (s *Section) Decode(block int, rows *model.Rows) error {
	return s.DecodeRange(block, 0, s.Blocks[block].Rows, rows)
}

// DecodeRange appends the lines and times of rows from … to-1 of a block, and reads
// only the frames that these need. Nothing is appended if it fails.
func (s *Section) DecodeRange(block, from, to int, rows *model.Rows) error {
	k := &s.Blocks[block]
	if from < 0 || from > to || to > k.Rows {
		return at(block, fmt.Errorf("no rows %d to %d of %d", from, to, k.Rows))
	}
	if uint64(len(rows.Lines.Slab))+uint64(k.Bytes) > math.MaxUint32 {
		return at(block, column.Corrupt("more than 4 GiB of lines"))
	}
	d := decoder{section: s, info: k, from: from, to: to}
	if err := d.open(); err != nil {
		return at(block, err)
	}
	out := *rows
	if err := d.rows(&out); err != nil {
		return at(block, err)
	}
	*rows = out
	return nil
}

// decoder is one block being decoded.
type decoder struct {
	section *Section
	info    *BlockInfo
	from    int // rows wanted
	to      int
	offsets []int // of frames, and where the last one ends
	cache   [][]byte
	times   uint32 // frame
	tid     column.Info
	columns []column.Info
	numbers map[uint32]int // column of the section → of the block
	opened  []*column.Values
	cursors []int // next value of each column
}

func (d *decoder) open() error {
	k := d.info
	body := d.section.data[k.offset : k.offset+k.size-k.directory]
	b, err := column.ReadFrame(d.section.data[k.offset+k.size-k.directory:k.offset+k.size], maxFooter)
	if err != nil {
		return err
	}
	if len(b) == 0 || b[0] != directoryVersion {
		return column.Corrupt("directory without a known version")
	}
	r := reader{b: b[1:]}
	d.offsets = make([]int, r.count()+1)
	d.cache = make([][]byte, len(d.offsets)-1)
	for i := range d.cache {
		d.offsets[i+1] = d.offsets[i] + r.int(math.MaxInt32)
		if d.offsets[i+1] > len(body) {
			return column.Corrupt("frames of more than %d bytes", len(body))
		}
	}
	d.times = uint32(r.int(math.MaxInt32))
	if r.bad || d.offsets[len(d.cache)] != len(body) {
		return column.Corrupt("directory of frames")
	}
	tids, rest, err := column.ParseInfos(r.b)
	if err != nil {
		return err
	}
	if d.columns, rest, err = column.ParseInfos(rest); err != nil {
		return err
	}
	if len(tids) != 1 || tids[0].Kind != column.Signed || tids[0].N != k.Rows || len(rest) > 0 {
		return column.Corrupt("directory without one column of templates")
	}
	d.tid = tids[0]
	return d.checkColumns()
}

// checkColumns checks that every column has as many values as the templates' rows use.
func (d *decoder) checkColumns() error {
	table := d.section.Table
	uses := make(map[uint32]int, len(d.columns))
	for _, c := range d.info.Templates {
		for _, id := range table.Templates[c.Template].Columns {
			uses[id] += int(c.Rows)
		}
	}
	if len(uses) != len(d.columns) {
		return column.Corrupt("%d columns where the templates use %d", len(d.columns), len(uses))
	}
	d.numbers = make(map[uint32]int, len(d.columns))
	d.opened = make([]*column.Values, len(d.columns))
	d.cursors = make([]int, len(d.columns))
	for i := range d.columns {
		c := &d.columns[i]
		if n := uses[c.ID]; n != c.N {
			return column.Corrupt("column %d of %d values where the templates use %d", c.ID, c.N, n)
		}
		if table.Columns[c.ID].IsTime != (c.Kind == column.Signed) {
			return column.Corrupt("column %d of %v", c.ID, c.Kind)
		}
		d.numbers[c.ID] = i
	}
	return nil
}

func (d *decoder) frame(n uint32) ([]byte, error) {
	if int(n) >= len(d.cache) {
		return nil, column.Corrupt("frame %d of %d", n, len(d.cache))
	}
	if d.cache[n] == nil {
		k := d.info
		b, err := column.ReadFrame(d.section.data[k.offset+d.offsets[n]:k.offset+d.offsets[n+1]], k.payloadLimit())
		if err != nil {
			return nil, err
		}
		d.cache[n] = b
	}
	return d.cache[n], nil
}

func (d *decoder) column(c *column.Info) (*column.Values, error) {
	var payload []byte
	if c.Size > 0 {
		b, err := d.frame(c.Frame)
		if err != nil {
			return nil, err
		}
		if uint64(c.Offset)+uint64(c.Size) > uint64(len(b)) {
			return nil, column.Corrupt("column at %d+%d of a frame of %d bytes", c.Offset, c.Size, len(b))
		}
		payload = b[c.Offset : c.Offset+c.Size]
	}
	return column.Open(c, payload)
}

// piece is a template.Piece with the values of its slot.
type piece struct {
	literal []byte
	values  *column.Values // nil: none
	cursor  *int           // next value
	isTime  bool
	layout  template.Layout
}

// pieces prepares a template of the block's list, and the columns it uses.
func (d *decoder) pieces(t int) ([]piece, error) {
	ps := d.section.Table.Templates[d.info.Templates[t].Template].Pieces()
	out := make([]piece, len(ps))
	for i, p := range ps {
		out[i] = piece{literal: p.Literal, isTime: p.IsTime, layout: p.Layout}
		if !p.Slot {
			continue
		}
		n := d.numbers[p.Column]
		if d.opened[n] == nil {
			var err error
			if d.opened[n], err = d.column(&d.columns[n]); err != nil {
				return nil, err
			}
		}
		out[i].values, out[i].cursor = d.opened[n], &d.cursors[n]
	}
	return out, nil
}

// templates returns each row's template in the block's list.
func (d *decoder) templates() (*column.Values, error) {
	tids, err := d.column(&d.tid)
	if err != nil {
		return nil, err
	}
	// As many rows of each template as the footer says: so no column runs out.
	left := make([]uint32, len(d.info.Templates))
	for i, c := range d.info.Templates {
		left[i] = c.Rows
	}
	for i := range d.info.Rows {
		t := uint64(tids.Signed(i))
		if t >= uint64(len(left)) || left[t] == 0 {
			return nil, column.Corrupt("row %d has template %d of %d, or too many have it", i, t, len(left))
		}
		left[t]--
		if i+1 == d.from {
			d.skip(left)
		}
	}
	return tids, nil
}

// skip moves the cursors behind the rows before the first one wanted, given how many
// rows of each template are still to come.
func (d *decoder) skip(left []uint32) {
	for i, c := range d.info.Templates {
		for _, id := range d.section.Table.Templates[c.Template].Columns {
			d.cursors[d.numbers[id]] += int(c.Rows - left[i])
		}
	}
}

func (d *decoder) rows(rows *model.Rows) error {
	k := d.info
	tids, err := d.templates()
	if err != nil {
		return err
	}
	b, err := d.frame(d.times)
	if err != nil {
		return err
	}
	times, err := column.DecodeTimes(make([]int64, 0, k.Rows), b, k.Rows, k.RunEnds)
	if err != nil {
		return err
	}
	for _, t := range times {
		if t < k.MinTime || t > k.MaxTime {
			return column.Corrupt("time %d is not within %d to %d", t, k.MinTime, k.MaxTime)
		}
	}
	n := d.to - d.from
	size := k.Bytes
	if n < k.Rows {
		size = int(int64(k.Bytes) * int64(n) / int64(k.Rows)) // a guess
	}
	slab := grown(rows.Lines.Slab, size)
	ends := grown(rows.Lines.Ends, n)
	limit := len(slab) + k.Bytes
	pieces := make([][]piece, len(k.Templates))
	for i := d.from; i < d.to; i++ {
		t := tids.Signed(i)
		if pieces[t] == nil {
			if pieces[t], err = d.pieces(int(t)); err != nil {
				return err
			}
		}
		ps := pieces[t]
		for j := range ps {
			p := &ps[j]
			if slab = append(slab, p.literal...); p.values == nil {
				break
			}
			n := *p.cursor
			*p.cursor = n + 1
			if p.isTime {
				v := p.layout.Floor(times[i]) - p.values.Signed(n)
				if !p.layout.InRange(v) {
					return column.Corrupt("in-line time %d of row %d", v, i)
				}
				slab = p.layout.Append(slab, v)
			} else {
				slab = p.values.Append(slab, n)
			}
			if len(slab) > limit {
				return errTooLong(k)
			}
		}
		if len(slab) > limit {
			return errTooLong(k)
		}
		ends = append(ends, uint32(len(slab)))
	}
	if n == k.Rows && len(slab) != limit {
		return column.Corrupt("%d bytes of lines, %d missing", k.Bytes, limit-len(slab))
	}
	rows.Times = append(rows.Times, times[d.from:d.to]...)
	rows.Lines.Slab, rows.Lines.Ends = slab, ends
	return nil
}

func errTooLong(k *BlockInfo) error {
	return column.Corrupt("more than %d bytes of lines", k.Bytes)
}

// grown returns s with room for n more.
func grown[T any](s []T, n int) []T {
	if cap(s)-len(s) >= n {
		return s
	}
	out := make([]T, len(s), len(s)+n)
	copy(out, s)
	return out
}
