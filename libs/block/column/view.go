package column

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// View gives access to values of a column one by one, for those who look at few of
// them: it does not unpack the others, and takes little memory besides the payload. It
// aliases payload and info. It is used by one goroutine at a time.
type View struct {
	info    *Info
	payload []byte
	n       int

	marks  []uint32 // Bytes: where every textEvery-th value begins
	text   []byte
	steps  []stepMark // Delta: likewise, as far as was asked for
	number uint64     // Delta: that before next
	next   int        // Bytes, Delta: the value that begins at nextAt
	nextAt int
	dict   *View   // Dict: the distinct values
	opened *Values // likewise, where they cannot be viewed
	shared bool    // these are of other views as well
}

// How many values are between two that are known where they begin: what lies between is added
// up for each that is asked for.
const (
	markEvery = 512
	textEvery = 64
)

// stepMark is where a step begins, and the number before it.
type stepMark struct {
	number uint64
	at     uint32
}

// NewView returns a view of a column. A dictionary of numbers as steps is opened for it, as
// its values are not looked at in their order.
func NewView(info *Info, payload []byte) (*View, error) {
	v := &View{info: info, payload: payload, n: info.N}
	if info.N <= 0 || info.MinLen > info.MaxLen {
		return nil, Corrupt("column of %d values, %d to %d bytes long", info.N, info.MinLen, info.MaxLen)
	}
	want := -1 // payload size
	switch info.Kind {
	case Delta:
		if err := v.checkSteps(); err != nil {
			return nil, err
		}
	case Const:
		want = 0
		if info.MinLen != len(info.Prefix) {
			return nil, Corrupt("constant column of %d bytes with a value of %d", info.MinLen, len(info.Prefix))
		}
	case Int, Signed:
		want = info.N * int(info.Width)
	case Pad:
		want = info.N * int(info.Width)
		if digits := info.MinLen - len(info.Prefix); digits < 1 || digits > maxNumber {
			return nil, Corrupt("padded numbers of %d digits", digits)
		}
	case IPv4:
		want = info.N * 4
	case UUID:
		if info.MinLen != UUIDLen {
			return nil, Corrupt("UUIDs of %d bytes", info.MinLen)
		}
		want = info.N * 16
	case Hex:
		if info.MinLen == 0 {
			return nil, Corrupt("hexadecimal column of empty values")
		}
		want = info.N * ((info.MinLen + 1) / 2)
	case Bytes:
		if err := v.mark(); err != nil {
			return nil, err
		}
	case Dict:
		c := info
		if c.IndexAt > len(payload) || c.Width == 0 {
			return nil, Corrupt("dictionary without values or indexes")
		}
		if n := len(payload) - c.IndexAt; v.n*int(c.Width) != n {
			return nil, Corrupt("%d indexes in %d bytes", v.n, n)
		}
		if err := v.openDict(payload[:c.IndexAt]); err != nil {
			return nil, err
		}
	default:
		return nil, Corrupt("column of %v", info.Kind)
	}
	if want >= 0 && want != len(payload) {
		return nil, Corrupt("%v column of %d bytes that should have %d", info.Kind, len(payload), want)
	}
	return v, nil
}

// openDict gets the distinct values of Dict ready.
func (v *View) openDict(head []byte) (err error) {
	c := v.info
	if c.Values == nil || c.Values.Kind == Dict || c.Values.Kind == Const || c.Values.Kind == Signed || c.Values.N > v.n {
		return Corrupt("dictionary without values")
	}
	if c.Values.Kind == Delta {
		v.opened, err = Open(c.Values, head)
	} else {
		v.dict, err = NewView(c.Values, head)
	}
	return err
}

// mark finds out where values of Bytes begin.
func (v *View) mark() error {
	width := int(v.info.Width)
	if v.n*width > len(v.payload) {
		return Corrupt("lengths of %d values in %d bytes", v.n, len(v.payload))
	}
	v.text = v.payload[v.n*width:]
	at := uint64(0)
	if width == 0 {
		at = uint64(v.n) * uint64(v.info.MinLen)
	} else {
		v.marks = make([]uint32, 0, v.n/textEvery+1)
		for i := 0; i < v.n; i += textEvery {
			v.marks = append(v.marks, uint32(at))
			size, ok := v.sum(i, min(i+textEvery, v.n))
			if at += size; !ok || at > math.MaxUint32 || at > uint64(len(v.text)) {
				return Corrupt("values end at %d of %d bytes", at, len(v.text))
			}
		}
	}
	if at != uint64(len(v.text)) {
		return Corrupt("values end at %d of %d bytes", at, len(v.text))
	}
	return nil
}

// sum returns the length of values [from, to) of Bytes; false: it is too long for any.
func (v *View) sum(from, to int) (uint64, bool) {
	sum := uint64(to-from) * uint64(v.info.MinLen)
	for k := range int(v.info.Width) {
		part := sumBytes(v.payload[k*v.n+from : k*v.n+to])
		if k >= 4 && part > 0 {
			return 0, false
		}
		sum += part << (8 * k & 63)
	}
	return sum, true
}

// sumBytes returns the sum of bytes.
func sumBytes(b []byte) (sum uint64) {
	const low = 0x00ff00ff00ff00ff
	for len(b) >= 8 {
		some := b[:min(len(b), 128)]
		pairs := uint64(0) // four sums of 16 bits
		for ; len(some) >= 8; some = some[8:] {
			x := binary.LittleEndian.Uint64(some)
			pairs += x&low + x>>8&low
		}
		sum += pairs * 0x0001000100010001 >> 48
		b = b[min(len(b), 128)-len(some):]
	}
	for _, x := range b {
		sum += uint64(x)
	}
	return sum
}

// checkSteps checks that there are as many steps as values. Whether each is one that fits
// a number is seen when it is added up.
func (v *View) checkSteps() error {
	n := 0
	b := v.payload
	for ; len(b) >= 8; b = b[8:] {
		n += bits.OnesCount64(^binary.LittleEndian.Uint64(b) & 0x8080808080808080)
	}
	for _, x := range b {
		if x < 0x80 {
			n++
		}
	}
	if n != v.n || len(v.payload) > math.MaxUint32 || v.payload[len(v.payload)-1] >= 0x80 {
		return Corrupt("%d steps of %d in %d bytes", n, v.n, len(v.payload))
	}
	v.number = v.info.Min
	v.steps = make([]stepMark, 0, (v.n-1)/markEvery+1)
	return nil
}

// step returns number i of Delta: the steps from the nearest known number before it on are
// added up.
func (v *View) step(i int) (uint64, error) {
	if m := min(i/markEvery, len(v.steps)-1); m >= 0 && (i < v.next-1 || m*markEvery > v.next) {
		v.next, v.nextAt, v.number = m*markEvery, int(v.steps[m].at), v.steps[m].number
	}
	for v.next <= i {
		if v.next == len(v.steps)*markEvery {
			v.steps = append(v.steps, stepMark{v.number, uint32(v.nextAt)})
		}
		d, k := int64(0), 1
		if x := v.payload[v.nextAt]; x < 0x80 {
			d = int64(x>>1) ^ -int64(x&1)
		} else if d, k = binary.Varint(v.payload[v.nextAt:]); k <= 0 {
			return 0, Corrupt("step %d is none", v.next)
		}
		v.next, v.nextAt, v.number = v.next+1, v.nextAt+k, v.number+uint64(d)
	}
	return v.number, nil
}

// plane returns number i of b, which has one plane for each byte of a number.
func (v *View) plane(b []byte, i int) uint64 {
	x := uint64(0)
	for k := range int(v.info.Width) {
		x |= uint64(b[k*v.n+i]) << (8 * k & 63)
	}
	return x
}

// Code returns number i of an Int or Pad column, less Info's Min, or index i of a Dict column,
// whatever it is.
func (v *View) Code(i int) uint64 { return v.plane(v.Planes(), i) }

// Planes returns what Code has as it is stored, the lowest byte of each first. It is shared.
func (v *View) Planes() []byte {
	if v.info.Kind == Dict {
		return v.payload[v.info.IndexAt:]
	}
	return v.payload
}

// Signed returns integer i of a Signed column.
func (v *View) Signed(i int) int64 { return int64(v.plane(v.payload, i) + v.info.Min) }

// Append appends value i to dst. A Signed column has no text.
func (v *View) Append(dst []byte, i int) ([]byte, error) {
	switch c := v.info; c.Kind {
	case Const:
		return append(dst, c.Prefix...), nil
	case Int:
		return AppendUint(append(dst, c.Prefix...), v.plane(v.payload, i)+c.Min), nil
	case Delta:
		x, err := v.step(i)
		if err != nil {
			return dst, err
		}
		return AppendUint(append(dst, c.Prefix...), x), nil
	case Pad:
		digits := c.MinLen - len(c.Prefix)
		x, limit := v.plane(v.payload, i)+c.Min, uint64(1)
		for range digits {
			limit *= 10
		}
		if x >= limit {
			return dst, Corrupt("number %d in %d digits", x, digits)
		}
		return AppendPadded(append(dst, c.Prefix...), x, digits), nil
	case IPv4:
		for k := 3; k >= 0; k-- {
			if dst = AppendUint(dst, uint64(v.payload[k*v.n+i])); k > 0 {
				dst = append(dst, '.')
			}
		}
		return dst, nil
	case UUID:
		return (&Values{info: c, kind: UUID, bytes: v.payload, size: 16}).Append(dst, i), nil
	case Hex:
		size := (c.MinLen + 1) / 2
		return unpackHex(dst, v.payload[i*size:(i+1)*size], c.MinLen, c.Upper), nil
	case Bytes:
		from := i * c.MinLen
		size := c.MinLen
		if v.marks != nil {
			first := i / textEvery * textEvery
			from = int(v.marks[i/textEvery])
			if first < v.next && v.next <= i {
				first, from = v.next, v.nextAt
			}
			before, _ := v.sum(first, i)
			from += int(before)
			size += int(v.plane(v.payload, i))
			v.next, v.nextAt = i+1, from+size
		}
		return append(dst, v.text[from:from+size]...), nil
	case Dict:
		x := v.plane(v.payload[c.IndexAt:], i)
		if x >= uint64(c.Values.N) {
			return dst, Corrupt("index %d of %d values", x, c.Values.N)
		}
		if v.dict == nil {
			return v.opened.Append(dst, int(x)), nil
		}
		return v.dict.Append(dst, int(x))
	}
	return dst, Corrupt("a column of %v has no text", v.info.Kind)
}

// MemorySize returns about how many bytes of memory the view takes, the payload not
// counted, nor, of a page, the distinct values, which NewHeadView's view has.
func (v *View) MemorySize() int {
	n := 256 + 4*len(v.marks) + 16*cap(v.steps)
	if v.shared {
		return n
	}
	if v.dict != nil {
		n += v.dict.MemorySize()
	}
	if v.opened != nil {
		n += v.opened.MemorySize()
	}
	return n
}
