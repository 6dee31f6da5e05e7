package lines

import (
	"encoding/binary"
	"math"

	"github.com/weir-logs/weir/libs/block/column"
)

// pageSizes says how payloads are cut into pages.
type pageSizes struct {
	least     int // bytes of a payload that is cut; where many share frames or it is not compressed, of its frame
	leastText int // bytes of text that is cut
	leastLong int // bytes of text that is cut although it becomes larger by more than loss
	leastDict int // bytes of indexes that are cut
	stored    int // bytes of a page that is not compressed
	packed    int // bytes that other pages take, about
	text      int // bytes that pages of text take, about
	steps     int // of times
	group     int // bytes of payloads that share a frame, of which all are read
	loss      int // percent by which a payload may become larger

	unpacked     int // bytes of a page before it is compressed, at most
	unpackedText int // likewise, of text

	alone     int   // bytes, compressed, up to which a payload has a frame to itself
	shared    int   // bytes of payloads that share pages of rows
	leastRows int   // bytes of frames, compressed, that are cut into pages of rows
	rows      []int // bytes of pages of rows, to choose from
	blocks    int   // for how many blocks a choice is good

	columns bool // are cut, not times alone

	slice  int // percent that a byte that a slice reads counts of a byte of the block
	decode int // likewise, a byte that it decompresses
}

// Pages are as small as they can be without costing much more than a hundredth of a store:
// see ADR 0034, 0047 and 0050.
var defaultPages = pageSizes{least: 6 << 10, leastText: 96 << 10, leastLong: 256 << 10, leastDict: 16 << 10, stored: 2 << 10, packed: 4 << 10, text: 6 << 10, steps: 1 << 10, group: 128 << 10, loss: 15,
	unpacked: 8 << 10, unpackedText: 96 << 10,
	alone: 2 << 10, shared: 1 << 20, leastRows: 6 << 10, rows: []int{32 << 10, 64 << 10, 128 << 10}, blocks: 8,
	columns: true, slice: 24, decode: 2}

// newPages are for new blocks, which are soon merged: what takes no more CPU than a frame.
var newPages = pageSizes{least: 6 << 10, steps: 1 << 10}

// cost is what payloads cost: by bytes in the block, and those that a slice reads of them and
// decompresses.
func (z *pageSizes) cost(stored, read, unpacked int) int {
	return stored + (read*z.slice+unpacked*z.decode)/100
}

// frames puts payloads together in frames.
type frames struct {
	compress *column.Compressor
	out      []byte
	sizes    []int
	groups   [3]group   // small, bytes, hexadecimal
	pages    *pageSizes // nil: none
	paged    []pagedFrame
	part     []byte

	layouts [3]layout
	cuts    cut
	places  []int32  // of columns of a group by their numbers, plus one; 0: not in it
	tried   int      // bytes that the last payload takes in a frame, about; 0: not known
	rows0   []uint32 // of each template
	seen    []uint32 // templates
}

type group struct {
	payload []byte
	infos   []*column.Info
}

// pagedFrame is a frame that is written as pages.
type pagedFrame struct {
	number int
	count  int   // values in each page
	packed bool  // some page is compressed
	head   int   // bytes of the head's frame
	sizes  []int // of the pages, as they are stored
	parts  []int // of the payload, likewise
	known  bool  // parts need not be told
	rows   bool  // pages of rows
}

func (f *frames) begin(c *column.Compressor, out []byte) {
	f.compress, f.out, f.sizes, f.paged = c, out, f.sizes[:0], f.paged[:0]
}

// frame writes a frame and returns its number.
func (f *frames) frame(payload []byte) uint32 {
	at := len(f.out)
	f.out = f.compress.AppendFrame(f.out, payload)
	f.sizes = append(f.sizes, len(f.out)-at)
	return uint32(len(f.sizes) - 1)
}

// add places a column's payload. The info must stay where it is until flush.
func (f *frames) add(c *column.Info, payload []byte) {
	c.Size = uint32(len(payload))
	if len(payload) == 0 {
		return
	}
	kind := valuesKind(c)
	g, limit, own := &f.groups[0], smallFrame, false
	switch {
	case kind == column.Bytes: // like values in other columns are found as matches
		g, limit = &f.groups[1], groupFrame
	case kind == column.Hex || kind == column.UUID:
		g, limit = &f.groups[2], groupFrame
	default:
		own = len(payload) >= ownFrame
	}
	if f.cutsColumns() {
		if f.page(c, payload) {
			return
		}
		// What takes next to nothing costs a slice less than it costs others to read it
		// among many.
		if own = own && (c.HeadSize() == len(payload) || f.tried > 0 && f.tried <= f.pages.alone); !own {
			limit = math.MaxInt // flush decides
		}
	}
	if own {
		c.Frame = f.frame(payload)
		return
	}
	if len(g.payload)+len(payload) > limit {
		f.flushGroup(g)
	}
	c.Offset = uint32(len(g.payload))
	g.payload = append(g.payload, payload...)
	g.infos = append(g.infos, c)
}

// valuesKind returns the kind of the column, or of its distinct values.
func valuesKind(c *column.Info) column.Kind {
	if c.Values != nil {
		return c.Values.Kind
	}
	return c.Kind
}

// inGroup reports whether a column is with like ones in frames.
func inGroup(c *column.Info) bool {
	switch valuesKind(c) {
	case column.Bytes, column.Hex, column.UUID:
		return true
	}
	return false
}

// cutsColumns reports whether columns may be cut.
func (f *frames) cutsColumns() bool { return f.pages != nil && f.pages.columns }

// page writes a column's payload as pages, if that is worth it.
func (f *frames) page(c *column.Info, payload []byte) bool {
	f.tried = 0
	count, packed := f.pageValues(c, payload)
	if count == 0 {
		return false
	}
	start := len(f.out)
	c.Frame = uint32(len(f.sizes))
	p := pagedFrame{number: len(f.sizes), count: count}
	pager, head := column.NewPager(c, payload)
	if len(head) > 0 {
		f.out = f.compress.AppendFrame(f.out, head)
		p.head = len(f.out) - start
	}
	size, _ := c.PageSize(count)
	p.known = size >= 0
	for from := 0; from < c.N; from += count {
		f.part = pager.Append(f.part[:0], min(count, c.N-from))
		f.addPage(&p, f.part, packed)
	}
	f.endPages(p, start)
	return true
}

// pageValues returns how many values of a column go in each page; 0: it is not cut. packed:
// pages are compressed.
func (f *frames) pageValues(c *column.Info, payload []byte) (count int, packed bool) {
	z := f.pages
	if _, ok := c.PageSize(1); !ok || len(payload) < z.least || c.Kind == column.Bytes && len(payload) < z.leastText {
		return 0, false
	}
	if c.Kind == column.Dict {
		if payload = payload[c.IndexAt:]; len(payload) < z.leastDict {
			return 0, false
		}
	}
	at := len(f.out)
	f.out = f.compress.AppendFrame(f.out, payload)
	size := len(f.out) - at
	f.out = f.out[:at]
	f.tried = size
	stored := size+size/20 >= len(payload)
	if size < z.least && (stored || inGroup(c)) {
		return 0, false
	}
	if stored {
		return max(1, c.N*z.stored/len(payload)), false
	}
	page, unpacked := z.packed, z.unpacked
	if c.Kind == column.Bytes {
		page, unpacked = z.text, z.unpackedText
	}
	// What comes again is found in large pages rather than in small ones. Text that does not
	// get along with pages of its own does well with other text, unless it is too long.
	long := c.Kind != column.Bytes || len(payload) >= z.leastLong
	best := z.cost(size, size, len(payload))
	for range 3 {
		n := max(1, min(c.N*page/size, c.N*unpacked/len(payload)))
		if n > c.N/2 {
			break
		}
		all, pages := f.estimate(c, payload, n), (c.N+n-1)/n
		if all <= size+size*z.loss/100 {
			return n, true
		}
		if x := z.cost(all, all/pages, len(payload)/pages); long && x < best {
			best, count = x, n
		}
		page, unpacked = page*2, unpacked*2
	}
	return count, true
}

// estimate returns about how many bytes a payload takes as pages, without the head.
func (f *frames) estimate(c *column.Info, payload []byte, count int) int {
	n := (c.N + count - 1) / count
	own := *c
	own.IndexAt = 0
	pager, _ := column.NewPager(&own, payload)
	at, size, values := len(f.out), 0, 0
	for i := range n * 2 / 3 {
		f.part = pager.Append(f.part[:0], count)
		if i == n/3 || i == n*2/3-1 {
			f.out = f.compress.AppendPage(f.out[:at], f.part, true)
			size += len(f.out) - at
			values += count
		}
	}
	f.out = f.out[:at]
	return size * c.N / values
}

// times writes encoded times and returns the number of their frame.
func (f *frames) times(payload []byte, times []int64, runEnds []uint32) uint32 {
	if f.pages == nil || len(payload) < f.pages.least || len(times)-len(runEnds) <= f.pages.steps {
		return f.frame(payload)
	}
	start := len(f.out)
	p := pagedFrame{number: len(f.sizes), count: f.pages.steps}
	head, parts := column.CutTimes(payload, times, runEnds, f.pages.steps)
	f.out = f.compress.AppendFrame(f.out, head)
	p.head = len(f.out) - start
	for _, part := range parts {
		f.addPage(&p, part, true)
	}
	f.endPages(p, start)
	return uint32(p.number)
}

func (f *frames) addPage(p *pagedFrame, part []byte, packed bool) {
	at := len(f.out)
	f.out = f.compress.AppendPage(f.out, part, packed)
	size := len(f.out) - at
	p.sizes, p.parts = append(p.sizes, size), append(p.parts, len(part))
	p.packed = p.packed || size != column.StoredPage(len(part))
}

func (f *frames) endPages(p pagedFrame, start int) {
	f.sizes = append(f.sizes, len(f.out)-start)
	f.paged = append(f.paged, p)
}

// appendDirectory appends the directory of the block.
func (f *frames) appendDirectory(dst []byte, times uint32, tid column.Info, infos []column.Info) []byte {
	version := byte(directoryVersion)
	if len(f.paged) > 0 {
		version = pagedVersion
	}
	for i := range f.paged {
		if f.paged[i].rows {
			version = rowsVersion
		}
	}
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, uint64(len(f.sizes)))
	for _, n := range f.sizes {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	dst = binary.AppendUvarint(dst, uint64(times))
	if version >= pagedVersion {
		dst = f.appendPaged(dst)
	}
	dst = column.AppendInfos(dst, []column.Info{tid})
	return column.AppendInfos(dst, infos)
}

// appendPaged appends what is said about frames that are pages.
func (f *frames) appendPaged(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(f.paged)))
	prev := 0
	for i := range f.paged {
		p := &f.paged[i]
		dst = binary.AppendUvarint(dst, uint64(p.number-prev))
		prev = p.number
		flags := byte(0)
		if p.packed {
			flags |= flagPacked
		}
		if !p.known {
			flags |= flagParts
		}
		if p.rows {
			flags |= flagRows
		}
		dst = append(dst, flags)
		dst = binary.AppendUvarint(dst, uint64(p.count))
		dst = binary.AppendUvarint(dst, uint64(p.head))
		dst = binary.AppendUvarint(dst, uint64(len(p.sizes)))
		for k, n := range p.sizes {
			if p.packed {
				dst = binary.AppendUvarint(dst, uint64(n))
			}
			if !p.known {
				dst = binary.AppendUvarint(dst, uint64(p.parts[k]))
			}
		}
	}
	return dst
}

// flush writes the payloads that are left, of a block with such rows.
func (f *frames) flush(rows *blockRows) {
	for i := range f.groups {
		if f.cutsColumns() {
			f.place(i, rows)
			continue
		}
		f.flushGroup(&f.groups[i])
	}
}

func (f *frames) flushGroup(g *group) {
	if len(g.infos) == 0 {
		return
	}
	n := f.frame(g.payload)
	for _, c := range g.infos {
		c.Frame = n
	}
	g.payload, g.infos = g.payload[:0], g.infos[:0]
}
