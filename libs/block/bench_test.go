package block_test

import (
	"context"
	"io"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/model"
)

// BenchmarkSmallBlock is a block of one row: what each block costs besides its rows.
func BenchmarkSmallBlock(b *testing.B) {
	rows := rowsOf([]row{{time: 1, line: "level=info msg=\"request done\""}}, false)
	ls := model.Labels{{Name: "app", Value: "a"}}
	b.ReportAllocs()
	w := block.NewWriter(io.Discard, block.Meta{}, block.Options{})
	for b.Loop() {
		w.Reset(io.Discard, block.Meta{ID: "b", Tenant: "t"})
		if err := w.Add(ls, rows); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a block of 50,000 streams.
func BenchmarkOpen(b *testing.B) {
	data, _ := write(b, manyStreams(50000, [][]byte{[]byte("x")})[:], block.Meta{ID: "b"}, block.Options{NoGrams: true}, 100)
	m := &memory{b: data}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := block.Open(context.Background(), m, int64(len(data))); err != nil {
			b.Fatal(err)
		}
	}
}
