package lines_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
)

// What a section's footer says that columns are plain for is what all their values are.
func TestPlain(t *testing.T) {
	seen, draws := map[column.Plain]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		draws++
		blocks := make([]block, rapid.IntRange(1, 3).Draw(t, "blocks"))
		texts := rapid.SliceOfN(rapid.SampledFrom([]string{"a-b", "/c/d", `say"9`, `C:\9`, "x=9", "é7", "\t8", "10.0.0.1", "00c04fd4-30c8-11d1-80b4-00c04fd430c8", "7", "ff00ff00ff"}), 1, 4).Draw(t, "texts")
		for i := range blocks {
			for n := range rapid.IntRange(1, 16).Draw(t, "rows") {
				text := texts[n%len(texts)]
				if rapid.IntRange(0, 9).Draw(t, "other") == 0 {
					text = rapid.StringMatching(`[ -~]{0,9}[0-9]`).Draw(t, "text")
				}
				line := fmt.Sprintf("job %d of %s1 at 2026-03-01T12:30:%02dZ", n, text, n)
				if raw := rapid.IntRange(0, 99).Draw(t, "raw"); raw < 4 {
					line = strings.Repeat([]string{"=1", `\1`, "-1", `"1`}[raw], 4097) // more slots than there may be
				}
				blocks[i].lines.AppendString(line)
				blocks[i].times = append(blocks[i].times, 1772368200e9+int64(n)*1e9)
			}
		}
		for _, b := range [][]byte{build(t, column.LevelDefault, blocks), buildPaged(t, column.LevelDefault, blocks), buildRows(t, column.LevelDefault, blocks)} {
			s, err := lines.Open(b)
			if err != nil {
				t.Fatal(err)
			}
			want := make([]column.Plain, len(s.Table.Columns))
			for i := range want {
				want[i] = column.InQuotes | column.InWords
			}
			for i := range s.Blocks {
				body, err := s.Body(i, b[s.Blocks[i].Offset:][:s.Blocks[i].Size])
				if err != nil {
					t.Fatal(err)
				}
				for k, c := range body.Columns() {
					if c.Kind == column.Signed {
						continue
					}
					v, err := body.Values(k)
					if err != nil {
						t.Fatal(err)
					}
					for n := range v.Len() {
						want[c.ID] &= column.PlainOf(v.Append(nil, n))
					}
				}
			}
			for i := range want {
				seen[want[i]]++
				if !s.Table.Columns[i].IsTime && s.Plain[i] != want[i] {
					t.Fatalf("column %d is said to be plain for %b, it is for %b", i, s.Plain[i], want[i])
				}
			}
		}
	})
	if draws >= 100 && len(seen) < 4 { // else it was run for less
		t.Errorf("columns %v", seen)
	}
}
