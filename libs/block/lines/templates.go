package lines

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
)

// RowTemplates returns each row's template, as its place in the Templates of the
// block's info. It is shared.
func (b *Body) RowTemplates() ([]uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.rowTemplates()
	return t, at(b.block, err)
}

func (b *Body) rowTemplates() ([]uint16, error) {
	if b.tids != nil {
		return b.tids, nil
	}
	tids := make([]uint16, b.info.Rows)
	if b.packed.n > 0 {
		b.packed.unpack(tids)
	} else {
		buf := scratch.Get().(*[]byte)
		defer scratch.Put(buf)
		planes, err := b.readTemplates(func(n uint32) ([]byte, error) { return b.frameIn(buf, n) })
		if err != nil {
			return nil, err
		}
		if err := b.checkTemplates(&planes, make([]uint32, len(b.info.Templates)), 0); err != nil {
			return nil, err
		}
		planes.unpack(tids)
	}
	b.tids = tids
	b.memory += 2 * len(tids)
	return tids, nil
}

// fewTemplates is rowTemplates for who looks at few rows: they are not unpacked. The rows before
// one of them are counted by the way.
func (b *Body) fewTemplates(row int) (*packedTemplates, error) {
	if b.tids != nil && b.packed.all == nil {
		b.packed = packedTemplates{n: len(b.tids), all: b.tids}
	}
	if b.packed.n > 0 {
		return &b.packed, nil
	}
	planes, err := b.readTemplates(b.frame)
	if err != nil {
		return nil, err
	}
	passed := make([]uint32, len(b.info.Templates))
	if err := b.checkTemplates(&planes, passed, row); err != nil {
		return nil, err
	}
	if planes.all != nil {
		b.tids = planes.all
		b.memory += 2 * len(b.tids)
	}
	b.packed, b.passed, b.passedTo = planes, passed, row
	b.memory += 4 * len(passed)
	return &b.packed, nil
}

// readTemplates reads each row's template, from a frame that the caller gets.
func (b *Body) readTemplates(frame func(n uint32) ([]byte, error)) (packedTemplates, error) {
	c, n := &b.tid, b.info.Rows
	if c.Min == 0 && c.Width <= 2 && int(c.Size) == n*int(c.Width) { // as encoders write them
		if c.Size == 0 {
			return packedTemplates{n: n}, nil
		}
		p, err := frame(c.Frame)
		if err != nil {
			return packedTemplates{}, err
		}
		if uint64(c.Offset)+uint64(c.Size) > uint64(len(p)) {
			return packedTemplates{}, column.Corrupt("templates of rows at %d+%d of a frame of %d bytes", c.Offset, c.Size, len(p))
		}
		p = p[c.Offset:][:c.Size]
		out := packedTemplates{n: n, low: p[:n:n]}
		if c.Width > 1 {
			out.high = p[n:]
		}
		return out, nil
	}
	v, err := b.column(c)
	if err != nil {
		return packedTemplates{}, err
	}
	all := make([]uint16, n)
	for i := range all {
		t := uint64(v.Signed(i))
		if t > math.MaxUint16 {
			return packedTemplates{}, column.Corrupt("row %d has template %d", i, t)
		}
		all[i] = uint16(t)
	}
	return packedTemplates{n: n, all: all}, nil
}

// checkTemplates checks that there are as many rows of each template as the footer says: so no
// column runs out. passed, all zeros, gets the rows of each before row.
func (b *Body) checkTemplates(tids *packedTemplates, passed []uint32, row int) error {
	tids.tally(passed, 0, row)
	all := slices.Clone(passed)
	tids.tally(all, row, tids.n)
	for t, k := range b.info.Templates {
		if all[t] != k.Rows { // a row of a template that is not there is missing among the others
			return column.Corrupt("%d rows of template %d, not %d", all[t], t, k.Rows)
		}
	}
	return nil
}

// packedTemplates is each row's template as it is stored: a byte or two, or unpacked.
type packedTemplates struct {
	n         int      // rows
	low, high []byte   // nil: all 0
	all       []uint16 // instead
}

// at returns a row's template.
func (p *packedTemplates) at(row int) uint16 {
	if p.all != nil {
		return p.all[row]
	}
	t := uint16(0)
	if p.low != nil {
		t = uint16(p.low[row])
	}
	if p.high != nil {
		t |= uint16(p.high[row]) << 8
	}
	return t
}

// unpack gets the templates of all rows.
func (p *packedTemplates) unpack(dst []uint16) {
	switch {
	case p.all != nil:
		copy(dst, p.all)
	case p.high != nil:
		low, high := p.low[:len(dst)], p.high[:len(dst)]
		for i := range dst {
			dst[i] = uint16(low[i]) | uint16(high[i])<<8
		}
	case p.low != nil:
		low := p.low[:len(dst)]
		for i := range dst {
			dst[i] = uint16(low[i])
		}
	}
}

// tally adds the rows [from, to) of each template. Rows of others are left out.
func (p *packedTemplates) tally(rows []uint32, from, to int) {
	one := func(row int) {
		if t := int(p.at(row)); t < len(rows) {
			rows[t]++
		}
	}
	if p.all == nil && p.low == nil {
		rows[0] += uint32(to - from)
		return
	}
	if to-from >= leastTallied {
		// Most rows are of few templates: to add to one number again and again would be to
		// wait for it. And most have no second byte, as the most frequent templates come first.
		var some [4][256]uint32
		for ; p.all != nil && from+4 <= to; from += 4 {
			t := p.all[from:][:4]
			if t[0]|t[1]|t[2]|t[3] > 255 {
				for row := from; row < from+4; row++ {
					one(row)
				}
				continue
			}
			some[0][uint8(t[0])]++
			some[1][uint8(t[1])]++
			some[2][uint8(t[2])]++
			some[3][uint8(t[3])]++
		}
		for ; p.all == nil && from+8 <= to; from += 8 {
			if p.high != nil && binary.LittleEndian.Uint64(p.high[from:]) != 0 {
				for row := from; row < from+8; row++ {
					one(row)
				}
				continue
			}
			x := binary.LittleEndian.Uint64(p.low[from:])
			some[0][uint8(x)]++
			some[1][uint8(x>>8)]++
			some[2][uint8(x>>16)]++
			some[3][uint8(x>>24)]++
			some[0][uint8(x>>32)]++
			some[1][uint8(x>>40)]++
			some[2][uint8(x>>48)]++
			some[3][uint8(x>>56)]++
		}
		for t := range min(len(rows), 256) {
			rows[t] += some[0][t] + some[1][t] + some[2][t] + some[3][t]
		}
	}
	for ; from < to; from++ {
		one(from)
	}
}

// leastTallied is how many rows are worth lists of their own.
const leastTallied = 256
