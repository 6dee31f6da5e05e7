package lines

import (
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// Lengths returns the length of each row's line, without printing them.
func (b *Body) Lengths() ([]uint32, error) {
	tids, err := b.RowTemplates()
	if err != nil {
		return nil, err
	}
	type slot struct {
		lengths *column.Lengths
		column  int
	}
	columns := make([]*column.Lengths, len(b.columns))
	fixed := make([]int, len(b.info.Templates))
	slots := make([][]slot, len(b.info.Templates))
	var pieces []template.Piece
	for t := range slots {
		pieces = b.section.Table.Templates[b.info.Templates[t].Template].AppendPieces(pieces[:0])
		for _, p := range pieces {
			fixed[t] += len(p.Literal)
			if !p.Slot {
				break
			}
			if p.IsTime {
				fixed[t] += p.Layout.Len()
				continue
			}
			n := b.place(p.Column)
			if columns[n] == nil {
				v, err := b.Values(n)
				if err != nil {
					return nil, err
				}
				l := v.Lengths()
				columns[n] = &l
			}
			if columns[n].Same() {
				fixed[t] += columns[n].Fixed
				continue
			}
			slots[t] = append(slots[t], slot{columns[n], n})
		}
	}
	next := make([]int, len(b.columns))
	out := make([]uint32, len(tids))
	sum := 0
	for i, t := range tids {
		n := fixed[t]
		for _, s := range slots[t] {
			n += s.lengths.At(next[s.column])
			next[s.column]++
		}
		if sum += n; sum > b.info.Bytes {
			return nil, at(b.block, errTooLong(b.info))
		}
		out[i] = uint32(n)
	}
	if sum != b.info.Bytes {
		return nil, at(b.block, column.Corrupt("%d bytes of lines, %d missing", b.info.Bytes, b.info.Bytes-sum))
	}
	return out, nil
}
