package block

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// Options are how a block is written.
type Options struct {
	// RowGroupBytes is how many bytes of lines and metadata a row group holds at most,
	// if it holds more than one row; 0: DefaultRowGroupBytes.
	RowGroupBytes int
	// SectionBytes is likewise for the lines of a section; 0: DefaultSectionBytes.
	SectionBytes int64
	// Level is how hard the lines are compressed.
	Level column.Level
	// Knowledge, if there is any, is what is known of the lines of blocks written
	// before: less is to be learnt.
	Knowledge *Knowledge
	// NarrowRuns cuts the runs of streams with many rows in a short time at seconds, too.
	// It is for blocks of which others are copies that begin and end elsewhere: those of
	// the ingesters, until they are merged.
	NarrowRuns bool
	// Pages cuts times and, from LevelBetter on, large columns into pages, so that few rows of
	// a large row group are read without the others.
	Pages bool
	// NoGrams leaves out the matrices that filters use to rule row groups out.
	NoGrams bool
	// Whole keeps lines as they are, for blocks that are soon merged: their templates are
	// found then. NoGrams goes with it, and Knowledge is of no use.
	Whole bool
}

// Defaults of Options.
const (
	DefaultRowGroupBytes = 1 << 20
	DefaultSectionBytes  = 256 << 20
)

const (
	// groupedBytes is how many bytes of lines make a section worthwhile: streams of
	// another affinity group do not begin a new one before.
	groupedBytes = 16 << 20
	// encodedBytes bounds what a section may be encoded, for it is in memory.
	encodedBytes = 64 << 20
	// manyKinds is how many affinity groups a section has, at least, of which the next one
	// has lines like them, as far as one can tell.
	manyKinds = 16
	// groupNames is how many columns of metadata are reason to end a row group.
	groupNames = 1024
)

// Writer writes a block. It is for one goroutine at a time. Its memory is a few times
// that of a row group, what a section's lines take encoded, and the index of streams.
// After an error nothing more can be written.
type Writer struct {
	w    io.Writer
	opts Options
	foot footer
	off  int64
	err  error

	lines    *lines.Builder
	grams    *grams.Builder // nil: none
	compress *column.Compressor
	enc      tableEncoder
	order    orderEncoder
	index    indexBuilder
	out      []byte

	group        pending
	first        string // affinity group of its first row
	section      string // and of the section's
	sectionBytes int64
	kinds        int  // affinity groups of the section, about
	open         bool // the section has row groups
	mixed        bool // the row group has rows of an affinity group that the last one had not

	// The stream that rows come in for.
	started  bool
	labels   model.Labels
	affinity string
	last     model.OrderKey
	same     uint32 // rows before with the last one's time
	runs     []Run
	sizes    []uint32 // of the metadata of rows; scratch

	carries         bool // rows of the stream are carried
	fresh, behind   bool // no row of it has come; the last one was carried
	announced, came Run  // of these: what they are to be together, and what came
}

// NewWriter returns the writer of a block. Nothing is written before it must be.
func NewWriter(w io.Writer, meta Meta, o Options) *Writer {
	if o.RowGroupBytes <= 0 {
		o.RowGroupBytes = DefaultRowGroupBytes
	}
	if o.SectionBytes <= 0 {
		o.SectionBytes = DefaultSectionBytes
	}
	o.RowGroupBytes = min(o.RowGroupBytes, lines.MaxBytes)
	if o.Whole {
		o.NoGrams, o.Knowledge = true, nil
	}
	b := &Writer{opts: o, lines: lines.NewBuilder(o.Level)}
	b.compress = b.lines.Compressor()
	b.lines.SetPages(o.Pages)
	b.lines.SetWhole(o.Whole)
	if !o.NoGrams {
		b.grams = grams.NewBuilder(grams.DefaultShare)
		b.lines.SetGrams(b.grams)
	}
	b.enc.compress = b.compress
	b.Reset(w, meta)
	return b
}

// Reset begins another block, whatever became of the last one. Its memory is kept, of
// which a writer has some MiB before the first row: for many small blocks one writer
// is better than many.
func (w *Writer) Reset(to io.Writer, meta Meta) {
	w.lines.Reset()
	if w.grams != nil {
		w.grams.Reset()
	}
	w.group.reset()
	*w = Writer{w: to, opts: w.opts, lines: w.lines, grams: w.grams, compress: w.compress, enc: w.enc, order: w.order, out: w.out, group: w.group, runs: w.runs[:0], sizes: w.sizes[:0], index: w.index.reset()}
	w.foot.info = Info{Meta: meta, MinTime: math.MaxInt64, MaxTime: math.MinInt64, HashVersion: model.HashVersion}
	w.foot.info.Partition = meta.Partition.UTC()
	w.write(appendHead(nil))
}

func (w *Writer) write(b []byte) {
	if w.err != nil || len(b) == 0 {
		return
	}
	n, err := w.w.Write(b)
	w.off += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	w.err = err
}

// Add adds rows of a stream. Streams ascend by Compare; a stream's rows strictly
// ascend by their order keys, and may come in several calls, one behind the other.
// Hashes are taken from the rows if they have them; otherwise they are computed.
// Nothing of the rows is kept.
func (w *Writer) Add(ls model.Labels, rows *model.Rows) error {
	if w.err != nil {
		return w.err
	}
	w.err = w.add(ls, rows)
	return w.err
}

func (w *Writer) add(ls model.Labels, rows *model.Rows) error {
	n := rows.Len()
	if n == 0 {
		return nil
	}
	if err := rows.Check(); err != nil {
		return err
	}
	if rows.Hashes != nil && len(rows.Hashes) != n || rows.BatchTimes != nil && len(rows.BatchTimes) != n {
		return fmt.Errorf("%d hashes and %d batch times for %d rows", len(rows.Hashes), len(rows.BatchTimes), n)
	}
	if !w.started || !w.labels.Equal(ls) {
		if err := w.begin(ls); err != nil {
			return err
		}
	}
	if w.carries {
		if err := w.afterCarried(rows.Times[0]); err != nil {
			return err
		}
	}
	sizes, err := metadataSizes(w.sizes, rows)
	if err != nil {
		return err
	}
	if sizes != nil {
		w.sizes = sizes
	}
	from := 0
	for from < n {
		to := from
		bytes := w.group.bytes()
		for to < n && w.group.len()+to-from < lines.MaxRows {
			line := lineLen(rows, to)
			cost := line
			if sizes != nil {
				cost += int(sizes[to])
			}
			if line > MaxLine {
				return fmt.Errorf("a line of %d bytes, at most %d are allowed", line, MaxLine)
			}
			if bytes+cost > w.opts.RowGroupBytes && w.group.len()+to-from > 0 {
				break
			}
			if err := w.row(rows, to, line); err != nil {
				return err
			}
			if w.group.len() == 0 && to == from {
				w.group.base, w.first = w.same, w.affinity
			}
			bytes += cost
			to++
		}
		if to > from {
			w.group.add(rows, from, to, w.foot.info.Ordered)
		}
		if to < n || w.group.bytes() >= w.opts.RowGroupBytes || len(w.group.columns) > groupNames {
			if err := w.flushGroup(); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

// lineLen returns the length of a line.
func lineLen(rows *model.Rows, i int) int {
	if i == 0 {
		return int(rows.Lines.Ends[0])
	}
	return int(rows.Lines.Ends[i] - rows.Lines.Ends[i-1])
}

// metadataSizes returns the bytes of the metadata of each row, in scratch if it has room;
// nil: there is none.
func metadataSizes(scratch []uint32, rows *model.Rows) ([]uint32, error) {
	if len(rows.Metadata) == 0 && len(rows.Derived) == 0 {
		return nil, nil
	}
	sizes := slices.Grow(scratch[:0], rows.Len())[:rows.Len()]
	clear(sizes)
	for _, set := range [][]model.Column{rows.Metadata, rows.Derived} {
		for i := range set {
			c := &set[i]
			begin := uint32(0)
			for k, end := range c.Values.Ends {
				row := k
				if c.Rows != nil {
					row = int(c.Rows[k])
				}
				if end > begin {
					if sizes[row] += end - begin + uint32(len(c.Name)); sizes[row] > MaxRowMetadata {
						return nil, fmt.Errorf("a row with more than %d bytes of metadata", MaxRowMetadata)
					}
				}
				begin = end
			}
		}
	}
	return sizes, nil
}

// row takes account of a row of the current stream.
func (w *Writer) row(rows *model.Rows, i, line int) error {
	key := rows.Key(i)
	if rows.Hashes == nil {
		key.Hash = rows.Hash(i)
	}
	if len(w.runs) > 0 {
		if key.Compare(w.last) <= 0 && !(w.foot.info.Ordered && key.Time == w.last.Time && rows.BatchTimes == nil && rows.Positions == nil) {
			return fmt.Errorf("rows of %s do not ascend: time %d, batch %d, position %d after time %d, batch %d, position %d",
				w.labels, key.Time, key.BatchTime, key.Position, w.last.Time, w.last.BatchTime, w.last.Position)
		}
		if key.Time == w.last.Time {
			w.same++
		} else {
			w.same = 0
		}
	}
	w.last = key
	w.runs = addRow(w.runs, 0, key.Time, line, key.Hash, w.slots()[0].width)
	info := &w.foot.info
	info.MinTime, info.MaxTime = min(info.MinTime, key.Time), max(info.MaxTime, key.Time)
	info.Rows++
	info.RawBytes += int64(line)
	return nil
}

// begin begins a stream.
func (w *Writer) begin(ls model.Labels) error {
	for i, l := range ls {
		if l.Value == "" || i > 0 && ls[i-1].Name >= l.Name {
			return fmt.Errorf("labels %s are not a set", ls)
		}
	}
	affinity := Group(ls)
	if w.started {
		if cmp.Or(cmp.Compare(w.affinity, affinity), w.labels.Compare(ls)) >= 0 { // as Compare
			return fmt.Errorf("stream %s does not come after %s", ls, w.labels)
		}
		if err := w.endStream(); err != nil {
			return err
		}
		if affinity != w.affinity && w.sectionBytes+int64(w.group.lineBytes()) >= groupedBytes {
			if err := w.flushSection(); err != nil {
				return err
			}
		}
	}
	if affinity != w.affinity {
		w.mixed = true
		w.kinds++
	}
	w.started, w.labels, w.affinity, w.same = true, ls, affinity, 0
	w.carries, w.announced, w.came = false, Run{}, Run{}
	w.group.endRun()
	w.group.kind = xxhash.Sum64String(affinity)
	return nil
}

func (w *Writer) endStream() error {
	runs, err := w.runs, error(nil)
	if w.carries {
		runs, err = w.carriedRuns()
	} else {
		runs = runs[:coarse(runs, w.slots())]
	}
	if err == nil {
		err = w.index.add(w.labels, runs)
	}
	w.runs = w.runs[:0]
	return err
}

// flushGroup encodes the row group.
func (w *Writer) flushGroup() error {
	p := &w.group
	if p.len() == 0 {
		return nil
	}
	p.endRun()
	if !w.open {
		w.section = w.first
		if l := w.opts.Knowledge.take(w.foot.info.Tenant, w.section); l != nil {
			w.lines.Begin(l)
		}
	}
	if w.grams != nil {
		for _, c := range p.columns {
			c.eachChange(func(v []byte) { w.grams.AddValue([]byte(c.name), v) })
		}
	}
	if w.mixed {
		w.lines.Learn()
	}
	// Where others begin within the row group there may be too few of them yet.
	w.mixed = w.mixed && len(p.runEnds) > 1
	if _, err := w.lines.AddParts(p.parts, &p.lines, p.times, p.runEnds, p.kinds, p.lineBytes()); err != nil {
		return err
	}
	g := group{rows: p.len(), bytes: int64(p.lineBytes()), base: p.base, minTime: p.times[0], maxTime: p.times[0]}
	for _, t := range p.times {
		g.minTime, g.maxTime = min(g.minTime, t), max(g.maxTime, t)
	}
	batchTimes := p.batchTimes
	if w.foot.info.Ordered {
		batchTimes = nil // not only empty: the writer wrote another block before
	}
	w.out = w.order.append(w.out[:0], w.compress, &w.enc.columns, p.times, batchTimes, p.positions, p.copyRows, p.copies)
	g.orderSize = int64(len(w.out))
	if cols := p.table(); len(cols) > 0 {
		if len(cols) > MaxNames {
			return fmt.Errorf("%d columns of metadata, at most %d are allowed", len(cols), MaxNames)
		}
		of := &rowLines{w.lines.RowTemplates(), func() slotReader { return w.lines.RowSlots() }}
		w.out = w.enc.append(w.out, p.len(), cols, of)
		g.metaSize = int64(len(w.out)) - g.orderSize
	}
	w.foot.info.MetadataBytes += p.metaBytes
	w.write(w.out)
	if !w.open {
		w.open = true
		w.foot.sections = append(w.foot.sections, section{first: len(w.foot.groups)})
	}
	s := &w.foot.sections[len(w.foot.sections)-1]
	s.groups++
	w.foot.groups = append(w.foot.groups, g)
	w.sectionBytes += g.bytes
	p.reset()
	if s.groups == MaxRowGroups || w.sectionBytes >= w.opts.SectionBytes || w.lines.Size() >= encodedBytes {
		return w.endSection()
	}
	return w.err
}

func (w *Writer) flushSection() error {
	if err := w.flushGroup(); err != nil {
		return err
	}
	return w.endSection()
}

// endSection writes the section of the row groups so far.
func (w *Writer) endSection() error {
	if !w.open || w.err != nil {
		return w.err
	}
	w.open = false
	if len(w.foot.sections) > MaxSections {
		return fmt.Errorf("more than %d sections", MaxSections)
	}
	s := &w.foot.sections[len(w.foot.sections)-1]
	b := w.lines.Finish()
	s.linesSize = int64(len(b))
	var err error
	if s.footerSize, err = lines.FooterSize(b); err != nil {
		return err
	}
	w.write(b)
	var next *lines.Learnt
	switch {
	case w.opts.Knowledge != nil:
		w.opts.Knowledge.give(w.foot.info.Tenant, w.section, w.lines.Learnt(false))
	case w.kinds >= manyKinds:
		next = w.lines.Learnt(true)
	}
	w.lines.Reset()
	if w.grams != nil {
		b = w.grams.Finish()
		s.gramsSize = int64(len(b))
		w.write(b)
		w.grams.Reset()
	}
	if next != nil {
		w.lines.Begin(next)
	}
	w.sectionBytes, w.kinds = 0, 0
	return w.err
}

// Close writes what is left, the index and the footer. The writer below is not
// closed.
func (w *Writer) Close() (Info, error) {
	if w.err != nil {
		return Info{}, w.err
	}
	w.err = w.close()
	if w.err != nil {
		return Info{}, w.err
	}
	w.err = errors.New("the block is closed")
	return w.foot.info, nil
}

func (w *Writer) close() error {
	i := &w.foot.info
	if w.started {
		if err := w.endStream(); err != nil {
			return err
		}
		if err := w.flushSection(); err != nil {
			return err
		}
	} else {
		i.MinTime, i.MaxTime = 0, 0
	}
	i.Streams, i.Sections, i.RowGroups = int64(w.index.streams), len(w.foot.sections), len(w.foot.groups)
	var err error
	if w.out, err = w.index.append(w.out[:0], &w.enc, maxLabels); err != nil {
		return err
	}
	i.IndexSize = int64(len(w.out))
	foot := appendFooter(nil, &w.foot)
	if len(foot) > maxFooter {
		return fmt.Errorf("footer of %d bytes, at most %d are allowed", len(foot), maxFooter)
	}
	at := len(w.out)
	w.out = w.compress.AppendFrame(w.out, foot)
	w.out = appendTail(w.out, len(w.out)-at)
	w.write(w.out)
	i.Size = w.off
	return w.err
}
