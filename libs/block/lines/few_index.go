package lines

import (
	"math"
	"slices"
)

// Who asks a block for few rows once counts the rows before them. Who asks again finds lists
// of the rows of each template, and which templates have values in each column: then a row of
// many is found by what it needs itself.
const (
	fewsToList = 2       // askings without the lists
	maxListed  = 1 << 16 // rows, so that each takes two bytes
)

// invert finds which templates have values in each column. Call with mu held.
func (b *Body) invert() {
	if b.usersAt != nil {
		return
	}
	b.usersAt = make([]int32, len(b.columns)+1)
	n := 0
	for t := range b.info.Templates {
		cols := b.columnsOf(t)
		n += len(cols)
		for _, id := range cols {
			b.usersAt[b.place(id)]++
		}
	}
	at := int32(0)
	for c, k := range b.usersAt {
		b.usersAt[c] = at
		at += k
	}
	b.users = make([]uint16, n)
	next := slices.Clone(b.usersAt)
	for t := range b.info.Templates {
		for _, id := range b.columnsOf(t) {
			c := b.place(id)
			b.users[next[c]] = uint16(t)
			next[c]++
		}
	}
	b.memory += 4*len(b.usersAt) + 2*n
}

// list finds the rows of each template. Call with mu held, once the rows' templates are known.
func (b *Body) list() {
	if b.listed != nil {
		return
	}
	b.listedAt = make([]uint32, len(b.info.Templates)+1)
	for t, k := range b.info.Templates {
		b.listedAt[t+1] = b.listedAt[t] + k.Rows
	}
	b.listed = make([]uint16, b.packed.n)
	next := slices.Clone(b.listedAt)
	for row := range b.packed.n {
		t := b.packed.at(row)
		b.listed[next[t]] = uint16(row)
		next[t]++
	}
	b.memory += 4*len(b.listedAt) + 2*len(b.listed)
}

// before returns how many rows of a template come before a row.
func (b *Body) before(t uint16, row int) uint32 {
	rows := b.listed[b.listedAt[t]:b.listedAt[t+1]]
	from, to := 0, len(rows)
	for from < to {
		if mid := int(uint(from+to) >> 1); int(rows[mid]) < row {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return uint32(from)
}

// seek moves to the first row.
func (w *fewWriter) seek(row int) {
	b := w.body
	if b.listed != nil {
		w.find(row)
		return
	}
	b.countBefore(w.tids, row)
	for t, n := range b.passed {
		if n > 0 {
			w.skip(t, n)
		}
	}
	w.row = row
}

// skip moves the columns by the values that n rows of a template have.
func (w *fewWriter) skip(t int, n uint32) {
	b := w.body
	for _, id := range b.columnsOf(t) {
		if at := w.places[b.place(id)]; at > 0 {
			w.columns[at-1].next += n
		}
	}
}

// find moves to a row by the lists of rows.
func (w *fewWriter) find(row int) {
	b := w.body
	w.row = row / sumEvery * sumEvery
	for i := range w.columns {
		c := &w.columns[i]
		users := b.users[b.usersAt[c.number]:b.usersAt[c.number+1]]
		if len(users) > maxUsers && c.info.N <= math.MaxUint16 {
			c.next = uint32(w.sumsOf(c.number, users)[row/sumEvery])
			continue
		}
		c.next = 0
		for _, t := range users {
			c.next += b.before(t, w.row)
		}
	}
	w.walk(row)
}

// maxUsers is how many templates are looked at for a column, one by one; of columns that more
// have values in it is noted how many values are before every sumEvery-th row.
const (
	maxUsers = 32
	sumEvery = 32
)

// sumsOf returns how many values of a column are before every sumEvery-th row.
func (w *fewWriter) sumsOf(column int, users []uint16) []uint16 {
	b := w.body
	if s := b.sums[int32(column)]; s != nil {
		return s
	}
	for _, t := range users {
		w.counts[t]++
	}
	sums, n := make([]uint16, 0, w.tids.n/sumEvery+1), uint16(0)
	for row := range w.tids.n {
		if row%sumEvery == 0 {
			sums = append(sums, n)
		}
		n += uint16(w.counts[w.tids.at(row)])
	}
	for _, t := range users {
		w.counts[t] = 0
	}
	if b.sums == nil {
		b.sums = map[int32][]uint16{}
	}
	b.sums[int32(column)] = sums
	b.memory += 64 + 2*len(sums)
	return sums
}

// count moves by the values that rows have.
func (w *fewWriter) count(from, to int) {
	b := w.body
	w.tids.tally(w.counts, from, to)
	b.invert()
	for i := range w.columns {
		c := &w.columns[i]
		for _, t := range b.users[b.usersAt[c.number]:b.usersAt[c.number+1]] {
			c.next += w.counts[t]
		}
	}
	clear(w.counts)
}

// pass moves to a later row.
func (w *fewWriter) pass(row int) {
	switch {
	case w.body.listed != nil && row-w.row > maxPassed:
		w.find(row)
	case row-w.row > len(w.counts)/8:
		w.count(w.row, row)
		w.row = row
	default:
		w.walk(row)
	}
}

// walk moves to a later row, row by row.
func (w *fewWriter) walk(row int) {
	for ; w.row < row; w.row++ {
		w.skip(int(w.tids.at(w.row)), 1)
	}
}

// maxPassed is how many rows are passed one by one although there are lists of them.
const maxPassed = 32
