package lines

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

// Part is rows that follow each other: rows From … To-1 of a block that was opened, or,
// without a body, of lines that are given as text.
type Part struct {
	Body     *Body
	From, To int
}

// SharedLengths is Lengths, worked out once. The result must not be changed.
func (b *Body) SharedLengths() ([]uint32, error) {
	b.mu.Lock()
	known := b.lengths
	b.mu.Unlock()
	if known != nil {
		return known, nil
	}
	l, err := b.Lengths()
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lengths == nil {
		b.lengths = l
		b.memory += 4 * len(l)
	}
	return b.lengths, nil
}

// carrier takes over rows of other blocks.
type carrier struct {
	sections map[*Section]*placed
	takers   map[*Body]*taker
	idle     map[*Body]*taker // empty
	last     *taker
	taken    []uint32 // by column: the last taker, by its number, that has one for it
	taking   uint32   // number of the newest taker

	runs    [][]column.Run // by column
	used    []uint32       // columns that have runs
	counts  []uint32       // rows by template
	rows    []uint32
	slotsOf []int32
	pieces  pieces
	printed printed
	plain   model.Rows   // lines that were to be taken over, as text; scratch
	walked  []walkedPart // of the block added last; none: all of it is text
}

func (c *carrier) reset() {
	if c.sections == nil {
		c.sections, c.takers, c.idle = map[*Section]*placed{}, map[*Body]*taker{}, map[*Body]*taker{}
	}
	clear(c.sections)
	for _, t := range c.takers {
		c.printed.done(t)
	}
	clear(c.takers)
	c.last = nil
	// A block that failed left them.
	for i := range c.runs {
		clear(c.runs[i])
		c.runs[i] = c.runs[i][:0]
	}
	c.pieces.reset()
}

// placed is where templates of another section are in this one.
type placed struct {
	known   []bool
	numbers []uint32
	columns [][]uint32
}

// taker walks through the rows of one block.
type taker struct {
	body     *Body
	tids     []uint16
	times    []int64
	numbers  []uint32 // of the block's templates, here
	columns  []uint32 // of the block's columns, here
	values   []*column.Values
	moves    []movement
	routes   []route // of the templates
	printer  *Printer
	printers []*slotPrinter
	row      int
	cursors  []uint32
	before   []uint32
	touched  []uint32 // columns that a part has values of
	stamps   []uint32 // by column: the part that touched it last
	stamp    uint32
	walked   int // the row behind the part of the block before
	walkedIn int // the block that it was in, see pieces
}

// errApart: templates or columns of another section cannot be told by those of this one.
var errApart = errors.New("no place for templates of another section")

// take returns what walks through a block, at a row. Only one block of a section is kept
// in mind: rows come in their order.
func (b *Builder) take(body *Body, row int) (*taker, error) {
	t, err := b.taker(body)
	if err != nil {
		return nil, err
	}
	if t.row > row {
		t.row = 0
		clear(t.cursors)
	}
	t.skip(row)
	return t, nil
}

// taker returns what walks through a block, wherever it is.
func (b *Builder) taker(body *Body) (*taker, error) {
	c := &b.carry
	t := c.last
	if t == nil || t.body != body {
		if t = c.takers[body]; t == nil {
			var err error
			if t, err = b.newTaker(body); err != nil {
				return nil, err
			}
			c.takers[body] = t
		}
		c.last = t
	}
	return t, nil
}

func (b *Builder) newTaker(body *Body) (*taker, error) {
	if body.whole() {
		return nil, errApart // there is something to be learnt
	}
	tids, err := body.RowTemplates()
	if err != nil {
		return nil, err
	}
	times, err := body.SharedTimes()
	if err != nil {
		return nil, err
	}
	n, table := len(body.columns), body.section.Table
	t := &taker{body: body, tids: tids, times: times, numbers: make([]uint32, len(body.info.Templates)), columns: make([]uint32, n),
		values: make([]*column.Values, n), moves: body.allMoves(len(body.info.Templates)), cursors: make([]uint32, n), before: make([]uint32, n), stamps: make([]uint32, n)}
	p := b.carry.sections[body.section]
	if p == nil {
		p = &placed{make([]bool, len(table.Templates)), make([]uint32, len(table.Templates)), make([][]uint32, len(table.Templates))}
		b.carry.sections[body.section] = p
	}
	const none = ^uint32(0)
	for i := range t.columns {
		t.columns[i] = none
	}
	c := &b.carry
	if c.taking++; c.taking == 0 {
		clear(c.taken)
		c.taking = 1
	}
	for i, k := range body.info.Templates {
		m := &table.Templates[k.Template]
		if !p.known[k.Template] {
			number, columns, ok := b.analyzer.Place(m.Text)
			if !ok || len(columns) != len(m.Columns) {
				return nil, errApart
			}
			p.known[k.Template], p.numbers[k.Template], p.columns[k.Template] = true, number, columns
		}
		t.numbers[i] = p.numbers[k.Template]
		for s, id := range p.columns[k.Template] {
			for len(c.taken) <= int(id) {
				c.taken = append(c.taken, 0)
			}
			own := &t.columns[body.place(m.Columns[s])]
			switch {
			case *own == id:
			case *own != none || c.taken[id] == c.taking:
				return nil, errApart
			default:
				*own, c.taken[id] = id, c.taking
			}
		}
	}
	for i := range t.values {
		if t.values[i], err = body.Values(i); err != nil {
			return nil, err
		}
	}
	return t, t.check()
}

// check makes sure that the lines are no longer than the footer says, about: what is made
// of them is as large, and of values that recur much is made of little.
func (t *taker) check() error {
	info, table := t.body.info, t.body.section.Table
	size := 0
	for _, k := range info.Templates {
		m := &table.Templates[k.Template]
		if size += int(k.Rows) * (len(m.Text) - 2*len(m.Columns)); size > info.Bytes {
			return at(t.body.block, errTooLong(info))
		}
	}
	for _, v := range t.values {
		if size += v.TextSize(); size > info.Bytes {
			return at(t.body.block, errTooLong(info))
		}
	}
	return nil
}

// skip moves to a later row.
func (t *taker) skip(row int) {
	for _, id := range t.tids[t.row:row] {
		for _, s := range t.moves[id].steps {
			t.cursors[s.column] += s.n
		}
	}
	t.row = row
}

// touch notes which columns have values in the rows up to one, and where these begin. A
// short part has values of few of many columns.
func (t *taker) touch(to int) {
	t.touched = t.touched[:0]
	if 8*(to-t.row) >= len(t.values) {
		for i := range t.values {
			t.touched = append(t.touched, uint32(i))
		}
		copy(t.before, t.cursors)
		return
	}
	if t.stamp++; t.stamp == 0 {
		clear(t.stamps)
		t.stamp = 1
	}
	for _, id := range t.tids[t.row:to] {
		for _, s := range t.moves[id].steps {
			if t.stamps[s.column] != t.stamp {
				t.stamps[s.column] = t.stamp
				t.before[s.column] = t.cursors[s.column]
				t.touched = append(t.touched, uint32(s.column))
			}
		}
	}
}

// AddParts is Add of rows of which some are taken over from other blocks as they are
// stored: their lines are not printed, cut and learnt from. Their templates become the
// section's. Parts without a body are the rows of text, in their order. kinds are those of
// the runs, numbers that stand for what their lines are likely to be like; nil: none are
// known. size is the bytes of all lines. Where a block's templates have no place here its lines are printed.
func (b *Builder) AddParts(parts []Part, text *model.Strings, times []int64, runEnds []uint32, kinds []uint64, size int) (Stats, error) {
	rows := len(times)
	if rows < 1 || rows > MaxRows || size < len(text.Slab) || size > MaxBytes {
		return Stats{}, fmt.Errorf("a block of %d lines of %d bytes: at most %d and %d are allowed", rows, size, MaxRows, MaxBytes)
	}
	if len(b.blocks) == MaxBlocks {
		return Stats{}, fmt.Errorf("the section has %d blocks already", MaxBlocks)
	}
	if runEnds == nil {
		runEnds = []uint32{uint32(rows)}
	}
	if err := checkRuns(runEnds, rows); err != nil {
		return Stats{}, err
	}
	parts, text, err := b.placeParts(parts, text, size)
	if err != nil {
		return Stats{}, err
	}
	n, carried := 0, 0
	for _, p := range parts {
		n += p.To - p.From
		if p.Body != nil {
			carried += p.To - p.From
		}
	}
	if n != rows || n-carried != text.Len() {
		return Stats{}, fmt.Errorf("parts of %d rows, %d as text, not %d, %d", n, n-carried, rows, text.Len())
	}
	if carried == 0 {
		return b.add(text, times, runEnds, kinds)
	}
	return b.addParts(parts, text, times, runEnds, kinds, size)
}

// placeParts makes the templates of all parts known, or their lines text.
func (b *Builder) placeParts(parts []Part, text *model.Strings, size int) ([]Part, *model.Strings, error) {
	apart := map[*Body]bool{}
	for _, p := range parts {
		if p.Body == nil || apart[p.Body] {
			continue
		}
		if _, err := b.taker(p.Body); errors.Is(err, errApart) {
			apart[p.Body] = true
		} else if err != nil {
			return nil, nil, err
		}
	}
	if len(apart) == 0 {
		return parts, text, nil
	}
	all := &b.carry.plain
	all.Lines.Slab, all.Lines.Ends = slices.Grow(all.Lines.Slab[:0], size), all.Lines.Ends[:0]
	all.Times = all.Times[:0]
	out := make([]Part, 0, len(parts))
	row := 0
	for _, p := range parts {
		switch {
		case p.Body == nil:
			for range p.To - p.From {
				all.Lines.Append(text.At(row))
				row++
			}
		case apart[p.Body]:
			var err error
			if p.Body.whole() {
				err = p.Body.appendWhole(&all.Lines, p.From, p.To)
			} else {
				err = p.Body.Rows(p.From, p.To, all)
			}
			if err != nil {
				return nil, nil, err
			}
			p.Body = nil
		}
		out = append(out, p)
	}
	return out, &all.Lines, nil
}

func (b *Builder) addParts(parts []Part, text *model.Strings, times []int64, runEnds []uint32, kinds []uint64, size int) (Stats, error) {
	c := &b.carry
	blk, err := b.analyzeText(parts, text, times, runEnds, kinds)
	if err != nil {
		return Stats{}, err
	}
	c.rows, c.used = c.rows[:0], c.used[:0]
	b.text = text.Slab
	clear(c.walked)
	c.walked = c.walked[:0]
	textRow := 0
	next := make([]int, len(blk.Columns)) // of the text's values
	place := map[uint32]int{}
	for i := range blk.Columns {
		place[blk.Columns[i].Column] = i
	}
	c.pieces.begin()
	c.printed.begin()
	for _, p := range parts {
		if p.Body == nil {
			to := textRow + p.To - p.From
			b.textRuns(blk, text, textRow, to, next, place)
			c.rows = append(c.rows, blk.Rows[textRow:to]...)
			c.walked = append(c.walked, walkedPart{from: textRow, to: to})
			textRow = to
			continue
		}
		t, err := b.take(p.Body, p.From)
		if err != nil {
			return Stats{}, err
		}
		t.touch(p.To)
		w := walkedPart{t: t, from: p.From, to: p.To}
		if t.walkedIn != c.pieces.block || t.walked != p.From {
			w.start = slices.Clone(t.cursors)
		}
		t.walkedIn, t.walked = c.pieces.block, p.To
		c.walked = append(c.walked, w)
		switch {
		case b.grams == nil:
			t.skip(p.To)
		case t.varied():
			if err := c.printed.add(t, p.From, p.To); err != nil {
				return Stats{}, err
			}
		default:
			if err := c.pieces.add(t, p.To); err != nil {
				return Stats{}, err
			}
		}
		for _, id := range t.tids[p.From:p.To] {
			c.rows = append(c.rows, t.numbers[id])
		}
		for _, i := range t.touched {
			if from, to := t.before[i], t.cursors[i]; from < to {
				c.run(t.columns[i], column.Run{Values: t.values[i], From: int(from), To: int(to)})
			}
		}
	}
	info := BlockInfo{Rows: len(times), Bytes: size, MinTime: slices.Min(times), MaxTime: slices.Max(times),
		RunEnds: slices.Clone(runEnds), Templates: c.count(), Offset: int64(len(b.out))}
	slices.Sort(c.used)
	b.begin(&info)
	b.infos = slices.Grow(b.infos, len(c.used))
	for _, id := range c.used {
		var k column.Info
		k, b.payload = b.columns.EncodeRuns(b.payload[:0], c.runs[id])
		b.column(id, k)
		clear(c.runs[id])
		c.runs[id] = c.runs[id][:0]
	}
	b.end(&info, c.rows, times)
	if b.grams != nil {
		own := grams.Text{Slab: text.Slab}
		if text.Len() > 0 {
			slots, _ := b.analyzer.Slots()
			own.Rows = b.textGrams(blk, text, slots)
		}
		b.grams.AddPieces(&own, &c.printed.Text, c.pieces.slab, c.pieces.list, int(info.Size))
	}
	// Blocks that had no rows here are not needed again.
	for _, p := range parts {
		if t := c.takers[p.Body]; t != nil && t.row < p.Body.info.Rows {
			c.idle[p.Body] = t
		} else if t != nil {
			c.printed.done(t)
		}
	}
	clear(c.takers)
	c.takers, c.idle, c.last = c.idle, c.takers, nil
	return Stats{Bytes: int(info.Size), Templates: len(info.Templates), RawRows: blk.RawRows, Columns: len(b.infos)}, nil
}

// analyzeText cuts the lines that are given as text.
func (b *Builder) analyzeText(parts []Part, text *model.Strings, times []int64, runEnds []uint32, kinds []uint64) (*template.Block, error) {
	if text.Len() == 0 {
		return &template.Block{}, nil
	}
	var own []int64
	var ends []uint32 // of the runs' rows that are text
	row, run := 0, 0
	for _, p := range parts {
		n := p.To - p.From
		for k := row; k < row+n; k++ {
			for run < len(runEnds) && int(runEnds[run]) <= k {
				run++
				ends = append(ends, uint32(len(own)))
			}
			if p.Body == nil {
				own = append(own, times[k])
			}
		}
		row += n
	}
	return b.analyzer.Analyze(text, own, append(ends, uint32(len(own))), kinds)
}

// run adds values of a column.
func (c *carrier) run(id uint32, r column.Run) {
	for len(c.runs) <= int(id) {
		c.runs = append(c.runs, nil)
	}
	all := c.runs[id]
	n := len(all)
	if n == 0 {
		c.used = append(c.used, id)
	} else if l := &all[n-1]; r.Values != nil && l.Values == r.Values && l.To == r.From {
		l.To = r.To
		return
	}
	c.runs[id] = append(all, r)
}

// textRuns adds the values of rows that are text.
func (b *Builder) textRuns(blk *template.Block, text *model.Strings, from, to int, next []int, place map[uint32]int) {
	counts := make([]int, len(blk.Columns))
	for _, t := range blk.Rows[from:to] {
		for _, id := range b.analyzer.Columns(t) {
			counts[place[id]]++
		}
	}
	for i, n := range counts {
		if n == 0 {
			continue
		}
		v, at := &blk.Columns[i], next[i]
		r := column.Text{Slab: text.Slab}
		if v.Deltas != nil {
			r.Ints = v.Deltas[at : at+n]
		} else {
			r.Refs = v.Refs[at : at+n]
		}
		next[i] += n
		b.carry.run(v.Column, column.Run{Text: &r})
	}
}

// count returns the templates in use, the most frequent first.
func (c *carrier) count() []template.Count {
	for _, t := range c.rows {
		for len(c.counts) <= int(t) {
			c.counts = append(c.counts, 0)
		}
		c.counts[t]++
	}
	var out []template.Count
	for _, t := range c.rows {
		if n := c.counts[t]; n > 0 {
			out = append(out, template.Count{Template: t, Rows: n})
			c.counts[t] = 0
		}
	}
	slices.SortFunc(out, func(a, b template.Count) int {
		return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Template, b.Template))
	})
	return out
}

// textGrams notes where slots are in lines that are text, for the gram matrix.
func (b *Builder) textGrams(blk *template.Block, text *model.Strings, slots []template.Slot) grams.Rows {
	c := &b.carry
	c.slotsOf = c.slotsOf[:0]
	for _, k := range blk.Templates {
		for len(c.slotsOf) <= int(k.Template) {
			c.slotsOf = append(c.slotsOf, 0)
		}
		c.slotsOf[k.Template] = int32(len(b.analyzer.Columns(k.Template)))
	}
	return grams.Rows{Ends: text.Ends, Shapes: blk.Rows, Slots: slots, Counts: c.slotsOf}
}
