package head

import (
	"context"
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/model"
)

// BenchmarkEach reads the rows of very many streams of few rows, as a cut does.
func BenchmarkEach(b *testing.B) {
	const streams, rows = 50_000, 5
	h := New()
	line := make([]byte, 160)
	for r := range rows {
		for from := 0; from < streams; from += 5000 {
			var blocks []Block
			for i := range 5000 {
				ls := model.Labels{{Name: "app", Value: fmt.Sprint((from + i) % 20)}, {Name: "pod", Value: fmt.Sprintf("%x", uint32(from+i)*2654435761)}}
				bl := Block{Labels: ls, Text: ls.String()}
				bl.Rows.Times, bl.Rows.Positions = []int64{int64(r)}, []uint32{uint32(i)}
				bl.Rows.Lines.Append(line)
				bl.Rows.Hashes = []uint64{bl.Rows.Hash(0)}
				blocks = append(blocks, bl)
			}
			h.Append("t", blocks, 1, uint64(r*10+from/5000+1))
		}
	}
	n := 0
	for b.Loop() {
		err := h.Each(context.Background(), "t", func(ls model.Labels) string { return ls[0].Value }, []Span{{0, 100}}, func(_ model.Labels, r *model.Rows, from, to int) error {
			n += to - from
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if n != b.N*streams*rows {
		b.Fatalf("%d rows", n)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*streams*rows), "ns/row")
}
