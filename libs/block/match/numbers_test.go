package match

import (
	"fmt"
	"math/rand/v2"
	"slices"
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

// Columns that a text is in are not ruled out by their prefix, or as addresses, in any case.
func TestFitsPrefix(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 46))
	prefixes := []string{"u", "user-", "Node", "a1", "x12-", "99", "kK", "10.2.", "id=0x1"}
	in, ruled := 0, 0
	for range 4000 {
		info := column.Info{Kind: []column.Kind{column.Int, column.Delta, column.Pad, column.IPv4}[r.IntN(4)]}
		prefix, pad := prefixes[r.IntN(len(prefixes))], r.IntN(7)
		values := make([]string, 1+r.IntN(5))
		for i := range values {
			switch info.Kind {
			case column.IPv4:
				values[i] = fmt.Sprintf("%d.%d.%d.%d", r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256))
			case column.Pad:
				values[i] = prefix + fmt.Sprintf("%07d", r.IntN(1e7))[pad:]
			default:
				values[i] = prefix + fmt.Sprint(r.IntN(1<<r.IntN(24)))
			}
			info.MaxLen = max(info.MaxLen, len(values[i]))
		}
		if info.Kind != column.IPv4 {
			info.Prefix = []byte(prefix)
		}
		if r.IntN(2) == 0 {
			own := info
			info = column.Info{Kind: column.Dict, Values: &own}
		}
		v := values[r.IntN(len(values))]
		n := 1 + r.IntN(len(v))
		from := r.IntN(len(v) - n + 1)
		text := []byte(v[from : from+n])
		if r.IntN(2) == 0 {
			text[r.IntN(n)] = "0123456789aKu.-"[r.IntN(15)]
		}
		fold := r.IntN(2) == 0
		if fold {
			text = lower(nil, text)
		}
		holds := func(v string) bool {
			if fold {
				v = strings.ToLower(v)
			}
			return strings.Contains(v, string(text))
		}
		may := fitsPrefix(&info, text, fold) && !tooLongFor(&info, text)
		switch is := slices.ContainsFunc(values, holds); {
		case is && !may:
			t.Fatalf("%q is in %q", text, values)
		case is:
			in++
		case !may:
			ruled++
		}
	}
	if in < 1000 || ruled < 500 {
		t.Error(in, "are in a value,", ruled, "were ruled out")
	}
	for text, want := range map[string]bool{"1234": true, "12.345.6": false, "12a345": false, "123": false, ".1234": true} {
		if got := tooLongFor(&column.Info{Kind: column.IPv4}, []byte(text)); got != want {
			t.Error(text, got)
		}
	}
}
