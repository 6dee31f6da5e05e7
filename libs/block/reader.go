package block

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/weir-logs/weir/libs/block/lazy"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// RangeReader reads an object.
type RangeReader interface {
	// ReadRange returns bytes [off, off+n), or an error. They are shared: nobody
	// changes them.
	ReadRange(ctx context.Context, off int64, n int) ([]byte, error)
}

// NearReader is a RangeReader that may tell that a short read takes not much longer than its
// bytes, as of a disk: then only those parts of row groups are read that are needed.
type NearReader interface {
	RangeReader
	Near() bool
}

// openBytes is how much is read of an object's end at first: the footer and most
// indexes are in it.
const openBytes = 128 << 10

// Reader reads a block. Its footer and index of streams are in memory; everything
// else is read when it is asked for and not kept. Safe for concurrent use.
type Reader struct {
	r     RangeReader
	near  bool // as NearReader has it
	foot  *footer
	minor uint16 // version
	index *index

	once   lazy.Once
	sorted []uint32 // each stream's place by labels; nil: they are in that order already
	order  []uint32 // the streams by labels, likewise
}

// Open opens an object of size bytes: it reads the tail, the footer and the index of
// streams, in one read where they are short.
func Open(ctx context.Context, r RangeReader, size int64) (*Reader, error) {
	e, err := readEnd(ctx, r, size)
	if err != nil {
		return nil, err
	}
	f := e.foot
	b, err := e.last(ctx, f.info.IndexSize, e.footer+int64(tailSize))
	if err != nil {
		return nil, err
	}
	x, err := openIndex(b, &f.info)
	if err != nil {
		return nil, &Error{f.info.ID, -1, -1, fmt.Errorf("index: %w", err)}
	}
	near, is := r.(NearReader)
	return &Reader{r: r, near: is && near.Near(), foot: f, index: x, minor: e.minor}, nil
}

// ReadInfo returns what the footer of an object of size bytes says. Unlike Open it does not
// look at the index of streams, which takes longest.
func ReadInfo(ctx context.Context, r RangeReader, size int64) (Info, error) {
	e, err := readEnd(ctx, r, size)
	if err != nil {
		return Info{}, err
	}
	return e.foot.info, nil
}

// end is the end of a block, from what is in the footer on or before.
type end struct {
	r      RangeReader
	size   int64 // of the block
	bytes  []byte
	footer int64 // its size
	foot   *footer
	minor  uint16
}

func readEnd(ctx context.Context, r RangeReader, size int64) (*end, error) {
	if size < int64(headSize+tailSize) || size > maxSize {
		return nil, corrupt("block of %d bytes", size)
	}
	e := &end{r: r, size: size}
	var err error
	if e.bytes, err = r.ReadRange(ctx, size-min(size, openBytes), int(min(size, openBytes))); err != nil {
		return nil, err
	}
	if int64(len(e.bytes)) != min(size, openBytes) {
		return nil, fmt.Errorf("%d bytes read of the last %d of a block", len(e.bytes), min(size, openBytes))
	}
	if e.footer, e.minor, err = readTail(e.bytes[len(e.bytes)-tailSize:]); err != nil {
		return nil, err
	}
	b, err := e.last(ctx, e.footer, int64(tailSize))
	if err != nil {
		return nil, err
	}
	if e.foot, err = readFooter(b, size); err != nil {
		return nil, fmt.Errorf("footer: %w", err)
	}
	return e, nil
}

// last returns the n bytes of the object that come before the last but skip ones.
func (e *end) last(ctx context.Context, n, skip int64) ([]byte, error) {
	if n+skip > e.size-int64(headSize) || n > maxIndex+maxFooter {
		return nil, corrupt("%d bytes before the last %d of %d", n, skip, e.size)
	}
	if have := int64(len(e.bytes)); n+skip <= have {
		return e.bytes[have-skip-n : have-skip], nil
	}
	b, err := e.r.ReadRange(ctx, e.size-skip-n, int(n))
	if err == nil && int64(len(b)) != n {
		err = fmt.Errorf("%d bytes read of %d", len(b), n)
	}
	return b, err
}

// Info returns what the footer says.
func (r *Reader) Info() Info { return r.foot.info }

// MemorySize returns about how many bytes of memory the reader takes.
func (r *Reader) MemorySize() int {
	return 1024 + 8*r.index.streams + r.index.memory + 128*len(r.foot.groups) + 64*len(r.foot.sections)
}

// error gives a cause the block's name, and the row group's unless that is negative.
func (r *Reader) error(group int, err error) error {
	var named *Error
	if err == nil || errors.As(err, &named) {
		return err
	}
	if group < 0 {
		return &Error{r.foot.info.ID, -1, -1, err}
	}
	g := &r.foot.groups[group]
	return &Error{r.foot.info.ID, g.section, g.index, err}
}

func (r *Reader) read(ctx context.Context, off, n int64) ([]byte, error) {
	if n > math.MaxInt32 {
		return nil, corrupt("part of %d bytes", n)
	}
	if n == 0 {
		return nil, nil
	}
	b, err := r.r.ReadRange(ctx, off, int(n))
	if err == nil && int64(len(b)) != n {
		err = fmt.Errorf("%d bytes read of %d at %d", len(b), n, off)
	}
	return b, err
}

// Error gives an error about the parts of a row group, which say no more than that, the
// names of the block, the section and the row group. Errors of the reader have them.
func (r *Reader) Error(group int, err error) error { return r.error(group, err) }

// Sections returns how many sections there are.
func (r *Reader) Sections() int { return len(r.foot.sections) }

// RowGroups returns how many row groups there are. They are numbered through the
// block, from 0.
func (r *Reader) RowGroups() int { return len(r.foot.groups) }

// Place returns the section of a row group, and its number there.
func (r *Reader) Place(group int) (section, index int) {
	return r.foot.groups[group].section, r.foot.groups[group].index
}

// ReadBody reads the lines of a row group, given its section: all of them, or, where the
// object is near, the directory alone; others are read later, however long that takes, and
// errors are those of the body.
func (r *Reader) ReadBody(ctx context.Context, s *Section, group int) (*lines.Body, error) {
	g := &r.foot.groups[group]
	k := &s.Blocks[g.index]
	from, size := r.foot.sections[g.section].linesAt+k.Offset, k.Size
	sparse := r.near && size >= minSparse
	if sparse {
		off, n := s.Directory(g.index)
		from, size = from+int64(off), int64(n)
	}
	b, err := r.read(ctx, from, size)
	if err != nil {
		return nil, r.error(group, err)
	}
	var body *lines.Body
	if sparse {
		// The body outlives the query that it is opened for.
		body, err = s.SparseBody(g.index, b, func(off, n int) ([]byte, error) {
			return r.read(context.Background(), r.foot.sections[g.section].linesAt+k.Offset+int64(off), int64(n))
		})
	} else {
		body, err = s.Body(g.index, b)
	}
	return body, r.error(group, err)
}

// minSparse is the least size of a row group's lines of which parts are read.
const minSparse = 32 << 10

// ReadOrder reads copy numbers, batch times and positions of a row group. There may be
// nothing to read.
func (r *Reader) ReadOrder(ctx context.Context, body *lines.Body, group int) (*Order, error) {
	g := &r.foot.groups[group]
	b, err := r.read(ctx, g.orderAt, g.orderSize)
	if err != nil {
		return nil, r.error(group, err)
	}
	var times []int64
	if len(b) > 0 {
		if times, err = body.SharedTimes(); err != nil {
			return nil, r.error(group, err)
		}
	}
	o, err := openOrder(b, body.Info().Rows, times, r.foot.info.Ordered)
	if err != nil {
		return nil, r.error(group, fmt.Errorf("order of rows: %w", err))
	}
	return o, nil
}

// ReadMetadata reads the metadata of a row group. There may be nothing to read.
func (r *Reader) ReadMetadata(ctx context.Context, body *lines.Body, group int) (*Metadata, error) {
	g := &r.foot.groups[group]
	b, err := r.read(ctx, g.metaAt, g.metaSize)
	if err != nil {
		return nil, r.error(group, err)
	}
	templates, err := body.RowTemplates()
	if err != nil {
		return nil, r.error(group, err)
	}
	m, err := openMetadata(b, templates, len(body.Info().Templates), metadataLimit(r.foot.info.MetadataBytes), body)
	if err != nil {
		return nil, r.error(group, fmt.Errorf("metadata: %w", err))
	}
	return m, nil
}

// HasMetadata reports whether the rows of a row group have any metadata.
func (r *Reader) HasMetadata(group int) bool { return r.foot.groups[group].metaSize > 0 }

// RowGroup is the parts of a row group, opened.
type RowGroup struct {
	Number   int
	Body     *lines.Body
	Order    *Order
	Metadata *Metadata // nil: not wanted
}

// ReadRowGroup reads all parts of a row group.
func (r *Reader) ReadRowGroup(ctx context.Context, s *Section, group int) (*RowGroup, error) {
	g := &RowGroup{Number: group}
	var err error
	if g.Body, err = r.ReadBody(ctx, s, group); err != nil {
		return nil, err
	}
	if g.Order, err = r.ReadOrder(ctx, g.Body, group); err != nil {
		return nil, err
	}
	g.Metadata, err = r.ReadMetadata(ctx, g.Body, group)
	return g, err
}

// Append appends rows of a row group, which ascend and may be of several streams, to
// dst: times, copy numbers, batch times and positions, and, if they are wanted, lines
// and metadata.
func (r *Reader) Append(dst *model.Rows, g *RowGroup, rows []uint32, lines, metadata bool) error {
	if len(rows) == 0 {
		return nil
	}
	n, from, to := dst.Len(), int(rows[0]), int(rows[len(rows)-1])+1
	times := g.Body.Times()
	if !lines && len(rows) > g.Body.Info().Rows/4 {
		times.All()
	}
	var err error
	switch {
	case !lines:
		dst.Times = slices.Grow(dst.Times, len(rows))
		for _, row := range rows {
			dst.Times = append(dst.Times, times.At(int(row)))
		}
		err = times.Err()
	case to-from == len(rows):
		err = g.Body.Rows(from, to, dst)
	default:
		err = g.Body.Select(rows, dst)
	}
	if err != nil {
		return r.error(g.Number, err)
	}
	k := &r.foot.groups[g.Number]
	g.Order.append(dst, rows, n, times, func(row int) (first, end int) {
		s := r.streamAt(k.firstRow + int64(row))
		return int(max(0, r.index.firstRow[s]-k.firstRow)), int(min(int64(k.rows), r.index.firstRow[s+1]-k.firstRow))
	}, k.base)
	if err := times.Err(); err != nil {
		return r.error(g.Number, err)
	}
	if metadata {
		if err := g.Metadata.append(dst, rows, n); err != nil {
			return r.error(g.Number, err)
		}
	}
	return nil
}

// streamAt returns the stream of a row of the block.
func (r *Reader) streamAt(row int64) int {
	return sort.Search(r.index.streams, func(i int) bool { return r.index.firstRow[i+1] > row })
}

// StreamsOf returns the streams [from, to) that have rows in a row group.
func (r *Reader) StreamsOf(group int) (from, to int) {
	k := &r.foot.groups[group]
	return r.streamAt(k.firstRow), r.streamAt(k.firstRow+int64(k.rows)-1) + 1
}

// RowsOf returns which rows of a row group are a stream's.
func (r *Reader) RowsOf(stream, group int) (from, to int) {
	k := &r.foot.groups[group]
	from = int(max(0, r.index.firstRow[stream]-k.firstRow))
	return from, max(from, int(min(int64(k.rows), r.index.firstRow[stream+1]-k.firstRow)))
}

// GroupTimes returns the least and the greatest time of a row group.
func (r *Reader) GroupTimes(group int) (least, greatest int64) {
	return r.foot.groups[group].minTime, r.foot.groups[group].maxTime
}

// GroupSize returns the rows of a row group and the bytes of their lines.
func (r *Reader) GroupSize(group int) (rows int, bytes int64) {
	return r.foot.groups[group].rows, r.foot.groups[group].bytes
}

// Streams returns how many streams there are. They are numbered in the order of the
// block.
func (r *Reader) Streams() int { return r.index.streams }

// Labels returns the labels of a stream. Their text is shared with the index.
func (r *Reader) Labels(stream int) model.Labels { return r.index.stream(stream) }

// AppendLabels is Labels that appends them to ls.
func (r *Reader) AppendLabels(ls model.Labels, stream int) model.Labels {
	return r.index.appendStream(ls, stream)
}

// Runs returns those runs of a stream that have times with start <= time < end. They
// are shared.
func (r *Reader) Runs(stream int, start, end int64) []Run {
	from, to := r.index.runsWithin(stream, start, end)
	return r.index.runs[from:to:to]
}

// Match returns the streams that all matchers match and that have runs which reach
// into start <= time < end, ascending by labels.
func (r *Reader) Match(matchers []*syntax.Matcher, start, end int64) []uint32 {
	r.once.Do(r.sort)
	streams, all := r.index.match(matchers)
	if all {
		streams = make([]uint32, r.index.streams)
		for i := range streams {
			streams[i] = uint32(i)
		}
	}
	out := streams
	if start > r.foot.info.MinTime || end <= r.foot.info.MaxTime {
		out = streams[:0]
		for _, s := range streams {
			if from, to := r.index.runsWithin(int(s), start, end); from < to {
				out = append(out, s)
			}
		}
	}
	switch {
	case r.sorted == nil:
	case len(out) == len(r.order):
		copy(out, r.order)
	default:
		for i, s := range out {
			out[i] = r.sorted[s]
		}
		slices.Sort(out)
		for i, at := range out {
			out[i] = r.order[at]
		}
	}
	return out
}

// LabelValues returns the values of a label, of which some may be there several times
// and some be no stream's, and which of them each stream has: 0 none, otherwise one more
// than its number. They are shared; nil: no stream has the label.
func (r *Reader) LabelValues(name string) (values []string, of []uint32) {
	for i := range r.index.labels {
		if l := &r.index.labels[i]; l.name == name {
			return l.values, l.of
		}
	}
	return nil, nil
}

// sort finds the place of each stream by labels.
func (r *Reader) sort() {
	n := r.index.streams
	all := make([]model.Labels, n)
	order := make([]uint32, n)
	for i := range all {
		all[i], order[i] = r.index.stream(i), uint32(i)
	}
	compare := func(a, b uint32) int { return all[a].Compare(all[b]) }
	if slices.IsSortedFunc(order, compare) {
		return
	}
	slices.SortFunc(order, compare)
	r.sorted, r.order = make([]uint32, n), order
	for at, s := range order {
		r.sorted[s] = uint32(at)
	}
}

// EachRun calls f with the runs of a stream that have rows in a row group, ascending,
// and with these rows of it. An error of f ends it.
func (r *Reader) EachRun(stream, group int, f func(run Run, from, to int) error) error {
	x, g := r.index, &r.foot.groups[group]
	lo, hi := int(x.firstRun[stream]), int(x.firstRun[stream+1])
	end := g.firstRow + int64(g.rows)
	lo += sort.Search(hi-lo, func(i int) bool { return x.runRow[lo+i+1] > g.firstRow })
	for ; lo < hi && x.runRow[lo] < end; lo++ {
		from, to := max(x.runRow[lo], g.firstRow), min(x.runRow[lo+1], end)
		if err := f(x.runs[lo], int(from-g.firstRow), int(to-g.firstRow)); err != nil {
			return err
		}
	}
	return nil
}

// Span is rows [From, To) of a row group.
type Span struct{ Group, From, To int }

// Spans returns where the rows of a stream with start <= time < end are: all of them
// are within, and others of the stream may be. The spans ascend.
func (r *Reader) Spans(stream int, start, end int64) []Span {
	return r.AppendSpans(nil, stream, start, end)
}

// AppendSpans is Spans that appends them to out.
func (r *Reader) AppendSpans(out []Span, stream int, start, end int64) []Span {
	a, b := r.index.runsWithin(stream, start, end)
	if a == b {
		return out
	}
	return r.spans(out, r.index.runRow[a], r.index.runRow[b])
}

// spans appends where rows [from, to) of the block are.
func (r *Reader) spans(out []Span, from, to int64) []Span {
	groups := r.foot.groups
	k := sort.Search(len(groups), func(i int) bool { return groups[i].firstRow+int64(groups[i].rows) > from })
	for ; k < len(groups) && groups[k].firstRow < to; k++ {
		g := &groups[k]
		out = append(out, Span{k, int(max(from-g.firstRow, 0)), int(min(to-g.firstRow, int64(g.rows)))})
	}
	return out
}

// Sizes is how many bytes of a block are what.
type Sizes struct {
	Lines, Templates, Grams, Order, Metadata, Index, Rest int64
}

// Sizes returns how many bytes are what. Templates are the footers of the sections.
func (r *Reader) Sizes() Sizes {
	var z Sizes
	for _, s := range r.foot.sections {
		z.Lines += s.linesSize - s.footerSize
		z.Templates += s.footerSize
		z.Grams += s.gramsSize
	}
	for i := range r.foot.groups {
		z.Order += r.foot.groups[i].orderSize
		z.Metadata += r.foot.groups[i].metaSize
	}
	z.Index = r.foot.info.IndexSize
	z.Rest = r.foot.info.Size - z.Lines - z.Templates - z.Grams - z.Order - z.Metadata - z.Index
	return z
}
