package grams

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Finish returns the matrix, encoded. Nothing more can be added.
func (b *Builder) Finish() []byte {
	size := 0
	for i := range b.groups {
		size += b.groups[i].size()
	}
	sums := (size + sumEvery - 1) / sumEvery
	head := make([]byte, 0, headLen+groupLen*len(b.groups)+8*sums+8+size)
	head = append(head, version, 0)
	head = binary.LittleEndian.AppendUint16(head, uint16(len(b.groups)))
	for i := range b.groups {
		g := &b.groups[i]
		head = binary.LittleEndian.AppendUint32(head, g.rows)
		head = append(head, g.levels[:]...)
		flags := byte(0)
		if g.nonASCII {
			flags = flagNonASCII
		}
		head = append(head, byte(g.blocks), flags)
	}
	matrix := make([]byte, 0, size)
	for i := range b.groups {
		matrix = b.groups[i].slice(matrix)
	}
	for at := 0; at < size; at += sumEvery {
		head = binary.LittleEndian.AppendUint64(head, xxhash.Sum64(matrix[at:min(at+sumEvery, size)]))
	}
	head = binary.LittleEndian.AppendUint64(head, xxhash.Sum64(head))
	return append(head, matrix...)
}

func (g *group) size() int { return int((uint64(g.rows)*uint64(g.blocks) + 7) / 8) }

// slice appends the group's rows, a bit for each block.
func (g *group) slice(dst []byte) []byte {
	end := len(dst) + g.size()
	var acc uint64
	fill := 0
	var t [64]uint64
	for w := range int(g.rows+63) / 64 {
		clear(t[:])
		for k, c := range g.columns {
			t[k] = c[w]
		}
		transpose(&t)
		for _, x := range t[:min(64, int(g.rows)-w*64)] {
			acc |= x << fill
			if fill+g.blocks >= 64 {
				dst = binary.LittleEndian.AppendUint64(dst, acc)
				acc = x >> (64 - fill) // 0 for fill 0
				fill += g.blocks - 64
			} else {
				fill += g.blocks
			}
		}
	}
	for ; fill > 0; fill -= 8 {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst[:end]
}

// transpose makes bit k of number i bit i of number k.
func transpose(t *[64]uint64) {
	mask := uint64(0x00000000FFFFFFFF)
	for j := 32; j != 0; j >>= 1 {
		for k := 0; k < 64; k = (k + j + 1) &^ j {
			x := (t[k]>>j ^ t[k+j]) & mask
			t[k] ^= x << j
			t[k+j] ^= x
		}
		mask ^= mask << (j >> 1)
	}
}
