package grams

import (
	"encoding/binary"
	"math/bits"
)

// chunks gathers the grams of a long piece of a line that ends at end: cut where other
// lines are too and where no gram depends on both sides, behind spaces and quotes.
func (b *Builder) chunks(slab []byte, p piece, end uint32) {
	from := p.from
	for i := from; i < p.limit; i += 8 {
		// Bit 7 of each of eight bytes that are spaces or quotes.
		var x uint64
		if int(i)+8 <= len(slab) {
			x = (binary.LittleEndian.Uint64(slab[i:]) | 0x02*ones) ^ '"'*ones
		} else {
			for k := range uint32(8) {
				if i+k < p.limit {
					x |= uint64((slab[i+k]|0x02)^'"') << (8 * k)
				}
			}
		}
		for cuts := ^((x&^highs + 0x7f*ones) | x) & highs; cuts != 0; cuts &= cuts - 1 {
			at := i + uint32(bits.TrailingZeros64(cuts))>>3
			if at >= p.limit {
				break
			}
			if c := slab[at]; c == '"' && at > from || c == ' ' && at-from >= minChunk {
				b.distinct(slab, piece{from, at + 1, min(at+1+behind, end)})
				from = at + 1
			}
		}
	}
	b.distinct(slab, piece{from, p.limit, p.to})
}

// mix returns a hash of two numbers.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^golden, b^0xD6E8FEB86659FD93)
	return hi ^ lo
}

// fresh reports whether a piece was not seen lately. There are 1 << 13 places for those
// that were.
func fresh(seen []piece, slab []byte, p piece) bool {
	s := slab[p.from:p.to]
	h := uint64(len(s))*0x9E3779B97F4A7C15 + uint64(p.limit-p.from)
	switch n := len(s); {
	case n >= 8:
		for i := 0; i+16 < n; i += 16 {
			h = mix(binary.LittleEndian.Uint64(s[i:])^h, binary.LittleEndian.Uint64(s[i+8:]))
		}
		h = mix(binary.LittleEndian.Uint64(s[max(0, n-16):])^h, binary.LittleEndian.Uint64(s[n-8:]))
	default:
		for _, c := range s {
			h = (h ^ uint64(c)) * 0xD6E8FEB86659FD93
		}
	}
	e := &seen[h>>51]
	if e.limit-e.from == p.limit-p.from && e.to-e.from == p.to-p.from && string(slab[e.from:e.to]) == string(s) {
		return false
	}
	*e = p
	return true
}
