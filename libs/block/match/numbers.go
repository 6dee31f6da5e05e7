package match

import (
	"math"
	"math/bits"

	"github.com/weir-logs/weir/libs/block/column"
)

// digitSearch finds digits within numbers by arithmetic: those that numbers from the least to
// the greatest of a column can have only in few places.
type digitSearch struct {
	x      uint64 // what the digits are as a number
	places []digitPlace
	narrow bool // all numbers have 32 bits
}

// digitPlace is met by numbers of which x is left if what is behind it, and what is before
// it, is taken away.
type digitPlace struct {
	behind, of uint64 // powers of ten
	least      uint64 // smaller numbers have too few digits
	// What numbers of 32 bits are multiplied with instead of divided; 0 for behind 1.
	perBehind, perOf uint64
}

// mostPlaces is in how many places digits are looked for by arithmetic, and mostWide how many
// of them in numbers of more than 32 bits: where there are more, printing is quicker.
const (
	mostPlaces = 4
	mostWide   = 2
)

// placesOf calls yield with how many digits numbers of a column may have behind text, which is
// digits, in them, as far as the least and the greatest number tell. It fails, if that is not
// known. More than one call is for different numbers of digits.
func placesOf(c *column.Info, text []byte, yield func(behind int, least uint64)) bool {
	n := len(text)
	if n == 0 || n > 18 || c.Min > c.Max || c.Max > math.MaxInt64 {
		return false
	}
	x := uint64(0)
	for _, d := range text {
		x = x*10 + uint64(d-'0')
	}
	most, padded := digitCount(c.Max), c.Kind == column.Pad
	if padded {
		if most = c.MinLen - len(c.Prefix); most > 18 || most < digitCount(c.Max) {
			return false
		}
	}
	for k := 0; k+n <= most; k++ {
		least := uint64(0)
		if !padded && k+n > 1 {
			least = powers[k+n-1]
		}
		// The first number from the least on that shows the digits there.
		behind, all := powers[k], powers[k+n] // k+n <= 19
		from := max(c.Min, least)
		first := from/all*all + x*behind
		if first+behind <= from {
			first += all // of more than 64 bits, it is what is too small, so that there is none then, either
		}
		if first <= c.Max && first+behind > from {
			yield(k, least)
		}
	}
	return true
}

func digitCount(x uint64) int {
	n := 1
	for n < len(powers) && x >= powers[n] {
		n++
	}
	return n
}

// holdsDigits reports whether numbers of a column may have digits in them, as far as the least
// and the greatest number tell. It errs on the side of true.
func holdsDigits(c *column.Info, text []byte) bool {
	if c.Kind == column.Dict && c.Values != nil {
		c = c.Values
	}
	if c.Kind != column.Int && c.Kind != column.Delta && c.Kind != column.Pad || len(c.Prefix) > 0 {
		return true
	}
	for _, d := range text {
		if d-'0' > 9 {
			return true // another test is for these
		}
	}
	any := false
	known := placesOf(c, text, func(int, uint64) { any = true })
	return any || !known
}

// tooLongFor reports whether a text has more digits next to each other than addresses have, of
// which the values of a column are.
func tooLongFor(c *column.Info, text []byte) bool {
	if c.Kind != column.IPv4 && (c.Values == nil || c.Values.Kind != column.IPv4) {
		return false
	}
	n := 0
	for _, d := range text {
		if n++; d-'0' > 9 {
			n = 0
		}
		if n > 3 {
			return true
		}
	}
	return false
}

// fitsPrefix reports whether a number behind a column's prefix may hold a text with it, if that
// is what values are. It errs on the side of true.
func fitsPrefix(c *column.Info, text []byte, fold bool) bool {
	if c.Kind == column.Dict && c.Values != nil {
		c = c.Values
	}
	if c.Kind != column.Int && c.Kind != column.Delta && c.Kind != column.Pad || len(c.Prefix) == 0 {
		return true
	}
	n := &needle{text: text, fold: fold}
	if n.in(c.Prefix) {
		return true
	}
	front := len(text) // it ends in the prefix or before it, and digits of the number follow
	for digits := 0; digits <= c.MaxLen-len(c.Prefix); digits++ {
		if front <= len(c.Prefix) {
			if n.text = text[:front]; n.equal(c.Prefix[len(c.Prefix)-front:], n.text) {
				return true
			}
		}
		if front--; front < 0 || text[front]-'0' > 9 {
			return false
		}
	}
	return false
}

// newDigitSearch returns what finds digits in numbers of a column, behind their prefix; false
// if printing them is quicker.
func newDigitSearch(c *column.Info, text []byte) (s digitSearch, ok bool) {
	s.narrow = c.Max <= math.MaxUint32
	known := placesOf(c, text, func(behind int, least uint64) {
		p := digitPlace{behind: powers[behind], of: powers[len(text)], least: least}
		if s.narrow && p.of > math.MaxUint32 {
			s.narrow = false
		}
		if p.behind > 1 {
			p.perBehind = math.MaxUint64/p.behind + 1
		}
		p.perOf = math.MaxUint64/p.of + 1
		s.places = append(s.places, p)
	})
	if !known || len(s.places) > mostPlaces || !s.narrow && len(s.places) > mostWide {
		return s, false
	}
	for _, d := range text {
		s.x = s.x*10 + uint64(d-'0')
	}
	return s, true
}

func (s *digitSearch) find(nums []uint64, h *hits) {
	for i := range s.places {
		p := &s.places[i]
		switch {
		case !s.narrow:
			for i, y := range nums {
				if y/p.behind%p.of == s.x && y >= p.least {
					h.add(i)
				}
			}
		case p.behind == 1:
			for i, y := range nums {
				q, _ := bits.Mul64(y, p.perOf)
				if y-q*p.of == s.x && y >= p.least {
					h.add(i)
				}
			}
		default:
			for i, y := range nums {
				y0, _ := bits.Mul64(y, p.perBehind)
				q, _ := bits.Mul64(y0, p.perOf)
				if y0-q*p.of == s.x && y >= p.least {
					h.add(i)
				}
			}
		}
	}
}
