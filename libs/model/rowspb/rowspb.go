// Package rowspb converts rows between package model and the internal wire. Both
// sides are columns of the same types, so nothing is copied: the result shares
// all slices with the argument.
package rowspb

import (
	"fmt"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
)

// FromBlock returns the rows of a block from outside, or an error if its columns
// do not fit together. Positions are filled in; hashes and batch times are not.
func FromBlock(b *ingestv1.StreamBlock) (model.Rows, error) {
	r := model.Rows{
		Times:    b.GetTimes(),
		Lines:    model.Strings{Ends: b.GetLineEnds(), Slab: b.GetSlab()},
		Metadata: fromColumns(b.GetMetadata()),
		Derived:  fromColumns(b.GetDerived()),
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

func fromColumns(cs []*ingestv1.Column) []model.Column {
	if len(cs) == 0 {
		return nil
	}
	out := make([]model.Column, len(cs))
	for i, c := range cs {
		out[i] = model.Column{
			Name:    c.GetName(),
			Values:  model.Strings{Ends: c.GetEnds(), Slab: c.GetSlab()},
			Version: c.GetVersion(),
		}
		if len(c.GetRows()) > 0 {
			out[i].Rows = c.GetRows()
		}
	}
	return out
}

// ToBlock returns rows as a block, with the canonical text of their labels.
// Columns without a value are left out.
func ToBlock(labels string, r *model.Rows) *ingestv1.StreamBlock {
	return &ingestv1.StreamBlock{
		Labels:    labels,
		Times:     r.Times,
		LineEnds:  r.Lines.Ends,
		Slab:      r.Lines.Slab,
		Metadata:  toColumns(r.Metadata),
		Derived:   toColumns(r.Derived),
		Copies:    r.Copies,
		Positions: r.Positions,
	}
}

func toColumns(cs []model.Column) []*ingestv1.Column {
	if len(cs) == 0 {
		return nil
	}
	out := make([]*ingestv1.Column, 0, len(cs))
	for i := range cs {
		c := &cs[i]
		if c.Values.Len() == 0 {
			continue
		}
		out = append(out, &ingestv1.Column{
			Name: c.Name, Rows: c.Rows, Ends: c.Values.Ends, Slab: c.Values.Slab, Version: c.Version,
		})
	}
	return out
}
