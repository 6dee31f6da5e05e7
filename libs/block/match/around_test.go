package match

import (
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
			if got := x.slotOf(1, 0); most+around > grams.ShortRun && got == inShortSlot || most+around > grams.MidRun && got != inLongSlot {
				t.Errorf("%s: runs of %d digits and %d around are in slot %b", l.Pattern(), most, around, got)
			}
		}
	}
}
