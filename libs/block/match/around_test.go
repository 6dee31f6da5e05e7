package match

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
)

// Digits next to a slot count as part of the runs that its values are in; next to another slot
// there may be any number.
func TestDigitsAround(t *testing.T) {
	for _, c := range []struct {
		literals []string // around the slots
		want     []uint8
	}{
		{[]string{"", ""}, []uint8{0}},
		{[]string{"id=", ""}, []uint8{0}},
		{[]string{"id=ab", " x"}, []uint8{2}},
		{[]string{"xA", "F0z"}, []uint8{3}},
		{[]string{"ab", "12"}, []uint8{4}},
		{[]string{"ab", "12", "g"}, []uint8{anyMore, anyMore}},
		{[]string{" ", "", " "}, []uint8{anyMore, anyMore}},
		{[]string{"f", " e", " d "}, []uint8{1, 1}},
		{[]string{" ", "-", "9"}, []uint8{0, 1}},
		{[]string{strings.Repeat("a", 200), strings.Repeat("b", 55)}, []uint8{anyMore}},
		{[]string{strings.Repeat("a", 200), strings.Repeat("b", 54)}, []uint8{254}},
	} {
		for k, want := range c.want {
			before, behind := []byte(c.literals[k]), []byte(c.literals[k+1])
			if got := digitsAround(before, behind, k == 0, k+2 == len(c.literals)); got != want {
				t.Errorf("%q: %d digits around slot %d, want %d", c.literals, got, k, want)
			}
		}
	}
}

// Slots are of the sort that the longest run of digits can be of.
func TestSlotOf(t *testing.T) {
	x := &index{section: &lines.Section{Table: &template.Table{Columns: []template.Column{{}, {IsTime: true}}}}, around: []uint8{0, 0}}
	for around := range 40 {
		x.around[0] = uint8(around)
		for most := range 40 {
			want := byte(inLongSlot)
			if n := most + around; n <= grams.ShortRun {
				want = inShortSlot
			} else if n <= grams.MidRun {
				want = inMidSlot
			}
			if got := x.slotOf(0, most); got != want {
				t.Fatalf("%d bytes with %d digits around: slot %b, want %b", most, around, got, want)
			}
		}
	}
	if x.around[0] = anyMore; x.slotOf(0, 1) != inLongSlot {
		t.Error("any number of digits around a slot is not long")
	}
	// Of times it is their text that tells.
	for l := template.Layout(0); l.Valid(); l++ {
		x.section.Table.Columns[1].Layout = l
		most := 0
		for _, at := range []int64{1_700_000_000, 1_702_000_000, 1_738_500_000} { // letters of some months are digits
			for day := range int64(9) {
				for _, run := range strings.FieldsFunc(string(l.Append(nil, (at+day*86400)*1e9/l.Unit())), func(c rune) bool { return c > 127 || !hexDigit(byte(c)) }) {
					most = max(most, len(run))
				}
			}
		}
		if n := longestRun(l.Shape()); n < most || n > l.Len() {
			t.Errorf("%s: runs of %d digits, %d are known of", l.Pattern(), most, n)
		}
		for _, around := range []int{0, 5, 12} {
			x.around[1] = uint8(around)
			if got := x.slotOf(1, 0) &^ inTimeSlot; most+around > grams.ShortRun && got == inShortSlot || most+around > grams.MidRun && got != inLongSlot {
				t.Errorf("%s: runs of %d digits and %d around are in slot %b", l.Pattern(), most, around, got)
			}
		}
	}
}

// around tests that an index knows of all digits next to slots.
func around(t *testing.T, x *index) {
	most := make([]uint8, len(x.around))
	for i := range x.section.Table.Templates {
		m := &x.section.Table.Templates[i]
		pieces := m.Pieces()
		for k, c := range m.Columns {
			n := digitsAround(pieces[k].Literal, pieces[k+1].Literal, k == 0, k+2 == len(pieces))
			most[c] = max(most[c], n)
		}
	}
	if !slices.Equal(most, x.around) {
		t.Errorf("digits around slots %v, want %v", x.around, most)
	}
}

// Digits are found in packed values wherever they are, with what was worked out for other ones
// in the same memory.
func TestFindDigits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	var e evaluation
	for range 300 {
		n := []int{8, 13, 16, 21, 32, 40}[r.IntN(6)]
		size := (n + 1) / 2
		p := make([]byte, 400*size)
		for i := range p {
			p[i] = byte(r.Uint32())
			if n&1 == 1 && i%size == size-1 {
				p[i] &= 0xf0
			}
		}
		value := func(i int) (s []byte) {
			for k := range n {
				s = append(s, "0123456789abcdef"[digitAt(p[i*size:], k)])
			}
			return s
		}
		text := value(r.IntN(400))
		text = text[r.IntN(n-4):]
		for range 4 {
			text := text[:4+r.IntN(len(text)-3)]
			digits, _ := digitsOf(text)
			got := hits{n: 400}
			e.findDigits(p, size, n, text, digits, func(value, at int) {
				if at+len(digits) <= n {
					got.add(value)
				}
			})
			// The same text in values of another number of digits.
			e.findDigits(make([]byte, 400*20), 20, 39, text, digits, func(int, int) {})
			for i := range 400 {
				if want := bytes.Contains(value(i), text); want != (got.bits != nil && got.bits.has(i)) {
					t.Fatalf("%q in %q of %d digits: want %v", text, value(i), n, want)
				}
			}
		}
	}
}
