package compact_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
)

// So it is where sections have so many services that each goes on where the last one ended,
// of blocks that were merged before, too.
func TestSectionsThatGoOnAreWrittenAnew(t *testing.T) {
	carried, sections, draws, ws := uint64(0), 0, 0, writers{}
	rapid.Check(t, func(t *rapid.T) {
		draws++
		blocks, lines := drawBlocks(t, ws, rapid.IntRange(34, 60).Draw(t, "streams"))
		o := block.Options{RowGroupBytes: rapid.SampledFrom([]int{700, 5000}).Draw(t, "group"), SectionBytes: rapid.SampledFrom([]int64{1500, 9000}).Draw(t, "section"), Level: column.LevelFastest}
		if o.Pages = rapid.Bool().Draw(t, "pages"); o.Pages {
			o.Level = column.LevelBetter
		}
		if n := rapid.IntRange(0, len(blocks)).Draw(t, "merged before"); n > 0 {
			out, raw, _ := merged(t, ws, blocks[:n], false, false, nil, o)
			blocks = append(raw, blocks[n:]...)
			sections = max(sections, out[0].Sections())
		}
		carried += asAnew(t, ws, blocks, lines, rapid.Bool().Draw(t, "fix"), nil, o)
	})
	if draws >= 100 && (carried == 0 || sections < 3) { // else it was run for less
		t.Fatalf("%d rows were merged, sources have %d sections at most", carried, sections)
	}
}
