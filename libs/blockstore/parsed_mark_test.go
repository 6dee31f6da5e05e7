package blockstore

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// mark finds the rows of values as those do who go through the rows one by one.
func TestParsedMark(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &parsedPlan{columns: []int{4, 7}}
		for range rapid.IntRange(1, 5).Draw(t, "templates") {
			var steps []fieldStep
			for c := range int32(2) {
				if n := rapid.Int32Range(0, 3).Draw(t, "slots"); n > 0 {
					steps = append(steps, fieldStep{c, n})
				}
			}
			f := parsedField{kind: parsedNowhere}
			if len(steps) > 0 && rapid.Bool().Draw(t, "slot") {
				s := rapid.SampledFrom(steps).Draw(t, "step")
				f = parsedField{kind: parsedSlot, column: s.column, nth: rapid.Int32Range(0, s.n-1).Draw(t, "nth")}
			}
			p.templates, p.steps = append(p.templates, f), append(p.steps, steps)
		}
		tids := rapid.SliceOfN(rapid.Uint16Range(0, uint16(len(p.templates)-1)), 0, 60).Draw(t, "rows")
		values := [2]int{}
		fields := [2][]int{{}, {}} // row of the field that each value is, -1: of none
		for row, tid := range tids {
			for _, s := range p.steps[tid] {
				for k := range s.n {
					f, of := p.templates[tid], -1
					if f.kind == parsedSlot && f.column == s.column && f.nth == k {
						of = row
					}
					fields[s.column] = append(fields[s.column], of)
					values[s.column]++
				}
			}
		}
		for c := range 2 {
			var hits, want, got []int
			for v := range values[c] {
				if rapid.Bool().Draw(t, "hit") {
					hits = append(hits, v)
					if row := fields[c][v]; row >= 0 {
						want = append(want, row)
					}
				}
			}
			if len(hits) == 0 {
				continue
			}
			p.mark(int32(c), hits, tids, func(row int) { got = append(got, row) })
			if !slices.Equal(got, want) {
				t.Fatalf("column %d: rows %v, want %v", c, got, want)
			}
		}
	})
}
