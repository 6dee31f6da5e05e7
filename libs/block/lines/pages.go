package lines

import (
	"cmp"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
)

// pages is a frame that is read in parts. Use it with the body's mu held.
type pages struct {
	number int          // of the frame
	column *column.Info // nil: times
	count  int          // values, or steps of times, in each
	flags  byte
	head   int   // bytes of the head's frame, at the frame's beginning
	sizes  []int // of the pages, as they are stored
	parts  []int // of the payload

	at     []int    // where pages are in the block
	opened [][]byte // parts that were read
	views  []*column.View
	dict   *column.View // of the distinct values
	times  *column.TimesPages
	rows   [][]int64 // times of the rows of parts
	ofRows *rowPages // nil: a page has values of one column, or times
	memory int       // that drop gives back
}

// keep notes memory that is of no use once all pages are there.
func (b *Body) keep(p *pages, n int) {
	b.memory += n
	p.memory += n
}

// drop forgets what was read of some pages.
func (b *Body) drop(p *pages) {
	b.memory -= p.memory
	p.memory, p.opened, p.views, p.dict, p.rows = 0, nil, nil, nil, nil
	if r := p.ofRows; r != nil {
		for _, i := range r.columns { // views of what was in no page hold on to that
			if b.views != nil && b.views[i] != nil {
				b.memory -= b.views[i].MemorySize()
				b.views[i] = nil
			}
		}
		r.heads, r.dicts, r.pages = nil, nil, nil
	}
}

// unread returns what describes the pages, with nothing that was read of them.
func (p *pages) unread() *pages {
	out := &pages{number: p.number, column: p.column, count: p.count, flags: p.flags, head: p.head, parts: p.parts, at: p.at}
	if r := p.ofRows; r != nil {
		out.ofRows = &rowPages{columns: r.columns, headAt: r.headAt, size: r.size, head: r.head}
	}
	return out
}

// pageInfo is the memory of a page's own description of its column.
const pageInfo = 176

// leastPage is the least length of a page.
const leastPage = 4

// What is known of an opened page of rows takes memory for each of its columns, so there are
// not many pages of many columns.
const (
	fewRowPages = 64
	maxRowCells = 1 << 22 // pages times columns, of all frames with more pages than that
)

// parsePages reads what a directory says about frames that are pages, given where frames
// begin, and the flags that there may be.
func parsePages(r *reader, offsets []int, flags int) (map[uint32]*pages, error) {
	out := map[uint32]*pages{}
	number := 0
	for i := range r.count() {
		d := r.int(math.MaxInt32)
		if number += d; number >= len(offsets)-1 || i > 0 && d == 0 {
			return nil, column.Corrupt("pages of frame %d of %d", number, len(offsets)-1)
		}
		p := &pages{number: number, flags: byte(r.int(flags))}
		p.count, p.head = r.int(math.MaxInt32), r.int(math.MaxInt32)
		n := r.int(math.MaxInt32)
		if n < 1 || p.count < 1 || n > (offsets[number+1]-offsets[number])/leastPage || p.flags != 0 && n > len(r.b) {
			return nil, column.Corrupt("frame of %d pages", n)
		}
		if p.flags&flagPacked != 0 {
			p.sizes = make([]int, n)
		}
		if p.flags&flagParts != 0 {
			p.parts = make([]int, n)
		}
		for k := range n {
			if p.sizes != nil {
				p.sizes[k] = r.int(math.MaxInt32)
			}
			if p.parts != nil {
				p.parts[k] = r.int(math.MaxInt32)
			}
		}
		if p.flags&flagRows != 0 {
			p.ofRows = &rowPages{}
		}
		p.at = make([]int, n+1)
		out[uint32(number)] = p
	}
	return out, nil
}

// checkPages finds the columns of frames that are pages, and where each page is.
func (b *Body) checkPages() error {
	if len(b.paged) == 0 {
		return nil
	}
	for i := range b.columns {
		c := &b.columns[i]
		p := b.paged[c.Frame]
		if c.Size == 0 || p == nil {
			continue
		}
		if p.ofRows != nil {
			if err := b.addToRows(p, i); err != nil {
				return err
			}
			continue
		}
		if p.column != nil || c.Offset != 0 {
			return column.Corrupt("pages of several columns")
		}
		p.column = c
	}
	cells := 0
	for n, p := range b.paged {
		if r := p.ofRows; r != nil && len(p.at) > fewRowPages {
			if cells += (len(p.at) - 1) * len(r.columns); cells > maxRowCells {
				return column.Corrupt("%d pages of rows of %d columns", len(p.at)-1, len(r.columns))
			}
		}
		if n == b.tid.Frame || (n == b.timesAt) != (p.column == nil && p.ofRows == nil) {
			return column.Corrupt("pages of frame %d", n)
		}
		if err := p.place(b.offsets[n], b.offsets[n+1], b.info); err != nil {
			return err
		}
		b.memory += 256 + 16*len(p.at)
	}
	return nil
}

// place finds out where the pages are, which take up a frame.
func (p *pages) place(from, end int, k *BlockInfo) error {
	n, total := len(p.at)-1, k.Rows-len(k.RunEnds)
	if c := p.column; c != nil {
		total = c.N
		if _, ok := c.PageSize(1); !ok || (c.Kind == column.Dict) != (p.head > 0) || int(c.Size) > k.payloadLimit() {
			return column.Corrupt("pages of a column of %v, %d bytes", c.Kind, c.Size)
		}
	} else if r := p.ofRows; r != nil {
		total = k.Rows
		if p.flags&flagParts == 0 || (r.head > 0) != (p.head > 0) || len(r.columns) == 0 {
			return column.Corrupt("pages of rows of %d columns", len(r.columns))
		}
	} else if p.head == 0 || p.flags&flagParts == 0 || p.count%column.TimesGroup != 0 {
		return column.Corrupt("pages of times without a head")
	}
	if n != (total+p.count-1)/p.count {
		return column.Corrupt("%d pages of %d values each, of %d", n, p.count, total)
	}
	if p.parts == nil {
		p.parts = make([]int, n)
		for i := range p.parts {
			if p.parts[i], _ = p.column.PageSize(p.values(i)); p.parts[i] < 0 {
				return column.Corrupt("pages without sizes")
			}
		}
	}
	p.at[0] = from + p.head
	sum := 0
	for i, part := range p.parts {
		size := column.StoredPage(part)
		if p.sizes != nil {
			size = p.sizes[i]
		}
		if sum += part; sum > k.payloadLimit() {
			return column.Corrupt("pages of more than %d bytes", k.payloadLimit())
		}
		if p.at[i+1] = p.at[i] + size; p.at[i+1] > end {
			return column.Corrupt("pages behind the end of their frame")
		}
	}
	if c := p.column; c != nil && sum+c.IndexAt != int(c.Size) && (c.Kind == column.Dict || sum != int(c.Size)) {
		return column.Corrupt("pages of %d bytes, not %d", sum, c.Size)
	}
	if r := p.ofRows; r != nil && sum+r.head != r.size {
		return column.Corrupt("pages of %d bytes, not %d", sum+r.head, r.size)
	}
	if p.at[n] != end {
		return column.Corrupt("pages that end %d bytes before their frame", end-p.at[n])
	}
	p.sizes = nil
	return nil
}

// values returns how many values a page of a column has.
func (p *pages) values(i int) int { return min(p.count, p.column.N-i*p.count) }

// readHead returns the payload of the head's frame; nil if there is none.
func (b *Body) readHead(p *pages) ([]byte, error) {
	if p.head == 0 {
		return nil, nil
	}
	frame, kept, err := b.span(p.number, p.at[0]-p.head, p.at[0])
	if err != nil {
		return nil, err
	}
	head, err := column.ReadFrame(frame, b.frameLimit(p.number))
	return own(frame, head, kept), err
}

// part returns a part of the payload.
func (b *Body) part(p *pages, i int) ([]byte, error) {
	if p.opened == nil {
		p.opened = make([][]byte, len(p.parts))
		b.keep(p, 24*len(p.parts))
	}
	if p.opened[i] == nil {
		page, kept, err := b.span(p.number, p.at[i], p.at[i+1])
		if err != nil {
			return nil, err
		}
		part, err := column.ReadPage(page, p.parts[i])
		if err != nil {
			return nil, err
		}
		if p.opened[i] = own(page, part, kept); !within(page, p.opened[i]) {
			b.keep(p, len(part))
		}
	}
	return p.opened[i], nil
}

// join returns the payload of all pages together, which are not of times; of pages of rows only
// that of some columns, if there are any.
func (b *Body) join(p *pages, some []int32) ([]byte, error) {
	from, to := p.at[0]-p.head, p.at[len(p.parts)]
	all, _, err := b.span(p.number, from, to)
	if err != nil {
		return nil, err
	}
	// The head and each part are copied, and of no use then.
	bufs := [2]*[]byte{scratch.Get().(*[]byte), scratch.Get().(*[]byte)}
	defer scratch.Put(bufs[0])
	defer scratch.Put(bufs[1])
	part := func(i int) ([]byte, error) {
		x, err := column.ReadPageIn(*bufs[1], all[p.at[i]-from:p.at[i+1]-from], p.parts[i])
		keepScratch(bufs[1], all, x)
		return x, err
	}
	var head []byte
	if p.head > 0 {
		if head, err = column.ReadFrameIn(*bufs[0], all[:p.head], b.frameLimit(p.number)); err != nil {
			return nil, err
		}
		keepScratch(bufs[0], all, head)
	}
	if p.ofRows != nil {
		return b.joinRows(p, some, head, part)
	}
	return column.JoinPages(p.column, head, p.count, part)
}

// view returns a view of the page that has value i of a column.
func (b *Body) view(p *pages, i int) (viewed, error) {
	k := i / p.count
	if p.views == nil {
		p.views = make([]*column.View, len(p.parts))
		b.keep(p, 8*len(p.views))
	}
	if p.views[k] == nil {
		if p.head > 0 && p.dict == nil {
			head, err := b.readHead(p)
			if err != nil {
				return viewed{}, err
			}
			if p.dict, err = column.NewHeadView(p.column, head); err != nil {
				return viewed{}, err
			}
			b.keep(p, len(head)+p.dict.MemorySize())
		}
		part, err := b.part(p, k)
		if err != nil {
			return viewed{}, err
		}
		if p.views[k], err = column.PageView(p.column, p.values(k), p.dict, part); err != nil {
			return viewed{}, err
		}
		b.keep(p, p.views[k].MemorySize()+pageInfo)
	}
	return viewed{p.views[k], uint32(k * p.count), uint32(p.values(k))}, nil
}

// ahead is bytes of the block that were read before they were asked for.
type ahead struct {
	off  int
	data []byte
}

// nearBy is how many bytes between two parts of a block are read rather than left out.
const nearBy = 512

// readAhead reads parts of the block, given where each begins and ends, in few reads. They
// are dropped by the caller.
func (b *Body) readAhead(parts [][2]int) error {
	if len(parts) == 0 {
		return nil
	}
	slices.SortFunc(parts, func(x, y [2]int) int { return cmp.Compare(x[0], y[0]) })
	b.reads++
	for len(parts) > 0 {
		from, to := parts[0][0], parts[0][1]
		for parts = parts[1:]; len(parts) > 0 && parts[0][0] <= to+nearBy; parts = parts[1:] {
			to = max(to, parts[0][1])
		}
		p, err := b.fetch(from, to-from)
		if err != nil {
			return err
		}
		if len(p) == b.size {
			b.store(p)
			return nil
		}
		b.ahead = append(b.ahead, ahead{from, p})
	}
	return nil
}
