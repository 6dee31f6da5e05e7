package compact_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
)

// smallLine makes a line of one of many templates, with several slots each, so that a row
// has values of few of a block's columns.
func smallLine(r *rand.Rand, kind int, at int64) string {
	name := string(rune('a'+kind%26)) + string(rune('k'+kind/26%10))
	stamp := time.Unix(0, at).UTC()
	switch kind % 5 {
	case 0:
		return fmt.Sprintf("%s %s: request %d took %d ms from 10.0.%d.%d", stamp.Format("2006-01-02 15:04:05.000"), name, r.IntN(1e6), r.IntN(900), r.IntN(256), r.IntN(3))
	case 1:
		return fmt.Sprintf(`{"ts":"%s","at":%q,"id":"%016x","n":%d}`, stamp.Format(time.RFC3339Nano), name, uint64(r.IntN(3)+1)*0x9E3779B97F4A7C15, r.IntN(3))
	case 2:
		return fmt.Sprintf("%s user=%04x size=%d of=%d", name, r.IntN(1<<16), r.IntN(30), r.IntN(30))
	case 3:
		return fmt.Sprintf("%s trace %016x span %08x", name, r.Uint64(), r.Uint32())
	}
	return name + " is all there is"
}

// drawSmall draws blocks of many streams with few rows each, whose times follow each other
// mostly: what some blocks have of streams, templates and names of metadata others lack.
func drawSmall(t *rapid.T, ws writers) (blocks [][]byte, lines []string) {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 11))
	streams := rapid.SampledFrom([]int{3, 40, 40, 250}).Draw(t, "streams")
	most := rapid.SampledFrom([]int{1, 2, 5, 24}).Draw(t, "rows")
	kinds := rapid.SampledFrom([]int{2, 30, 150}).Draw(t, "kinds")
	own := rapid.Bool().Draw(t, "own") // templates of each stream, not of all
	metadata := rapid.IntRange(0, 2).Draw(t, "metadata")
	order := make([]int, streams)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return block.Compare(labelsOf(a), labelsOf(b)) })
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()
	for k := range rapid.IntRange(1, 4).Draw(t, "blocks") {
		var out bytes.Buffer
		w := ws.get(&out, block.Meta{ID: catalog.ID(fmt.Sprintf("b%d", k)), Tenant: "t"}, block.Options{RowGroupBytes: []int{9000, 1 << 20}[r.IntN(2)], SectionBytes: 1 << 20})
		some := r.IntN(3) // how many streams lack in the block
		for _, s := range order {
			if some > 0 && r.IntN(3) < some {
				continue
			}
			rows := &model.Rows{}
			n := 1 + r.IntN(most)
			at := start + r.Int64N(1e9)
			if r.IntN(40) == 0 {
				at -= 100e9 // among rows of the block before: its rows are written anew
			}
			for i := range n {
				kind := r.IntN(kinds)
				if own {
					kind = (7*s + r.IntN(2)) % kinds
				}
				if k%2 == 1 {
					kind += kinds / 2
				}
				rows.Lines.AppendString(smallLine(r, kind, at))
				rows.Times = append(rows.Times, at)
				rows.BatchTimes = append(rows.BatchTimes, at/60e9*60e9)
				rows.Positions = append(rows.Positions, uint32(i))
				lines = append(lines, string(rows.Lines.At(i)))
				if r.IntN(3) > 0 {
					at += r.Int64N(2e9)
				}
				for m := range metadata {
					if r.IntN(3) == 0 {
						continue
					}
					set := &rows.Metadata
					if m == 1 {
						set = &rows.Derived
					}
					if len(*set) == 0 {
						*set = []model.Column{{Name: fmt.Sprint("m", (s+k)%3), Version: uint32(m)}}
					}
					value := fmt.Sprint("v", r.IntN(5))
					if id := ids.Find(rows.Lines.At(i)); id != nil {
						value = string(id) // so that it is not stored twice
					}
					(*set)[0].AppendString(i, value)
				}
			}
			for _, set := range [][]model.Column{rows.Metadata, rows.Derived} {
				for i := range set {
					set[i].Finish(n)
				}
			}
			if err := w.Add(labelsOf(s), rows); err != nil {
				t.Fatal(err)
			}
		}
		if info, err := w.Close(); err != nil {
			t.Fatal(err)
		} else if info.Rows > 0 {
			blocks = append(blocks, out.Bytes())
		}
		start += 100e9
	}
	return blocks, lines
}

// Rows of many streams with few each are taken over as they would be written anew.
func TestFewRowsOfManyStreamsAreCarried(t *testing.T) {
	ws := writers{}
	rapid.Check(t, func(t *rapid.T) {
		blocks, lines := drawSmall(t, ws)
		if len(blocks) == 0 {
			return
		}
		o := block.Options{RowGroupBytes: rapid.SampledFrom([]int{9000, 1 << 20}).Draw(t, "group"), SectionBytes: 4 << 20}
		asAnew(t, ws, blocks, lines, rapid.Bool().Draw(t, "fix"), nil, o)
	})
}
