package lines

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// Payloads returns the payloads of all frames of a section but the footer, and the
// directories' columns: what the compressor has no part in.
func Payloads(section []byte) ([][]byte, error) {
	s, err := Open(section)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for i := range s.Blocks {
		k := &s.Blocks[i]
		d, err := s.Body(i, s.data[k.Offset:k.Offset+k.Size])
		if err != nil {
			return nil, err
		}
		for n := range d.frames {
			b, err := d.wholeFrame(uint32(n))
			if err != nil {
				return nil, err
			}
			out = append(out, b)
		}
		out = append(out, column.AppendInfos(nil, []column.Info{d.tid}), column.AppendInfos(nil, d.columns))
	}
	return append(out, s.Table.Append(nil)), nil
}

// wholeFrame is frame, also of times in pages: their head and parts.
func (b *Body) wholeFrame(n uint32) ([]byte, error) {
	p := b.paged[n]
	if p == nil || n != b.timesAt {
		return b.frame(n)
	}
	head, err := b.readHead(p)
	out := slices.Clone(head)
	for i := 0; err == nil && i < len(p.parts); i++ {
		var part []byte
		part, err = b.part(p, i)
		out = append(out, part...)
	}
	return out, err
}

var editor = column.NewCompressor(column.LevelFastest)

// Edit writes a section of one block anew, with payloads changed but all checksums
// and lengths right: frames 0, 1, …, then the directory and the footer.
func Edit(section []byte, edit func(n int, payload []byte) []byte) []byte {
	return rewrite(section, edit, func(*column.Info, []column.Info) {}, func(*BlockInfo) {})
}

// EditColumns does the same with the descriptions of the columns changed.
func EditColumns(section []byte, edit func([]column.Info)) []byte {
	return rewrite(section, func(_ int, b []byte) []byte { return b }, func(_ *column.Info, infos []column.Info) { edit(infos) }, func(*BlockInfo) {})
}

// EditInfo does the same with what the footer says of the block changed.
func EditInfo(section []byte, edit func(*BlockInfo)) []byte {
	return rewrite(section, func(_ int, b []byte) []byte { return b }, func(*column.Info, []column.Info) {}, edit)
}

// EditTemplates does the same with the column of the rows' templates changed, and its payload,
// which has a frame of its own.
func EditTemplates(section []byte, edit func(c *column.Info, payload []byte) []byte) []byte {
	s, err := Open(section)
	if err != nil {
		panic(err)
	}
	d, err := s.Body(0, s.data)
	if err != nil {
		panic(err)
	}
	c := d.tid
	return rewrite(section, func(n int, b []byte) []byte {
		if n == int(c.Frame) {
			return edit(&c, b)
		}
		return b
	}, func(tid *column.Info, _ []column.Info) { *tid = c }, func(*BlockInfo) {})
}

func rewrite(section []byte, edit func(int, []byte) []byte, editColumns func(*column.Info, []column.Info), editInfo func(*BlockInfo)) []byte {
	s, err := Open(section)
	if err != nil || len(s.Blocks) != 1 {
		panic("no section of one block")
	}
	k := &s.Blocks[0]
	d, err := s.Body(0, s.data)
	if err != nil {
		panic(err)
	}
	c := editor
	var out []byte
	var f frames
	number := 0
	next := func(b []byte) []byte {
		number++
		return edit(number-1, append([]byte(nil), b...))
	}
	for n := range d.frames {
		start := len(out)
		if p := d.paged[uint32(n)]; p != nil {
			paged := pagedFrame{number: n, count: p.count, packed: true, known: p.flags&flagParts == 0, rows: p.ofRows != nil}
			if head, err := d.readHead(p); err != nil {
				panic(err)
			} else if head != nil {
				out = c.AppendFrame(out, next(head))
				paged.head = len(out) - start
			}
			for i := range p.parts {
				part, err := d.part(p, i)
				if err != nil {
					panic(err)
				}
				part = next(part)
				at := len(out)
				out = c.AppendPage(out, part, true)
				paged.sizes, paged.parts = append(paged.sizes, len(out)-at), append(paged.parts, len(part))
			}
			f.paged = append(f.paged, paged)
		} else {
			b, err := d.frame(uint32(n))
			if err != nil {
				panic(err)
			}
			out = c.AppendFrame(out, next(b))
		}
		f.sizes = append(f.sizes, len(out)-start)
	}
	editColumns(&d.tid, d.columns)
	directory := f.appendDirectory(nil, d.timesAt, d.tid, d.columns)
	at := len(out)
	out = c.AppendFrame(out, next(directory))
	table := s.Table.Append(nil)
	foot := append(binary.AppendUvarint(nil, uint64(len(table))), table...)
	blocks := []BlockInfo{{Rows: k.Rows, Bytes: k.Bytes, MinTime: k.MinTime, MaxTime: k.MaxTime, RunEnds: k.RunEnds,
		Templates: k.Templates, Size: int64(len(out)), directory: len(out) - at, shared: k.shared}}
	editInfo(&blocks[0])
	foot = appendBlocks(foot, blocks)
	foot = column.AppendSummaries(foot, s.Columns)
	foot = appendShared(foot, blocks)
	foot = column.AppendPlain(foot, s.Plain)
	return appendTail(out, c, next(foot))
}

// FewReads is how many frames of a sparse body are read one by one.
const FewReads = fewReads

// Frames returns how many frames a body has.
func (b *Body) Frames() int { return len(b.frames) }

// Reach returns how many bytes of a frame's payload columns are in.
func (b *Body) Reach(n int) int { return int(b.reach[n]) }

// Twice returns how many bytes the body keeps of frames as they are stored that it has
// decompressed; not of one that it was opened with.
func (b *Body) Twice() (n int) {
	for i, p := range b.stored {
		if b.frames[i] != nil {
			n += len(p)
		}
	}
	return n
}

// Held returns how many bytes of frames the body keeps, stored or not.
func (b *Body) Held() int {
	n := len(b.data)
	for _, p := range b.stored {
		n += len(p)
	}
	for _, p := range b.alone {
		n += len(p)
	}
	for _, p := range b.frames {
		if !within(b.data, p) {
			n += len(p)
		}
	}
	return n
}

// HeldTemplates returns how many bytes of frames the body keeps of the templates of its rows,
// once these were read.
func (b *Body) HeldTemplates() int {
	if _, err := b.RowTemplates(); err != nil || int(b.tid.Frame) >= len(b.frames) {
		return 0
	}
	return len(b.frames[b.tid.Frame])
}

// FewPages is likewise for bodies with pages.
const FewPages = fewPages

// SetSmallPages makes the builder cut payloads into pages wherever it can.
func (b *Builder) SetSmallPages() {
	b.frames.pages = &pageSizes{columns: true, least: 32, leastText: 32, leastDict: 32, stored: 48, packed: 24, text: 48, steps: column.TimesGroup, group: 512, loss: 1000, unpacked: 1 << 20, unpackedText: 1 << 20,
		shared: 1 << 20, leastRows: math.MaxInt}
}

// SetSmallRowPages makes the builder put all that it can in small pages of rows.
func (b *Builder) SetSmallRowPages() {
	b.frames.pages = &pageSizes{columns: true, least: math.MaxInt, group: 512, shared: 700, rows: []int{150}, slice: 1 << 20, blocks: 2}
}

// Pages returns how many frames of a body are pages, and how many of these are of each kind
// of column.
func (b *Body) Pages() (n int, kinds map[string]int) {
	kinds = map[string]int{}
	for _, p := range b.paged {
		kind := "times"
		if p.column != nil {
			kind = p.column.Kind.String()
		} else if p.ofRows != nil {
			kind = "rows"
		}
		kinds[kind]++
	}
	return len(b.paged), kinds
}

// RowPages returns how many pages of rows a body has, and how many columns of each kind are
// in them; those that are in no page but before it as a whole have a star.
func (b *Body) RowPages() (n int, kinds map[string]int) {
	kinds = map[string]int{}
	for _, p := range b.paged {
		if p.ofRows == nil {
			continue
		}
		n += len(p.parts)
		for _, i := range p.ofRows.columns {
			kind := b.columns[i].Kind.String()
			if b.columns[i].HeadSize() == int(b.columns[i].Size) {
				kind += "*"
			}
			kinds[kind]++
		}
	}
	return n, kinds
}

// SharedIn returns which grams a filter of text of one literal and values has: those shared.
func SharedIn(literal string, values []string) func(gram []byte) bool {
	c := &column.Info{Kind: column.Bytes, N: len(values), Width: 1}
	var lengths, text []byte
	for _, v := range values {
		lengths, text = append(lengths, byte(len(v))), append(text, v...)
	}
	var s sharing
	s.begin([]template.Count{{Template: 0, Rows: 1}}, func(uint32) []byte { return []byte(literal) })
	s.values(c, append(lengths, text...))
	filter := s.filter()
	return func(gram []byte) bool {
		g, ok := Gram(gram)
		return ok && shares(filter, g)
	}
}

// TakenWrong takes every third column of a block, and returns one that is not as in its frame,
// or that there is an error though the frames are right; else -1.
func (s *Section) TakenWrong(i int) (wrong int, err error) {
	k := &s.Blocks[i]
	data := s.data[k.Offset : k.Offset+k.Size]
	taken, err := s.Body(i, data)
	if err != nil {
		return -1, err
	}
	whole, err := s.Body(i, data)
	if err != nil {
		return -1, err
	}
	var columns []int
	for n := i % 3; n < len(whole.columns); n += 3 {
		columns = append(columns, n)
	}
	err = taken.Take(columns)
	right := true
	for _, n := range columns {
		want, failure := whole.payload(&whole.columns[n])
		right = right && failure == nil
		if p := taken.alone[&taken.columns[n]]; p != nil && failure == nil && !bytes.Equal(p, want) {
			return n, err
		}
	}
	if err != nil && right {
		return 0, err
	}
	return -1, err
}

// Alone returns the payload of a column that was taken; nil: it was not.
func (b *Body) Alone(i int) []byte { return b.alone[&b.columns[i]] }

// Ahead returns how many pieces of the block are kept that were read before they are needed.
func (b *Body) Ahead() int { return len(b.ahead) }

// Kept returns how many of the bytes that a read returned the body has a use for.
func (b *Body) Kept(read []byte) (n int) {
	kept := slices.Concat(b.frames, b.stored)
	for _, p := range b.paged {
		kept = append(kept, p.opened...)
		if p.ofRows != nil {
			kept = append(kept, p.ofRows.heads)
		}
	}
	for _, p := range kept {
		if within(read, p) {
			n += len(p)
		}
	}
	return n
}

// SetRowPagesOf makes the builder put all that it can in pages of rows, of so many bytes.
func (b *Builder) SetRowPagesOf(target int) {
	b.frames.pages = &pageSizes{columns: true, least: math.MaxInt, group: 512, shared: 1 << 20, rows: []int{target}, slice: 1 << 20, blocks: 2}
}

// RowViews returns how many views a body keeps of columns whose frames are pages of rows.
func (b *Body) RowViews() (n int) {
	for i, v := range b.views {
		if p := b.paged[b.columns[i].Frame]; v != nil && b.columns[i].Size > 0 && p != nil && p.ofRows != nil {
			n++
		}
	}
	return n
}

// Lent returns how many printers the builder keeps for blocks to come, and how many of them
// hold on to one.
func (b *Builder) Lent() (free, holding int) {
	for _, p := range b.carry.printed.free {
		if p.holds() {
			holding++
		}
	}
	return len(b.carry.printed.free), holding
}

// Holds reports whether what the body inherited holds on to another one.
func (b *Body) Holds() bool { return b.spare != nil && b.spare.holds() }

func (p *Printer) holds() bool {
	for _, c := range p.columns[:cap(p.columns)] {
		if c != nil {
			return true
		}
	}
	for _, c := range p.made[:cap(p.made)] {
		if c.values != nil {
			return true
		}
	}
	return p.body != nil || p.times != nil
}

// Tally counts rows by template, in each form that they may be in.
func Tally(rows []uint32, tids []uint16) map[string][]uint32 {
	n := len(tids)
	low, high := make([]byte, n), make([]byte, n)
	for i, t := range tids {
		low[i], high[i] = byte(t), byte(t>>8)
	}
	forms := map[string]packedTemplates{"unpacked": {n: n, all: tids}, "of two bytes": {n: n, low: low, high: high}}
	if len(rows) <= 256 {
		forms["of a byte"] = packedTemplates{n: n, low: low}
	}
	if len(rows) == 1 {
		forms["of no byte"] = packedTemplates{n: n}
	}
	out := map[string][]uint32{}
	for kind, p := range forms {
		got := slices.Clone(rows)
		half := n / 3
		p.tally(got, 0, half)
		p.tally(got, half, n)
		out[kind] = got
		unpacked := make([]uint16, n)
		if p.unpack(unpacked); !slices.Equal(unpacked, tids) {
			out[kind] = nil
		}
	}
	return out
}

// FewTemplates gets the rows' templates for who looks at few rows, and returns how many bytes
// of memory the body says that it takes for that, and how many it does.
func (b *Body) FewTemplates(row int) (said, held int, err error) {
	before := b.MemorySize()
	if _, err = b.fewTemplates(row); err != nil {
		return 0, 0, err
	}
	held = 4*len(b.passed) + 2*len(b.tids)
	if p := b.frames[b.tid.Frame]; !within(b.data, p) {
		held += len(p)
	}
	return b.MemorySize() - before, held, nil
}
