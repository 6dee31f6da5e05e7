package grams

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/model"
)

// Compare builds the bits of a block from whole lines, by the definition, and says
// where the matrix differs.
func Compare(r *Region, block int, lines *model.Strings) string {
	for i := range r.groups {
		g := &r.groups[i]
		if block < g.first || block >= g.first+g.blocks {
			continue
		}
		want := make([]bool, g.rows)
		var text []byte
		for i := range lines.Len() {
			line := lines.At(i)
			text = fold(text[:0], line)
			each(text, len(line), func(x gram) {
				if kept(x.hash, g.levels[x.class]) || x.chosen && r.chosen && g.levels[x.class] <= chosenLevel {
					want[row(x.hash, g.rows)] = true
				}
			})
		}
		for x, want := range want {
			if got := g.row(uint32(x))>>(block-g.first)&1 != 0; got != want {
				return fmt.Sprintf("row %d of %d is %v, should be %v", x, g.rows, got, want)
			}
		}
	}
	return ""
}

// Describe says what groups there are, and how full their rows are.
func Describe(r *Region) (s string) {
	for i := range r.groups {
		g := &r.groups[i]
		set := 0
		for x := range g.rows {
			for k := range g.blocks {
				set += int(g.row(x) >> k & 1)
			}
		}
		s += fmt.Sprintf("%d blocks, %d rows, levels %v, density %.2f; ", g.blocks, g.rows, g.levels, float64(set)/float64(g.rows)/float64(g.blocks))
	}
	return s
}

// Reseal makes the checksums of a matrix right, where it holds together otherwise.
func Reseal(b []byte) []byte {
	if len(b) < headLen+8 {
		return b
	}
	b = append([]byte(nil), b...)
	at := headLen + int(binary.LittleEndian.Uint16(b[2:]))*groupLen
	for sums := 0; at+8*sums+8 <= len(b); sums++ {
		head := at + 8*sums
		if size := len(b) - head - 8; (size+sumEvery-1)/sumEvery == sums {
			for i := range sums {
				part := b[head+8+i*sumEvery : min(head+8+(i+1)*sumEvery, len(b))]
				binary.LittleEndian.PutUint64(b[at+8*i:], xxhash.Sum64(part))
			}
			binary.LittleEndian.PutUint64(b[head:], xxhash.Sum64(b[:head]))
			return b
		}
	}
	return b
}
