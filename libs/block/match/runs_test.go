package match_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/match"
)

// identified is lines full of numbers and identifiers, in runs of digits of all lengths: some
// of which go on in the text next to slots, or in the next slot.
func identified(r *rand.Rand) []block {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	type slot struct {
		before string
		sort   int
		length int
	}
	var shapes [][]slot
	for range 1 + r.IntN(4) {
		var shape []slot
		for range 1 + r.IntN(5) {
			shape = append(shape, slot{
				before: pick(" id=", "x", " ", "-", " 0x", " ab", "e", "", "7", " dead beef", " cafe", "face:", " 1234567z", ".", " ABC"),
				sort:   r.IntN(6),
				length: []int{4, 6, 8, 10, 11, 12, 13, 18, 19, 20, 21, 32}[r.IntN(12)],
			})
		}
		shapes = append(shapes, shape)
	}
	var blocks []block
	now := start
	for range 2 + r.IntN(3) {
		var b block
		for i := range 150 + r.IntN(300) {
			now += 1e6 + r.Int64N(1e9)
			k := r.IntN(len(shapes))
			var s strings.Builder
			fmt.Fprintf(&s, "%c", 'p'+k)
			for _, slot := range shapes[k] {
				s.WriteString(slot.before)
				hex := fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())[:slot.length]
				switch slot.sort {
				case 0:
					s.WriteString(hex)
				case 1:
					s.WriteString(strings.ToUpper(hex[:1+r.IntN(len(hex))]))
				case 2:
					fmt.Fprint(&s, r.Uint64()>>(64-min(64, 3*slot.length)))
				case 3:
					fmt.Fprintf(&s, "%0*d", min(slot.length, 19), r.IntN(1e6))
				case 4:
					s.WriteString(slotTime(r, slot.length+5*r.IntN(2), now))
				default:
					fmt.Fprintf(&s, "w%s%c", hex[:min(len(hex), 4+i%9)], 'g'+r.IntN(4))
				}
			}
			s.WriteString([]string{"", "", " end", "a", "f0 g"}[k%5])
			b.add(s.String(), now)
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// Pieces of identifiers are found, however long the runs of digits are that they are cut out
// of, though grams of long runs are thinned out.
func TestRunsOfDigits(t *testing.T) {
	var st stats
	for seed := range uint64(repeats(50)) {
		r := rand.New(rand.NewPCG(seed, 31))
		blocks := identified(r)
		s := buildWith(t, column.LevelFastest, []float64{0.004, 0.01, 0.02, 0.05}[r.IntN(4)], blocks)
		for range 25 {
			literal := cut(r, blocks)
			if n := len(literal); n > 24 && r.IntN(4) > 0 {
				at := r.IntN(n - 14)
				literal = literal[at : at+5+r.IntN(10)]
			}
			f := match.Filter{Any: []match.Term{{Literal: literal}}, Negate: r.IntN(8) == 0}
			if r.IntN(3) == 0 {
				f.Any[0] = match.Term{Literal: strings.ToValidUTF8(literal, "?"), Fold: true}
			}
			check(named{t, seed}, s, []match.Filter{f}, 0, 1, &st)
		}
	}
	t.Logf("%+v", st)
	if st.hits == 0 || st.skipped == 0 {
		t.Errorf("%+v prove little", st)
	}
}
