package grams_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
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
		checkCarried(t, r, blocks)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// So it is whatever templates and values there are: empty ones, of one byte, and those
// that make a run of digits or dots with what is around them.
func TestCarriedRowsOfRandomTemplatesGiveTheBitsOfWholeLines(t *testing.T) {
	literals := []string{" ", "=", "-", ":", "/", ".", "..", "x", " x", "b ", " id=", ", ", " took ", " 12.", ".12 ", " cafe.", ".cafe ", "g1.", " of the file, ", "\"", "[", "] "}
	values := []func(r *rand.Rand) string{
		func(r *rand.Rand) string { return []string{"", "", "a", "1", "x", "."}[r.IntN(6)] },
		func(r *rand.Rand) string { return fmt.Sprint(r.IntN(10)) },
		func(r *rand.Rand) string { return fmt.Sprint(r.Uint64() >> r.IntN(64)) },
		func(r *rand.Rand) string { return fmt.Sprintf("%04d", r.IntN(9999)) },
		func(r *rand.Rand) string { return fmt.Sprintf("%016x", r.Uint64()) },
		func(r *rand.Rand) string { return fmt.Sprintf("%x", r.Uint64()>>r.IntN(64)) },
		func(r *rand.Rand) string {
			return fmt.Sprintf("%d.%d.%d.%d", r.IntN(256), r.IntN(3), r.IntN(9), r.IntN(256))
		},
		func(r *rand.Rand) string {
			return []string{"deadbeef", "dead", "beef", "face.1", "1.2.3.4.5", "zone", "k"}[r.IntN(7)]
		},
		func(r *rand.Rand) string {
			return []string{"user one", "no", "an unusual name that is a little longer than others"}[r.IntN(3)]
		},
		func(r *rand.Rand) string { return fmt.Sprintf("%08X", r.Uint32()) },
		func(r *rand.Rand) string { return fmt.Sprintf("name%c%c", 'g'+r.IntN(13), 'g'+r.IntN(5)) },
	}
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 6))
		var blocks []block
		for range 1 + r.IntN(3) {
			var b block
			for range 1 + r.IntN(8) {
				var parts []func(r *rand.Rand) string
				for range 1 + r.IntN(9) {
					if literal := literals[r.IntN(len(literals))]; r.IntN(5) > 1 {
						parts = append(parts, func(*rand.Rand) string { return literal })
					}
					if r.IntN(3) > 0 {
						parts = append(parts, values[r.IntN(len(values))])
					}
				}
				for range 1 + r.IntN(120) {
					line := ""
					for _, p := range parts {
						line += p(r)
					}
					b.add(line)
				}
			}
			blocks = append(blocks, b)
		}
		checkCarried(t, r, blocks)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// What is around slots that stand apart need not be known of each other: grams of pieces
// are those of the lines.
func TestPiecesOfSlotsGiveTheBitsOfWholeLines(t *testing.T) {
	var alphabet string
	text := func(r *rand.Rand, n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = alphabet[r.IntN(len(alphabet))]
		}
		return out
	}
	apart, g := 0, grams.NewBuilder(1)
	for seed := range uint64(6000) {
		r := rand.New(rand.NewPCG(seed, 7))
		alphabet = []string{"1:", "1.:", "a1.xZ: ", "12.ab"}[r.IntN(4)]
		literals := [][]byte{text(r, r.IntN(12)), text(r, 1+r.IntN(9)), text(r, r.IntN(12))}
		if r.IntN(2) == 0 {
			literals[1] = append(append(text(r, r.IntN(6)), ':'), text(r, r.IntN(6))...)
		}
		var more []byte
		var pieces []grams.Piece
		var all model.Strings
		for i := range 2 {
			values := [][]byte{text(r, r.IntN(9)), text(r, r.IntN(9))}
			line := slices.Concat(literals[0], values[0], literals[1], values[1], literals[2])
			all.Append(line)
			if i == 0 {
				pieces = grams.Chunks(pieces, line, grams.Piece{Limit: uint32(len(line)), To: uint32(len(line))})
				more = append(more, line...)
				continue
			}
			if !grams.Apart(literals[1]) {
				values = [][]byte{slices.Concat(values[0], literals[1], values[1])}
				literals[1] = literals[2]
			} else {
				apart++
			}
			for k, v := range values {
				start := uint32(len(more))
				more = append(more, grams.Before(literals[k])...)
				from := uint32(len(more))
				more = append(more, v...)
				to := uint32(len(more))
				more = append(more, grams.Behind(literals[k+1])...)
				pieces = append(pieces, grams.Around(more, start, uint32(len(more)), from, to))
			}
		}
		g.Reset()
		g.AddPieces(&grams.Text{}, &grams.Text{}, more, pieces, 1<<10)
		region, err := grams.Open(g.Finish(), true)
		if err != nil {
			t.Fatal(err)
		}
		if diff := grams.Compare(region, 0, &all); diff != "" {
			t.Fatalf("seed %d: literals %q of %q: %s", seed, literals, all.Slab, diff)
		}
	}
	if apart < 1000 {
		t.Errorf("%d of the lines had slots that stand apart", apart)
	}
}

// checkCarried takes over parts of blocks, and compares the matrix with that of their
// lines.
func checkCarried(t *testing.T, r *rand.Rand, blocks []block) {
	t.Helper()
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
		region, err := grams.Open(g.Finish(), true)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if diff := grams.Compare(region, i, &all[i]); diff != "" {
				t.Errorf("share %g, block %d: %s", share, i, diff)
			}
		}
	}
}
