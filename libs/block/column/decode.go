package column

import (
	"encoding/binary"
	"math"
	"sync/atomic"
)

// Values gives access to the values of a column by number. It is immutable to its users
// and safe for concurrent use; it aliases the payload and the info.
type Values struct {
	info  *Info
	kind  Kind
	n     int
	nums  []uint64 // numbers; Dict: indexes. nil: all are info.Min
	bytes []byte   // Bytes, Hex, UUID; Dict: the text of the distinct values
	ends  []uint32 // where the values in bytes end; nil: one length
	size  int      // length of each value in bytes
	owned bool     // bytes are no part of a payload

	values *Values // Dict with a long prefix: not printed beforehand

	wanted bool // by one call of Index
	index  atomic.Pointer[keyIndex]
}

// maxRepeated is the longest prefix that is written out for every distinct value
// of a dictionary: the memory for a column stays a small multiple of its payload.
const maxRepeated = 64

// Open checks that a payload is what the info says and makes its values ready. No
// later call on the values can fail. The info's N is the caller's to check:
// columns of equal values have any number of them.
func Open(info *Info, payload []byte) (*Values, error) {
	v := &Values{info: info, kind: info.Kind, n: info.N}
	if info.N <= 0 || info.MinLen > info.MaxLen {
		return nil, Corrupt("column of %d values, %d to %d bytes long", info.N, info.MinLen, info.MaxLen)
	}
	want := -1 // payload size
	switch info.Kind {
	case Const:
		want = 0
		if info.MinLen != len(info.Prefix) {
			return nil, Corrupt("constant column of %d bytes with a value of %d", info.MinLen, len(info.Prefix))
		}
	case Int, Pad, Signed:
		want = info.N * int(info.Width)
	case IPv4:
		want = info.N * 4
	case UUID:
		if info.MinLen != UUIDLen {
			return nil, Corrupt("UUIDs of %d bytes", info.MinLen)
		}
		v.size, want = 16, info.N*16
	case Hex:
		if info.MinLen == 0 {
			return nil, Corrupt("hexadecimal column of empty values")
		}
		v.size = (info.MinLen + 1) / 2
		want = info.N * v.size
	}
	if want >= 0 && want != len(payload) {
		return nil, Corrupt("%v column of %d bytes that should have %d", info.Kind, len(payload), want)
	}
	switch info.Kind {
	case Int, Pad, Signed:
		v.nums = readPlanes(payload, info.N, info.Width, info.Min)
		if info.Kind == Pad {
			return v, v.checkPad()
		}
	case IPv4:
		v.nums = readPlanes(payload, info.N, 4, 0)
	case UUID, Hex:
		v.bytes = payload
	case Delta:
		return v, v.openDelta(payload)
	case Bytes:
		return v, v.openBytes(payload)
	case Dict:
		return v, v.openDict(payload)
	case Const:
	default:
		return nil, Corrupt("column of %v", info.Kind)
	}
	return v, nil
}

func (v *Values) checkPad() error {
	digits := v.info.MinLen - len(v.info.Prefix)
	if digits < 1 || digits > maxNumber {
		return Corrupt("padded numbers of %d digits", digits)
	}
	limit := uint64(1)
	for range digits {
		limit *= 10
	}
	if v.nums == nil && v.info.Min >= limit {
		return Corrupt("number %d in %d digits", v.info.Min, digits)
	}
	for _, x := range v.nums {
		if x >= limit {
			return Corrupt("number %d in %d digits", x, digits)
		}
	}
	return nil
}

func (v *Values) openDelta(b []byte) error {
	if v.n > len(b) {
		return Corrupt("%d steps in %d bytes", v.n, len(b))
	}
	v.nums = make([]uint64, v.n)
	prev := v.info.Min
	for i := range v.nums {
		d, k := binary.Varint(b)
		if k <= 0 {
			return Corrupt("steps end early")
		}
		b = b[k:]
		prev += uint64(d)
		v.nums[i] = prev
	}
	if len(b) > 0 {
		return Corrupt("%d bytes behind the steps", len(b))
	}
	return nil
}

func (v *Values) openBytes(b []byte) error {
	if v.n*int(v.info.Width) > len(b) {
		return Corrupt("lengths of %d values in %d bytes", v.n, len(b))
	}
	v.size = v.info.MinLen
	lens := readPlanes(b, v.n, v.info.Width, 0)
	v.bytes = b[v.n*int(v.info.Width):]
	if lens == nil {
		if v.n*v.size != len(v.bytes) {
			return Corrupt("%d values of %d bytes in %d", v.n, v.size, len(v.bytes))
		}
		return nil
	}
	v.ends = make([]uint32, v.n)
	at := uint64(0)
	for i, x := range lens {
		if x > math.MaxUint32 {
			return Corrupt("value of %d bytes", x)
		}
		at += x + uint64(v.size)
		if at > uint64(len(v.bytes)) {
			return Corrupt("values end at %d of %d bytes", at, len(v.bytes))
		}
		v.ends[i] = uint32(at)
	}
	if at != uint64(len(v.bytes)) {
		return Corrupt("values end at %d of %d bytes", at, len(v.bytes))
	}
	return nil
}

func (v *Values) openDict(b []byte) error {
	c := v.info
	if c.Values == nil || c.Values.Kind == Dict || c.Values.Kind == Const || c.Values.Kind == Signed || c.IndexAt > len(b) || c.Width == 0 {
		return Corrupt("dictionary without values or indexes")
	}
	index := b[c.IndexAt:]
	if v.n*int(c.Width) != len(index) || c.Values.N > v.n {
		return Corrupt("%d indexes of %d values in %d bytes", v.n, c.Values.N, len(index))
	}
	values, err := Open(c.Values, b[:c.IndexAt])
	if err != nil {
		return err
	}
	v.nums = readPlanes(index, v.n, c.Width, 0)
	if c.Width > 1 || values.n < 1<<8 {
		for _, x := range v.nums {
			if x >= uint64(values.n) {
				return Corrupt("index %d of %d values", x, values.n)
			}
		}
	}
	if values.kind == Bytes {
		v.bytes, v.ends, v.size = values.bytes, values.ends, values.size
		return nil
	}
	if len(c.Values.Prefix) > maxRepeated {
		v.values = values
		return nil
	}
	// Printed once, so that rows copy text.
	v.ends = make([]uint32, values.n)
	for i := range v.ends {
		v.bytes = values.Append(v.bytes, i)
		v.ends[i] = uint32(len(v.bytes))
	}
	return nil
}

// readPlanes returns numbers, with the least one added to each; nil for numbers of no
// width, which are all that.
func readPlanes(b []byte, n int, width uint8, least uint64) []uint64 {
	if width == 0 {
		return nil
	}
	nums := make([]uint64, n)
	p0 := b[:n]
	switch width {
	case 1:
		for i := range nums {
			nums[i] = uint64(p0[i]) + least
		}
	case 2:
		p1 := b[n:][:n]
		for i := range nums {
			nums[i] = (uint64(p0[i]) | uint64(p1[i])<<8) + least
		}
	default:
		p1, p2 := b[n:][:n], b[2*n:][:n]
		for i := range nums {
			nums[i] = uint64(p0[i]) | uint64(p1[i])<<8 | uint64(p2[i])<<16
		}
		for k := 3; k < int(width); k++ {
			plane := b[k*n:][:n]
			for i := range nums {
				nums[i] |= uint64(plane[i]) << (8 * k & 63)
			}
		}
		if least != 0 {
			for i := range nums {
				nums[i] += least
			}
		}
	}
	return nums
}

// Len returns the number of values.
func (v *Values) Len() int { return v.n }

// Info describes the column.
func (v *Values) Info() *Info { return v.info }

// Number returns number i of an Int, Delta or Pad column, the index of a Dict
// column, or the address of an IPv4 column.
func (v *Values) Number(i int) uint64 {
	if v.nums == nil {
		return v.info.Min
	}
	return v.nums[i]
}

// Signed returns integer i of a Signed column.
func (v *Values) Signed(i int) int64 { return int64(v.Number(i)) }

func (v *Values) span(i int) []byte {
	if v.ends == nil {
		return v.bytes[i*v.size : (i+1)*v.size]
	}
	from := uint32(0)
	if i > 0 {
		from = v.ends[i-1]
	}
	return v.bytes[from:v.ends[i]]
}

// Append appends value i to dst. A Signed column has no text.
func (v *Values) Append(dst []byte, i int) []byte {
	switch v.kind {
	case Dict:
		if v.values != nil {
			return v.values.Append(dst, int(v.nums[i]))
		}
		return append(dst, v.span(int(v.nums[i]))...)
	case Bytes:
		return append(dst, v.span(i)...)
	case Const:
		return append(dst, v.info.Prefix...)
	case Int, Delta:
		dst = append(dst, v.info.Prefix...)
		return AppendUint(dst, v.Number(i))
	case Pad:
		dst = append(dst, v.info.Prefix...)
		return AppendPadded(dst, v.Number(i), v.info.MinLen-len(v.info.Prefix))
	case Hex:
		return unpackHex(dst, v.span(i), v.info.MinLen, v.info.Upper)
	case IPv4:
		x := v.nums[i]
		dst = append(AppendUint(dst, x>>24&255), '.')
		dst = append(AppendUint(dst, x>>16&255), '.')
		dst = append(AppendUint(dst, x>>8&255), '.')
		return AppendUint(dst, x&255)
	case UUID:
		b := v.span(i)
		dst = append(unpackHex(dst, b, 8, false), '-')
		dst = append(unpackHex(dst, b[4:], 4, false), '-')
		dst = append(unpackHex(dst, b[6:], 4, false), '-')
		dst = append(unpackHex(dst, b[8:], 4, false), '-')
		return unpackHex(dst, b[10:], 12, false)
	}
	return dst
}

func unpackHex(dst, b []byte, n int, upper bool) []byte {
	digits := "0123456789abcdef"
	if upper {
		digits = "0123456789ABCDEF"
	}
	for i := 0; i+1 < n; i += 2 {
		x := b[i/2]
		dst = append(dst, digits[x>>4], digits[x&15])
	}
	if n&1 == 1 {
		dst = append(dst, digits[b[n/2]>>4])
	}
	return dst
}

// MemorySize returns about how many bytes of memory the values take, the payload
// not counted.
func (v *Values) MemorySize() int {
	n := 128 + 8*len(v.nums) + 4*len(v.ends)
	if v.kind == Dict || v.owned {
		n += len(v.bytes)
	}
	if x := v.index.Load(); x != nil {
		n += x.size()
	}
	return n
}

// Numbers returns the numbers of an Int, Delta, Pad or IPv4 column, or the indexes of
// a Dict column; nil if all are Info's Min. They are shared.
func (v *Values) Numbers() []uint64 { return v.nums }

// Packed returns the values of a Hex, UUID or Bytes column end to end, as they are
// stored; of a Dict column with text, the distinct values. ends are where each ends,
// or nil if each takes size bytes. They are shared.
func (v *Values) Packed() (b []byte, ends []uint32, size int) { return v.bytes, v.ends, v.size }

// Distinct returns the number of distinct values of a Dict column.
func (v *Values) Distinct() int { return v.info.Values.N }

// Dictionary returns the distinct values of a Dict column that are not kept as text,
// else nil.
func (v *Values) Dictionary() *Values { return v.values }

// Texts returns values that are given as they are: the text of all, and where each ends.
// There is at least one.
func Texts(text []byte, ends []uint32) *Values {
	info := &Info{Kind: Bytes, N: len(ends), MinLen: int(ends[0]), MaxLen: int(ends[0])}
	from := uint32(0)
	for _, end := range ends {
		info.MinLen, info.MaxLen = min(info.MinLen, int(end-from)), max(info.MaxLen, int(end-from))
		from = end
	}
	for _, b := range text {
		info.Classes |= classes[b]
	}
	return &Values{info: info, kind: Bytes, n: len(ends), bytes: text, ends: ends, owned: true}
}

// Lengths tells how long values are.
type Lengths struct {
	// Fixed is added to all of them.
	Fixed int
	each  []uint8  // of values, or of distinct ones
	long  []uint32 // likewise, if one is longer than that
	index []uint64
}

// At returns the length of value i.
func (l *Lengths) At(i int) int {
	if l.index != nil {
		i = int(l.index[i])
	}
	switch {
	case l.each != nil:
		return l.Fixed + int(l.each[i])
	case l.long != nil:
		return l.Fixed + int(l.long[i])
	}
	return l.Fixed
}

// Same reports whether all values are as long.
func (l *Lengths) Same() bool { return l.each == nil && l.long == nil }

// TextSize returns how many bytes all values have together, or a little less: of numbers,
// one digit is counted.
func (v *Values) TextSize() int {
	c := v.info
	switch v.kind {
	case Const, Pad, Hex, UUID:
		return v.n * c.MinLen
	case Int, Delta:
		return v.n * (len(c.Prefix) + 1)
	case IPv4:
		return v.n * len("0.0.0.0")
	case Bytes:
		return len(v.bytes)
	case Dict:
		switch {
		case v.values != nil:
			return v.n * len(c.Values.Prefix)
		case v.ends == nil:
			return v.n * v.size
		}
		size := 0
		for _, x := range v.nums {
			size += len(v.span(int(x)))
		}
		return size
	}
	return 0
}

// Lengths returns how long the values are. A Signed column has no text.
func (v *Values) Lengths() Lengths {
	c := v.info
	switch v.kind {
	case Const, Pad, Hex, UUID:
		return Lengths{Fixed: c.MinLen}
	case Int, Delta:
		if v.nums == nil {
			return Lengths{Fixed: len(c.Prefix) + digitsOf(c.Min)}
		}
		l := Lengths{Fixed: len(c.Prefix), each: make([]uint8, v.n)}
		for i, x := range v.nums {
			l.each[i] = uint8(digitsOf(x))
		}
		return l
	case IPv4:
		l := Lengths{Fixed: 3, each: make([]uint8, v.n)}
		for i, x := range v.nums {
			l.each[i] = uint8(digitsOf(x>>24&255) + digitsOf(x>>16&255) + digitsOf(x>>8&255) + digitsOf(x&255))
		}
		return l
	case Dict:
		if v.values != nil {
			l := v.values.Lengths()
			if !l.Same() {
				l.index = v.nums
			}
			return l
		}
		fallthrough
	case Bytes:
		if v.ends == nil {
			return Lengths{Fixed: v.size}
		}
		l := Lengths{long: make([]uint32, len(v.ends))}
		if v.kind == Dict {
			l.index = v.nums
		}
		from := uint32(0)
		for i, end := range v.ends {
			l.long[i] = end - from
			from = end
		}
		return l
	}
	return Lengths{}
}
