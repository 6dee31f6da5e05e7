package lines

import (
	"encoding/binary"
	"unsafe"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// room is how many bytes there always are behind what is printed: enough for whatever
// is written without looking first.
const room = 64

// piece is literal text of a template and the column of the slot behind it. There are
// many, so they are small.
type piece struct {
	literal []byte       // with room behind it
	slot    *slotPrinter // nil: none
}

// slotPrinter prints the values of a column, one after the other.
type slotPrinter struct {
	print  printer
	layout template.Layout
	cursor *uint32 // next value
	values *column.Values

	nums   []uint64 // numbers, or indexes of distinct values
	least  uint64   // number of all values if there are no nums
	prefix []byte
	text   []byte // values, or distinct values, end to end
	ends   []uint32
	size   int
	length int // of what is printed: digits, or a time
	clock  *clock
}

// clock is the time that was printed last.
type clock struct {
	text      [40]byte // of a time within the second from … to-1
	from, to  int64
	day, next int64 // when that one's day begins and ends
	fraction  int   // where its digits are
	digits    int
	perSecond int64
}

// printer is how a slot is printed.
type printer uint8

const (
	printAny    printer = iota // by column.Values
	printNumber                // Int, Delta
	printPadded                // Pad
	printText                  // Bytes
	printDict                  // text
	printHex                   // in lower case
	printUUID
	printIPv4
	printTime
)

// maxMerged is the longest constant that is made part of the literal text.
const maxMerged = 64

// prepare gets a template of the block's list, and the columns it uses, ready. There may be
// few rows of each of many, so that all share memory.
func (p *Printer) prepare(t int) error {
	b := p.body
	b.mu.Lock()
	defer b.mu.Unlock()
	tm := &b.section.Table.Templates[b.info.Templates[t].Template]
	if n := len(tm.Columns) + 1; cap(p.list)-len(p.list) < n {
		p.list = make([]piece, 0, max(n, min(2*cap(p.list), maxMade/pieceSize), minMade/pieceSize))
		p.memory += pieceSize * cap(p.list)
	}
	first, out, ends := len(p.list), p.list, p.ends[:0]
	p.from = len(p.literal)
	for at, slot := 0, 0; ; slot++ {
		mark, next := template.NextSlot(tm.Text, at)
		p.add(tm.Text[at:mark])
		if mark == len(tm.Text) {
			break
		}
		at = next
		id := tm.Columns[slot]
		n := b.place(id)
		c := p.columns[n]
		if c == nil {
			v, err := b.values(n)
			if err != nil {
				return err
			}
			c = p.slot()
			*c = slotPrinter{cursor: &p.cursors[n]}
			c.set(v, b.section.Table.Columns[id].Layout)
			p.columns[n] = c
		}
		if k := &b.columns[n]; k.Kind == column.Const && len(k.Prefix) <= maxMerged && !p.noting {
			p.add(k.Prefix)
			continue
		}
		out, ends = append(out, piece{slot: c}), append(ends, len(p.literal)-p.from)
	}
	out, ends = append(out, piece{}), append(ends, len(p.literal)-p.from)
	p.add(nil)
	from := p.from
	for i, end := range ends {
		out[first+i].literal = p.literal[from : p.from+end]
		from = p.from + end
	}
	p.list, p.ends = out, ends
	p.pieces[t] = out[first:len(out):len(out)]
	return nil
}

// How many bytes of memory are taken at once for templates and columns.
const (
	minMade = 2 << 10
	maxMade = 1 << 20

	pieceSize   = int(unsafe.Sizeof(piece{}))
	printerSize = int(unsafe.Sizeof(slotPrinter{}))
)

// slot returns memory for a column's printer.
func (p *Printer) slot() *slotPrinter {
	n := len(p.made)
	if n == cap(p.made) {
		n = 0
		p.made = make([]slotPrinter, 0, max(min(2*cap(p.made), maxMade/printerSize), minMade/printerSize))
		p.memory += printerSize * cap(p.made)
	}
	p.made = p.made[:n+1]
	return &p.made[n]
}

// add adds literal text of the template that begins at from, and sees that there is room
// behind it.
func (p *Printer) add(text []byte) {
	if n := len(text) + room; cap(p.literal)-len(p.literal) < n {
		own := p.literal[p.from:]
		p.literal = append(make([]byte, 0, max(2*len(own)+n, min(2*cap(p.literal), maxMade), minMade)), own...)
		p.memory += cap(p.literal)
		p.from = 0
	}
	p.literal = append(p.literal, text...)
}

func (c *slotPrinter) set(v *column.Values, layout template.Layout) {
	info := v.Info()
	c.values, c.nums, c.least, c.prefix, c.print = v, v.Numbers(), info.Min, info.Prefix, printAny
	c.text, c.ends, c.size = v.Packed()
	switch info.Kind {
	case column.Signed:
		c.print, c.layout, c.clock = printTime, layout, &clock{perSecond: 1e9 / layout.Unit()}
		c.clock.fraction, c.clock.digits = layout.Fraction()
	case column.Int, column.Delta:
		c.print = printNumber
	case column.Pad:
		c.print, c.length = printPadded, info.MinLen-len(info.Prefix)
	case column.Bytes:
		c.print = printText
	case column.Hex:
		if !info.Upper {
			c.print, c.length = printHex, info.MinLen
		}
	case column.UUID:
		c.print = printUUID
	case column.IPv4:
		c.print = printIPv4
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
		// Short text is copied with what is behind it, which is overwritten.
		switch {
		case len(lit) <= 16:
			*(*[16]byte)(out[n:]) = *(*[16]byte)(lit[:16])
		case len(lit) <= 32:
			*(*[32]byte)(out[n:]) = *(*[32]byte)(lit[:32])
		default:
			copy(out[n:], lit)
		}
		n += len(lit)
		c := ps[j].slot
		if c == nil {
			break
		}
		i, begin := int(*c.cursor), n
		*c.cursor++
		switch c.print {
		case printNumber:
			if len(c.prefix) > 0 {
				n, out = prefixed(out, n, c.prefix)
			}
			x := c.least
			if c.nums != nil {
				x = c.nums[i]
			}
			n += column.PutUint(out[n:], x)
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
			switch {
			case to-from <= 16 && from+16 <= len(c.text):
				*(*[16]byte)(out[n:]) = *(*[16]byte)(c.text[from:])
			case to-from <= 32 && from+32 <= len(c.text):
				*(*[32]byte)(out[n:]) = *(*[32]byte)(c.text[from:])
			default:
				if len(out)-n < to-from+room {
					out = more(out, n, to-from+room)
				}
				copy(out[n:], c.text[from:to])
			}
			n += to - from
		case printTime:
			if err := c.time(c.layout.Floor(p.times[row]) - int64(c.number(i))); err != nil {
				return slab, err
			}
			*(*[40]byte)(out[n:]) = c.clock.text
			n += c.length
		case printPadded:
			if len(c.prefix) > 0 {
				n, out = prefixed(out, n, c.prefix)
			}
			putDigits(out[n:n+c.length], c.number(i))
			n += c.length
		case printHex:
			if len(out)-n < c.length+room {
				out = more(out, n, c.length+room)
			}
			putHex(out[n:n+c.length], c.text[i*c.size:])
			n += c.length
		case printUUID:
			putUUID(out[n:], c.text[i*16:])
			n += column.UUIDLen
		case printIPv4:
			x := c.nums[i]
			n += column.PutUint(out[n:], x>>24&255)
			out[n] = '.'
			n += 1 + column.PutUint(out[n+1:], x>>16&255)
			out[n] = '.'
			n += 1 + column.PutUint(out[n+1:], x>>8&255)
			out[n] = '.'
			n += 1 + column.PutUint(out[n+1:], x&255)
		default:
			s := c.values.Append(out[:n], i)
			n, out = len(s), s[:cap(s)]
		}
		if p.noting {
			p.slots = append(p.slots, template.SlotOf(begin, n))
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

// prefixed prints a prefix, with room behind it.
func prefixed(out []byte, n int, prefix []byte) (int, []byte) {
	if len(out)-n < len(prefix)+room {
		out = more(out, n, len(prefix)+room)
	}
	return n + copy(out[n:], prefix), out
}

func (c *slotPrinter) number(i int) uint64 {
	if c.nums == nil {
		return c.least
	}
	return c.nums[i]
}

// putUUID prints a UUID of 16 bytes.
func putUUID(out, b []byte) {
	b, to := b[:16], out[:column.UUIDLen]
	to[8], to[13], to[18], to[23] = '-', '-', '-', '-'
	putHex(to[:8], b)
	putHex(to[9:13], b[4:])
	putHex(to[14:18], b[6:])
	putHex(to[19:23], b[8:])
	putHex(to[24:], b[10:])
}

// time makes the clock tell a time.
func (c *slotPrinter) time(v int64) error {
	k := c.clock
	if v < k.from || v >= k.to {
		if !c.layout.InRange(v) {
			return column.Corrupt("in-line time %d", v)
		}
		c.tick(v)
	} else if k.to-k.from > 1 {
		putDigits(k.text[k.fraction:k.fraction+k.digits], uint64(v-k.from))
	}
	return nil
}

// tick makes the clock tell a time of another second.
func (c *slotPrinter) tick(v int64) {
	k := c.clock
	if v >= k.day && v < k.next {
		c.layout.SetClock(k.text[:c.length], v)
	} else {
		c.length = len(c.layout.Append(k.text[:0], v))
		k.day, k.next = c.layout.Day(v)
	}
	k.from, k.to = v, v+1
	if k.digits > 0 && k.fraction+k.digits <= 32 {
		// Times are not negative; a second at the end of all times need not be whole.
		k.from = v - v%k.perSecond
		k.to = k.from + k.perSecond
		if !c.layout.InRange(k.from) || !c.layout.InRange(k.to-1) {
			k.from, k.to = v, v+1
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

var hexPairs = func() (t [256]uint16) {
	const digits = "0123456789abcdef"
	for i := range t {
		t[i] = uint16(digits[i>>4]) | uint16(digits[i&15])<<8
	}
	return t
}()

// putHex prints as many digits as dst takes, two of each byte.
func putHex(dst, b []byte) {
	i := 0
	for ; i+2 <= len(dst); i += 2 {
		binary.LittleEndian.PutUint16(dst[i:], hexPairs[b[i/2]])
	}
	if i < len(dst) {
		dst[i] = byte(hexPairs[b[i/2]])
	}
}

// putDigits prints the last digits of a number, as many as dst takes.
func putDigits(dst []byte, x uint64) {
	k := len(dst)
	for ; k >= 2; k -= 2 {
		q := x / 100
		r := (x - q*100) * 2
		dst[k-2], dst[k-1] = digitPairs[r], digitPairs[r+1]
		x = q
	}
	if k > 0 {
		dst[0] = byte('0' + x%10)
	}
}
