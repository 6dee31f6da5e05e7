package compact

import (
	"slices"

	"github.com/weir-logs/weir/libs/model"
)

// A batch that goes to the writer is no larger, but for one row.
const (
	batchRows  = 8192
	batchBytes = 1 << 20
)

// batch is rows that are gathered out of others.
type batch struct {
	rows   model.Rows
	digest uint64
}

func (b *batch) reset() {
	r := &b.rows
	r.Times, r.Lines.Ends, r.Lines.Slab = r.Times[:0], r.Lines.Ends[:0], r.Lines.Slab[:0]
	r.Hashes, r.BatchTimes, r.Positions = r.Hashes[:0], r.BatchTimes[:0], r.Positions[:0]
	r.Metadata, r.Derived, r.Copies = nil, nil, nil
	b.digest = 0
}

func (b *batch) full() bool {
	return b.rows.Len() >= batchRows || len(b.rows.Lines.Slab) >= batchBytes
}

// fits reports whether rows of src can be appended: derived columns of one batch
// are all of one version.
func (b *batch) fits(src *model.Rows) bool {
	for i := range src.Derived {
		c := &src.Derived[i]
		if k, ok := find(b.rows.Derived, c.Name); ok && b.rows.Derived[k].Version != c.Version {
			return false
		}
	}
	return true
}

func find(set []model.Column, name string) (int, bool) {
	return slices.BinarySearchFunc(set, name, func(c model.Column, name string) int {
		if c.Name < name {
			return -1
		} else if c.Name > name {
			return 1
		}
		return 0
	})
}

// append adds the rows [from, to) of src, with the given hashes or those of src.
func (b *batch) append(src *model.Rows, from, to int) {
	r := &b.rows
	n := r.Len()
	r.Times = append(r.Times, src.Times[from:to]...)
	appendStrings(&r.Lines, &src.Lines, from, to)
	for i := from; i < to; i++ {
		h := hashOf(src, i)
		r.Hashes = append(r.Hashes, h)
		b.digest += h
	}
	if src.BatchTimes != nil {
		r.BatchTimes = append(r.BatchTimes, src.BatchTimes[from:to]...)
	} else {
		r.BatchTimes = extend(r.BatchTimes, to-from)
	}
	if src.Positions != nil {
		r.Positions = append(r.Positions, src.Positions[from:to]...)
	} else {
		r.Positions = extend(r.Positions, to-from)
	}
	if src.Copies != nil || r.Copies != nil {
		r.Copies = extend(r.Copies, n-len(r.Copies))
		if src.Copies != nil {
			r.Copies = append(r.Copies, src.Copies[from:to]...)
		} else {
			r.Copies = extend(r.Copies, to-from)
		}
	}
	r.Metadata = appendColumns(r.Metadata, src.Metadata, from, to, n)
	r.Derived = appendColumns(r.Derived, src.Derived, from, to, n)
}

func hashOf(r *model.Rows, i int) uint64 {
	if r.Hashes != nil {
		return r.Hashes[i]
	}
	return r.Hash(i)
}

func extend[T any](s []T, n int) []T {
	var zero T
	for range n {
		s = append(s, zero)
	}
	return s
}

func appendStrings(dst, src *model.Strings, from, to int) {
	if from == to {
		return
	}
	begin := uint32(0)
	if from > 0 {
		begin = src.Ends[from-1]
	}
	shift := uint32(len(dst.Slab)) - begin
	dst.Slab = append(dst.Slab, src.Slab[begin:src.Ends[to-1]]...)
	for _, e := range src.Ends[from:to] {
		dst.Ends = append(dst.Ends, e+shift)
	}
}

// appendColumns appends the rows [from, to) of src to dst, whose columns have n
// rows so far.
func appendColumns(dst, src []model.Column, from, to, n int) []model.Column {
	for i := range src {
		c := &src[i]
		first, last := from, to // of the values
		if c.Rows != nil {
			first, _ = slices.BinarySearch(c.Rows, uint32(from))
			last, _ = slices.BinarySearch(c.Rows, uint32(to))
		}
		if first == last {
			continue
		}
		at, ok := find(dst, c.Name)
		if !ok {
			dst = slices.Insert(dst, at, model.Column{Name: c.Name, Version: c.Version})
		}
		d := &dst[at]
		d.Finish(n)
		switch {
		case c.Rows != nil || d.Rows != nil:
			if d.Rows == nil { // dense so far
				d.Rows = make([]uint32, n, n+last-first)
				for k := range d.Rows {
					d.Rows[k] = uint32(k)
				}
			}
			for k := first; k < last; k++ {
				row := k
				if c.Rows != nil {
					row = int(c.Rows[k])
				}
				d.Rows = append(d.Rows, uint32(n+row-from))
			}
		}
		appendStrings(&d.Values, &c.Values, first, last)
	}
	n += to - from
	for i := range dst {
		dst[i].Finish(n)
	}
	return dst
}
