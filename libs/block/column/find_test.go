package column

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Find is what a look at every value finds.
func TestFind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.IntRange(0, 8).Draw(t, "shape")
		values := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return drawValue(t, shape) }), 1, 60).Draw(t, "values")
		if rapid.Bool().Draw(t, "repeat") {
			for len(values) < minIndexed {
				values = append(values, values...)
			}
		}
		slab, refs := slabOf(values)
		var e Encoder
		info, payload := e.Encode(nil, slab, refs)
		v, err := Open(&info, payload)
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "index") {
			v.Index()
			v.Index()
		}
		wanted := drawValue(t, rapid.IntRange(0, 8).Draw(t, "other"))
		if rapid.IntRange(0, 3).Draw(t, "there") > 0 {
			wanted = rapid.SampledFrom(values).Draw(t, "wanted")
		}
		if rapid.IntRange(0, 4).Draw(t, "upper") == 0 {
			wanted = strings.ToUpper(wanted)
		}
		var got, want []int
		v.Find([]byte(wanted), func(i int) { got = append(got, i) })
		for i, s := range values {
			if s == wanted {
				want = append(want, i)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q in %q, a column of %v: found %v, it is at %v", wanted, values, v.Info().Kind, got, want)
		}
	})
}

// Text that is no payload's is the values' own, and counted.
func TestMemoryOfTexts(t *testing.T) {
	text := []byte(strings.Repeat("x", 1<<16))
	if n := Texts(text, []uint32{1 << 15, 1 << 16}).MemorySize(); n < len(text) {
		t.Fatalf("%d bytes of text take %d", len(text), n)
	}
}
