package grams_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// So is one of rows that are taken over from other sections, of which pieces are known
// only.
func TestCarriedRowsGiveTheBitsOfWholeLines(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 5))
		var blocks []block
		for range 1 + r.IntN(4) {
			b := made(r, 1+r.IntN(200))
			for range 300 {
				n := 11 + 8*r.IntN(2)
				digits := fmt.Sprintf("%020d", r.Uint64())[20-n:]
				c := "axbxgf"[r.IntN(6)]
				switch r.IntN(8) {
				case 0:
					b.add(fmt.Sprintf("id %c%s end %s%c", c, digits, digits, c))
				case 1:
					b.add(fmt.Sprintf("k%d:%x.%d.%d-%c%d", r.IntN(3), r.IntN(99), r.IntN(30), r.IntN(300), c, r.IntN(9)))
				case 2:
					b.add(fmt.Sprintf("%d%c%d cafe%d.%d.beef %d,%d;%d", r.IntN(3), c, r.IntN(4), r.IntN(3), r.IntN(4), r.IntN(20), r.IntN(4), r.IntN(3)))
				case 3:
					b.add(fmt.Sprintf("ip %d.%d.%d.%d/%d id=%016x%c", r.IntN(256), r.IntN(3), r.IntN(9), r.IntN(256), r.IntN(4), r.Uint64(), c))
				case 4: // slots that stand alone, next to digits and dots of the template or not
					b.add(fmt.Sprintf("trace id=%016x end of it", r.Uint64()))
				case 5:
					b.add(fmt.Sprintf("size was .%d.end of the file, and took .%d.face of all", r.IntN(1<<30), r.IntN(1<<r.IntN(30))))
				case 6:
					b.add(fmt.Sprintf("zone /%08x-%04x-%04x-%04x-%012x.fade then", r.Uint32(), r.IntN(1<<16), r.IntN(1<<16), r.IntN(1<<16), r.Uint64N(1<<48)))
				default:
					b.add(fmt.Sprintf("u %08x-%04x-%04x-%04x-%012x n%d", r.Uint32(), r.IntN(1<<16), r.IntN(1<<16), r.IntN(1<<16), r.Uint64N(1<<48), r.IntN(1000)))
				}
			}
			blocks = append(blocks, b)
		}
		section, _ := build(t, 1, blocks)
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range []float64{0.03, 0.2, 1} {
			g := grams.NewBuilder(share)
			b := lines.NewBuilder(column.LevelFastest)
			b.SetGrams(g)
			var all []model.Strings
			for range 3 {
				var parts []lines.Part
				var text, want model.Strings
				var times []int64
				size := 0
				for i := range blocks {
					body, err := s.Body(i, section[s.Blocks[i].Offset:][:s.Blocks[i].Size])
					if err != nil {
						t.Fatal(err)
					}
					from := r.IntN(blocks[i].lines.Len())
					to := from + 1 + r.IntN(blocks[i].lines.Len()-from)
					p := lines.Part{Body: body, From: from, To: to}
					if r.IntN(4) == 0 {
						p.Body = nil
					}
					for k := from; k < to; k++ {
						l := blocks[i].lines.At(k)
						if p.Body == nil {
							text.Append(l)
						}
						want.Append(l)
						size += len(l)
						times = append(times, blocks[i].times[k])
					}
					parts = append(parts, p)
				}
				if _, err := b.AddParts(parts, &text, times, nil, nil, size); err != nil {
					t.Fatal(err)
				}
				all = append(all, want)
			}
			b.Finish()
			region, err := grams.Open(g.Finish())
			if err != nil {
				t.Fatal(err)
			}
			for i := range all {
				if diff := grams.Compare(region, i, &all[i]); diff != "" {
					t.Errorf("seed %d, share %g, block %d: %s", seed, share, i, diff)
				}
			}
		}
	}
}
