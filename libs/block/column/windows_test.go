package column

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// windowed draws values of one sort.
func windowed(r *rand.Rand, sort int) string {
	switch sort {
	case 0:
		return fmt.Sprint(r.Uint64() >> (1 + r.IntN(63)))
	case 1:
		return fmt.Sprintf("u%d", r.IntN(1e7))
	case 2:
		return fmt.Sprintf("12345-%09d", r.IntN(1e9))
	case 3:
		return fmt.Sprintf("%017d", r.Uint64N(1e17))
	case 4:
		return fmt.Sprintf("%032x", r.Uint64())
	case 5:
		return fmt.Sprintf("%09X", r.Uint64()>>30)
	case 6:
		return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64()>>16)
	case 7:
		return fmt.Sprint(1e9 + r.IntN(1e6))
	case 8:
		return fmt.Sprintf("123456%d", r.IntN(1e8))
	case 9:
		return "12345"
	}
	return fmt.Sprintf("%x.%d", r.Uint32(), r.IntN(1e7))
}

// No windows say of a text that a value holds that none does.
func TestWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		sort := rapid.IntRange(0, 10).Draw(t, "sort")
		values := make([]string, rapid.IntRange(1, 96).Draw(t, "values"))
		for i := range values {
			values[i] = windowed(r, sort)
		}
		if rapid.Bool().Draw(t, "dictionary") {
			for len(values) < 1<<11 {
				values = append(values, values...)
			}
		}
		if rapid.Bool().Draw(t, "prefix") {
			prefix := strings.Repeat("long prefix ", 8)
			for i := range values {
				values[i] = prefix + values[i]
			}
		}
		slab, refs := slabOf(values)
		var e Encoder
		info, payload := e.Encode(nil, slab, refs)
		v, err := Open(&info, payload)
		if err != nil {
			t.Fatal(err)
		}
		w := v.Windows()
		if w == nil {
			return
		}
		kind := info.Kind.String()
		if info.Values != nil {
			kind += " of " + info.Values.Kind.String()
		}
		for range 100 {
			s := values[r.IntN(len(values))]
			from := r.IntN(len(s) + 1)
			text := s[from : from+r.IntN(len(s)-from+1)]
			if r.IntN(2) == 0 {
				text = strings.ToLower(text)
			}
			if !w.May([]byte(text)) {
				t.Fatalf("%q is in %q of %v", text, s, kind)
			}
		}
		all, wrong := strings.Join(values, " "), 0
		for range 100 {
			text := fmt.Sprintf("%019d", r.Uint64N(1e19))
			if w.May([]byte(text)) && !strings.Contains(all, text) {
				wrong++
			}
		}
		if wrong > 50 {
			t.Fatalf("%d of 100 texts may be in values of %v", wrong, kind)
		}
	})
}

// Last digits of numbers are found as they were added.
func TestWindowsOfNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.IntRange(WindowDigits, 9).Draw(t, "digits")
		all := rapid.SliceOfN(rapid.Uint64Range(0, 999_999_999), 1, 50).Draw(t, "numbers")
		w := NewWindows(rapid.IntRange(1, 40).Draw(t, "room"), digits)
		for _, x := range all {
			w.Add(x, digits)
		}
		for _, x := range all {
			text := fmt.Sprintf("%09d", x)[9-digits:]
			for n := range digits + 1 {
				for from := 0; from+n <= digits; from++ {
					part := text[from : from+n]
					if !w.May([]byte(part)) {
						t.Fatalf("%s is in %s", part, text)
					}
				}
			}
		}
	})
}
