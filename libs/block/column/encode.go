package column

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// Encoder encodes columns; it keeps scratch memory between them. It is for one
// goroutine at a time. The zero value is ready for use.
type Encoder struct {
	dict dictBuilder
	nums []uint64
	few  bool // see FewDistinct

	// Of EncodeRuns.
	ints   []int64
	slab   []byte
	refs   []Ref
	packs  []byte
	known  []uint32
	parsed []uint64
}

// FewDistinct says that dictionaries are for values that recur often: of what is read in pages
// they are read as wholes.
func (e *Encoder) FewDistinct(on bool) { e.few = on }

// dictLimit returns how many distinct values of n a dictionary may have; 0: there is to be
// none.
func (e *Encoder) dictLimit(n int) int {
	if n < 16 {
		return 0
	}
	if e.few {
		return min(max(16, n/8), n/2, 1<<16)
	}
	return min(max(n/4, min(256, n/2)), 1<<16)
}

// Encode appends the payload of a column of values to dst and returns its
// description. There is at least one value; the refs lie within the slab.
func (e *Encoder) Encode(dst, slab []byte, refs []Ref) (Info, []byte) {
	first := refs[0].Of(slab)
	if allEqual(slab, refs) {
		c := Info{Kind: Const, N: len(refs), MinLen: len(first), MaxLen: len(first)}
		c.Prefix = append([]byte(nil), first...)
		for _, b := range first {
			c.Classes |= classes[b]
		}
		return c, dst
	}
	// A dictionary is worth it when its values recur.
	limit := e.dictLimit(len(refs))
	if limit == 0 || !e.dict.build(slab, refs, limit) {
		return e.direct(dst, slab, refs)
	}
	start := len(dst)
	values, dst := e.direct(dst, slab, e.dict.distinct)
	c := Info{Kind: Dict, N: len(refs), Values: &values, IndexAt: len(dst) - start}
	c.MinLen, c.MaxLen, c.Classes = values.MinLen, values.MaxLen, values.Classes
	c.Width = max(1, width(uint64(len(e.dict.distinct)-1)))
	return c, appendPlanes(dst, e.dict.index, c.Width)
}

// EncodeSigned appends the payload of a column of integers to dst and returns its
// description. There is at least one value.
func (e *Encoder) EncodeSigned(dst []byte, values []int64) (Info, []byte) {
	lo, hi := values[0], values[0]
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
	}
	c := Info{Kind: Signed, N: len(values), Min: uint64(lo), Max: uint64(hi)}
	c.Width = width(c.Max - c.Min)
	nums := e.scratch(len(values))
	for i, v := range values {
		nums[i] = uint64(v) - c.Min
	}
	return c, appendPlanes(dst, nums, c.Width)
}

func allEqual(slab []byte, refs []Ref) bool {
	first := refs[0].Of(slab)
	for _, r := range refs[1:] {
		if r.Len() != len(first) || string(r.Of(slab)) != string(first) {
			return false
		}
	}
	return true
}

func (e *Encoder) scratch(n int) []uint64 {
	if cap(e.nums) < n {
		e.nums = make([]uint64, n+n/4)
	}
	return e.nums[:n]
}

// direct encodes values one by one in the narrowest form that fits them all.
func (e *Encoder) direct(dst, slab []byte, refs []Ref) (Info, []byte) {
	first := refs[0].Of(slab)
	c := Info{N: len(refs), MinLen: len(first), MaxLen: len(first)}
	shared := len(first) // prefix of all
	zeros := false       // a leading zero
	for _, r := range refs {
		s := r.Of(slab)
		c.MinLen, c.MaxLen = min(c.MinLen, len(s)), max(c.MaxLen, len(s))
		if c.Classes != allClasses {
			c.Classes |= classesOf(slab, r)
		}
		zeros = zeros || len(s) > 1 && s[0] == '0'
		if shared > 0 {
			n := 0
			for n < shared && n < len(s) && s[n] == first[n] {
				n++
			}
			shared = n
		}
	}
	oneLen := c.MinLen == c.MaxLen
	switch {
	case c.Classes == Digit && c.MinLen > 0 && c.MaxLen <= maxNumber && (!zeros || oneLen):
		c.Kind = Int
		if zeros {
			c.Kind = Pad
		}
		return c, e.numbers(dst, &c, slab, refs)
	case oneLen && c.MinLen == UUIDLen && c.Classes&Other != 0 && every(slab, refs, IsUUID):
		c.Kind = UUID
		for _, r := range refs {
			dst = appendUUID(dst, r.Of(slab))
		}
		return c, dst
	case c.Classes == Digit|Other && c.MinLen >= 7 && c.MaxLen <= 15 && every(slab, refs, isIPv4):
		c.Kind, c.Width = IPv4, 4
		nums := e.scratch(len(refs))
		for i, r := range refs {
			nums[i] = packIPv4(r.Of(slab))
		}
		return c, appendPlanes(dst, nums, 4)
	case oneLen && c.MinLen >= 4 && (c.Classes&^(Digit|LowHex) == 0 || c.Classes&^(Digit|UpHex) == 0):
		c.Kind, c.Upper = Hex, c.Classes&UpHex != 0
		for _, r := range refs {
			dst = packHex(dst, r.Of(slab))
		}
		return c, dst
	}
	// A number behind a prefix that does not end in a digit.
	for shared > 0 && shared < len(first) && classes[first[shared-1]] == Digit {
		shared--
	}
	if shared > 0 {
		if ok, zeros := numbersBehind(slab, refs, shared); ok && (!zeros || oneLen) {
			c.Kind = Int
			if zeros {
				c.Kind = Pad
			}
			c.Prefix = append([]byte(nil), first[:shared]...)
			return c, e.numbers(dst, &c, slab, refs)
		}
	}
	c.Kind = Bytes
	c.Width = width(uint64(c.MaxLen - c.MinLen))
	nums := e.scratch(len(refs))
	for i, r := range refs {
		nums[i] = uint64(r.Len() - c.MinLen)
	}
	dst = appendPlanes(dst, nums, c.Width)
	for _, r := range refs {
		dst = append(dst, r.Of(slab)...)
	}
	return c, dst
}

// classesOf returns the classes of a value's bytes.
func classesOf(slab []byte, r Ref) (c Class) {
	s := r.Of(slab)
	if uint(len(s)-1) < 8 && int(r.Offset())+8 <= len(slab) {
		// Zeros for digits.
		x := (binary.LittleEndian.Uint64(slab[r.Offset():]) ^ 0x3030303030303030) << (64 - 8*uint(len(s)))
		if (x|(x&^high+0x7676767676767676))&high == 0 {
			return Digit
		}
	}
	for _, b := range s {
		c |= classes[b]
	}
	return c
}

const high = 0x8080808080808080

func every(slab []byte, refs []Ref, is func([]byte) bool) bool {
	for _, r := range refs {
		if !is(r.Of(slab)) {
			return false
		}
	}
	return true
}

func isIPv4(s []byte) bool { return IPv4Prefix(s) == len(s) }

// numbersBehind tells whether 1 to 19 digits and nothing else follow the prefix in
// every value, and whether any of these numbers begins with a needless zero.
func numbersBehind(slab []byte, refs []Ref, prefix int) (ok, zeros bool) {
	for _, r := range refs {
		s := r.Of(slab)[prefix:]
		if len(s) == 0 || len(s) > maxNumber {
			return false, false
		}
		for _, b := range s {
			if classes[b] != Digit {
				return false, false
			}
		}
		zeros = zeros || len(s) > 1 && s[0] == '0'
	}
	return true, zeros
}

// numbers encodes what follows c.Prefix, as c.Kind or, where that is narrower,
// as Delta.
func (e *Encoder) numbers(dst []byte, c *Info, slab []byte, refs []Ref) []byte {
	nums := e.scratch(len(refs))
	lo, hi := ^uint64(0), uint64(0)
	stepBits := 0
	prev := uint64(0)
	for i, r := range refs {
		n := uint64(0)
		if at, k := int(r.Offset())+len(c.Prefix), uint(r.Len()-len(c.Prefix)); k <= 8 && at+8 <= len(slab) {
			// All digits at once: pairs, fours, eight.
			n = (binary.LittleEndian.Uint64(slab[at:]) & 0x0F0F0F0F0F0F0F0F) << (64 - 8*k)
			n = n*10 + n>>8
			n = ((n&0x000000FF000000FF)*(100+1000000<<32) + (n>>16&0x000000FF000000FF)*(1+10000<<32)) >> 32
		} else {
			for _, b := range r.Of(slab)[len(c.Prefix):] {
				n = n*10 + uint64(b-'0')
			}
		}
		nums[i] = n
		lo, hi = min(lo, n), max(hi, n)
		if i > 0 {
			d := int64(n - prev)
			stepBits += bits.Len64(uint64(d<<1 ^ d>>63))
		}
		prev = n
	}
	c.Min, c.Max = lo, hi
	if c.Kind == Int && len(refs) > 8 && stepBits*2 < bits.Len64(hi-lo)*len(refs) {
		c.Kind = Delta
		prev := lo
		for _, n := range nums {
			dst = binary.AppendVarint(dst, int64(n-prev))
			prev = n
		}
		return dst
	}
	c.Width = width(hi - lo)
	for i := range nums {
		nums[i] -= lo
	}
	return appendPlanes(dst, nums, c.Width)
}

// width is the number of bytes that x needs; 0 for 0.
func width(x uint64) uint8 { return uint8((bits.Len64(x) + 7) / 8) }

// appendPlanes appends the lowest byte of every number, then the next one of
// every number, and so on.
func appendPlanes[T uint32 | uint64](dst []byte, nums []T, width uint8) []byte {
	for k := range width {
		at := len(dst)
		dst = append(dst, make([]byte, len(nums))...)
		plane := dst[at:]
		for i, x := range nums {
			plane[i] = byte(x >> (8 * k & 63))
		}
	}
	return dst
}

// packHex appends the numbers of pairs of hexadecimal digits; of an odd one out, as the
// upper half.
func packHex(dst, s []byte) []byte {
	for ; len(s) >= 8; s = s[8:] {
		dst = binary.LittleEndian.AppendUint32(dst, fourBytes(binary.LittleEndian.Uint64(s)))
	}
	for ; len(s) >= 2; s = s[2:] {
		dst = append(dst, nibble(s[0])<<4|nibble(s[1]))
	}
	if len(s) > 0 {
		dst = append(dst, nibble(s[0])<<4)
	}
	return dst
}

// appendUUID appends the 16 bytes of a UUID.
func appendUUID(dst, s []byte) []byte {
	s = s[:UUIDLen]
	pair := func(i, k int) uint64 {
		return uint64(binary.LittleEndian.Uint32(s[i:])) | uint64(binary.LittleEndian.Uint32(s[k:]))<<32
	}
	for _, x := range [...]uint64{binary.LittleEndian.Uint64(s), pair(9, 14), pair(19, 24), binary.LittleEndian.Uint64(s[28:])} {
		dst = binary.LittleEndian.AppendUint32(dst, fourBytes(x))
	}
	return dst
}

func nibble(b byte) byte { return b&15 + 9*(b>>6) }

// fourBytes returns the bytes that eight hexadecimal digits stand for.
func fourBytes(x uint64) uint32 {
	x = x&0x0F0F0F0F0F0F0F0F + 9*(x>>6&0x0101010101010101)
	x = (x<<4 | x>>8) & 0x00FF00FF00FF00FF
	x = (x | x>>8) & 0x0000FFFF0000FFFF
	return uint32(x | x>>16)
}

func packIPv4(s []byte) uint64 {
	var x, part uint64
	for _, b := range s {
		if b == '.' {
			x, part = x<<8|part, 0
		} else {
			part = part*10 + uint64(b-'0')
		}
	}
	return x<<8 | part
}

// dictBuilder finds the distinct values of a column.
type dictBuilder struct {
	table    []uint32 // open addressing, number+1
	hashes   []uint64
	distinct []Ref
	index    []uint32
}

// build returns false when the values are too diverse for a dictionary: more than
// limit distinct ones, or many of the first 1024.
func (d *dictBuilder) build(slab []byte, refs []Ref, limit int) bool {
	size := 64
	for size < 2*min(limit+1, len(refs)) {
		size *= 2
	}
	if cap(d.table) < size {
		d.table = make([]uint32, size)
	}
	d.table = d.table[:size]
	clear(d.table)
	mask := uint64(size - 1)
	d.distinct, d.hashes = d.distinct[:0], d.hashes[:0]
	if cap(d.index) < len(refs) {
		d.index = make([]uint32, len(refs)+len(refs)/4)
	}
	d.index = d.index[:len(refs)]
	for i, r := range refs {
		if i == 1024 && len(d.distinct) > 700 {
			return false
		}
		h, n, at := uint64(0), r.Len(), int(r.Offset())
		if uint(n-1) < 8 && at+8 <= len(slab) { // as hashRef, which is not inlined
			h = hashWord(binary.LittleEndian.Uint64(slab[at:]), n)
		} else {
			h = hashValue(r.Of(slab))
		}
		for j := h & mask; ; j = (j + 1) & mask {
			k := d.table[j]
			if k == 0 {
				if len(d.distinct) >= limit {
					return false
				}
				d.distinct = append(d.distinct, r)
				d.hashes = append(d.hashes, h)
				d.table[j] = uint32(len(d.distinct))
				d.index[i] = uint32(len(d.distinct) - 1)
				break
			}
			// Of short values of one length the hash tells all.
			if o := d.distinct[k-1]; d.hashes[k-1] == h && o.Len() == n && (n <= 8 || string(o.Of(slab)) == string(r.Of(slab))) {
				d.index[i] = k - 1
				break
			}
		}
	}
	return true
}

// hashRef returns the hash of a value.
func hashRef(slab []byte, r Ref) uint64 {
	n := r.Len()
	if uint(n-1) < 8 && int(r.Offset())+8 <= len(slab) {
		return hashWord(binary.LittleEndian.Uint64(slab[r.Offset():]), n)
	}
	return hashValue(r.Of(slab))
}

// hashWord returns the hash of the first n bytes of x, 1 to 8.
func hashWord(x uint64, n int) uint64 {
	return hashNumber(x<<(64-8*uint(n))>>(64-8*uint(n)) ^ uint64(n)<<56)
}

// Values are found by hashes that nobody can foretell, lest lines are made to be found
// slowly. What is encoded does not depend on them.
var (
	seed             = maphash.MakeSeed()
	salt, odd1, odd2 = maphash.String(seed, "salt"), maphash.String(seed, "odd1") | 1, maphash.String(seed, "odd2") | 1
)

// hashNumber returns the hash of a number, which no other number has.
func hashNumber(x uint64) uint64 {
	x = (x ^ salt) * odd1
	x = (x ^ x>>32) * odd2
	return x ^ x>>32
}

func hashValue(v []byte) uint64 {
	if len(v) > 8 {
		return hashLong(v)
	}
	x := uint64(len(v)) << 56
	switch {
	case len(v) == 8:
		x ^= binary.LittleEndian.Uint64(v)
	case len(v) >= 4:
		x |= uint64(binary.LittleEndian.Uint32(v)) | uint64(binary.LittleEndian.Uint32(v[len(v)-4:]))<<(8*(len(v)-4))
	default:
		for i, b := range v {
			x |= uint64(b) << (8 * i)
		}
	}
	return hashNumber(x)
}

// hashLong is a hash of 9 bytes or more.
func hashLong(v []byte) uint64 {
	h, s := uint64(len(v))*odd1^salt, v
	for ; len(s) > 16; s = s[16:] {
		h = mul(binary.LittleEndian.Uint64(s)^odd1, binary.LittleEndian.Uint64(s[8:])^h) + h
	}
	a, b := binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[len(v)-8:])
	if len(v) > 16 {
		a = binary.LittleEndian.Uint64(v[len(v)-16:])
	}
	return mul(a^odd2, b^h) + h
}

func mul(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
