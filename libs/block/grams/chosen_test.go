package grams_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/grams"
)

// ids is lines with runs of digits of every length, in both cases, next to anything.
func ids(r *rand.Rand, n int) (b block) {
	around := []string{" ", "=", "-", "\"", "x", ".", "g", "\xff", "id=", ""}
	digits := func(n int) string {
		s := make([]byte, n)
		for i := range s {
			s[i] = "0123456789abcdef0123456789ABCDEF"[r.IntN(16)+16*(n&1)]
		}
		return string(s)
	}
	for range n {
		var s strings.Builder
		for range 1 + r.IntN(3) {
			n := 32
			if r.IntN(2) == 0 {
				n = 10 + r.IntN(60)
			}
			s.WriteString(around[r.IntN(len(around))])
			s.WriteString(digits(n))
			s.WriteString(around[r.IntN(len(around))])
		}
		b.add(s.String())
	}
	return b
}

// Grams are chosen of runs of any length, whatever levels leave out; what a needle has of a
// run, which may go on beyond it, is found; and of an id that is nowhere more is known than
// without them.
func TestChosenGrams(t *testing.T) {
	ruled, before, all := 0, 0, 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 21))
		var blocks []block
		for range 4 {
			blocks = append(blocks, ids(r, 200))
		}
		for _, share := range []float64{0.005, 0.02, 0.04, 0.05, 0.08, 0.2, 1} {
			_, matrix := build(t, share, blocks)
			region, err := grams.Open(matrix, true)
			if err != nil {
				t.Fatal(err)
			}
			unchosen, err := grams.Open(matrix, false)
			if err != nil {
				t.Fatal(err)
			}
			// What is chosen counts: there are rows enough for it.
			if d := grams.Describe(region); share > 0.03 && strings.Count(d, "density") > 1 {
				t.Fatalf("seed %d, share %g: blocks like the first one do not fit with it: %s", seed, share, d)
			}
			for i := range blocks {
				if diff := grams.Compare(region, i, &blocks[i].lines); diff != "" {
					t.Fatalf("seed %d, share %g, block %d, %s: %s", seed, share, i, grams.Describe(region), diff)
				}
				for range 100 {
					line := blocks[i].lines.At(r.IntN(blocks[i].lines.Len()))
					from := r.IntN(len(line))
					needle := line[from : from+r.IntN(len(line)-from+1)]
					lower := []byte(strings.ToLower(string(needle)))
					if !region.Needle(needle, false).Has(i) || strings.IndexByte(string(needle), 0xff) < 0 && !region.Needle(lower, true).Has(i) {
						t.Fatalf("seed %d, share %g: block %d holds %q", seed, share, i, needle)
					}
				}
				if share < 0.04 || share > 0.08 { // that do not leave out too many, or too few
					continue
				}
				for range 40 {
					all++
					id := fmt.Appendf(nil, "%016x%016x", r.Uint64(), r.Uint64())
					if !region.Needle(id, false).Has(i) {
						ruled++
					}
					if !unchosen.Needle(id, false).Has(i) {
						before++
					}
				}
			}
		}
	}
	if all-ruled > (all-before)*3/4 {
		t.Errorf("of %d ids %d are ruled out, %d without chosen grams", all, ruled, before)
	}
}

// Runs of as many digits as a query may have are looked at in one pass: a pass for each digit
// would take longer than tests do.
func TestLongRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	var b block
	for range 4 {
		b.add(fmt.Sprintf("%x", randomBytes(r, 1<<16)))
	}
	for _, share := range []float64{0.001, 0.05, 1} {
		_, matrix := build(t, share, []block{b})
		region, err := grams.Open(matrix, true)
		if err != nil {
			t.Fatal(err)
		}
		if diff := grams.Compare(region, 0, &b.lines); diff != "" {
			t.Fatal(diff)
		}
		for i := range b.lines.Len() {
			if line := b.lines.At(i); !region.Needle(line, false).Has(0) || !region.Needle(line[1:], true).Has(0) {
				t.Fatalf("share %g: line %d is ruled out", share, i)
			}
		}
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
