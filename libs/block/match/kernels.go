package match

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/weir-logs/weir/libs/block/column"
)

// foldWide returns text with ASCII letters in lower case, eight bytes at a time.
func foldWide(dst, s []byte) []byte {
	if cap(dst) < len(s) {
		dst = make([]byte, len(s)+len(s)/4)
	}
	dst = dst[:len(s)]
	const highs, ones = 0x8080808080808080, 0x0101010101010101
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := binary.LittleEndian.Uint64(s[i:])
		y := x &^ highs
		upper := (y + (0x80-'A')*ones) &^ (y + (0x80-'Z'-1)*ones) & highs &^ x
		binary.LittleEndian.PutUint64(dst[i:], x|upper>>2)
	}
	for ; i < len(s); i++ {
		c := s[i]
		if c-'A' < 26 {
			c |= 0x20
		}
		dst[i] = c
	}
	return dst
}

// digitsOf returns the values of hexadecimal digits; false if b holds anything else.
func digitsOf(b []byte) ([]byte, bool) {
	out := make([]byte, len(b))
	for i, c := range b {
		switch {
		case c-'0' < 10:
			out[i] = c - '0'
		case (c|0x20)-'a' < 6:
			out[i] = (c | 0x20) - 'a' + 10
		default:
			return nil, false
		}
	}
	return out, true
}

// digitAt returns digit i of packed digits.
func digitAt(p []byte, i int) byte { return p[i>>1] >> (4 - i&1*4) & 15 }

func digitsAt(p []byte, at int, digits []byte) bool {
	for i, d := range digits {
		if digitAt(p, at+i) != d {
			return false
		}
	}
	return true
}

// scanHex finds values of n digits, each in size bytes. It fails where printing is as
// quick.
func (e *evaluation) scanHex(p []byte, size, n int, w way, text []byte, h *hits) bool {
	digits, ok := digitsOf(text)
	if !ok || len(digits) > n {
		return true
	}
	if w == contains && len(digits) == n {
		w = exact
	}
	if w == exact && len(digits) == n && n&1 == 0 {
		column.FindPacked(p, packDigits(digits), h.add)
		return true
	}
	switch w {
	case exact, prefix, suffix:
		at := 0
		if w == suffix {
			at = n - len(digits)
		} else if w == exact && len(digits) != n {
			return true
		}
		for i := range h.n {
			if digitsAt(p[i*size:], at, digits) {
				h.add(i)
			}
		}
		return true
	}
	if len(digits) < 4 {
		return false
	}
	e.findDigits(p, size, n, text, digits, func(value, at int) {
		if at+len(digits) <= n {
			h.add(value)
		}
	})
	return true
}

// packDigits packs an even number of digits.
func packDigits(digits []byte) []byte {
	key := make([]byte, len(digits)/2)
	for i := range key {
		key[i] = digits[2*i]<<4 | digits[2*i+1]
	}
	return key
}

// packed finds digits in packed values of size bytes each: where they begin at an even
// digit, and where at an odd one.
func packed(p []byte, size int, digits []byte, hit func(value, at int)) {
	for odd := range 2 {
		core := digits[odd:]
		key := packDigits(core[:len(core)&^1])
		for o := 0; ; o++ {
			i := bytes.Index(p[o:], key)
			if i < 0 {
				break
			}
			o += i
			value := o / size
			at := o%size*2 - odd
			if at >= 0 && at+len(digits) <= 2*size && digitsAt(p[value*size:], at, digits) {
				hit(value, at)
			}
		}
	}
}

func isDash(i int) bool { return i == 8 || i == 13 || i == 18 || i == 23 }

// scanUUID finds UUIDs.
func (e *evaluation) scanUUID(p []byte, w way, text []byte, h *hits) bool {
	if len(text) > column.UUIDLen {
		return true
	}
	digits, ok := digitsOf(bytes.ReplaceAll(text, []byte("-"), nil))
	if !ok {
		return true
	}
	// The places in the text at which the dashes fit.
	from, to := 0, column.UUIDLen-len(text)
	switch w {
	case exact:
		if to > 0 {
			return true
		}
	case prefix:
		to = 0
	case suffix:
		from = to
	}
	var fits [33]bool // by digits before
	any := false
	before := 0
	for o := 0; o <= to; o++ {
		if o >= from {
			fit := true
			for k, c := range text {
				fit = fit && (c == '-') == isDash(o+k)
			}
			fits[before] = fits[before] || fit
			any = any || fit
		}
		if !isDash(o) {
			before++
		}
	}
	if !any {
		return true
	}
	if len(digits) == 32 {
		column.FindPacked(p, packDigits(digits), h.add) // all of it, and the dashes fit
		return true
	}
	if w == contains && len(digits) >= 4 {
		e.findDigits(p, 16, 32, text, digits, func(value, at int) {
			if fits[at] {
				h.add(value)
			}
		})
		return true
	}
	for i := range h.n {
		for at, fit := range fits {
			if fit && at+len(digits) <= 32 && digitsAt(p[i*16:], at, digits) {
				h.add(i)
				break
			}
		}
	}
	return true
}

// scanIPv4 cuts the text at its dots: its first piece ends an octet, the last one
// begins one, those between are whole.
func scanIPv4(nums []uint64, w way, text []byte, h *hits) {
	for _, c := range text {
		if c != '.' && c-'0' > 9 {
			return
		}
	}
	parts := bytes.Split(text, []byte{'.'})
	tooLong := func(part []byte) bool { return len(part) > 3 }
	if len(parts) > 4 || slices.ContainsFunc(parts, tooLong) || w == exact && len(parts) < 4 {
		return
	}
	whole := func(last bool) bool { // whether the first, or last, piece is a whole octet
		return w == exact || w == prefix && !last || w == suffix && last
	}
	var table [4][256]bool
	var buf []byte
	for i, p := range parts {
		for o := range 256 {
			buf = column.AppendUint(buf[:0], uint64(o))
			first, last := i == 0, i == len(parts)-1
			begins, ends := !first || whole(false), !last || whole(true)
			switch {
			case begins && ends:
				table[i][o] = string(buf) == string(p)
			case begins:
				table[i][o] = bytes.HasPrefix(buf, p)
			case ends:
				table[i][o] = bytes.HasSuffix(buf, p)
			default:
				table[i][o] = bytes.Contains(buf, p)
			}
		}
	}
	from, to := 0, 4-len(parts)
	switch w {
	case prefix:
		to = 0
	case suffix:
		from = to
	}
	for i, x := range nums {
	places:
		for a := from; a <= to; a++ {
			for k := range parts {
				if !table[k][byte(x>>(24-8*(a+k)))] {
					continue places
				}
			}
			h.add(i)
			break
		}
	}
}

// scanNumbers finds numbers. It fails where they have to be printed.
func (e *evaluation) scanNumbers(v *column.Values, w way, n *needle, h *hits) bool {
	info := v.Info()
	nums := v.Numbers()
	text := n.text
	if nums == nil || len(text) == 0 {
		return false
	}
	if begin := info.Prefix; len(begin) > 0 {
		if last := begin[len(begin)-1]; last-'0' < 10 {
			return false
		}
		if (w == contains || w == prefix) && holds(begin, w, n) {
			h.bits = allOf(h.n)
			return true
		}
		// What of the text is no number, or comes before what is not, is in front of the
		// number.
		front := len(text)
		for front > 0 && text[front-1]-'0' < 10 {
			front--
		}
		switch {
		case front == len(text):
			return true // the number follows on the prefix, and has a digit
		case front > 0 && (w == contains || w == suffix):
			if front > len(begin) || !n.equal(begin[len(begin)-front:], text[:front]) {
				return true
			}
			if w == contains {
				w = prefix
			} else {
				w = exact
			}
		case front > 0, w == exact, w == prefix:
			if !n.equal(begin, text[:front]) {
				return true
			}
		}
		text = text[front:]
	}
	for _, c := range text {
		if c-'0' > 9 {
			return true
		}
	}
	if w != contains {
		return numbersAt(nums, info, w, text, h)
	}
	if a, ok := newDigitSearch(info, text); ok {
		a.find(nums, h)
		return true
	}
	// Printed eight digits at a time, with zeros before them: hits are looked at again.
	// No number has more than 20 digits, whatever the block says.
	groups := min(max(1, (info.MaxLen-len(info.Prefix)+7)/8), 3)
	size := groups*8 + 1
	const most = 4096
	if cap(e.scratch) < most*size+8 {
		e.scratch = make([]byte, most*(3*8+1)+8)
	}
	var value []byte
	for from := 0; from < len(nums); from += most {
		part := nums[from:min(from+most, len(nums))]
		out := e.scratch[:len(part)*size]
		printNumbers(out, part, groups)
		for p := 0; ; {
			k := bytes.Index(out[p:], text)
			if k < 0 {
				break
			}
			p += k
			i := p / size
			value = v.Append(value[:0], from+i)
			if bytes.Contains(value, text) {
				h.add(from + i)
				p = (i + 1) * size
				continue
			}
			p++
		}
	}
	return true
}

// numbersAt finds numbers that are, begin with or end in digits. It fails where they have to
// be printed.
func numbersAt(nums []uint64, info *column.Info, w way, text []byte, h *hits) bool {
	n := len(text)
	x, err := strconv.ParseUint(string(text), 10, 64)
	if n > 18 || err != nil {
		return false
	}
	pad := 0
	if info.Kind == column.Pad {
		if pad = info.MinLen - len(info.Prefix); n > pad {
			return true
		}
	}
	limit := powers[n]
	switch {
	case w == exact && n != pad && (pad > 0 || text[0] == '0' && n > 1):
		// Numbers have no zeros before them, or are longer.
	case w == exact:
		for i, y := range nums {
			if y == x {
				h.add(i)
			}
		}
	case w == suffix:
		least := uint64(0) // of n digits
		if pad == 0 && n > 1 {
			least = limit / 10
		}
		for i, y := range nums {
			if y%limit == x && y >= least {
				h.add(i)
			}
		}
	case pad > 0:
		div := powers[pad-n]
		for i, y := range nums {
			if y/div == x {
				h.add(i)
			}
		}
	case text[0] == '0':
		for i, y := range nums {
			if y == 0 && n == 1 {
				h.add(i)
			}
		}
	default:
		for i, y := range nums {
			if y < x {
				continue
			}
			for y >= limit {
				y /= 10
			}
			if y == x {
				h.add(i)
			}
		}
	}
	return true
}

// powers are those of ten.
var powers = func() (p [20]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

func printNumbers(out []byte, nums []uint64, groups int) {
	o := 0
	for _, x := range nums {
		for g := groups - 1; g > 0; g-- {
			q := x / 1e8
			binary.LittleEndian.PutUint64(out[o+8*g:], eightDigits(uint32(x-q*1e8)))
			x = q
		}
		binary.LittleEndian.PutUint64(out[o:], eightDigits(uint32(x%1e8)))
		out[o+8*groups] = ','
		o += 8*groups + 1
	}
}

// eightDigits prints a number below 10^8, with zeros before it.
func eightDigits(x uint32) uint64 {
	hi := x / 10000
	y := uint64(hi) | uint64(x-hi*10000)<<32
	h := y * 10486 >> 20 & 0x7f0000007f
	y = h | (y-100*h)<<16
	t := y * 103 >> 10 & 0x000f000f000f000f
	y = t | (y-10*t)<<8
	return y | 0x3030303030303030
}
