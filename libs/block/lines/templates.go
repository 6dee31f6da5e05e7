package lines

import (
	"math"

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
	tids, rows := make([]uint16, b.info.Rows), make([]uint32, len(b.info.Templates))
	if err := b.readTemplates(tids, rows); err != nil {
		return nil, err
	}
	// As many rows of each template as the footer says: so no column runs out.
	for t, k := range b.info.Templates {
		if rows[t] != k.Rows {
			return nil, column.Corrupt("%d rows of template %d, not %d", rows[t], t, k.Rows)
		}
	}
	b.tids = tids
	b.memory += 2 * len(tids)
	return tids, nil
}

// tally counts the rows of each template. All are known.
func tally[T uint8 | uint16](rows []uint32, tids []T) {
	if len(rows) <= 256 && len(tids) >= 256 {
		// Most rows are of few templates: to add to one number again and again would be to
		// wait for it.
		var some [4][256]uint32
		for ; len(tids) >= 4; tids = tids[4:] {
			some[0][uint8(tids[0])]++
			some[1][uint8(tids[1])]++
			some[2][uint8(tids[2])]++
			some[3][uint8(tids[3])]++
		}
		for t := range rows {
			rows[t] += some[0][t] + some[1][t] + some[2][t] + some[3][t]
		}
	}
	for _, t := range tids {
		rows[t]++
	}
}

// readTemplates reads each row's template, and counts the rows of each.
func (b *Body) readTemplates(dst []uint16, rows []uint32) error {
	c := &b.tid
	n := len(dst)
	if c.Min == 0 && c.Width <= 2 && int(c.Size) == n*int(c.Width) {
		// As encoders write them.
		var p []byte
		if c.Size > 0 {
			buf := scratch.Get().(*[]byte)
			defer scratch.Put(buf)
			var err error
			if p, err = b.frameIn(buf, c.Frame); err != nil {
				return err
			}
			if uint64(c.Offset)+uint64(c.Size) > uint64(len(p)) {
				return column.Corrupt("templates of rows at %d+%d of a frame of %d bytes", c.Offset, c.Size, len(p))
			}
			p = p[c.Offset:][:c.Size]
		}
		for k := range int(c.Width) {
			plane := p[k*n : k*n+n]
			if k > 0 {
				for i, x := range plane {
					dst[i] |= uint16(x) << 8
				}
				continue
			}
			dst := dst[:len(plane)]
			for i, x := range plane {
				dst[i] = uint16(x)
			}
		}
		if c.Width == 1 { // a row of a template that is not there is missing among the others
			var all [256]uint32
			tally(all[:], p[:n])
			copy(rows, all[:])
			return nil
		}
	} else {
		v, err := b.column(c)
		if err != nil {
			return err
		}
		for i := range dst {
			t := uint64(v.Signed(i))
			if t > math.MaxUint16 {
				return column.Corrupt("row %d has template %d", i, t)
			}
			dst[i] = uint16(t)
		}
	}
	for i, t := range dst {
		if int(t) >= len(rows) {
			return column.Corrupt("row %d has template %d of %d", i, t, len(rows))
		}
	}
	tally(rows, dst)
	return nil
}
