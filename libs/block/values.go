package block

import (
	"math/bits"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// tableValues is the values of a column.
type tableValues struct {
	values *column.Values
	rows   []uint32 // that have a value; nil: all, or by template
	of     []int32  // presentTemplate: each template's value; -1: none
}

// maxGuess is for how many bytes of each value there is room at once, whatever the column
// says of their length: it is not checked.
const maxGuess = 64

// setBits returns the numbers of the bits that are set: count, all below n.
func setBits(b []byte, n, count int) ([]uint32, error) {
	set := 0
	for _, x := range b {
		set += bits.OnesCount8(x)
	}
	if len(b) != (n+7)/8 || set != count {
		return nil, corrupt("bitmap of %d bytes with %d bits set for %d values of %d", len(b), set, count, n)
	}
	out := make([]uint32, 0, count)
	for i, x := range b {
		for ; x != 0; x &= x - 1 {
			out = append(out, uint32(8*i+bits.TrailingZeros8(x)))
		}
	}
	if count > 0 && int(out[count-1]) >= n {
		return nil, corrupt("bit %d of %d is set", out[count-1], n)
	}
	return out, nil
}

// appendTo appends the values that rows have to a column, as those of rows n, n+1, ….
// The rows ascend.
func (v *tableValues) appendTo(dst *model.Column, rows []uint32, n int, templates []uint16, buf []byte) []byte {
	add := func(i, value int) {
		buf = v.values.Append(buf[:0], value)
		dst.Append(n+i, buf)
	}
	switch {
	case v.of != nil:
		for i, row := range rows {
			if k := v.of[templates[row]]; k >= 0 {
				add(i, int(k))
			}
		}
	case v.rows != nil:
		k, _ := slices.BinarySearch(v.rows, rows[0])
		for i, row := range rows {
			for k < len(v.rows) && v.rows[k] < row {
				if k++; k < len(v.rows) && v.rows[k] < row { // far away, maybe
					d, _ := slices.BinarySearch(v.rows[k:], row)
					k += d
				}
			}
			if k == len(v.rows) {
				break
			}
			if v.rows[k] == row {
				add(i, k)
			}
		}
	default:
		dst.Values.Ends = slices.Grow(dst.Values.Ends, len(rows))
		dst.Values.Slab = slices.Grow(dst.Values.Slab, len(rows)*min(v.values.Info().MinLen, maxGuess))
		for i, row := range rows {
			add(i, int(row))
		}
	}
	return buf
}

// mark calls set with each row that has the value.
func (v *tableValues) mark(value []byte, templates []uint16, set func(row int)) {
	if v.of == nil {
		v.values.Find(value, func(i int) {
			if v.rows != nil {
				i = int(v.rows[i])
			}
			set(i)
		})
		return
	}
	equal := make([]bool, v.values.Len())
	any := false
	v.values.Find(value, func(i int) { equal[i], any = true, true })
	if !any {
		return
	}
	for row, t := range templates {
		if k := v.of[t]; k >= 0 && equal[k] {
			set(row)
		}
	}
}

// each sets what number says of the value of each row that has one.
func (v *tableValues) each(templates []uint16, number func(value int) uint32, rows []uint32) {
	if v.of != nil {
		known := make([]uint32, len(v.of))
		for t, k := range v.of {
			if k >= 0 {
				known[t] = number(int(k))
			}
		}
		for row, t := range templates {
			if known[t] > 0 {
				rows[row] = known[t]
			}
		}
		return
	}
	for k := range v.values.Len() {
		row := k
		if v.rows != nil {
			row = int(v.rows[k])
		}
		rows[row] = number(k)
	}
}
