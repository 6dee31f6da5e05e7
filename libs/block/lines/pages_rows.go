package lines

import (
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
)

// rowPages is pages of rows: each has the values that these rows have in some columns, so
// that whoever reads rows that follow each other needs few pages for many columns.
type rowPages struct {
	columns []int32 // places, ascending; their payloads lie end to end in the frame's
	headAt  []int   // where what is in no page of each column begins among that of all
	size    int     // of the payload
	head    int     // bytes of it that are in no page

	heads []byte         // nil: not read
	dicts []*column.View // of the columns' distinct values
	pages []*rowPage
}

// rowPage is what some rows have.
type rowPage struct {
	at    []uint32       // where the values of each column begin, and where the last ones end
	first []uint32       // which value of each column is the first
	n     []uint32       // how many each has
	views []*column.View // of them
}

// addToRows adds a column to those that pages of rows are of.
func (b *Body) addToRows(p *pages, i int) error {
	r, c := p.ofRows, &b.columns[i]
	if int(c.Offset) != r.size || r.size+int(c.Size) > b.info.payloadLimit() || c.HeadSize() > int(c.Size) {
		return column.Corrupt("pages of rows of a column at %d+%d", c.Offset, c.Size)
	}
	if b.within == nil {
		b.within = make([]int32, len(b.columns))
		b.memory += 4 * len(b.within)
	}
	b.within[i] = int32(len(r.columns))
	r.columns, r.headAt = append(r.columns, int32(i)), append(r.headAt, r.head)
	r.size += int(c.Size)
	r.head += c.HeadSize()
	b.memory += 12
	return nil
}

// countBefore counts the rows of each template before a row, in passed, from where the last
// ones were counted: rows near by are asked for one after the other.
func (b *Body) countBefore(tids *packedTemplates, row int) {
	if b.passed == nil {
		b.passed = make([]uint32, len(b.info.Templates))
		b.memory += 4 * len(b.passed)
	}
	if tids.n-row < max(b.passedTo-row, row-b.passedTo) {
		for t, k := range b.info.Templates {
			b.passed[t] = k.Rows
		}
		b.passedTo = tids.n
	} else if row < b.passedTo-row {
		clear(b.passed)
		b.passedTo = 0
	}
	if b.passedTo < row {
		tids.tally(b.passed, b.passedTo, row)
		b.passedTo = row
	}
	for ; b.passedTo > row; b.passedTo-- {
		b.passed[tids.at(b.passedTo-1)]--
	}
}

// addValues adds the values that rows have in each of the block's columns, by its place, given
// the rows of each template.
func (b *Body) addValues(counts, templates []uint32) {
	if len(b.columns) == 0 {
		return
	}
	first, numbers := b.columns[0].ID, b.numbers
	for t, n := range templates {
		if n == 0 {
			continue
		}
		for _, id := range b.columnsOf(t) {
			counts[numbers[id-first]] += n
		}
	}
}

// rowsOf returns the rows of a page of rows.
func (b *Body) rowsOf(p *pages, k int) (from, to int) {
	return k * p.count, min((k+1)*p.count, b.info.Rows)
}

// joinRows returns the payload of the frame that pages of rows are in the place of, or, end to
// end, those of some of their columns, which ascend and are numbers among these; nil: all.
func (b *Body) joinRows(p *pages, some []int32, head []byte, part func(i int) ([]byte, error)) ([]byte, error) {
	all, err := b.rowTemplates()
	if err != nil {
		return nil, err
	}
	tids := packedTemplates{n: len(all), all: all}
	r := p.ofRows
	if len(head) != r.head {
		return nil, column.Corrupt("head of %d bytes, not %d", len(head), r.head)
	}
	last := len(r.columns) - 1
	size := r.size
	if some == nil {
		some = make([]int32, len(r.columns))
		for x := range some {
			some[x] = int32(x)
		}
	} else {
		last, size = int(some[len(some)-1]), 0
		for _, x := range some {
			size += int(b.columns[r.columns[x]].Size)
		}
	}
	out := make([]byte, size)
	joiners := make([]column.Joiner, len(some))
	rest := out
	for k, x := range some {
		c := &b.columns[r.columns[x]]
		if joiners[k], err = column.NewJoiner(c, head[r.headAt[x]:][:c.HeadSize()], rest[:c.Size]); err != nil {
			return nil, err
		}
		rest = rest[c.Size:]
	}
	templates, counts := make([]uint32, len(b.info.Templates)), make([]uint32, len(b.columns))
	for k := range p.parts {
		rest, err := part(k)
		if err != nil {
			return nil, err
		}
		from, to := b.rowsOf(p, k)
		tids.tally(templates, from, to)
		b.addValues(counts, templates)
		clear(templates)
		next := 0 // of some
		for x, i := range r.columns[:last+1] {
			wanted := int(some[next]) == x
			if wanted {
				next++
			}
			n, c := int(counts[i]), &b.columns[i]
			if n == 0 || c.HeadSize() == int(c.Size) {
				continue
			}
			size, err := c.PartSize(n, rest)
			if err != nil {
				return nil, err
			}
			if wanted {
				if err := joiners[next-1].Add(n, rest[:size]); err != nil {
					return nil, err
				}
			}
			rest = rest[size:]
		}
		if len(rest) > 0 && last == len(r.columns)-1 {
			return nil, column.Corrupt("%d bytes behind the values of a page of rows", len(rest))
		}
		clear(counts)
	}
	for k := range joiners {
		if err := joiners[k].Close(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Take prepares for all values of some columns being asked for, by their places among Columns,
// and not all of what they lie with: of pages of rows only what is theirs is kept.
func (b *Body) Take(columns []int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	wanted := map[*pages][]int32{}
	for _, i := range columns {
		c := &b.columns[i]
		if p := b.paged[c.Frame]; c.Size > 0 && p != nil && p.ofRows != nil && b.frames[c.Frame] == nil && b.alone[c] == nil {
			wanted[p] = append(wanted[p], b.within[i])
		}
	}
	for p, some := range wanted {
		slices.Sort(some)
		some = slices.Compact(some)
		out, err := b.join(p, some)
		if err != nil {
			return at(b.block, err)
		}
		if b.alone == nil {
			b.alone = map[*column.Info][]byte{}
		}
		for _, x := range some {
			c := &b.columns[p.ofRows.columns[x]]
			b.alone[c] = out[:c.Size:c.Size]
			out = out[c.Size:]
			b.memory += int(c.Size) + aloneSize
		}
	}
	return nil
}

// aloneSize is about what a payload takes that is kept alone, besides its bytes.
const aloneSize = 48

// rowPage opens a page of rows.
func (b *Body) rowPage(p *pages, k int) (*rowPage, error) {
	r := p.ofRows
	if r.pages == nil {
		r.pages = make([]*rowPage, len(p.parts))
		b.keep(p, 8*len(r.pages))
	}
	if r.pages[k] != nil {
		return r.pages[k], nil
	}
	from, to := b.rowsOf(p, k)
	tids, err := b.fewTemplates(from)
	if err != nil {
		return nil, err
	}
	part, err := b.part(p, k)
	if err != nil {
		return nil, err
	}
	counts := make([]uint32, 2*len(b.columns))
	before := counts[len(b.columns):]
	templates := make([]uint32, len(b.info.Templates))
	tids.tally(templates, from, to)
	b.addValues(counts[:len(b.columns)], templates)
	b.countBefore(tids, from)
	b.addValues(before, b.passed)
	n := len(r.columns)
	all := make([]uint32, 3*n+1)
	g := &rowPage{n: all[:n], first: all[n : 2*n], at: all[2*n:], views: make([]*column.View, n)}
	at := 0
	for x, i := range r.columns {
		g.n[x], g.first[x], g.at[x] = counts[i], before[i], uint32(at)
		if counts[i] == 0 {
			continue
		}
		size, err := b.columns[i].PartSize(int(counts[i]), part[at:])
		if err != nil {
			return nil, err
		}
		at += size
	}
	if g.at[n] = uint32(at); at != len(part) {
		return nil, column.Corrupt("%d bytes behind the values of a page of rows", len(part)-at)
	}
	r.pages[k] = g
	b.keep(p, 20*n+96)
	return g, nil
}

// headOf returns what is in no page of a column.
func (b *Body) headOf(p *pages, n int) ([]byte, error) {
	r := p.ofRows
	if r.heads == nil {
		head, err := b.readHead(p)
		if err != nil {
			return nil, err
		}
		if len(head) != r.head {
			return nil, column.Corrupt("head of %d bytes, not %d", len(head), r.head)
		}
		r.heads = head
		b.keep(p, len(head))
	}
	return r.heads[r.headAt[b.within[n]]:][:b.columns[n].HeadSize()], nil
}

// rowView returns a view of the values of a column that are in the page of a row.
func (b *Body) rowView(p *pages, row, n int) (viewed, error) {
	if c := &b.columns[n]; c.HeadSize() == int(c.Size) {
		head, err := b.headOf(p, n)
		if err != nil {
			return viewed{}, err
		}
		return b.keepView(n, head)
	}
	k := row / p.count
	g, err := b.rowPage(p, k)
	if err != nil {
		return viewed{}, err
	}
	x := b.within[n]
	if g.views[x] != nil {
		return viewed{g.views[x], g.first[x], g.n[x]}, nil
	}
	r, c := p.ofRows, &b.columns[n]
	if c.Kind == column.Dict && r.dicts == nil {
		r.dicts = make([]*column.View, len(r.columns))
		b.keep(p, 8*len(r.dicts))
	}
	var dict *column.View
	if c.Kind == column.Dict {
		if dict = r.dicts[x]; dict == nil {
			head, err := b.headOf(p, n)
			if err != nil {
				return viewed{}, err
			}
			if dict, err = column.NewHeadView(c, head); err != nil {
				return viewed{}, err
			}
			r.dicts[x] = dict
			b.keep(p, dict.MemorySize())
		}
	}
	if g.n[x] == 0 {
		return viewed{}, column.Corrupt("page of rows without values of column %d", c.ID)
	}
	view, err := column.PageView(c, int(g.n[x]), dict, p.opened[k][g.at[x]:g.at[x+1]])
	if err != nil {
		return viewed{}, err
	}
	g.views[x] = view
	b.keep(p, view.MemorySize()+pageInfo)
	return viewed{view, g.first[x], g.n[x]}, nil
}

// rowReader is pages of rows that few rows are printed from, and whether these need what is
// in no page.
type rowReader struct {
	pages *pages
	head  bool
}

// rowParts returns what rows need of pages of rows that is not here.
func (w *fewWriter) rowParts(first, last int) (parts [][2]int) {
	b := w.body
	if b.within == nil {
		return nil
	}
	var readers []rowReader
	for i := range w.columns {
		c := w.columns[i].info
		p := b.paged[c.Frame]
		if c.Size == 0 || p == nil || p.ofRows == nil || b.frames[p.number] != nil || b.alone[c] != nil || w.columns[i].values != nil {
			continue
		}
		x := slices.IndexFunc(readers, func(r rowReader) bool { return r.pages == p })
		if x < 0 {
			x = len(readers)
			readers = append(readers, rowReader{pages: p})
		}
		readers[x].head = readers[x].head || c.HeadSize() > 0
	}
	for _, r := range readers {
		p := r.pages
		if r.head && p.ofRows.heads == nil {
			parts = append(parts, [2]int{p.at[0] - p.head, p.at[0]})
		}
		for k := first / p.count; k <= last/p.count; k++ {
			if p.opened == nil || p.opened[k] == nil {
				parts = append(parts, [2]int{p.at[k], p.at[k+1]})
			}
		}
	}
	return parts
}
