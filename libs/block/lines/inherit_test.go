package lines_test

import (
	"math/rand/v2"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// What a block was printed with prints the next one, whatever is in the two.
func TestMemoryIsInherited(t *testing.T) {
	blocks := append(goldenBlocks(), made(997), wide(600), pagedBlock(), made(5))
	var bodies []func() *lines.Body
	for i := range blocks {
		b := build(t, column.LevelFastest, blocks[i:i+1])
		s, err := lines.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, func() *lines.Body {
			body, err := s.Body(0, b[s.Blocks[0].Offset:][:s.Blocks[0].Size])
			if err != nil {
				t.Fatal(err)
			}
			return body
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	var last *lines.Body
	for range 200 {
		k := r.IntN(len(bodies))
		body := bodies[k]()
		if last != nil {
			body.Inherit(last)
		}
		last = body
		want := &blocks[k]
		n := len(want.times)
		from := r.IntN(3) * n / 4
		for _, to := range []int{from + (n-from)/2, n} {
			var got model.Rows
			if err := body.Rows(from, to, &got); err != nil {
				t.Fatal(err)
			}
			for i := from; i < to; i++ {
				if string(got.Lines.At(i-from)) != string(want.lines.At(i)) || got.Times[i-from] != want.times[i] {
					t.Fatalf("block %d, row %d: %q, want %q", k, i, got.Lines.At(i-from), want.lines.At(i))
				}
			}
			from = to
		}
	}
}

// The memory that blocks were printed with, and is kept for others, keeps none of them.
func TestInheritedMemoryHoldsNoBlock(t *testing.T) {
	rows := made(24) // few of each template
	section := build(t, column.LevelFastest, []block{rows, rows})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	b := lines.NewBuilder(column.LevelFastest)
	b.SetGrams(grams.NewBuilder(1))
	var bodies []*lines.Body
	for i, k := range s.Blocks {
		body, err := s.Body(i, section[k.Offset:][:k.Size])
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, body)
		if _, err := b.AddParts([]lines.Part{{Body: body, To: k.Rows}}, &model.Strings{}, rows.times, nil, nil, k.Bytes); err != nil {
			t.Fatal(err)
		}
		if free, holding := b.Lent(); free != 1 || holding > 0 {
			t.Errorf("%d printers are kept, %d of them hold a block", free, holding)
		}
	}
	same(t, b.Finish(), []block{rows, rows})
	if err := bodies[0].Rows(0, 24, &model.Rows{}); err != nil {
		t.Fatal(err)
	}
	if bodies[1].Inherit(bodies[0]); bodies[1].Holds() {
		t.Error("a block holds the one before")
	}
}
