package lines

import (
	"bytes"
	"fmt"
)

// fewReads is how many frames of a block are read one by one: whoever needs more needs
// most of them, as a rule.
const fewReads = 6

// fewPages is likewise for blocks with pages.
const fewPages = 24

// span returns bytes [from, to) of the block, which are of frame n, and whether they are
// kept in any case: then they count for the body already. Call with mu held.
func (b *Body) span(n, from, to int) (_ []byte, kept bool, err error) {
	if b.read == nil {
		return b.data[from:to], true, nil
	}
	if b.stored == nil {
		for i := range b.ahead {
			if a := &b.ahead[i]; a.off <= from && to <= a.off+len(a.data) {
				return a.data[from-a.off : to-a.off], false, nil
			}
		}
		if b.reads++; b.reads <= fewReads || b.paged != nil && b.reads <= fewPages {
			frame, err := b.fetch(from, to-from)
			return frame, false, err
		}
		all, err := b.fetch(0, b.size)
		if err != nil {
			return nil, false, err
		}
		b.store(all)
	}
	return b.stored[n][from-b.offsets[n] : to-b.offsets[n]], true, nil
}

// own returns what is part of bytes that span returned, in memory that is counted: bytes
// that are not kept in any case may lie among others, which would stay with them.
func own(read, part []byte, kept bool) []byte {
	if kept || !within(read, part) {
		return part
	}
	return bytes.Clone(part)
}

// store keeps all frames that were not asked for yet. Each has memory of its own, which goes
// once it is decompressed.
func (b *Body) store(all []byte) {
	b.stored = make([][]byte, len(b.frames))
	for i := range b.frames {
		if b.frames[i] == nil {
			b.stored[i] = bytes.Clone(all[b.offsets[i]:b.offsets[i+1]])
			b.memory += len(b.stored[i])
		}
	}
	b.memory += 24 * len(b.stored)
}

func (b *Body) fetch(off, n int) ([]byte, error) {
	p, err := b.read(off, n)
	if err != nil {
		return nil, err
	}
	if len(p) != n {
		return nil, fmt.Errorf("%d bytes read of %d", len(p), n)
	}
	return p, nil
}
