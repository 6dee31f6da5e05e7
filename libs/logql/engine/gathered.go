package engine

import (
	"slices"
	"unsafe"

	"github.com/weir-logs/weir/libs/model"
)

// gathered is what sessions have together, ascending and once. What it takes is claimed.
type gathered[T any] struct {
	mem     *Memory
	compare func(a, b T) int
	size    func(T) int // bytes of an element
	all     []T         // of the sessions that were merged
	more    []T         // of the one at hand
	claimed int         // for both
	pending int         // of more, not claimed yet
}

// stringSize is the bytes of a string besides its text.
const stringSize = int(unsafe.Sizeof(""))

// SeriesSize is the bytes of a stream's labels in an answer.
func SeriesSize(ls model.Labels) int {
	n := int(unsafe.Sizeof(ls)) + labelsSize(ls)
	for _, l := range ls {
		n += len(l.Name) + len(l.Value)
	}
	return n
}

func (g *gathered[T]) claim(n int) error {
	if !g.mem.Claim(n) {
		return g.mem.Err()
	}
	g.claimed += n
	return nil
}

// add adds an element of the session at hand.
func (g *gathered[T]) add(v T) error {
	g.more = append(g.more, v)
	if g.pending += g.size(v); len(g.more)%slabSize != 0 {
		return nil
	}
	n := g.pending
	g.pending = 0
	return g.claim(n)
}

// merge ends a session: what it has is merged with what others had.
func (g *gathered[T]) merge() error {
	var v T
	n := g.pending
	if len(g.all) > 0 {
		n += int(unsafe.Sizeof(v)) * (len(g.all) + len(g.more)) // the merged list is beside both
	}
	g.pending = 0
	if err := g.claim(n); err != nil {
		return err
	}
	if !slices.IsSortedFunc(g.more, g.compare) { // those of streams in order mostly are
		slices.SortFunc(g.more, g.compare)
	}
	equal := func(a, b T) bool { return g.compare(a, b) == 0 }
	g.all, g.more = mergeSorted(g.all, slices.CompactFunc(g.more, equal), g.compare), nil
	held := 0
	for _, v := range g.all {
		held += g.size(v)
	}
	g.mem.Unclaim(g.claimed - held)
	g.claimed = held
	return nil
}

// mergeSorted merges ascending lists in which nothing is twice; what is in both is there
// once. The result may be one of them.
func mergeSorted[T any](a, b []T, compare func(a, b T) int) []T {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make([]T, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		c := compare(a[0], b[0])
		if c <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
		if c == 0 {
			b = b[1:]
		}
	}
	return append(append(out, a...), b...)
}
