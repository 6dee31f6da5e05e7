package lines

import (
	"fmt"
	"math"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

// Decode appends the lines and times of a block to the rows: those columns of rows
// and no others. Nothing is appended if it fails. The section was opened as a whole.
func (s *Section) Decode(block int, rows *model.Rows) error {
	return s.DecodeRange(block, 0, s.Blocks[block].Rows, rows)
}

// DecodeRange appends the lines and times of rows from … to-1 of a block, and reads
// only the frames that these need. Nothing is appended if it fails.
func (s *Section) DecodeRange(block, from, to int, rows *model.Rows) error {
	k := &s.Blocks[block]
	if k.Offset+k.Size > int64(len(s.data)) {
		return at(block, fmt.Errorf("only the section's footer is here"))
	}
	b, err := s.Body(block, s.data[k.Offset:k.Offset+k.Size])
	if err != nil {
		return err
	}
	return b.Rows(from, to, rows)
}

// whole reports whether all lines are kept as they are.
func (b *Body) whole() bool {
	k := b.info.Templates
	return len(k) == 1 && b.section.Table.Templates[k[0].Template].IsRaw()
}

// appendWhole appends the lines of rows from … to-1, all of which are kept as they are.
func (b *Body) appendWhole(dst *model.Strings, from, to int) error {
	if err := b.checkRange(from, to); err != nil {
		return at(b.block, err)
	}
	if _, err := b.SharedLengths(); err != nil { // they are no longer than the footer says
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	v, err := b.values(0)
	if err != nil {
		return at(b.block, err)
	}
	dst.Slab, dst.Ends = v.AppendAll(dst.Slab, dst.Ends, from, to)
	return nil
}

// Rows appends the lines and times of rows from … to-1: those columns of rows and no
// others. Nothing is appended if it fails.
func (b *Body) Rows(from, to int, dst *model.Rows) error {
	if err := b.checkRange(from, to); err != nil {
		return at(b.block, err)
	}
	if n := to - from; n > 0 && b.few(n) {
		rows := make([]uint32, n)
		for i := range rows {
			rows[i] = uint32(from + i)
		}
		return at(b.block, b.printFew(rows, dst))
	}
	p, err := b.borrow(from)
	if err != nil {
		return err
	}
	if err := p.room(dst); err != nil {
		return at(b.block, err)
	}
	k := b.info
	p.skipTo(from)
	size := k.Bytes
	if to-from < k.Rows {
		size = int(int64(k.Bytes) * int64(to-from) / int64(k.Rows)) // a guess
	}
	slab, ends := grown(dst.Lines.Slab, size+2*room), grown(dst.Lines.Ends, to-from)
	limit := len(slab) + k.Bytes
	for i := from; i < to; i++ {
		if slab, err = p.append(slab, limit, i); err != nil {
			return at(b.block, err)
		}
		ends = append(ends, uint32(len(slab)))
	}
	if to-from == k.Rows && len(slab) != limit {
		return at(b.block, column.Corrupt("%d bytes of lines, %d missing", k.Bytes, limit-len(slab)))
	}
	dst.Times = append(dst.Times, p.times[from:to]...)
	dst.Lines.Slab, dst.Lines.Ends = slab, ends
	b.giveBack(p)
	return nil
}

// Select appends the lines and times of the given rows, which ascend. Nothing is
// appended if it fails.
func (b *Body) Select(rows []uint32, dst *model.Rows) error {
	next := 0
	for _, r := range rows {
		if int(r) < next || int(r) >= b.info.Rows {
			return at(b.block, fmt.Errorf("row %d of %d after %d", r, b.info.Rows, next-1))
		}
		next = int(r) + 1
	}
	if len(rows) == 0 {
		return nil
	}
	if b.few(len(rows)) {
		return at(b.block, b.printFew(rows, dst))
	}
	p, err := b.borrow(int(rows[0]))
	if err != nil {
		return err
	}
	if err := p.room(dst); err != nil {
		return at(b.block, err)
	}
	wanted := make([]bool, len(b.info.Templates))
	for _, r := range rows {
		wanted[p.tids[r]] = true
	}
	p.Only(wanted)
	slab, ends, times := dst.Lines.Slab, grown(dst.Lines.Ends, len(rows)), grown(dst.Times, len(rows))
	limit := len(slab) + b.info.Bytes
	for _, r := range rows {
		p.skipTo(int(r))
		if slab, err = p.append(slab, limit, int(r)); err != nil {
			return at(b.block, err)
		}
		ends = append(ends, uint32(len(slab)))
		times = append(times, p.times[r])
	}
	dst.Times, dst.Lines.Slab, dst.Lines.Ends = times, slab, ends
	b.giveBack(p)
	return nil
}

// Printer prints the lines of a block's rows, one after the other. It is for one
// goroutine at a time.
type Printer struct {
	body    *Body
	tids    []uint16
	times   []int64
	pieces  [][]piece // of each template; nil: not ready
	columns []*slotPrinter
	cursors []uint32   // of each column, its next value
	row     int        // that the cursors are at
	skipped []uint32   // of each template, rows skipped since
	used    []bool     // columns whose cursors move; nil: all
	moves   []movement // of the templates, with the columns used only
	memory  int        // bytes, about

	// Of the columns and templates that were got ready last, and of the template that is.
	made    []slotPrinter
	list    []piece
	literal []byte
	from    int // in literal
	ends    []int

	noting bool
	slots  []template.Slot // printed while noting
}

// step is how many values of a column a row has.
type step struct{ column, n uint32 }

// movement is a template's steps, once they are known.
type movement struct {
	known bool
	steps []step
}

// Printer returns a printer at the first row.
func (b *Body) Printer() (*Printer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.printer()
}

func (b *Body) printer() (*Printer, error) {
	p := b.spare
	b.spare = nil
	if p == nil {
		p = &Printer{}
	}
	return p, b.lend(p, nil)
}

// lend makes a printer, which may have been another block's, one of this block. Its cursors
// are its own, if there are none. Call with mu held.
func (b *Body) lend(p *Printer, cursors []uint32) error {
	tids, err := b.rowTemplates()
	if err != nil {
		return at(b.block, err)
	}
	times, err := b.sharedTimes()
	if err != nil {
		return at(b.block, err)
	}
	n, k := len(b.info.Templates), len(b.columns)
	if cursors == nil {
		cursors = make([]uint32, k)
	}
	clear(p.made)
	clear(p.list)
	*p = Printer{body: b, tids: tids, times: times, pieces: cleared(p.pieces, n), columns: cleared(p.columns, k), cursors: cursors,
		skipped: cleared(p.skipped, n), made: p.made[:0], list: p.list[:0], literal: p.literal[:0], ends: p.ends}
	p.memory = 256 + 28*n + 12*k + printerSize*cap(p.made) + pieceSize*cap(p.list) + cap(p.literal)
	return nil
}

// release lets go of the block and keeps the memory, for lend.
func (p *Printer) release() {
	clear(p.made)
	clear(p.list)
	clear(p.pieces)
	clear(p.columns)
	*p = Printer{pieces: p.pieces, columns: p.columns, skipped: p.skipped, made: p.made[:0], list: p.list[:0], literal: p.literal[:0], ends: p.ends}
}

// cleared returns n zeros, in the memory of s if that is enough.
func cleared[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// Inherit takes the memory that another body, which nobody uses any more, printed with. It
// has printed its last.
func (b *Body) Inherit(from *Body) {
	from.mu.Lock()
	p := from.idle
	if from.idle = nil; p == nil {
		p = from.spare
	}
	from.spare = nil
	from.mu.Unlock()
	if p != nil {
		p.release() // or from would stay
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle == nil {
		b.spare = p
	}
}

// borrow returns a printer that is at a row or before: the one that was given back, if
// there is one. What it got ready then need not be made again.
func (b *Body) borrow(row int) (*Printer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.idle
	if b.idle = nil; p == nil {
		return b.printer()
	}
	b.memory -= p.memory
	if p.used != nil || p.row > row {
		clear(p.cursors)
		p.row, p.used, p.moves = 0, nil, nil
	}
	return p, nil
}

// giveBack keeps a printer that did not fail for the next who wants one.
func (b *Body) giveBack(p *Printer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle == nil {
		b.idle = p
		b.memory += p.memory
	}
}

func (p *Printer) room(dst *model.Rows) error { return roomFor(p.body, dst) }

func roomFor(b *Body, dst *model.Rows) error {
	if uint64(len(dst.Lines.Slab))+uint64(b.info.Bytes) > math.MaxUint32 {
		return column.Corrupt("more than 4 GiB of lines")
	}
	return nil
}

// Only says that no rows of other templates, by their places in the block's list,
// than these will be printed, so that other columns' cursors need not move.
func (p *Printer) Only(templates []bool) {
	b := p.body
	p.used, p.moves = make([]bool, len(b.columns)), nil
	for t, wanted := range templates {
		if wanted {
			for _, id := range b.columnsOf(t) {
				p.used[b.place(id)] = true
			}
		}
	}
}

func (b *Body) columnsOf(t int) []uint32 {
	return b.section.Table.Templates[b.info.Templates[t].Template].Columns
}

// stepsOf appends how far a row of a template moves the cursors to out.
func (b *Body) stepsOf(t int, used []bool, out []step) []step {
	first := len(out)
columns:
	for _, id := range b.columnsOf(t) {
		c := uint32(b.place(id))
		if used != nil && !used[c] {
			continue
		}
		for i := max(first, len(out)-64); i < len(out); i++ { // several of one column do as well
			if out[i].column == c {
				out[i].n++
				continue columns
			}
		}
		out = append(out, step{c, 1})
	}
	return out
}

// steps returns how far a row of a template moves the cursors. Those that all columns
// count for are kept with the body.
func (p *Printer) steps(t int) []step {
	b := p.body
	if p.moves == nil && p.used != nil {
		p.moves = make([]movement, len(p.pieces))
	} else if p.moves == nil {
		p.moves = b.allMoves(len(p.pieces))
	}
	m := &p.moves[t]
	if !m.known {
		*m = movement{true, b.stepsOf(t, p.used, nil)}
	}
	return m.steps
}

// allMoves returns the steps of each of n templates.
func (b *Body) allMoves(n int) []movement {
	b.mu.Lock()
	defer b.mu.Unlock() // a panic must not lock others out
	if b.moves == nil {
		moves, all := make([]movement, n), 0
		for t := range moves {
			all += len(b.columnsOf(t))
		}
		steps := make([]step, 0, all)
		for t := range moves {
			first := len(steps)
			steps = b.stepsOf(t, nil, steps)
			moves[t] = movement{true, steps[first:len(steps):len(steps)]}
		}
		b.memory += 32*n + 8*all
		b.moves = moves
	}
	return b.moves
}

// skipTo moves to a later row.
func (p *Printer) skipTo(row int) {
	if row == p.row {
		return
	}
	if row-p.row < len(p.skipped) {
		for _, t := range p.tids[p.row:row] {
			for _, s := range p.steps(int(t)) {
				p.cursors[s.column] += s.n
			}
		}
	} else {
		for _, t := range p.tids[p.row:row] {
			p.skipped[t]++
		}
		for t, n := range p.skipped {
			if n == 0 {
				continue
			}
			p.skipped[t] = 0
			for _, s := range p.steps(t) {
				p.cursors[s.column] += s.n * n
			}
		}
	}
	p.row = row
}

// Append appends the line of a row, not before that of the last call, to dst.
func (p *Printer) Append(dst []byte, row int) ([]byte, error) {
	p.skipTo(row)
	out, err := p.append(dst, len(dst)+p.body.info.Bytes, row)
	return out, at(p.body.block, err)
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
