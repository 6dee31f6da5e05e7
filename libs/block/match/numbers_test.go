package match

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
)

// Digits are found in the numbers that show them, by arithmetic as by printing; and columns
// that have such a number are not ruled out.
func TestDigitSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 7))
	searched, found, ruled := 0, 0, 0
	for range 1500 {
		kind, pad := column.Int, 0
		digits := 1 + r.IntN(18)
		least := powers[digits-1] * uint64(r.IntN(10))
		span := 1 + powers[r.IntN(digits)]*uint64(1+r.IntN(3))
		nums := make([]uint64, 60)
		for i := range nums {
			nums[i] = least + r.Uint64N(span)
			switch r.IntN(8) {
			case 0:
				nums[i] = least + min(span-1, powers[r.IntN(digits)])
			case 1:
				nums[i] = least
			}
		}
		info := column.Info{Kind: kind, N: len(nums), Min: nums[0], Max: nums[0]}
		for _, x := range nums {
			info.Min, info.Max = min(info.Min, x), max(info.Max, x)
		}
		info.MinLen, info.MaxLen = digitCount(info.Min), digitCount(info.Max)
		if r.IntN(3) == 0 && info.MaxLen < 18 {
			info.Kind = column.Pad
			pad = info.MaxLen + r.IntN(18-info.MaxLen)
			info.MinLen, info.MaxLen = pad, pad
		}
		print := func(x uint64) string { return fmt.Sprintf("%0*d", pad, x) }
		for range 12 {
			text := print(nums[r.IntN(len(nums))])
			switch r.IntN(4) {
			case 0:
				text = fmt.Sprint(r.Uint64N(span * 2))
			case 1:
				text = strings.Repeat("0", 1+r.IntN(4)) + text
			}
			text = text[r.IntN(len(text)):]
			text = text[:1+r.IntN(len(text))]
			may := holdsDigits(&info, []byte(text))
			s, ok := newDigitSearch(&info, []byte(text))
			h := hits{n: len(nums)}
			if ok {
				searched++
				s.find(nums, &h)
			}
			for i, x := range nums {
				want := strings.Contains(print(x), text)
				if want && !may {
					t.Fatalf("%q is ruled out from %d to %d (pad %d), %q has it", text, info.Min, info.Max, pad, print(x))
				}
				if ok && want != (h.bits != nil && h.bits.has(i)) {
					t.Fatalf("%q in %q, of %d to %d (pad %d): want %v", text, print(x), info.Min, info.Max, pad, want)
				}
			}
			if h.bits != nil {
				found++
			}
			if !may {
				ruled++
			}
		}
	}
	t.Logf("%d searched, %d with hits, %d ruled out", searched, found, ruled)
	if found < 1000 || ruled < 500 || searched < found+500 {
		t.Errorf("%d searched, %d with hits, %d ruled out", searched, found, ruled)
	}
}

// Numbers that are too short to have zeros before them do not show any.
func TestDigitSearchOfZeros(t *testing.T) {
	for _, nums := range [][]uint64{{123, 50_123}, {123, 5_000_000_000_123}} {
		info := column.Info{Kind: column.Int, N: 2, Min: nums[0], Max: nums[1], MinLen: 3, MaxLen: digitCount(nums[1])}
		text := fmt.Sprint(nums[1])[1:]
		s, ok := newDigitSearch(&info, []byte(text))
		h := hits{n: 2}
		if s.find(nums, &h); !ok || h.bits == nil || h.bits.has(0) || !h.bits.has(1) {
			t.Errorf("%q in %d: found %b, known %v", text, nums, h.bits, ok)
		}
	}
}
