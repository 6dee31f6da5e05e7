package head

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/model"
)

// TestManyRowsAtOnce: rows that come together are as they are if each comes alone.
func TestManyRowsAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var together, alone chunks
		last := int64(0)
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		position := uint32(0)
		for seq := range uint64(rapid.IntRange(1, 6).Draw(t, "requests")) {
			src := &model.Rows{}
			n := rapid.IntRange(1, 24).Draw(t, "rows")
			if rapid.IntRange(0, 99).Draw(t, "large") == 0 {
				n = chunkRows - rapid.IntRange(0, 30).Draw(t, "less")
			}
			long := rapid.IntRange(0, 99).Draw(t, "long") == 0
			levels := rapid.SampledFrom([]string{"all", "none", "some"}).Draw(t, "levels")
			meta := rapid.IntRange(0, 3).Draw(t, "metadata") == 0
			copies := rapid.IntRange(0, 5).Draw(t, "copies") == 0
			level := model.Column{Name: "detected_level", Version: uint32(seq)}
			sent := model.Column{Name: "m"}
			for i := range n {
				last += []int64{1, 1, 1, 1, 1, 1, 1, 7, 0, -3}[rnd.IntN(10)]
				src.Times = append(src.Times, last)
				line := fmt.Sprint("line ", last%5)
				if long && i%8 == 0 {
					line += string(make([]byte, chunkBytes/3))
				}
				src.Lines.AppendString(line)
				src.Positions = append(src.Positions, position)
				position++
				if copies {
					src.Copies = append(src.Copies, uint32(i%2))
				}
				if levels == "all" || levels == "some" && i%3 == 0 {
					level.AppendString(i, "info"[:1+i%4])
				}
				if meta && i%2 == 0 {
					sent.AppendString(i, "v")
				}
			}
			level.Finish(n)
			sent.Finish(n)
			if level.Values.Len() > 0 {
				src.Derived = []model.Column{level}
			}
			if sent.Values.Len() > 0 {
				src.Metadata = []model.Column{sent}
			}
			src.Hashes = make([]uint64, n)
			for i := range n {
				src.Hashes[i] = src.Hash(i)
			}
			batch := int64(seq * 10)
			added, size := together.add(src, batch, seq)
			for i := range n {
				one := &model.Rows{}
				appendOne(one, src, i)
				a, s := alone.add(one, batch, seq)
				added, size = added-a, size-s
			}
			if added != 0 || size != 0 {
				t.Fatalf("%d rows more, %d bytes more", added, size)
			}
		}
		for _, pair := range [][2][]*chunk{{together.sorted, alone.sorted}, {together.late, alone.late}} {
			if len(pair[0]) != len(pair[1]) {
				t.Fatalf("%d chunks, %d", len(pair[0]), len(pair[1]))
			}
			for k := range pair[0] {
				a, b := pair[0][k], pair[1][k]
				if a.minTime != b.minTime || a.maxTime != b.maxTime || a.bytes != b.bytes || a.digest != b.digest || !slices.Equal(a.seqs, b.seqs) || a.sealed != b.sealed {
					t.Fatalf("chunk %d: %d %d %d %x %v, %d %d %d %x %v", k, a.minTime, a.maxTime, a.bytes, a.digest, a.seqs, b.minTime, b.maxTime, b.bytes, b.digest, b.seqs)
				}
				x, y := &a.rows, &b.rows
				if x.Len() != y.Len() || !slices.Equal(x.Hashes, y.Hashes) || !slices.Equal(x.BatchTimes, y.BatchTimes) || !slices.Equal(x.Positions, y.Positions) {
					t.Fatalf("chunk %d: rows differ", k)
				}
				for i := range x.Len() {
					if !x.SameEntry(i, y, i) || x.Copy(i) != y.Copy(i) || len(x.Derived) != len(y.Derived) {
						t.Fatalf("chunk %d: row %d differs", k, i)
					}
					for d := range x.Derived {
						if x.Derived[d].Version != y.Derived[d].Version || string(x.Derived[d].At(i)) != string(y.Derived[d].At(i)) {
							t.Fatalf("chunk %d: row %d: %s differs", k, i, x.Derived[d].Name)
						}
					}
				}
			}
		}
	})
}

// appendOne appends row i of src to dst, with its hash and its place.
func appendOne(dst, src *model.Rows, i int) {
	dst.Times = append(dst.Times, src.Times[i])
	dst.Lines.Append(src.Lines.At(i))
	dst.Hashes = append(dst.Hashes, src.Hashes[i])
	dst.Positions = append(dst.Positions, src.Positions[i])
	if src.Copies != nil {
		dst.Copies = append(dst.Copies, src.Copies[i])
	}
	dst.Metadata, _ = appendMeta(dst.Metadata, src.Metadata, i, 0)
	dst.Derived, _ = appendMeta(dst.Derived, src.Derived, i, 0)
}
