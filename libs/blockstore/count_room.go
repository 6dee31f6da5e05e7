package blockstore

import "sync"

// fieldResult is a series and how many rows of it are to be counted.
type fieldResult struct {
	series int // -1: rows do not count
	rows   int
}

// shapeState is the results of rows of a shape, by their code. It is one more than the
// number of the result; up to the first of the stream it is not known.
type shapeState struct {
	one   int32
	table []int32
	many  map[uint64]int32
	quick []quickSlot // once it was asked for
}

// valueState is the values of rows, by their code.
type valueState struct {
	values []float64
	known  []valueKnown
}

type valueKnown uint8

const (
	unknown valueKnown = iota
	aValue
	noValue
)

// fieldRoom is memory that one row group after the other is counted in.
type fieldRoom struct {
	results     []fieldResult
	of, counted []int32
	cells       []int32 // of tables, those before used are taken
	used        int
	quicks      []quickTemplate // cleared
}

var rooms = sync.Pool{New: func() any { return &fieldRoom{} }}

// mostRoom is how many codes of tables are kept for the next row group.
const mostRoom = 1 << 18

// table returns a table of codes, all 0.
func (r *fieldRoom) table(codes int) []int32 {
	if r.used+codes > mostRoom {
		return make([]int32, codes)
	}
	if r.used+codes > len(r.cells) { // those that are taken stay with who has them
		r.cells, r.used = make([]int32, min(mostRoom, max(2*len(r.cells), 4*codes))), 0
	}
	t := r.cells[r.used:][:codes:codes]
	r.used += codes
	clear(t)
	return t
}

// mostQuicks is how many quick templates are kept for the next row group.
const mostQuicks = 1 << 12

// quicksOf returns quick templates, of which nothing is known.
func (r *fieldRoom) quicksOf(n int) []quickTemplate {
	if n > mostQuicks {
		return make([]quickTemplate, n)
	}
	if n > len(r.quicks) {
		r.quicks = make([]quickTemplate, min(mostQuicks, n+n/4))
	}
	return r.quicks[:n:n]
}

// heap is rows of a result by the code of their value.
type heap struct {
	value int32 // number of the valueState
	rows  []uint32
}

type heaped struct{ heap, code int32 }
