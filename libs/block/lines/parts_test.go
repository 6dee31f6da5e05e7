package lines_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// fewSlots makes rows of many templates, of which each has few of the block's columns, and
// values that recur.
func fewSlots(r *rand.Rand, rows, kinds int) (b block) {
	for i := range rows {
		k := r.IntN(kinds)
		name, id := string(rune('a'+k%26))+string(rune('k'+k/26)), uint64(r.IntN(3)+1)*0x9E3779B97F4A7C15
		switch k % 3 {
		case 0:
			b.lines.AppendString(fmt.Sprintf("%s trace %016x of %d", name, id, r.IntN(900)))
		case 1:
			b.lines.AppendString(fmt.Sprintf("%s took %d ms, id=%016x", name, r.IntN(50), id))
		default:
			b.lines.AppendString(name + " is all there is")
		}
		b.times = append(b.times, int64(i)*1e6)
	}
	return b
}

// Parts of blocks, in any order and however few their rows are, are the rows that they
// were, and what is told of their slots' values is so.
func TestPartsAreTheirRows(t *testing.T) {
	g, b := grams.NewBuilder(1), lines.NewBuilder(column.LevelFastest)
	held := 0
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
		kinds := rapid.SampledFrom([]int{2, 20, 120}).Draw(t, "kinds")
		var bodies []*lines.Body
		var rows []*model.Rows
		for range rapid.IntRange(1, 2).Draw(t, "sections") {
			blocks := []block{fewSlots(r, 1+r.IntN(300), kinds), fewSlots(r, 1+r.IntN(300), kinds)}
			section := build(t, column.LevelFastest, blocks)
			s, err := lines.Open(section)
			if err != nil {
				t.Fatal(err)
			}
			for i, k := range s.Blocks {
				body, err := s.Body(i, section[k.Offset:][:k.Size])
				if err != nil {
					t.Fatal(err)
				}
				bodies, rows = append(bodies, body), append(rows, &model.Rows{Times: blocks[i].times, Lines: blocks[i].lines})
			}
		}
		b.Reset()
		g.Reset()
		b.SetGrams(nil)
		if rapid.Bool().Draw(t, "grams") {
			b.SetGrams(g)
		}
		forward := rapid.Bool().Draw(t, "forward")
		next := make([]int, len(bodies))
		var all []block
		for range rapid.IntRange(1, 3).Draw(t, "blocks") {
			var parts []lines.Part
			var want block
			var text model.Strings
			size := 0
			for len(parts) == 0 || r.IntN(30) > 0 && len(want.times) < 2000 {
				n := r.IntN(len(bodies))
				from := r.IntN(rows[n].Len())
				if forward {
					if from = next[n] + r.IntN(3)/2*r.IntN(4); from >= rows[n].Len() {
						from = 0
					}
				}
				p := lines.Part{Body: bodies[n], From: from, To: min(from+1+r.IntN(6), rows[n].Len())}
				next[n] = p.To
				if r.IntN(8) == 0 {
					p.Body = nil
				}
				for k := p.From; k < p.To; k++ {
					l := rows[n].Lines.At(k)
					size += len(l)
					want.lines.Append(l)
					want.times = append(want.times, rows[n].Times[k])
					if p.Body == nil {
						text.Append(l)
					}
				}
				parts = append(parts, p)
			}
			if _, err := b.AddParts(parts, &text, want.times, nil, nil, size); err != nil {
				t.Fatal(err)
			}
			slots := b.RowSlots()
			for i := range want.times {
				line := string(want.lines.At(i))
				for k := range slots.Next() {
					for id := range uint64(3) {
						v := fmt.Sprintf("%016x", (id+1)*0x9E3779B97F4A7C15)
						if !slots.Holds(k, []byte(v)) {
							continue
						}
						if held++; !strings.Contains(line, v) {
							t.Fatalf("slot %d of row %d, %q, is said to be %s", k, i, line, v)
						}
					}
				}
			}
			all = append(all, want)
		}
		same(t, b.Finish(), all)
	})
	if held == 0 {
		t.Fatal("no slot had any value")
	}
}
