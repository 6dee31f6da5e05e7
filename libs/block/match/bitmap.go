package match

import "math/bits"

// Bitmap is a set of row numbers. The zero value is an empty one of no rows.
type Bitmap struct {
	words []uint64
	n     int
}

// Reset makes it the empty set of rows 0 … n-1.
func (b *Bitmap) Reset(n int) {
	w := (n + 63) / 64
	if cap(b.words) < w {
		b.words = make([]uint64, w)
	}
	b.words, b.n = b.words[:w], n
	clear(b.words)
}

// Len returns the number of rows that may be in it.
func (b *Bitmap) Len() int { return b.n }

// Words returns the bits: bit i%64 of number i/64 is row i. They are shared.
func (b *Bitmap) Words() []uint64 { return b.words }

// Set adds a row.
func (b *Bitmap) Set(row int) { b.words[row>>6] |= 1 << (row & 63) }

// Clear takes out a row.
func (b *Bitmap) Clear(row int) { b.words[row>>6] &^= 1 << (row & 63) }

// Has reports whether a row is in it.
func (b *Bitmap) Has(row int) bool { return b.words[row>>6]>>(row&63)&1 != 0 }

// SetRange adds rows from … to-1.
func (b *Bitmap) SetRange(from, to int) {
	for from < to && from&63 != 0 {
		b.Set(from)
		from++
	}
	for ; from+64 <= to; from += 64 {
		b.words[from>>6] = ^uint64(0)
	}
	for ; from < to; from++ {
		b.Set(from)
	}
}

// Count returns how many rows are in it.
func (b *Bitmap) Count() int {
	n := 0
	for _, w := range b.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// bounds returns the first row and one more than the last; ok is false if it is empty.
func (b *Bitmap) bounds() (from, to int, ok bool) {
	first, last := 0, len(b.words)-1
	for first <= last && b.words[first] == 0 {
		first++
	}
	if first > last {
		return 0, 0, false
	}
	for b.words[last] == 0 {
		last--
	}
	return first<<6 + bits.TrailingZeros64(b.words[first]), last<<6 + bits.Len64(b.words[last]), true
}

// And leaves the rows that are in o, which has as many rows, as well.
func (b *Bitmap) And(o *Bitmap) {
	for i, w := range o.words {
		b.words[i] &= w
	}
}

// AndNot takes out the rows that are in o, which has as many rows.
func (b *Bitmap) AndNot(o *Bitmap) {
	for i, w := range o.words {
		b.words[i] &^= w
	}
}

// AppendRows appends the numbers of the rows in it, ascending.
func (b *Bitmap) AppendRows(dst []uint32) []uint32 {
	for i, w := range b.words {
		for ; w != 0; w &= w - 1 {
			dst = append(dst, uint32(i<<6+bits.TrailingZeros64(w)))
		}
	}
	return dst
}

// found is the values of a column that meet a want, by number; nil: none.
type found []uint64

// hits collects values.
type hits struct {
	bits found
	n    int
}

func (h *hits) add(i int) {
	if h.bits == nil {
		h.bits = make(found, (h.n+63)/64)
	}
	h.bits[i>>6] |= 1 << (i & 63)
}

func (f found) has(i int) bool { return f[i>>6]>>(i&63)&1 != 0 }

func allOf(n int) found {
	f := make(found, (n+63)/64)
	for i := range f {
		f[i] = ^uint64(0)
	}
	return f
}
