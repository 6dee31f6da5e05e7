package match_test

import (
	"math/rand/v2"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/match"
	"github.com/weir-logs/weir/libs/model"
)

// Whatever a block says about its columns, there are rows or an error, and no panic.
func TestHostileColumns(t *testing.T) {
	failed, held := 0, 0
	for seed := range uint64(repeats(30)) {
		r := rand.New(rand.NewPCG(seed, 78))
		s := build(t, shaped(r))
		for i, body := range s.bodies {
			for k := range body.Columns() {
				if r.IntN(3) == 0 {
					spoil(r, &body.Columns()[k])
				}
			}
			var rows match.Bitmap
			for range 10 {
				p, err := match.Compile([]match.Filter{{Any: []match.Term{{Literal: cut(r, s.blocks)}}}})
				if err != nil {
					t.Fatal(err)
				}
				n := s.blocks[i].lines.Len()
				sp := p.Section(s.section, s.region)
				if err := sp.Rows(i, body, 0, n, &rows); err != nil {
					failed++
				} else {
					held++
				}
				templates := make([]bool, len(body.Info().Templates))
				templates[r.IntN(len(templates))] = true
				_, _ = sp.Lacks(i, body, templates)
				var few model.Rows
				_ = body.Select([]uint32{uint32(r.IntN(n))}, &few)
			}
		}
	}
	if failed == 0 || held == 0 {
		t.Errorf("%d failed, %d held", failed, held)
	}
}

// spoil changes what a column says of itself, within what a directory can hold.
func spoil(r *rand.Rand, c *column.Info) {
	if c.Values != nil && r.IntN(2) == 0 {
		v := *c.Values
		c.Values = &v
		c = &v
	}
	number := func() uint64 { return r.Uint64() >> r.IntN(64) }
	length := func() int { return r.IntN(1 << r.IntN(25)) }
	switch r.IntN(9) {
	case 0:
		c.MinLen = length()
		c.MaxLen = max(c.MaxLen, c.MinLen)
	case 1:
		c.MaxLen = c.MinLen + length()
	case 2:
		c.MinLen, c.MaxLen = 0, length()
	case 3:
		c.Min = number()
	case 4:
		c.Max = number()
	case 5:
		c.Prefix = append([]byte("x"), c.Prefix...)
	case 6:
		if c.Kind != column.Signed {
			c.Kind, c.Values = column.Kind(r.IntN(int(column.Dict))), nil
		}
	case 7:
		c.Width = uint8(r.IntN(9))
	case 8:
		c.Min, c.Classes = 1<<63+number(), 255
	}
}
