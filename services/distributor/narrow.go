package distributor

import "github.com/weir-logs/weir/libs/model"

// maxColumns is how many names of metadata a block may have, unless one row has
// more. Checking, hashing and storing a row takes time that grows with the names in
// its block, so a request whose rows all have names of their own would take time
// that grows with its square.
const maxColumns = 256

// part is rows of a stream that follow each other.
type part struct {
	rows model.Rows
	from int // place of the first in the stream
}

// narrow cuts rows into parts with at most about most columns each. It takes time
// in proportion to the values.
func narrow(r *model.Rows, most int) []part {
	if len(r.Metadata) <= most {
		return []part{{*r, 0}}
	}
	n := r.Len()
	// The sparse columns of each row, one row after the other; dense ones are in all.
	ends := make([]uint32, n+1)
	var dense []uint32
	for i := range r.Metadata {
		if r.Metadata[i].Rows == nil {
			dense = append(dense, uint32(i))
		}
		for _, row := range r.Metadata[i].Rows {
			ends[row+1]++
		}
	}
	for i := range n {
		ends[i+1] += ends[i]
	}
	columns := make([]uint32, ends[n])
	next := append([]uint32(nil), ends[:n]...)
	for i := range r.Metadata {
		for _, row := range r.Metadata[i].Rows {
			columns[next[row]] = uint32(i)
			next[row]++
		}
	}
	var out []part
	used := make([]int, len(r.Metadata)) // the part that last used a column, from 1
	at := make([]int, len(r.Metadata))   // values of a column that are in parts
	from, count := 0, len(dense)
	for row := range n {
		fresh := 0
		for _, c := range columns[ends[row]:ends[row+1]] {
			if used[c] != len(out)+1 {
				fresh++
			}
		}
		if row > from && count+fresh > most {
			out = append(out, part{cut(r, from, row, dense, columns[ends[from]:ends[row]], at), from})
			from, count = row, len(dense)
		}
		for _, c := range columns[ends[row]:ends[row+1]] {
			if used[c] != len(out)+1 {
				used[c] = len(out) + 1
				count++
			}
		}
	}
	return append(out, part{cut(r, from, n, dense, columns[ends[from]:ends[n]], at), from})
}

// cut returns rows [from, to). columns names their sparse columns, once for each
// value; at is how many values of each are in earlier rows, and is moved on.
func cut(r *model.Rows, from, to int, dense, columns []uint32, at []int) model.Rows {
	out := model.Rows{Times: r.Times[from:to:to], Lines: slice(&r.Lines, from, to)}
	if r.Positions != nil {
		out.Positions = r.Positions[from:to:to]
	}
	count := map[uint32]int{}
	for _, c := range columns {
		count[c]++
	}
	for _, i := range dense {
		c := &r.Metadata[i]
		out.Metadata = append(out.Metadata, model.Column{Name: c.Name, Version: c.Version, Values: slice(&c.Values, from, to)})
	}
	for i, k := range count {
		c := &r.Metadata[i]
		col := model.Column{Name: c.Name, Version: c.Version, Values: slice(&c.Values, at[i], at[i]+k)}
		for _, row := range c.Rows[at[i] : at[i]+k] {
			col.Rows = append(col.Rows, row-uint32(from))
		}
		at[i] += k
		out.Metadata = append(out.Metadata, col)
	}
	sortColumns(out.Metadata)
	return out
}

// slice returns strings [from, to), sharing the slab.
func slice(s *model.Strings, from, to int) model.Strings {
	base := uint32(0)
	if from > 0 {
		base = s.Ends[from-1]
	}
	out := model.Strings{Ends: make([]uint32, to-from)}
	for i := range out.Ends {
		out.Ends[i] = s.Ends[from+i] - base
	}
	if to > from {
		out.Slab = s.Slab[base:s.Ends[to-1]:s.Ends[to-1]]
	}
	return out
}
