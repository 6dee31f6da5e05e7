package decode

import (
	"slices"
	"strings"
	"unsafe"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// What things take in memory, roughly, besides their bytes.
const (
	streamCost = 256
	columnCost = 160
	rowCost    = 12
	valueCost  = 8
)

// maxSlab is the most bytes of lines, or of the values of one column, in a stream:
// their ends are 32-bit numbers.
const maxSlab = 1 << 31

// builder gathers a request's streams in columns.
type builder struct {
	out    *ingestv1.WriteRequest
	memory *Reservation

	// The stream in work.
	labels string
	rows   model.Rows
	index  map[string]int // of Metadata by name, once there are many
	last   int            // the column that was used last
	pairs  []model.Label  // scratch for labels

	// Where there are many streams each has few rows.
	left   int // bytes of the request that are not decoded yet, if it is known
	times  model.Slab[int64]
	ends   model.Slab[uint32]
	slabs  model.Slab[byte]
	texts  model.Slab[byte]
	blocks *model.Pages[ingestv1.StreamBlock]
}

// What is allocated together at most.
const (
	pageRows    = 1 << 10
	pageBytes   = 64 << 10
	pageStreams = 64
	pageTexts   = 8 << 10
	// leastRow and leastStream are about what they take in a request at least.
	leastRow    = 32
	leastStream = 64
)

func newBuilder(memory *Reservation, door string) *builder {
	return &builder{out: &ingestv1.WriteRequest{Door: door}, memory: memory, blocks: memory.take()}
}

// startStream begins a stream that is going to have about rows rows and slab bytes
// of lines, which the caller knows to be no more than what it was sent.
func (b *builder) startStream(rows, slab int) error {
	if err := b.memory.Grow(streamCost); err != nil {
		return err
	}
	b.labels, b.index, b.last = "", nil, 0
	b.rows = model.Rows{}
	if rows > 0 {
		if err := b.memory.Grow(rows * rowCost); err != nil {
			return err
		}
		b.memory.Shrink(rows * rowCost) // counted again row by row
		b.rows.Times = b.times.Take(rows, min(b.left/leastRow, pageRows))
		b.rows.Lines.Ends = b.ends.Take(rows, min(b.left/leastRow, pageRows))
		b.rows.Lines.Slab = b.slabs.Take(slab, min(b.left, pageBytes))
	}
	return nil
}

// setLabels makes the stream's label text of pairs, which are sorted in place.
func (b *builder) setLabels(pairs []model.Label) {
	b.labels = labelText(pairs)
}

// labelText returns the canonical text of a label set. Names that are not plain stand
// in quotes there: whether a tenant may have such is not decided here.
func labelText(pairs []model.Label) string { return model.NewLabels(pairs).String() }

// shared returns bytes as a string, which shares its memory with those of other streams of the
// request: whoever keeps one copies it.
func (b *builder) shared(data []byte) string {
	s := append(b.texts.Take(len(data), min(b.left, pageTexts)), data...)
	return unsafe.String(unsafe.SliceData(s), len(s)) // nothing is written there again
}

// row is the row in work: the one behind the last that was ended.
func (b *builder) row() int { return len(b.rows.Times) }

// setLine makes line the row's line; the last one counts.
func (b *builder) setLine(line []byte) error {
	from := b.lineStart()
	b.memory.Shrink(len(b.rows.Lines.Slab) - from)
	if err := b.memory.Grow(len(line)); err != nil {
		return err
	}
	if from+len(line) > maxSlab {
		return rpcerr.New(rpcerr.TooLarge, "a stream has more than %d bytes of lines; send less at a time", maxSlab)
	}
	b.rows.Lines.Slab = append(b.rows.Lines.Slab[:from], line...)
	return nil
}

func (b *builder) lineStart() int {
	if n := len(b.rows.Lines.Ends); n > 0 {
		return int(b.rows.Lines.Ends[n-1])
	}
	return 0
}

// setMetadata gives the row a pair; of equal names the last counts.
func (b *builder) setMetadata(name, value []byte) error {
	c, err := b.column(name)
	if err != nil || c == nil {
		return err
	}
	row := b.row()
	if n := c.Values.Len(); n > 0 && b.lastRow(c) == row {
		from := 0
		if n > 1 {
			from = int(c.Values.Ends[n-2])
		}
		c.Values.Slab = append(c.Values.Slab[:from], value...)
		c.Values.Ends[n-1] = uint32(len(c.Values.Slab))
		return b.memory.Grow(len(value))
	}
	if len(value) == 0 {
		return nil
	}
	if err := b.memory.Grow(valueCost + len(value)); err != nil {
		return err
	}
	if len(c.Values.Slab)+len(value) > maxSlab {
		return rpcerr.New(rpcerr.TooLarge, "a stream has more than %d bytes of structured metadata; send less at a time", maxSlab)
	}
	c.Append(row, value)
	return nil
}

// lastRow returns the last row that has a value in c, which is not empty.
func (b *builder) lastRow(c *model.Column) int {
	if c.Rows == nil {
		return c.Values.Len() - 1
	}
	return int(c.Rows[len(c.Rows)-1])
}

// manyColumns is from how many columns on a map finds them faster than looking.
const manyColumns = 8

// column returns the column of a name, made if there is none.
func (b *builder) column(name []byte) (*model.Column, error) {
	cols := b.rows.Metadata
	// Entries mostly have the same names in the same order.
	for range 2 {
		if b.last < len(cols) && cols[b.last].Name == string(name) {
			return &cols[b.last], nil
		}
		if b.last++; b.last >= len(cols) {
			b.last = 0
		}
	}
	if len(cols) < manyColumns {
		for i := range cols {
			if cols[i].Name == string(name) {
				b.last = i
				return &cols[i], nil
			}
		}
	} else if i, ok := b.index[string(name)]; ok {
		b.last = i
		return &cols[i], nil
	}
	if err := b.memory.Grow(columnCost + len(name)); err != nil {
		return nil, err
	}
	b.last = len(cols)
	b.rows.Metadata = append(cols, model.Column{Name: string(name)})
	if len(b.rows.Metadata) == manyColumns {
		b.index = make(map[string]int, 2*manyColumns)
		for i := range b.rows.Metadata {
			b.index[b.rows.Metadata[i].Name] = i
		}
	} else if b.index != nil {
		b.index[string(name)] = b.last
	}
	return &b.rows.Metadata[b.last], nil
}

// endRow ends the row in work.
func (b *builder) endRow(time int64, copyNumber uint32) error {
	if err := b.memory.Grow(rowCost); err != nil {
		return err
	}
	if copyNumber != 0 && b.rows.Copies == nil {
		b.rows.Copies = make([]uint32, b.row(), cap(b.rows.Times))
	}
	b.rows.Times = append(b.rows.Times, time)
	b.rows.Lines.Ends = append(b.rows.Lines.Ends, uint32(len(b.rows.Lines.Slab)))
	if b.rows.Copies != nil {
		b.rows.Copies = append(b.rows.Copies, copyNumber)
	}
	return nil
}

// endStream adds the stream in work to the request.
func (b *builder) endStream() {
	n := b.rows.Len()
	block := &b.blocks.Take(1, min(b.left/leastStream, pageStreams))[:1][0]
	block.Labels, block.Copies = b.labels, b.rows.Copies
	block.Times, block.LineEnds, block.Slab = b.rows.Times, b.rows.Lines.Ends, b.rows.Lines.Slab
	cols := slices.DeleteFunc(b.rows.Metadata, func(c model.Column) bool { return c.Values.Len() == 0 })
	slices.SortFunc(cols, func(a, b model.Column) int { return strings.Compare(a.Name, b.Name) })
	for i := range cols {
		c := &cols[i]
		c.Finish(n)
		block.Metadata = append(block.Metadata, &ingestv1.Column{Name: c.Name, Rows: c.Rows, Ends: c.Values.Ends, Slab: c.Values.Slab})
	}
	b.out.Streams = append(b.out.Streams, block)
}
