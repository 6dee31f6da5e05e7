package block

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// batchRows is how many rows Each gives out at once.
const batchRows = 4096

// Each calls yield with all rows in the order of the block, some of one stream at a
// time. They are valid during the call. Order keys strictly ascend within a stream;
// hashes are not there. One row group is in memory at a time.
func (r *Reader) Each(ctx context.Context, yield func(ls model.Labels, rows *model.Rows) error) error {
	current, ls := -1, model.Labels(nil)
	return r.each(ctx, func(stream int, page *model.Rows, from, to int) error {
		if stream != current {
			current, ls = stream, r.index.stream(stream)
		}
		return yield(ls, cut(page, from, to))
	})
}

// each is Each with rows [from, to) of a page that has those of many streams, if they are
// few. Each page's come from its first row on.
func (r *Reader) each(ctx context.Context, yield func(stream int, page *model.Rows, from, to int) error) error {
	var section *Section
	current := -1
	var g *RowGroup
	page, first := &model.Rows{}, 0 // rows of g from first on: of many streams, if they are small
	list := make([]uint32, 0, batchRows)
	var spans []Span
	for stream := range r.index.streams {
		spans = r.spans(spans[:0], r.index.firstRow[stream], r.index.firstRow[stream+1])
		for _, s := range spans {
			if g == nil || g.Number != s.Group {
				if err := ctx.Err(); err != nil {
					return err
				}
				k := &r.foot.groups[s.Group]
				var err error
				if k.section != current {
					current = k.section
					if section, err = r.ReadSection(ctx, current); err != nil {
						return err
					}
				}
				last := g
				if g, err = r.ReadRowGroup(ctx, section, s.Group); err != nil {
					return err
				}
				if last != nil {
					g.Body.Inherit(last.Body)
				}
				Empty(page)
				first = 0
			}
			for at := s.From; at < s.To; {
				if at >= first+page.Len() {
					list, first = list[:0], at
					for row := at; row < min(at+batchRows, r.foot.groups[s.Group].rows); row++ {
						list = append(list, uint32(row))
					}
					Empty(page)
					if err := r.Append(page, g, list, true, true); err != nil {
						return err
					}
				}
				to := min(s.To, first+page.Len())
				if err := yield(stream, page, at-first, to-first); err != nil {
					return err
				}
				at = to
			}
		}
	}
	return nil
}

// Empty makes rows none, and keeps what memory they had but for metadata.
func Empty(rows *model.Rows) {
	*rows = model.Rows{
		Times: rows.Times[:0], Lines: model.Strings{Ends: rows.Lines.Ends[:0], Slab: rows.Lines.Slab[:0]},
		BatchTimes: rows.BatchTimes[:0], Positions: rows.Positions[:0],
	}
}

// cut returns rows [from, to) of rows without hashes. They share what they can.
func cut(rows *model.Rows, from, to int) *model.Rows {
	if from == 0 && to == rows.Len() {
		return rows
	}
	out := &model.Rows{Times: rows.Times[from:to:to], Lines: cutStrings(&rows.Lines, from, to)}
	if rows.Copies != nil {
		out.Copies = rows.Copies[from:to:to]
	}
	if rows.BatchTimes != nil {
		out.BatchTimes = rows.BatchTimes[from:to:to]
	}
	if rows.Positions != nil {
		out.Positions = rows.Positions[from:to:to]
	}
	out.Metadata, out.Derived = cutColumns(rows.Metadata, from, to), cutColumns(rows.Derived, from, to)
	return out
}

func cutStrings(s *model.Strings, from, to int) model.Strings {
	begin := uint32(0)
	if from > 0 {
		begin = s.Ends[from-1]
	}
	out := model.Strings{Ends: make([]uint32, to-from), Slab: s.Slab[begin:s.Ends[to-1]:s.Ends[to-1]]}
	for i, end := range s.Ends[from:to] {
		out.Ends[i] = end - begin
	}
	return out
}

func cutColumns(set []model.Column, from, to int) []model.Column {
	var out []model.Column
	for i := range set {
		c := &set[i]
		a, b := from, to
		var rows []uint32
		if c.Rows != nil {
			a, _ = slices.BinarySearch(c.Rows, uint32(from))
			b, _ = slices.BinarySearch(c.Rows, uint32(to))
			if a == b {
				continue
			}
			if b-a < to-from {
				for _, row := range c.Rows[a:b] {
					rows = append(rows, row-uint32(from))
				}
			}
		}
		out = append(out, model.Column{Name: c.Name, Version: c.Version, Rows: rows, Values: cutStrings(&c.Values, a, b)})
	}
	return out
}

// Verify reads the whole block and checks all of it: checksums, the order of streams
// and rows, and the counts and digests of runs. Digests of another version are not
// checked.
func (r *Reader) Verify(ctx context.Context) error {
	head, err := r.r.ReadRange(ctx, 0, headSize)
	if err == nil {
		err = checkHead(head, r.minor)
	}
	if err != nil {
		return r.error(-1, err)
	}
	if err := r.index.check(); err != nil {
		return r.error(-1, err)
	}
	v := verifier{r: r, stream: -1}
	if err := r.each(ctx, v.rows); err != nil {
		if errors.Is(err, column.ErrCorrupt) {
			return r.error(-1, err)
		}
		return err
	}
	if v.run != len(r.index.runs) {
		return r.error(-1, corrupt("rows of %d runs of %d", v.run, len(r.index.runs)))
	}
	if v.metadata != r.foot.info.MetadataBytes {
		return r.error(-1, corrupt("%d bytes of metadata, not %d", v.metadata, r.foot.info.MetadataBytes))
	}
	return nil
}

// verifier checks rows as they come in the order of the block.
type verifier struct {
	r        *Reader
	stream   int
	last     model.OrderKey
	run      int // that the next row is in
	sum      Run
	metadata int64
}

func (v *verifier) rows(stream int, rows *model.Rows, from, to int) error {
	if from == 0 { // a page that is new
		v.metadata += metadataBytes(rows)
	}
	for i := from; i < to; i++ {
		key := rows.Key(i)
		key.Hash = rows.Hash(i)
		if stream == v.stream && key.Compare(v.last) <= 0 {
			return corrupt("rows of %s do not ascend", v.r.index.stream(stream))
		}
		v.stream, v.last = stream, key
		want := &v.r.index.runs[v.run]
		if v.sum.Rows == 0 {
			v.sum.MinTime = key.Time
		}
		v.sum.join(Run{MaxTime: key.Time, Rows: 1, Bytes: uint64(lineLen(rows, i)), Digest: key.Hash})
		if v.sum.Rows < want.Rows {
			continue
		}
		if v.r.foot.info.HashVersion != model.HashVersion {
			v.sum.Digest = want.Digest
		}
		if v.sum != *want {
			return corrupt("run of %s: %v, its rows are %v", v.r.index.stream(stream), *want, v.sum)
		}
		v.run++
		v.sum = Run{}
	}
	return nil
}

// metadataBytes returns how many bytes the metadata of rows has, names and values.
func metadataBytes(rows *model.Rows) (n int64) {
	for _, set := range [][]model.Column{rows.Metadata, rows.Derived} {
		for i := range set {
			for k := range set[i].Values.Ends {
				n += int64(len(set[i].Name) + len(set[i].Values.At(k)))
			}
		}
	}
	return n
}

func (r Run) String() string {
	return fmt.Sprintf("%d rows of %d bytes from %d to %d, digest %016x", r.Rows, r.Bytes, r.MinTime, r.MaxTime, r.Digest)
}
