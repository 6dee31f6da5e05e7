package column

import "encoding/binary"

// Class is a set of character classes.
type Class uint8

// The classes; every byte belongs to exactly one. The bits are part of the format.
const (
	Digit  Class = 1 << iota // 0-9
	LowHex                   // a-f
	Low                      // g-z
	UpHex                    // A-F
	Up                       // G-Z
	Other                    // everything that is no ASCII letter or digit

	allClasses = 1<<iota - 1
)

var classes = func() (t [256]Class) {
	for c := range t {
		switch b := byte(c); {
		case b >= '0' && b <= '9':
			t[c] = Digit
		case b >= 'a' && b <= 'f':
			t[c] = LowHex
		case b >= 'g' && b <= 'z':
			t[c] = Low
		case b >= 'A' && b <= 'F':
			t[c] = UpHex
		case b >= 'G' && b <= 'Z':
			t[c] = Up
		default:
			t[c] = Other
		}
	}
	return t
}()

// ClassOf returns the class of a byte.
func ClassOf(b byte) Class { return classes[b] }

// IPv4Prefix returns the length of the canonical dotted quad (no leading zeros,
// no part over 255) that s begins with and that no letter or digit follows; 0 if
// there is none.
func IPv4Prefix(s []byte) int {
	p := 0
	for k := range 4 {
		q, v := p, 0
		for q < len(s) && s[q]-'0' < 10 && q-p < 4 {
			v = v*10 + int(s[q]-'0')
			q++
		}
		if q == p || q-p > 3 || v > 255 || s[p] == '0' && q-p > 1 {
			return 0
		}
		p = q
		if k < 3 {
			if p >= len(s) || s[p] != '.' {
				return 0
			}
			p++
		}
	}
	if p < len(s) && classes[s[p]] != Other {
		return 0
	}
	return p
}

// UUIDLen is the length of a UUID's text.
const UUIDLen = 36

// IsUUID reports whether s begins with a UUID in lower case with dashes.
func IsUUID(s []byte) bool {
	if len(s) < UUIDLen {
		return false
	}
	s = s[:UUIDLen]
	if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	all := lowHex(binary.LittleEndian.Uint64(s)) & lowHex(binary.LittleEndian.Uint64(s[24:])) & lowHex(binary.LittleEndian.Uint64(s[28:])) &
		(lowHex(binary.LittleEndian.Uint64(s[9:])) | high&^(1<<32-1)) & (lowHex(binary.LittleEndian.Uint64(s[14:])) | high&^(1<<32-1)) & (lowHex(binary.LittleEndian.Uint64(s[19:])) | high&^(1<<32-1))
	return all == high
}

// lowHex returns the upper bits of those of eight bytes that are digits or a to f.
func lowHex(x uint64) uint64 {
	const ones = 0x0101010101010101
	y := x &^ high
	digit := (y + (0x80-'0')*ones) &^ (y + (0x80-'9'-1)*ones)
	letter := (y + (0x80-'a')*ones) &^ (y + (0x80-'f'-1)*ones)
	return (digit | letter) & high &^ x
}
