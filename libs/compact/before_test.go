package compact_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/compact"
)

// How many bytes come before a run is the same in whatever order runs are asked for.
func TestBytesBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var streams []compact.Stream
		var all [][2]int
		var before []uint64
		sum := uint64(0)
		for i := range rapid.IntRange(1, 4).Draw(t, "streams") {
			var st compact.Stream
			for k := range rapid.IntRange(1, 6).Draw(t, "runs") {
				st.Runs = append(st.Runs, block.Run{MinTime: int64(10 * k), MaxTime: int64(10*k + 5), Bytes: rapid.Uint64Range(0, 9).Draw(t, "bytes")})
				all, before = append(all, [2]int{i, k}), append(before, sum)
				sum += st.Runs[k].Bytes
			}
			streams = append(streams, st)
		}
		asked := rapid.SliceOf(rapid.IntRange(0, len(all)-1)).Draw(t, "asked")
		if rapid.Bool().Draw(t, "ascending") {
			slices.Sort(asked)
		}
		var ask [][2]int
		var want []uint64
		for _, n := range asked {
			ask, want = append(ask, all[n]), append(want, before[n])
		}
		if got := compact.BytesBefore(streams, ask); !slices.Equal(got, want) {
			t.Errorf("before %v: %v, not %v", ask, got, want)
		}
	})
}
