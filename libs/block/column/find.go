package column

import "encoding/binary"

// Find calls hit with the number of each value that is that text, ascending. A Signed
// column has no text.
func (v *Values) Find(text []byte, hit func(i int)) {
	if len(text) < v.info.MinLen || len(text) > v.info.MaxLen {
		return
	}
	switch v.kind {
	case Const:
		if string(text) == string(v.info.Prefix) {
			v.all(hit)
		}
	case Int, Delta, Pad:
		v.findNumber(text, hit)
	case IPv4:
		if x, ok := parseIPv4(text); ok {
			find(v.nums, uint64(x), hit)
		}
	case UUID:
		if key, ok := packUUID(text); ok {
			v.findKey(key[:], hit)
		}
	case Hex:
		key, ok := packDigits(make([]byte, 0, 32), text, v.info.Upper)
		switch {
		case !ok || len(text) != v.info.MinLen:
		case len(text)&1 == 0:
			v.findKey(key, hit)
		default: // half of the last byte says nothing
			v.findPrinted(text, hit)
		}
	case Bytes:
		v.findText(v.n, text, hit)
	case Dict:
		v.findDict(text, hit)
	}
}

func (v *Values) all(hit func(i int)) {
	for i := range v.n {
		hit(i)
	}
}

func find(nums []uint64, x uint64, hit func(i int)) {
	for i, y := range nums {
		if x == y {
			hit(i)
		}
	}
}

func (v *Values) findNumber(text []byte, hit func(i int)) {
	p := len(v.info.Prefix)
	if len(text) <= p || string(text[:p]) != string(v.info.Prefix) {
		return
	}
	x := uint64(0)
	switch digits := text[p:]; {
	case len(digits) > maxNumber:
		v.findPrinted(text, hit)
		return
	case v.kind == Pad:
		for _, c := range digits {
			if c-'0' > 9 {
				return
			}
			x = x*10 + uint64(c-'0')
		}
	default:
		var ok bool
		if x, ok = ParseUint(digits); !ok {
			return
		}
	}
	if v.nums != nil {
		find(v.nums, x, hit)
	} else if x == v.info.Min {
		v.all(hit)
	}
}

// findText finds text among the n that are in bytes.
func (v *Values) findText(n int, text []byte, hit func(i int)) {
	if v.ends == nil {
		if len(text) == v.size && v.size > 0 {
			FindPacked(v.bytes, text, hit)
		} else if len(text) == v.size {
			for i := range n {
				hit(i)
			}
		}
		return
	}
	from := uint32(0)
	for i, end := range v.ends {
		if int(end-from) == len(text) && string(v.bytes[from:end]) == string(text) {
			hit(i)
		}
		from = end
	}
}

func (v *Values) findDict(text []byte, hit func(i int)) {
	var found []int
	note := func(i int) { found = append(found, i) }
	if v.values != nil {
		v.values.Find(text, note)
	} else {
		v.findText(v.info.Values.N, text, note)
	}
	switch len(found) {
	case 0:
	case 1:
		find(v.nums, uint64(found[0]), hit)
	default: // no encoder writes a value twice
		is := make([]bool, v.info.Values.N)
		for _, i := range found {
			is[i] = true
		}
		for i, x := range v.nums {
			if is[x] {
				hit(i)
			}
		}
	}
}

func (v *Values) findPrinted(text []byte, hit func(i int)) {
	var buf []byte
	for i := range v.n {
		if buf = v.Append(buf[:0], i); string(buf) == string(text) {
			hit(i)
		}
	}
}

// FindPacked calls hit with the number of each value that is the key, ascending, where
// values of the key's size lie end to end.
func FindPacked(b, key []byte, hit func(i int)) {
	size := len(key)
	if size < 8 {
		for i := 0; len(b) >= size; i, b = i+1, b[size:] {
			if string(b[:size]) == string(key) {
				hit(i)
			}
		}
		return
	}
	first := binary.LittleEndian.Uint64(key)
	for i := 0; len(b) >= size; i, b = i+1, b[size:] {
		if binary.LittleEndian.Uint64(b) == first && string(b[:size]) == string(key) {
			hit(i)
		}
	}
}

// packDigits appends digits, two to a byte; false if the text holds anything else.
func packDigits(dst, text []byte, upper bool) ([]byte, bool) {
	for i, c := range text {
		switch {
		case c-'0' < 10:
			c -= '0'
		case !upper && c-'a' < 6:
			c -= 'a' - 10
		case upper && c-'A' < 6:
			c -= 'A' - 10
		default:
			return dst, false
		}
		if i&1 == 0 {
			dst = append(dst, c<<4)
		} else {
			dst[len(dst)-1] |= c
		}
	}
	return dst, true
}

func packUUID(text []byte) (key [16]byte, ok bool) {
	if len(text) != UUIDLen || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return key, false
	}
	b := key[:0]
	for _, part := range [...][]byte{text[:8], text[9:13], text[14:18], text[19:23], text[24:]} {
		if b, ok = packDigits(b, part, false); !ok {
			return key, false
		}
	}
	return key, true
}

// parseIPv4 parses an address as columns have them: four numbers without needless zeros.
func parseIPv4(text []byte) (x uint32, ok bool) {
	for octet := range 4 {
		n := 0
		for n < len(text) && text[n] != '.' {
			n++
		}
		o, ok := ParseUint(text[:n])
		if !ok || o > 255 || (n == len(text)) != (octet == 3) {
			return 0, false
		}
		x = x<<8 | uint32(o)
		text = text[min(n+1, len(text)):]
	}
	return x, true
}
