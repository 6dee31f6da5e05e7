package lines

import (
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// room is how many bytes there always are behind what is printed: enough for whatever
// is written without looking first.
const room = 64

// piece is literal text of a template and the column of the slot behind it. There are
// many, so they are small.
type piece struct {
	literal []byte
	slot    *slotPrinter // nil: none
}

// slotPrinter prints the values of a column, one after the other.
type slotPrinter struct {
	print  printer
	next   int // value
	values *column.Values

	nums   []uint64 // numbers, or indexes of distinct values
	least  uint64   // number of all values if there are no nums
	prefix []byte
	text   []byte // values, or distinct values, end to end
	ends   []uint32
	size   int

	layout    template.Layout
	clock     [40]byte // text of a time within the second from … to-1
	length    int
	from, to  int64
	fraction  int // where its digits are
	digits    int
	perSecond int64
}

// printer is how a slot is printed.
type printer uint8

const (
	printAny    printer = iota // by column.Values
	printNumber                // Int, Delta
	printText                  // Bytes
	printDict                  // text
	printTime
)

// prepare gets a template of the block's list, and the columns it uses, ready.
func (p *Printer) prepare(t int) error {
	b := p.body
	b.mu.Lock()
	defer b.mu.Unlock()
	ps := b.section.Table.Templates[b.info.Templates[t].Template].Pieces()
	out := make([]piece, len(ps))
	for i, s := range ps {
		out[i].literal = s.Literal
		if !s.Slot {
			continue
		}
		n := b.numbers[s.Column]
		c := &p.columns[n]
		if c.values == nil {
			v, err := b.values(int(n))
			if err != nil {
				return err
			}
			c.set(v, s.Layout)
		}
		out[i].slot = c
	}
	p.pieces[t] = out
	return nil
}

func (c *slotPrinter) set(v *column.Values, layout template.Layout) {
	info := v.Info()
	c.values, c.nums, c.least, c.prefix, c.print = v, v.Numbers(), info.Min, info.Prefix, printAny
	c.text, c.ends, c.size = v.Packed()
	switch info.Kind {
	case column.Signed:
		c.print, c.layout, c.perSecond = printTime, layout, 1e9/layout.Unit()
		c.fraction, c.digits = layout.Fraction()
	case column.Int, column.Delta:
		c.print = printNumber
	case column.Bytes:
		c.print = printText
	case column.Dict:
		if v.Dictionary() == nil {
			c.print = printDict
		}
	}
}

// append appends the line of the row that the cursors are at, and moves on.
func (p *Printer) append(slab []byte, limit, row int) ([]byte, error) {
	t := p.tids[row]
	if p.pieces[t] == nil {
		if err := p.prepare(int(t)); err != nil {
			return slab, err
		}
	}
	ps := p.pieces[t]
	n, out := len(slab), slab[:cap(slab)]
	for j := range ps {
		lit := ps[j].literal
		if len(out)-n < len(lit)+room {
			out = more(out, n, len(lit)+room)
		}
		// Short text is copied as 16 bytes, of which the last ones are overwritten.
		if len(lit) <= 16 && cap(lit) >= 16 {
			*(*[16]byte)(out[n:]) = *(*[16]byte)(lit[:16])
		} else {
			copy(out[n:], lit)
		}
		n += len(lit)
		c := ps[j].slot
		if c == nil {
			break
		}
		i := c.next
		c.next = i + 1
		switch c.print {
		case printNumber:
			if len(c.prefix) > 0 {
				if len(out)-n < len(c.prefix)+room {
					out = more(out, n, len(c.prefix)+room)
				}
				n += copy(out[n:], c.prefix)
			}
			x := c.least
			if c.nums != nil {
				x = c.nums[i]
			}
			n += putUint(out[n:], x)
		case printText, printDict:
			if c.print == printDict {
				i = int(c.nums[i])
			}
			from, to := i*c.size, i*c.size+c.size
			if c.ends != nil {
				if from = 0; i > 0 {
					from = int(c.ends[i-1])
				}
				to = int(c.ends[i])
			}
			if to-from <= 16 && from+16 <= len(c.text) {
				*(*[16]byte)(out[n:]) = *(*[16]byte)(c.text[from:])
			} else {
				if len(out)-n < to-from+room {
					out = more(out, n, to-from+room)
				}
				copy(out[n:], c.text[from:to])
			}
			n += to - from
		case printTime:
			v := c.layout.Floor(p.times[row]) - int64(c.number(i))
			if v < c.from || v >= c.to {
				if !c.layout.InRange(v) {
					return slab, column.Corrupt("in-line time %d of row %d", v, row)
				}
				c.tick(v)
			} else if c.to-c.from > 1 {
				x := uint64(v - c.from)
				for k := c.fraction + c.digits - 1; k >= c.fraction; k-- {
					c.clock[k&31] = byte('0' + x%10)
					x /= 10
				}
			}
			*(*[40]byte)(out[n:]) = c.clock
			n += c.length
		default:
			s := c.values.Append(out[:n], i)
			n, out = len(s), s[:cap(s)]
		}
		if n > limit {
			return slab, errTooLong(p.body.info)
		}
	}
	if n > limit {
		return slab, errTooLong(p.body.info)
	}
	p.row = row + 1
	return out[:n], nil
}

func (c *slotPrinter) number(i int) uint64 {
	if c.nums == nil {
		return c.least
	}
	return c.nums[i]
}

// tick prints a time of another second.
func (c *slotPrinter) tick(v int64) {
	c.length = len(c.layout.Append(c.clock[:0], v))
	c.from, c.to = v, v+1
	if c.digits > 0 && c.fraction+c.digits <= 32 {
		// Times are not negative; a second at the end of all times need not be whole.
		c.from = v - v%c.perSecond
		c.to = c.from + c.perSecond
		if !c.layout.InRange(c.from) || !c.layout.InRange(c.to-1) {
			c.from, c.to = v, v+1
		}
	}
}

// more returns a slice with n bytes of b and room for at least size more.
func more(b []byte, n, size int) []byte {
	out := make([]byte, max(2*len(b), n+size))
	copy(out, b[:n])
	return out
}

const digitPairs = "00010203040506070809" + "10111213141516171819" + "20212223242526272829" + "30313233343536373839" +
	"40414243444546474849" + "50515253545556575859" + "60616263646566676869" + "70717273747576777879" +
	"80818283848586878889" + "90919293949596979899"

// putUint prints a number and returns its length. dst has room for it.
func putUint(dst []byte, x uint64) int {
	_ = dst[19]
	switch {
	case x < 10:
		dst[0] = byte('0' + x)
		return 1
	case x < 100:
		dst[0], dst[1] = digitPairs[2*x], digitPairs[2*x+1]
		return 2
	case x < 1000:
		q := x / 100
		r := x - q*100
		dst[0], dst[1], dst[2] = byte('0'+q), digitPairs[2*r], digitPairs[2*r+1]
		return 3
	}
	n := 4
	for y := x / 10000; y > 0; y /= 10 {
		n++
	}
	k := n
	for x >= 100 {
		q := x / 100
		r := (x - q*100) * 2
		k -= 2
		dst[k], dst[k+1] = digitPairs[r], digitPairs[r+1]
		x = q
	}
	if x >= 10 {
		dst[0], dst[1] = digitPairs[2*x], digitPairs[2*x+1]
	} else {
		dst[0] = byte('0' + x)
	}
	return n
}
