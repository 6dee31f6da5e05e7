package lines

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

// Builder builds a section. It is for one goroutine at a time. Its memory is a few
// times that of the largest block, plus the templates, which are bounded.
type Builder struct {
	level    column.Level
	compress *column.Compressor
	columns  column.Encoder
	analyzer *template.Analyzer
	out      []byte
	blocks   []BlockInfo
	sums     []column.Summary // of the section's columns
	plain    []column.Plain   // likewise
	grams    *grams.Builder   // nil: none
	whole    bool             // lines are kept as they are

	frames  frames
	infos   []column.Info // of the block
	payload []byte
	tids    []int64
	rows    []uint32 // of the block added last, the analyzer's numbers of its rows' templates
	text    []byte   // lines of the block added last that are text
	sharing sharing
	carry   carrier
}

// NewBuilder returns the builder of an empty section.
func NewBuilder(level column.Level) *Builder {
	b := &Builder{level: level, compress: column.NewCompressor(level), analyzer: template.NewAnalyzer()}
	b.Reset()
	return b
}

// Compressor returns what the builder makes frames with, for frames of whoever builds more
// than lines: the memory that it takes is a few MiB.
func (b *Builder) Compressor() *column.Compressor { return b.compress }

// Reset begins a new section; the memory of the last one is kept, and what Finish
// returned becomes invalid.
func (b *Builder) Reset() {
	b.analyzer.Reset()
	b.out, b.blocks, b.sums, b.plain = b.out[:0], b.blocks[:0], b.sums[:0], b.plain[:0]
	b.carry.reset()
	b.sharing.reset()
	b.frames.layouts = [3]layout{}
}

// Learnt is what a builder knows of lines of a kind. It holds no lines, but words of them.
type Learnt struct {
	analyzer *template.Analyzer
	shapes   []grams.Shape
	layouts  [3]layout
	size     int
}

// MemorySize returns about how many bytes of memory it takes.
func (l *Learnt) MemorySize() int { return l.size }

// Begin begins a new section, as Reset does, with lines like those of which something is
// known. That is the builder's from then on. It changes how lines are stored, never what
// is read.
func (b *Builder) Begin(l *Learnt) {
	b.Reset()
	b.analyzer.Lend(l.analyzer)
	b.analyzer, b.frames.layouts = l.analyzer, l.layouts
	if b.grams != nil {
		b.grams.Expect(l.shapes)
	}
}

// Learnt takes away what the builder knows of the lines of the section that was finished.
// Reset or Begin come next. More is kept for a section of the same block (within), whose lines
// are likely to have the same templates, than for those of other blocks, which may come to
// have any.
func (b *Builder) Learnt(within bool) *Learnt {
	l := &Learnt{analyzer: b.analyzer, layouts: b.frames.layouts}
	b.analyzer = template.NewAnalyzer()
	l.analyzer.Lend(b.analyzer)
	if within {
		l.analyzer.Next(3)
	} else {
		l.analyzer.Next(1)
	}
	if b.grams != nil {
		l.shapes = b.grams.Shapes()
	}
	l.size = l.analyzer.MemorySize() + 8*len(l.shapes)
	return l
}

// SetGrams makes the builder add the lines of every block to a gram matrix. It is the
// caller's to reset and finish.
func (b *Builder) SetGrams(g *grams.Builder) { b.grams = g }

// SetWhole makes the builder keep the lines that Add is given as they are: nothing is learnt
// of them. It does not go with grams.
func (b *Builder) SetWhole(on bool) { b.whole = on }

// SetPages makes the builder write large payloads as pages, of which a reader of few rows
// reads some: those of times alone below LevelBetter, where it is to take no more CPU.
func (b *Builder) SetPages(on bool) {
	switch {
	case !on:
		b.frames.pages = nil
	case b.level < column.LevelBetter:
		b.frames.pages = &newPages
	default:
		b.frames.pages = &defaultPages
	}
	b.columns.FewDistinct(b.frames.cutsColumns())
}

// Learn says that the lines of the next block may be of another kind than those before,
// so that in-line times of other layouts are looked for.
func (b *Builder) Learn() { b.analyzer.Learn() }

// Size returns the bytes of the blocks so far.
func (b *Builder) Size() int { return len(b.out) }

// Stats says what a block was made of.
type Stats struct {
	Bytes     int // of the block
	Templates int // in use
	RawRows   int // rows without a template
	Columns   int
}

// Add encodes a block of rows: lines and their entries' times, in runs of one stream
// each that end at the given rows (nil: one run). Lines and times are given back in
// the same order, whatever it is.
func (b *Builder) Add(lines *model.Strings, times []int64, runEnds []uint32) (Stats, error) {
	return b.add(lines, times, runEnds, nil)
}

func (b *Builder) add(lines *model.Strings, times []int64, runEnds []uint32, kinds []uint64) (Stats, error) {
	rows := len(times)
	if err := lines.Check(); err != nil {
		return Stats{}, err
	}
	if rows < 1 || rows > MaxRows || lines.Len() != rows || len(lines.Slab) > MaxBytes {
		return Stats{}, fmt.Errorf("a block of %d lines of %d bytes with %d times: at most %d and %d are allowed", lines.Len(), len(lines.Slab), rows, MaxRows, MaxBytes)
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
	b.carry.walked, b.text = b.carry.walked[:0], lines.Slab
	var blk *template.Block
	var err error
	if b.whole {
		blk, err = b.analyzer.Whole(lines)
	} else {
		blk, err = b.analyzer.Analyze(lines, times, runEnds, kinds)
	}
	if err != nil {
		return Stats{}, err
	}
	info := BlockInfo{Rows: rows, Bytes: len(lines.Slab), MinTime: slices.Min(times), MaxTime: slices.Max(times),
		RunEnds: slices.Clone(runEnds), Templates: slices.Clone(blk.Templates), Offset: int64(len(b.out))}

	b.begin(&info)
	b.infos = slices.Grow(b.infos, len(blk.Columns)) // frames hold pointers into it
	for _, v := range blk.Columns {
		var c column.Info
		if v.Deltas != nil {
			c, b.payload = b.columns.EncodeSigned(b.payload[:0], v.Deltas)
		} else {
			c, b.payload = b.columns.Encode(b.payload[:0], lines.Slab, v.Refs)
		}
		b.column(v.Column, c)
	}
	b.end(&info, blk.Rows, times)
	if b.grams != nil {
		rows := grams.Rows{Ends: lines.Ends, Shapes: blk.Rows}
		rows.Slots, rows.Counts = b.analyzer.Slots()
		b.grams.AddBlock(lines.Slab, &rows, int(info.Size))
	}
	return Stats{Bytes: int(info.Size), Templates: len(blk.Templates), RawRows: blk.RawRows, Columns: len(b.infos)}, nil
}

// begin begins the frames of a block. Where there are few rows of each template a value has
// little in common with those far before it, and looking for that is most of the work.
func (b *Builder) begin(info *BlockInfo) {
	b.compress.SetQuick(info.Rows < fewOf*len(info.Templates))
	b.frames.begin(b.compress, b.out)
	b.infos = b.infos[:0]
	b.sharing.begin(info.Templates, b.analyzer.Text)
}

// column places a column, whose payload is b.payload. There is room for it in infos.
func (b *Builder) column(id uint32, c column.Info) {
	c.ID = id
	b.sumUp(int(id) + 1)
	if c.Kind != column.Signed {
		b.sums[id].Add(c.Summary())
		b.plain[id] &= plainOf(&c, b.payload)
		b.sharing.values(&c, b.payload)
	}
	b.infos = append(b.infos, c)
	b.frames.add(&b.infos[len(b.infos)-1], b.payload)
}

// sumUp has at least n columns summed up.
func (b *Builder) sumUp(n int) {
	for len(b.sums) < n {
		b.sums = append(b.sums, column.Summary{})
		b.plain = append(b.plain, column.InQuotes|column.InWords)
	}
}

// plainOf returns what the values of a column are plain for.
func plainOf(c *column.Info, payload []byte) column.Plain {
	plain, _ := c.Plain(func() ([]byte, error) {
		if c.Values != nil {
			return payload[c.Values.N*int(c.Values.Width) : c.IndexAt], nil
		}
		return payload[c.N*int(c.Width):], nil
	})
	return plain
}

// end ends the block, whose rows have these templates and times.
func (b *Builder) end(info *BlockInfo, templates []uint32, times []int64) {
	b.rows = templates
	f := &b.frames
	tid := b.encodeTemplates(info.Templates, templates)
	f.flush(&blockRows{templates, b.analyzer.Columns})
	b.payload = column.AppendTimes(b.payload[:0], times, info.RunEnds)
	timesFrame := f.times(b.payload, times, info.RunEnds)
	b.payload = f.appendDirectory(b.payload[:0], timesFrame, tid, b.infos)
	b.out = f.out
	at := len(b.out)
	b.out = b.compress.AppendFrame(b.out, b.payload)
	info.directory = len(b.out) - at
	b.compress.SetQuick(false) // what others make frames of is not of this block
	info.Size = int64(len(b.out)) - info.Offset
	info.shared = b.sharing.filter()
	b.blocks = append(b.blocks, *info)
}

// encodeTemplates encodes each row's template, as its place in the block's list.
func (b *Builder) encodeTemplates(list []template.Count, rows []uint32) column.Info {
	most := uint32(0)
	for _, c := range list {
		most = max(most, c.Template)
	}
	rank := make([]int64, most+1)
	for i, c := range list {
		rank[c.Template] = int64(i)
	}
	b.tids = b.tids[:0]
	for _, t := range rows {
		b.tids = append(b.tids, rank[t])
	}
	var c column.Info
	c, b.payload = b.columns.EncodeSigned(b.payload[:0], b.tids)
	c.Frame, c.Size = b.frames.frame(b.payload), uint32(len(b.payload))
	return c
}

// Blocks returns what the footer says about the blocks, once Finish was called.
func (b *Builder) Blocks() []BlockInfo { return b.blocks }

// Finish returns the section. At least one block was added. The section can be
// extended no more.
func (b *Builder) Finish() []byte {
	// Templates in use get new numbers, in the order of the blocks.
	most := uint32(0)
	for i := range b.blocks {
		for _, c := range b.blocks[i].Templates {
			most = max(most, c.Template)
		}
	}
	renumbered := make([]uint32, most+1) // plus one; 0: not in use
	var used []uint32
	for i := range b.blocks {
		for _, c := range b.blocks[i].Templates {
			if renumbered[c.Template] == 0 {
				used = append(used, c.Template)
				renumbered[c.Template] = uint32(len(used))
			}
		}
	}
	t := b.analyzer.Table(used)
	b.sumUp(len(t.Columns))
	table := t.Append(nil)
	for i := range b.blocks {
		for k := range b.blocks[i].Templates {
			c := &b.blocks[i].Templates[k]
			c.Template = renumbered[c.Template] - 1
		}
	}
	foot := binary.AppendUvarint(nil, uint64(len(table)))
	foot = append(foot, table...)
	foot = appendBlocks(foot, b.blocks)
	foot = column.AppendSummaries(foot, b.sums)
	foot = appendShared(foot, b.blocks)
	foot = column.AppendPlain(foot, b.plain)
	b.out = appendTail(b.out, b.compress, foot)
	return b.out
}

// appendBlocks appends what the footer says about blocks.
func appendBlocks(foot []byte, blocks []BlockInfo) []byte {
	foot = binary.AppendUvarint(foot, uint64(len(blocks)))
	for i := range blocks {
		k := &blocks[i]
		for _, v := range []int{k.Rows, k.Bytes, int(k.Size), k.directory} {
			foot = binary.AppendUvarint(foot, uint64(v))
		}
		foot = binary.AppendVarint(foot, k.MinTime)
		foot = binary.AppendUvarint(foot, uint64(k.MaxTime)-uint64(k.MinTime))
		foot = binary.AppendUvarint(foot, uint64(len(k.RunEnds)))
		from := uint32(0)
		for _, end := range k.RunEnds {
			foot = binary.AppendUvarint(foot, uint64(end-from))
			from = end
		}
		foot = binary.AppendUvarint(foot, uint64(len(k.Templates)))
		for _, c := range k.Templates {
			foot = binary.AppendUvarint(foot, uint64(c.Template))
		}
		for _, c := range k.Templates {
			foot = binary.AppendUvarint(foot, uint64(c.Rows))
		}
	}
	return foot
}

// appendTail appends the footer and what leads readers to it.
func appendTail(out []byte, c *column.Compressor, foot []byte) []byte {
	at := len(out)
	out = c.AppendFrame(out, foot)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(out)-at))
	out = binary.LittleEndian.AppendUint16(out, majorVersion)
	out = binary.LittleEndian.AppendUint16(out, minorVersion)
	return append(out, magic...)
}

func checkRuns(ends []uint32, rows int) error {
	from := uint32(0)
	for _, end := range ends {
		if end <= from || int(end) > rows {
			return column.Corrupt("run from row %d to %d of %d", from, end, rows)
		}
		from = end
	}
	if int(from) != rows {
		return column.Corrupt("runs end at row %d of %d", from, rows)
	}
	return nil
}
