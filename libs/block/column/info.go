package column

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Kind is a form of encoding. The numbers are part of the format.
type Kind uint8

// The kinds.
const (
	Const  Kind = iota // all values are equal: Info.Prefix
	Int                // numbers without leading zeros, behind a prefix that all share
	Delta              // as Int, as steps from one to the next
	Pad                // numbers of one length with leading zeros, behind a prefix that all share
	Hex                // one length, hexadecimal digits of one case
	IPv4               // dotted quads
	UUID               // in lower case, with dashes
	Bytes              // anything
	Dict               // few distinct values, and an index per row
	Signed             // integers, not text

	kinds
)

func (k Kind) String() string {
	if k < kinds {
		return [...]string{"const", "int", "delta", "pad", "hex", "ipv4", "uuid", "bytes", "dict", "signed"}[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Info describes an encoded column: what is needed to decode it, and a summary of
// its values to tell, without decoding, what it cannot hold. The summary is exact.
type Info struct {
	ID   uint32 // the caller's name for the column
	Kind Kind
	// With MinLen and MaxLen the summary; all zero for Signed.
	Classes Class // union over all bytes of all values
	Upper   bool  // Hex: A-F rather than a-f
	Width   uint8 // bytes per number of Int, Pad, Signed and Dict's index, or per length of Bytes

	N              int    // values
	MinLen, MaxLen int    // of the values, in bytes
	Prefix         []byte // Const: the value; Int, Delta, Pad: before each number
	// Int, Delta, Pad: the least and greatest number; Signed: the same, as int64.
	Min, Max uint64
	// Dict: the distinct values as a column of another kind, in the order in which
	// they appear first, and where in the payload the indexes begin.
	Values  *Info
	IndexAt int

	// Where the payload is. The package carries these for the caller.
	Frame, Offset, Size uint32
}

// Limits of what readers accept.
const (
	MaxColumns = 1 << 20 // in a directory
	maxNumber  = 19      // digits
)

const flagUpper = 1

// AppendInfos appends a directory of columns, ascending by ID: field by field for
// all columns, which compresses well.
func AppendInfos(dst []byte, infos []Info) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(infos)))
	all := make([]*Info, 0, len(infos)+8)
	for i := range infos {
		all = append(all, &infos[i])
	}
	prev := uint32(0)
	for _, c := range all {
		dst = binary.AppendUvarint(dst, uint64(c.ID-prev))
		prev = c.ID
		if c.Values != nil {
			all = append(all, c.Values) // not visited: range has evaluated the slice
		}
	}
	for _, c := range all {
		dst = append(dst, byte(c.Kind))
	}
	for _, c := range all {
		flags := byte(0)
		if c.Upper {
			flags |= flagUpper
		}
		dst = append(dst, flags)
	}
	for _, c := range all {
		dst = append(dst, byte(c.Classes))
	}
	for _, c := range all {
		dst = append(dst, c.Width)
	}
	for k := range infoFields {
		for _, c := range all {
			dst = binary.AppendUvarint(dst, c.field(k))
		}
	}
	for _, c := range all {
		dst = append(dst, c.Prefix...)
	}
	for _, c := range all {
		if c.numeric() {
			dst = binary.AppendVarint(dst, int64(c.Min))
			dst = binary.AppendUvarint(dst, c.Max-c.Min)
		}
	}
	return dst
}

func (c *Info) numeric() bool {
	return c.Kind == Int || c.Kind == Delta || c.Kind == Pad || c.Kind == Signed
}

// SameText reports whether all values of the column are its prefix, and nothing but that is
// said about it.
func (c *Info) SameText() bool {
	return c.Kind == Const && c.Size == 0 && c.N > 0 && c.MinLen == len(c.Prefix) && c.MinLen <= c.MaxLen
}

const infoFields = 8

// field returns the k-th varint field, in the order of the format.
func (c *Info) field(k int) uint64 {
	return [infoFields]uint64{
		uint64(c.N), uint64(c.MinLen), uint64(c.MaxLen - c.MinLen), uint64(c.Frame),
		uint64(c.Offset), uint64(c.Size), uint64(len(c.Prefix)), uint64(c.IndexAt),
	}[k]
}

// ParseInfos reads a directory and returns what follows it.
func ParseInfos(b []byte) ([]Info, []byte, error) {
	count, k := binary.Uvarint(b)
	if k <= 0 || count > MaxColumns || count > uint64(len(b)) {
		return nil, nil, Corrupt("directory of %d columns in %d bytes", count, len(b))
	}
	b = b[k:]
	numbers, prev := b, uint64(0)
	for i := range count {
		d, k := binary.Uvarint(b)
		if k <= 0 || d > MaxColumns || prev+d > MaxColumns || i > 0 && d == 0 {
			return nil, nil, Corrupt("directory: column number")
		}
		b = b[k:]
		prev += d
	}
	if uint64(len(b)) < count {
		return nil, nil, Corrupt("directory ends within the kinds")
	}
	n := int(count)
	for _, k := range b[:n] {
		if Kind(k) == Dict {
			n++
		}
	}
	if len(b) < n*(4+infoFields) {
		return nil, nil, Corrupt("directory of %d columns ends early", n)
	}
	all := make([]Info, n)
	infos, values := all[:count:count], all[count:]
	prev = 0
	for i := range infos {
		d, k := binary.Uvarint(numbers)
		numbers = numbers[k:]
		prev += d
		infos[i].ID = uint32(prev)
	}
	used := 0
	for i := range all {
		c := &all[i]
		c.Kind = Kind(b[i])
		if c.Kind >= kinds {
			return nil, nil, Corrupt("directory: column of %v", c.Kind)
		}
		if c.Kind == Dict {
			if i >= len(infos) {
				return nil, nil, Corrupt("directory: dictionary of a dictionary")
			}
			c.Values = &values[used]
			used++
		}
		flags := b[n+i]
		if flags&^flagUpper != 0 || b[2*n+i] > allClasses || b[3*n+i] > 8 {
			return nil, nil, Corrupt("directory: flags %x, classes %x, width %d", flags, b[2*n+i], b[3*n+i])
		}
		c.Upper = flags&flagUpper != 0
		c.Classes = Class(b[2*n+i])
		c.Width = b[3*n+i]
	}
	b = b[4*n:]
	prefixes := 0
	for k := range infoFields {
		for i := range all {
			v, size := uint64(0), 1
			if len(b) > 0 && b[0] < 0x80 {
				v = uint64(b[0])
			} else if v, size = binary.Uvarint(b); size <= 0 || v > MaxFrame {
				return nil, nil, Corrupt("directory: field %d of column %d", k, i)
			}
			b = b[size:]
			switch c := &all[i]; k {
			case 0:
				c.N = int(v)
			case 1:
				c.MinLen = int(v)
			case 2:
				c.MaxLen = c.MinLen + int(v)
			case 3:
				c.Frame = uint32(v)
			case 4:
				c.Offset = uint32(v)
			case 5:
				c.Size = uint32(v)
			case 6:
				// The prefix itself comes behind all fields.
				if prefixes += int(v); prefixes > len(b) {
					return nil, nil, Corrupt("directory ends within a prefix")
				}
				c.Prefix = b[:v:v]
			case 7:
				c.IndexAt = int(v)
			}
		}
	}
	if prefixes > len(b) {
		return nil, nil, Corrupt("directory ends within a prefix")
	}
	slab := bytes.Clone(b[:prefixes:prefixes]) // infos stay for longer than directories
	b = b[prefixes:]
	for i := range all {
		c := &all[i]
		n := len(c.Prefix)
		c.Prefix, slab = slab[:n:n], slab[n:]
		if !c.numeric() {
			continue
		}
		lo, k := binary.Varint(b)
		if k <= 0 {
			return nil, nil, Corrupt("directory ends within a minimum")
		}
		b = b[k:]
		span, k := binary.Uvarint(b)
		if k <= 0 {
			return nil, nil, Corrupt("directory ends within a maximum")
		}
		b = b[k:]
		c.Min, c.Max = uint64(lo), uint64(lo)+span
	}
	return infos, b, nil
}
