package lines

import (
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/template"
)

// printer returns what prints the values of a slot.
func (p *pieces) printer(t *taker, s *template.Piece, place int32) *slotPrinter {
	c := t.printers[place]
	if c == nil {
		c = &slotPrinter{}
		c.set(t.values[place], s.Layout)
		t.printers[place] = c
	}
	return c
}

// value prints value i of a slot's column, which is a row's.
func (p *pieces) value(t *taker, s *template.Piece, place int32, i int, row uint32) error {
	c := p.printer(t, s, place)
	if c.print == printAny {
		p.slab = c.values.Append(p.slab, i)
		return nil
	}
	at := len(p.slab)
	out := p.grow(c.most(i))
	n, err := c.put(out[at:], i, t.times[row])
	p.slab = out[:at+n]
	return err
}

// grow returns the slab with room for n bytes more, as long as that.
func (p *pieces) grow(n int) []byte {
	if cap(p.slab)-len(p.slab) < n {
		p.slab = append(make([]byte, 0, 2*cap(p.slab)+2*n), p.slab...)
	}
	return p.slab[:cap(p.slab)]
}

// span returns where the text of value i, or of its dictionary, is.
func (c *slotPrinter) span(i int) (from, to int) {
	if c.print == printDict {
		i = int(c.nums[i])
	}
	if c.ends == nil {
		return i * c.size, (i + 1) * c.size
	}
	if i > 0 {
		from = int(c.ends[i-1])
	}
	return from, int(c.ends[i])
}

// most is how much room put needs.
func (c *slotPrinter) most(i int) int {
	n := room + len(c.prefix) + c.length
	if c.print == printText || c.print == printDict {
		from, to := c.span(i)
		n += to - from
	}
	return n
}

// put prints value i of a row with a time, and returns its length. It is not one that
// only column.Values can print.
func (c *slotPrinter) put(out []byte, i int, time int64) (int, error) {
	switch c.print {
	case printNumber:
		n := copy(out, c.prefix)
		return n + column.PutUint(out[n:], c.number(i)), nil
	case printPadded:
		n := copy(out, c.prefix)
		putDigits(out[n:n+c.length], c.number(i))
		return n + c.length, nil
	case printText, printDict:
		from, to := c.span(i)
		return copy(out, c.text[from:to]), nil
	case printHex:
		putHex(out[:c.length], c.text[i*c.size:])
		return c.length, nil
	case printUUID:
		putUUID(out, c.text[i*16:])
		return column.UUIDLen, nil
	case printIPv4:
		x := c.number(i)
		n := 0
		for shift := 24; shift >= 0; shift -= 8 {
			n += column.PutUint(out[n:], x>>shift&255)
			if shift > 0 {
				out[n] = '.'
				n++
			}
		}
		return n, nil
	default: // printTime
		if err := c.time(c.layout.Floor(time) - int64(c.number(i))); err != nil {
			return 0, err
		}
		return copy(out, c.clock.text[:c.length]), nil
	}
}

// single adds a cluster of one slot, of rows whose values seldom recur.
func (p *pieces) single(t *taker, r *route, c *cluster, rows, own []uint32) error {
	s, place := &r.plan.slots[c.from], r.places[c.from]
	w := p.printer(t, s, place)
	head, tail := len(c.before), len(c.behind)
	// Of digits that are as good as random nothing is that of the line before.
	random := w.print == printHex || w.print == printUUID
	for k, i := range own {
		if w.print == printAny {
			if err := p.cluster(t, r, c, rows, own, k, false); err != nil {
				return err
			}
			continue
		}
		start := len(p.slab)
		out := p.grow(head + w.most(int(i)) + tail)[start:]
		copy(out, c.before)
		n, err := w.put(out[head:], int(i), t.times[rows[k]])
		if err != nil {
			return err
		}
		copy(out[head+n:], c.behind)
		end := start + head + n + tail
		p.slab = p.slab[:end]
		from, to := uint32(start+head), uint32(start+head+n)
		if random && n <= maxPiece {
			p.list = append(p.list, grams.Around(p.slab, uint32(start), uint32(end), from, to))
			continue
		}
		p.emit(c, uint32(start), from, to, false)
	}
	return nil
}
