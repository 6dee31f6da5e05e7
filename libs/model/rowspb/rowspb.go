// Package rowspb converts rows between package model and the internal wire. Both
// sides are columns of the same types, so nothing is copied: the result shares
// all slices with the argument.
package rowspb

import (
	"fmt"
	"slices"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
)

// FromBlock returns the rows of a block from outside, or an error if its columns
// do not fit together. Positions are filled in; hashes and batch times are not.
func FromBlock(b *ingestv1.StreamBlock) (model.Rows, error) {
	var r Reader
	return r.FromBlock(b)
}

// Reader reads blocks that go together, of one request, into memory that it uses again. The
// zero value is ready. It is for one goroutine.
type Reader struct{ columns []model.Column }

// Begin says which blocks are going to be read. What was read before is not valid any more.
func (d *Reader) Begin(blocks []*ingestv1.StreamBlock) {
	n := 0
	for _, b := range blocks {
		n += len(b.GetMetadata()) + len(b.GetDerived())
	}
	d.columns = slices.Grow(d.columns[:0], n)
}

// Cap returns how many columns there is memory for.
func (d *Reader) Cap() int { return cap(d.columns) }

// Clear lets go of what was read.
func (d *Reader) Clear() {
	clear(d.columns)
	d.columns = d.columns[:0]
}

// FromBlock is [FromBlock].
func (d *Reader) FromBlock(b *ingestv1.StreamBlock) (model.Rows, error) {
	r := model.Rows{
		Times:    b.GetTimes(),
		Lines:    model.Strings{Ends: b.GetLineEnds(), Slab: b.GetSlab()},
		Metadata: d.fromColumns(b.GetMetadata()),
		Derived:  d.fromColumns(b.GetDerived()),
	}
	if len(b.GetCopies()) > 0 {
		r.Copies = b.GetCopies()
	}
	if len(b.GetPositions()) > 0 {
		r.Positions = b.GetPositions()
	}
	if err := r.Check(); err != nil {
		return model.Rows{}, fmt.Errorf("stream block: %w", err)
	}
	return r, nil
}

func (d *Reader) fromColumns(cs []*ingestv1.Column) []model.Column {
	if len(cs) == 0 {
		return nil
	}
	if cap(d.columns)-len(d.columns) < len(cs) {
		d.columns = make([]model.Column, 0, len(cs)) // what is read stays where it is
	}
	from := len(d.columns)
	for _, c := range cs {
		col := model.Column{
			Name:    c.GetName(),
			Values:  model.Strings{Ends: c.GetEnds(), Slab: c.GetSlab()},
			Version: c.GetVersion(),
		}
		if len(c.GetRows()) > 0 {
			col.Rows = c.GetRows()
		}
		d.columns = append(d.columns, col)
	}
	return d.columns[from:len(d.columns):len(d.columns)]
}

// ToBlock returns rows as a block, with the canonical text of their labels.
// Columns without a value are left out.
func ToBlock(labels string, r *model.Rows) *ingestv1.StreamBlock {
	var b Blocks
	return b.Of(labels, r, 1)
}

// Blocks makes blocks that go together, of one request, and fewer objects for them. It is
// for one goroutine.
type Blocks struct {
	blocks  model.Pages[ingestv1.StreamBlock]
	columns model.Pages[ingestv1.Column]
	lists   model.Pages[*ingestv1.Column]
}

// pageBlocks is how many are made together at most.
const pageBlocks = 64

// Reuse takes the memory of all blocks that were made, to which nobody may refer any more,
// for those to come. It returns for how many of them, or columns of them, there is memory.
func (b *Blocks) Reuse() (held int) {
	b.lists.Reuse()
	return max(b.blocks.Reuse(), b.columns.Reuse())
}

// Of is [ToBlock]. About left blocks are going to be made, this one included.
func (b *Blocks) Of(labels string, r *model.Rows, left int) *ingestv1.StreamBlock {
	left = min(left, pageBlocks)
	out := &b.blocks.Take(1, left)[:1][0]
	out.Labels, out.Copies, out.Positions = labels, r.Copies, r.Positions
	out.Times, out.LineEnds, out.Slab = r.Times, r.Lines.Ends, r.Lines.Slab
	out.Metadata, out.Derived = b.toColumns(r.Metadata, left), b.toColumns(r.Derived, left)
	return out
}

func (b *Blocks) toColumns(cs []model.Column, left int) []*ingestv1.Column {
	if len(cs) == 0 {
		return nil
	}
	out := b.lists.Take(len(cs), left)
	for i := range cs {
		c := &cs[i]
		if c.Values.Len() == 0 {
			continue
		}
		col := &b.columns.Take(1, left)[:1][0]
		col.Name, col.Rows, col.Ends, col.Slab, col.Version = c.Name, c.Rows, c.Values.Ends, c.Values.Slab, c.Version
		out = append(out, col)
	}
	return out
}
