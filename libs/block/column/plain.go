package column

import "encoding/binary"

// Plain says what no byte of some texts is. The bits are part of the format.
type Plain uint8

// What texts are plain for: in quotes, of bytes 20 to 7e (hexadecimal), without quotes and
// backslashes; as words, of bytes 21 to 7e, without quotes and equals signs.
const (
	InQuotes Plain = 1 << iota
	InWords

	allPlain = 1<<iota - 1
)

var plain = func() (t [256]Plain) {
	for c := ' '; c < 0x7f; c++ {
		if c != '"' && c != '\\' {
			t[c] |= InQuotes
		}
		if c != ' ' && c != '"' && c != '=' {
			t[c] |= InWords
		}
	}
	return t
}()

// PlainOf returns what text is plain for.
func PlainOf(b []byte) Plain {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	p := InQuotes | InWords
	for ; len(b) >= 8 && p != 0; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		has := func(c uint64) uint64 { y := x ^ c*ones; return (y - ones) &^ y & highs }
		if x&highs|(x-' '*ones)&^x&highs|has(0x7f)|has('"') != 0 {
			return 0
		}
		if has('\\') != 0 {
			p &^= InQuotes
		}
		if has(' ')|has('=') != 0 {
			p &^= InWords
		}
	}
	for _, c := range b {
		if p &= plain[c]; p == 0 {
			break
		}
	}
	return p
}

// Plain returns what all values of a column are plain for, as far as what describes it tells:
// of values that are kept as text, it is what that is plain for. None are of kind Signed.
func (c *Info) Plain(text func() ([]byte, error)) (Plain, error) {
	if c.Kind == Signed {
		return 0, nil
	}
	if c.Classes&Other == 0 {
		return allPlain, nil
	}
	if c.Kind == Dict {
		c = c.Values
	}
	switch c.Kind {
	case IPv4, UUID, Hex:
		return allPlain, nil
	case Const, Int, Delta, Pad:
		return PlainOf(c.Prefix), nil
	case Bytes:
		t, err := text()
		if err != nil {
			return 0, err
		}
		return PlainOf(t), nil
	}
	return 0, nil
}

// AppendPlain appends what columns are plain for.
func AppendPlain(dst []byte, all []Plain) []byte {
	for _, p := range all {
		dst = append(dst, byte(p))
	}
	return dst
}

// ParsePlain reads what n columns are plain for, and returns what follows it.
func ParsePlain(b []byte, n int) ([]Plain, []byte, error) {
	if n > len(b) {
		return nil, nil, Corrupt("what %d columns are plain for in %d bytes", n, len(b))
	}
	all := make([]Plain, n)
	for i := range all {
		if b[i] > allPlain {
			return nil, nil, Corrupt("column that is plain for %x", b[i])
		}
		all[i] = Plain(b[i])
	}
	return all, b[n:], nil
}
