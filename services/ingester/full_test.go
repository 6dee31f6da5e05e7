package ingester

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/ingester/head"
)

// TestFull: a head is full by its rows at a quarter of what all may take, by all of it at
// three eighths, and where a size is configured at that.
func TestFull(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []struct {
		name     string
		cut      int64
		streams  int
		line     int
		low, top int64 // of the size when it is full
	}{
		{"few streams", 0, 1, 1000, limit / 4, limit/4 + 8<<10},
		{"many streams", 0, 1 << 20, 1, limit * 3 / 8, limit*3/8 + 8<<10},
		{"many streams and a size", limit / 8, 1 << 20, 1, limit / 8, limit/8 + 8<<10},
		{"a size that is too large", limit, 1, 1000, limit / 2, limit/2 + 8<<10},
	} {
		s := &Service{deps: Deps{HeadLimit: limit}, gens: newGenerations()}
		s.cfg.CutSize = conf.ByteSize(c.cut)
		for i := 0; !s.full(); i++ {
			ls := model.Labels{{Name: "s", Value: fmt.Sprint(i % c.streams)}}
			b := head.Block{Labels: ls, Text: ls.String(), Rows: model.Rows{Times: []int64{int64(i)}, Positions: []uint32{0}}}
			b.Rows.Lines.Append(make([]byte, c.line))
			b.Rows.Hashes = []uint64{b.Rows.Hash(0)}
			s.gens.append("t", []head.Block{b}, 1, uint64(i+1), time.Unix(0, 0))
		}
		if size := s.gens.active.head.Size(); size < c.low || size > c.top {
			t.Errorf("%s: full with %d bytes", c.name, size)
		}
	}
}
