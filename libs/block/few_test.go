package block

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/model"
)

func TestDistinctTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.SampledFrom([]int64{3, 300, 1 << 40}).Draw(t, "most")
		times := rapid.SliceOfN(rapid.Int64Range(-most, most), 0, 2000).Draw(t, "times")
		if rapid.Bool().Draw(t, "sorted") {
			slices.Sort(times)
		}
		want := slices.Compact(slices.Sorted(slices.Values(times)))
		got := appendDistinct(nil, times)
		if !slices.Equal(got, want) {
			t.Fatalf("%v, not %v", got, want)
		}
		for _, x := range times {
			if k, _ := slices.BinarySearch(want, x); near(got, x) != k {
				t.Fatalf("%d is behind %d, not %d", x, near(got, x), k)
			}
		}
	})
}

// Runs are joined as they would be if no number of rows were few.
func TestFewRowsAreOneRun(t *testing.T) {
	sameSlot := func(a, b, width int64) bool { return model.Slot(a, width) == model.Slot(b, width) }
	join := func(runs []Run, same func(a, b Run) bool) []Run {
		out := []Run{runs[0]}
		for _, r := range runs[1:] {
			if last := &out[len(out)-1]; same(*last, r) {
				last.join(r)
			} else {
				out = append(out, r)
			}
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.SampledFrom([][]slot{wide, narrow}).Draw(t, "slots")
		step := rapid.SampledFrom([]int64{1, 1e8, 1e9, 1e10, 1e12}).Draw(t, "step")
		rows := rapid.SampledFrom([]int{1, 7, 255, 256, 257, 511, 512, 513, 700}).Draw(t, "rows")
		at := rapid.Int64Range(-1e13, 1e13).Draw(t, "at")
		var runs, want []Run
		for i := range rows {
			runs = addRow(runs, 0, at, i, uint64(i), slots[0].width)
			row := Run{at, at, 1, uint64(i), uint64(i)}
			if n := len(want); n > 0 && sameSlot(want[n-1].MinTime, at, slots[0].width) {
				want[n-1].join(row)
			} else {
				want = append(want, row)
			}
			if rapid.Uint8().Draw(t, "gap") > 100 {
				at += rapid.Int64Range(0, step).Draw(t, "step")
			}
		}
		if !slices.Equal(runs, want) {
			t.Fatalf("%v, not %v", runs, want)
		}
		for i, s := range slots {
			if i > 0 {
				want = join(want, func(a, b Run) bool { return sameSlot(a.MinTime, b.MinTime, s.width) })
			}
			if uint64(len(want)-1)*s.rows < uint64(rows) {
				break
			}
			if i == len(slots)-1 {
				want = join(want, func(a, b Run) bool { return true })
			}
		}
		if got := runs[:coarse(runs, slots)]; !slices.Equal(got, want) {
			t.Fatalf("%v, not %v", got, want)
		}
	})
}

// A writer is reset when it is put away, and when it is taken again: what memory its index has
// stays.
func TestIndexKeepsItsMemory(t *testing.T) {
	var x indexBuilder
	add := func(streams int) int {
		for i := range streams {
			if err := x.add(model.Labels{{Name: "app", Value: string(rune('a' + i))}}, []Run{{Rows: 1}}); err != nil {
				t.Fatal(err)
			}
		}
		return cap(x.labels["app"].rows)
	}
	had := add(20)
	x = x.reset()
	x = x.reset()
	if got := add(1); got != had || x.streams != 1 || len(x.labels["app"].rows) != 1 || len(x.labels["app"].seen) != 1 {
		t.Errorf("room for %d streams, not %d; %d are here", got, had, x.streams)
	}
}
