package column

// Windows is which six digits follow each other in the values of a column, as bits by their
// hash. It takes a tenth to a third of what the values do in memory, and tells of most texts
// with six digits or more that no value holds them.
type Windows struct {
	base uint32
	size uint64 // in bits
	bits []uint64
}

const (
	// WindowDigits is how many digits are told of.
	WindowDigits = 6

	// Larger filters are never made.
	mostWindows10 = 1 << 20 // bits
	mostWindows16 = 1 << 23

	windowBits10 = 4 // for each window
	windowBits16 = 2
	windowAlone  = 8 // for that of values with one each: nothing else tells of them

	windows10 = 1_000_000
	windows16 = 1 << (4 * WindowDigits)
)

// NewWindows returns the windows of no values, with room for those of n values with up to so
// many decimal digits each; nil if there is no use in them.
func NewWindows(n, digits int) *Windows {
	if digits < WindowDigits {
		return nil
	}
	return newWindows(10, n*max(windowAlone, (digits-WindowDigits+1)*windowBits10), mostWindows10)
}

func newWindows(base uint32, room, most int) *Windows {
	words := max(1, (min(room, most)+63)/64)
	return &Windows{base: base, size: uint64(64 * words), bits: make([]uint64, words)}
}

// MemorySize returns about how many bytes of memory they take.
func (w *Windows) MemorySize() int { return 64 + 8*len(w.bits) }

func (w *Windows) hash(x uint32) uint64 { return uint64(x*0x9E3779B1) * w.size >> 32 }

func (w *Windows) add(x uint32) {
	h := w.hash(x)
	w.bits[h>>6] |= 1 << (h & 63)
}

func (w *Windows) has(x uint32) bool {
	h := w.hash(x)
	return w.bits[h>>6]>>(h&63)&1 != 0
}

// Add adds those of the last digits of a number, with zeros before it.
func (w *Windows) Add(x uint64, digits int) {
	for ; digits >= WindowDigits; digits-- {
		w.add(uint32(x % windows10))
		x /= 10
	}
}

// May reports whether a value may hold a text. It errs on the side of true.
func (w *Windows) May(text []byte) bool { return w.each(text, w.has) }

// AddText adds those of a text.
func (w *Windows) AddText(text []byte) {
	w.each(text, func(x uint32) bool { w.add(x); return true })
}

// each calls f with the windows of a text as long as it returns true, and reports whether it
// always did.
func (w *Windows) each(text []byte, f func(x uint32) bool) bool {
	x, n, all := uint32(0), 0, uint32(windows10)
	if w.base == 16 {
		all = windows16
	}
	for _, c := range text {
		d := uint32(c - '0')
		if w.base == 16 && d > 9 && (c|0x20)-'a' < 6 {
			d = uint32(c|0x20) - 'a' + 10
		}
		if d >= w.base {
			x, n = 0, 0
			continue
		}
		if x = (x*w.base + d) % all; n < WindowDigits {
			n++
		}
		if n == WindowDigits && !f(x) {
			return false
		}
	}
	return true
}

// Windows returns those of the values; nil if there is no use in them.
func (v *Values) Windows() *Windows {
	switch info := v.info; v.kind {
	case Dict:
		return v.dictWindows()
	case Int, Delta, Pad:
		if v.nums == nil || !bare(info.Prefix) {
			return nil
		}
		most := info.MaxLen - len(info.Prefix)
		w := NewWindows(v.n, most)
		if w == nil || most > maxNumber+1 {
			return nil
		}
		if v.kind == Pad {
			for _, x := range v.nums {
				w.Add(x, most)
			}
			return w
		}
		for _, x := range v.nums {
			for ; x >= windows10/10; x /= 10 {
				w.add(uint32(x % windows10))
			}
		}
		return w
	case Hex:
		return v.hexWindows(info.MinLen)
	case UUID:
		return v.uuidWindows()
	}
	return nil
}

// dictWindows is Windows of values that were printed.
func (v *Values) dictWindows() *Windows {
	if v.values != nil {
		return v.values.Windows()
	}
	c := v.info.Values
	if len(v.bytes) < c.N*WindowDigits {
		return nil
	}
	var w *Windows
	switch c.Kind {
	case Int, Delta, Pad:
		w = newWindows(10, len(v.bytes)*windowBits10, mostWindows10)
	case Hex, UUID:
		w = newWindows(16, len(v.bytes)*windowBits16, mostWindows16)
	default:
		return nil
	}
	for i := range c.N {
		w.AddText(v.span(i))
	}
	return w
}

// bare reports whether no digits of a text are part of six that follow each other where a
// number is behind it.
func bare(prefix []byte) bool {
	n := 0
	for _, c := range prefix {
		if c-'0' > 9 {
			n = 0
		} else if n++; n >= WindowDigits {
			return false
		}
	}
	return n == 0
}

// hexWindows is Windows of values of n hexadecimal digits.
func (v *Values) hexWindows(n int) *Windows {
	if n < WindowDigits || n > 1<<10 {
		return nil
	}
	w := newWindows(16, v.n*(n-WindowDigits+1)*windowBits16, mostWindows16)
	for i := range v.n {
		w.addPacked(v.bytes[i*v.size:(i+1)*v.size], 0, n)
	}
	return w
}

// uuidWindows is Windows of UUIDs, in which dashes are between some digits.
func (v *Values) uuidWindows() *Windows {
	w := newWindows(16, v.n*10*windowBits16, mostWindows16)
	for i := range v.n {
		p := v.bytes[i*v.size : (i+1)*v.size]
		w.addPacked(p, 0, 8)
		w.addPacked(p, 20, 32)
	}
	return w
}

// addPacked adds the windows of digits from … to-1 of packed ones; from is even.
func (w *Windows) addPacked(p []byte, from, to int) {
	x := uint32(0)
	for i := from; i < to; i++ {
		x = (x<<4 | uint32(p[i>>1]>>(4-i&1*4)&15)) & (windows16 - 1)
		if i-from >= WindowDigits-1 {
			w.add(x)
		}
	}
}
