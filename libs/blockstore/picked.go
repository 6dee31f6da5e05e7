package blockstore

import "sort"

// picked is which rows of a row group a query wants. They ascend.
type picked struct {
	from, n int      // rows, if they follow each other
	rows    []uint32 // otherwise
}

// MemorySize implements part.
func (p *picked) MemorySize() int { return 64 + 4*cap(p.rows) }

func (p *picked) len() int {
	if p.rows != nil {
		return len(p.rows)
	}
	return p.n
}

// search returns how many of the rows come before a row.
func (p *picked) search(row int) int {
	if p.rows != nil {
		return sort.Search(len(p.rows), func(i int) bool { return int(p.rows[i]) >= row })
	}
	return max(0, min(row-p.from, p.n))
}

func (p *picked) at(i int) int {
	if p.rows != nil {
		return int(p.rows[i])
	}
	return p.from + i
}

// list returns rows [from, to).
func (p *picked) list(from, to int) []uint32 {
	if p.rows != nil {
		return p.rows[from:to]
	}
	out := make([]uint32, to-from)
	for i := range out {
		out[i] = uint32(p.from + from + i)
	}
	return out
}

// nothing is no rows.
var nothing = &picked{}
