package column

import (
	"encoding/binary"
	"math/bits"
)

// Summary sums up columns of one number over many blocks, to tell what none of them
// can hold. The zero value sums up nothing.
type Summary struct {
	Seen           bool
	MinLen, MaxLen int
	Classes        Class
	// Plain tells that all values are numbers without prefix or leading zeros, from
	// Min to Max.
	Plain    bool
	Min, Max uint64
}

// Summary returns the summary of one column, which is not Signed.
func (c *Info) Summary() Summary {
	s := Summary{Seen: true, MinLen: c.MinLen, MaxLen: c.MaxLen, Classes: c.Classes}
	n := c
	if c.Values != nil {
		n = c.Values
	}
	if (n.Kind == Int || n.Kind == Delta) && len(n.Prefix) == 0 {
		s.Plain, s.Min, s.Max = true, n.Min, n.Max
	} else if x, ok := ParseUint(c.Prefix); ok && c.Kind == Const {
		s.Plain, s.Min, s.Max = true, x, x
	}
	return s
}

// Add makes s sum up what o does besides.
func (s *Summary) Add(o Summary) {
	switch {
	case !o.Seen:
		return
	case !s.Seen:
		*s = o
		return
	}
	s.MinLen, s.MaxLen = min(s.MinLen, o.MinLen), max(s.MaxLen, o.MaxLen)
	s.Classes |= o.Classes
	s.Plain = s.Plain && o.Plain
	s.Min, s.Max = min(s.Min, o.Min), max(s.Max, o.Max)
}

// ParseUint reads a number as Int columns hold it: 1 to 19 digits without needless
// zeros.
func ParseUint(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > maxNumber || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	x := uint64(0)
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		x = x*10 + uint64(c-'0')
	}
	return x, true
}

const (
	summarySeen  = 1
	summaryPlain = 2
)

// AppendSummaries appends summaries, field by field.
func AppendSummaries(dst []byte, all []Summary) []byte {
	for i := range all {
		f := byte(0)
		if all[i].Seen {
			f |= summarySeen
		}
		if all[i].Plain {
			f |= summaryPlain
		}
		dst = append(dst, f)
	}
	for i := range all {
		dst = append(dst, byte(all[i].Classes))
	}
	for i := range all {
		dst = binary.AppendUvarint(dst, uint64(all[i].MinLen))
	}
	for i := range all {
		dst = binary.AppendUvarint(dst, uint64(all[i].MaxLen-all[i].MinLen))
	}
	for i := range all {
		if all[i].Plain { // bounds are as good, and shorter
			dst = append(dst, byte(bits.Len64(all[i].Min)), byte(bits.Len64(all[i].Max)))
		}
	}
	return dst
}

// ParseSummaries reads n summaries, and returns what follows them. Least and greatest
// numbers are rounded to powers of two.
func ParseSummaries(b []byte, n int) ([]Summary, []byte, error) {
	if n > len(b)/4 {
		return nil, nil, Corrupt("%d summaries in %d bytes", n, len(b))
	}
	all := make([]Summary, n)
	for i := range all {
		f, c := b[i], b[n+i]
		if f&^(summarySeen|summaryPlain) != 0 || c > allClasses {
			return nil, nil, Corrupt("summary with flags %x, classes %x", f, c)
		}
		all[i].Seen, all[i].Plain, all[i].Classes = f&summarySeen != 0, f&summaryPlain != 0, Class(c)
	}
	b = b[2*n:]
	for k := range 2 {
		for i := range all {
			v, w := binary.Uvarint(b)
			if w <= 0 || v > MaxFrame {
				return nil, nil, Corrupt("summaries end within the lengths")
			}
			b = b[w:]
			if k == 0 {
				all[i].MinLen = int(v)
			} else {
				all[i].MaxLen = all[i].MinLen + int(v)
			}
		}
	}
	for i := range all {
		if !all[i].Plain {
			continue
		}
		if len(b) < 2 || b[0] > 64 || b[1] > 64 {
			return nil, nil, Corrupt("summaries end within the numbers")
		}
		if b[0] > 0 {
			all[i].Min = 1 << (b[0] - 1)
		}
		all[i].Max = ^uint64(0) >> (64 - b[1])
		b = b[2:]
	}
	return all, b, nil
}
