package blockstore

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// Pairs are counted the same whether there may be few or many of them.
func TestPairCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SampledFrom([]int{1, 7, 65536}).Draw(t, "a"), rapid.SampledFrom([]int{1, 3, 65537}).Draw(t, "b")
		counts := newPairCounts(a, b)
		for range 3 { // they are used again
			want, got := map[[2]uint32]uint64{}, map[[2]uint32]uint64{}
			for range rapid.IntRange(0, 30).Draw(t, "pairs") {
				p := [2]uint32{uint32(rapid.IntRange(0, a-1).Draw(t, "of a")), uint32(rapid.IntRange(0, b-1).Draw(t, "of b"))}
				counts.add(p[0], p[1])
				want[p]++
			}
			counts.each(func(a, b uint32, n uint64) { got[[2]uint32{a, b}] += n })
			if !maps.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}
