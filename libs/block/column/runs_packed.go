package column

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// shape is how numbers are written.
type shape struct {
	prefix []byte
	digits int // with leading zeros; 0: without
}

func (s *shape) append(dst []byte, x uint64) []byte {
	dst = append(dst, s.prefix...)
	if s.digits > 0 {
		return AppendPadded(dst, x, s.digits)
	}
	return AppendUint(dst, x)
}

// parse is append the other way round.
func (s *shape) parse(text []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(text, s.prefix)
	if !ok {
		return 0, false
	}
	if s.digits == 0 {
		return ParseUint(rest)
	}
	x := uint64(0)
	for _, b := range rest {
		if b-'0' > 9 {
			return 0, false
		}
		x = x*10 + uint64(b-'0')
	}
	return x, len(rest) == s.digits
}

// shapeOf returns how the numbers of all runs are written.
func shapeOf(runs []Run) (s shape, ok bool) {
	found := false
	for i := range runs {
		c := runs[i].Values.info
		if c.Kind == Dict {
			c = c.Values
		}
		if c.Kind == Const {
			continue
		}
		if found && !bytes.Equal(c.Prefix, s.prefix) {
			return s, false
		}
		s.prefix, found = c.Prefix, true
		if c.Kind == Pad {
			s.digits = c.MinLen - len(c.Prefix)
		}
	}
	if s.digits == 0 {
		return s, found
	}
	for i := range runs {
		if c := runs[i].Values.info; c.MinLen != c.MaxLen || c.MinLen != s.digits+len(s.prefix) {
			return s, false
		}
	}
	return s, found
}

// intRuns encodes runs of numbers.
func (e *Encoder) intRuns(dst []byte, runs []Run, n int) (Info, []byte, bool) {
	s, ok := shapeOf(runs)
	if !ok {
		return Info{}, dst, false
	}
	nums := e.scratch(n)[:0]
	for i := range runs {
		r := &runs[i]
		v := r.Values
		switch {
		case v.kind == Const:
			x, ok := s.parse(v.info.Prefix)
			if !ok {
				return Info{}, dst, false
			}
			for range r.To - r.From {
				nums = append(nums, x)
			}
		case v.kind == Dict:
			if v.values != nil {
				return Info{}, dst, false
			}
			e.parsed = slices.Grow(e.parsed[:0], v.info.Values.N)[:v.info.Values.N]
			for k := range e.parsed {
				if e.parsed[k], ok = s.parse(v.span(k)); !ok {
					return Info{}, dst, false
				}
			}
			for _, k := range v.nums[r.From:r.To] {
				nums = append(nums, e.parsed[k])
			}
		case v.nums == nil:
			for range r.To - r.From {
				nums = append(nums, v.info.Min)
			}
		default:
			nums = append(nums, v.nums[r.From:r.To]...)
		}
	}
	e.nums = nums[:cap(nums)]
	if e.dict.numbers(nums, e.dictLimit(n)) {
		e.slab, e.refs = e.slab[:0], e.refs[:0]
		for _, x := range e.dict.hashes {
			at := uint32(len(e.slab))
			e.slab = s.append(e.slab, x)
			e.refs = append(e.refs, MakeRef(at, uint32(len(e.slab))-at))
		}
		if len(e.refs) == 1 {
			return constant(e.slab, n), dst, true
		}
		c, dst := e.withDict(dst, e.refs, n)
		return c, dst, true
	}
	lo, hi := nums[0], nums[0]
	for _, x := range nums {
		lo, hi = min(lo, x), max(hi, x)
	}
	c := Info{Kind: Int, N: n, MinLen: len(s.prefix) + digitsOf(lo), MaxLen: len(s.prefix) + digitsOf(hi), Classes: Digit}
	if s.digits > 0 {
		if c.MinLen < len(s.prefix)+s.digits {
			c.Kind = Pad
		}
		c.MinLen = len(s.prefix) + s.digits
		c.MaxLen = c.MinLen
	}
	for _, b := range s.prefix {
		c.Classes |= classes[b]
	}
	if len(s.prefix) > 0 {
		oneLen := c.MinLen == c.MaxLen
		if oneLen && (c.MinLen == UUIDLen || c.Classes&^(Digit|LowHex) == 0 || c.Classes&^(Digit|UpHex) == 0) || c.Classes == Digit|Other {
			return Info{}, dst, false // other forms come first
		}
		c.Prefix = append([]byte(nil), s.prefix...)
	}
	return c, e.pack(dst, &c, nums, lo, hi), true
}

// packed tries a dictionary of packed values, and leaves the distinct ones' text in
// refs.
func (e *Encoder) packed(runs []Run, n int) bool {
	limit := e.dictLimit(n)
	d := &e.dict
	d.begin(n, max(limit, 1))
	e.packs = e.packs[:0]
	at := 0
	e.slab, e.refs = e.slab[:0], e.refs[:0]
	for i := range runs {
		r := &runs[i]
		for k := r.From; k < r.To; k++ {
			if at == 1024 && len(d.distinct) > 700 {
				return false
			}
			from := uint32(len(e.packs))
			e.packs = append(e.packs, r.Values.span(k)...)
			id, fresh := d.find(e.packs, MakeRef(from, uint32(len(e.packs))-from))
			switch {
			case !fresh:
				e.packs = e.packs[:from]
			case len(d.distinct) > max(limit, 1):
				return false
			default:
				text := uint32(len(e.slab))
				e.slab = r.Values.Append(e.slab, k)
				e.refs = append(e.refs, MakeRef(text, uint32(len(e.slab))-text))
			}
			d.index[at] = id - 1
			at++
		}
	}
	return limit > 0 || len(d.distinct) == 1
}

// hexRuns encodes runs of hexadecimal digits, or of UUIDs.
func (e *Encoder) hexRuns(dst []byte, runs []Run, n int) (Info, []byte, bool) {
	if e.packed(runs, n) {
		if len(e.refs) == 1 {
			return constant(e.slab, n), dst, true
		}
		c, dst := e.withDict(dst, e.refs, n)
		return c, dst, true
	}
	v := runs[0].Values
	c := Info{Kind: v.kind, N: n, MinLen: v.info.MinLen, MaxLen: v.info.MinLen}
	at := len(dst)
	for i := range runs {
		r := &runs[i]
		dst = append(dst, r.Values.bytes[r.From*v.size:r.To*v.size]...)
	}
	// Of an odd number of digits the last half byte is 0.
	digits, letters := false, false
	whole := c.MinLen / 2
	if c.Kind == UUID {
		whole = v.size
	}
	for b := dst[at:]; len(b) > 0 && !(digits && letters); b = b[v.size:] {
		for _, x := range b[:whole] {
			digits = digits || x>>4 < 10 || x&15 < 10
			letters = letters || x>>4 > 9 || x&15 > 9
		}
		if whole < v.size {
			digits, letters = digits || b[whole]>>4 < 10, letters || b[whole]>>4 > 9
		}
	}
	if digits {
		c.Classes |= Digit
	}
	switch {
	case letters && v.info.Upper:
		c.Classes |= UpHex
	case letters:
		c.Classes |= LowHex
	}
	if c.Kind == UUID {
		c.Classes |= Other
		return c, dst, true
	}
	c.Upper = v.info.Upper && letters
	return c, dst, c.Classes != Digit || c.MinLen > maxNumber
}

// ipRuns encodes runs of addresses.
func (e *Encoder) ipRuns(dst []byte, runs []Run, n int) (Info, []byte, bool) {
	nums := e.scratch(n)[:0]
	for i := range runs {
		nums = append(nums, runs[i].Values.nums[runs[i].From:runs[i].To]...)
	}
	e.nums = nums[:cap(nums)]
	if e.dict.numbers(nums, e.dictLimit(n)) {
		return Info{}, dst, false // there are few: as text
	}
	c := Info{Kind: IPv4, N: n, MinLen: 15, MaxLen: 7, Width: 4, Classes: Digit | Other}
	for _, x := range nums {
		l := 3
		for k := 0; k < 32; k += 8 {
			switch b := x >> k & 255; {
			case b > 99:
				l += 3
			case b > 9:
				l += 2
			default:
				l++
			}
		}
		c.MinLen, c.MaxLen = min(c.MinLen, l), max(c.MaxLen, l)
	}
	return c, appendPlanes(dst, nums, 4), true
}

// pack encodes numbers from lo to hi, as c.Kind or, where that is narrower, as Delta.
func (e *Encoder) pack(dst []byte, c *Info, nums []uint64, lo, hi uint64) []byte {
	c.Min, c.Max = lo, hi
	if c.Kind == Int && len(nums) > 8 {
		steps := 0
		for i, x := range nums[1:] {
			d := int64(x - nums[i])
			steps += bits.Len64(uint64(d<<1 ^ d>>63))
		}
		if steps*2 < bits.Len64(hi-lo)*len(nums) {
			c.Kind = Delta
			prev := lo
			for _, x := range nums {
				dst = binary.AppendVarint(dst, int64(x-prev))
				prev = x
			}
			return dst
		}
	}
	c.Width = width(hi - lo)
	for i := range nums {
		nums[i] -= lo
	}
	return appendPlanes(dst, nums, c.Width)
}
