package decode

import (
	"slices"
	"testing"

	"github.com/klauspost/compress/snappy"
	"pgregory.net/rapid"
)

// TestReuse: requests are decoded the same into memory of others, of which one that is not
// given for that stays as it is.
func TestReuse(t *testing.T) {
	memory := NewMemory(1 << 30)
	rapid.Check(t, func(t *rapid.T) {
		var kept []func()
		for range rapid.IntRange(1, 4).Draw(t, "requests") {
			var streams []stream
			for range rapid.SampledFrom([]int{1, 8}).Draw(t, "times") {
				streams = append(streams, genLoki(t, rapid.String())...)
			}
			r := memory.Reserve(1 << 28)
			raw, err := Snappy(snappy.Encode(nil, lokiWire(streams)), Sizes{1 << 20, 1 << 24}, r)
			if err != nil {
				t.Fatal(err)
			}
			req, err := Loki(raw, r)
			Recycle(raw)
			if err != nil {
				t.Fatal(err)
			}
			same(t, plain(t, req), streams)
			if rapid.Bool().Draw(t, "reuse") {
				r.Reuse()
			} else {
				kept = append(kept, func() { same(t, plain(t, req), streams) })
			}
			r.Release()
		}
		for _, check := range slices.Backward(kept) {
			check()
		}
	})
}

// TestPageThatDoesNotFitStays: the memory of a body that is too small for one, or too large, is
// there for one that it fits.
func TestPageThatDoesNotFitStays(t *testing.T) {
	for range 100 { // a pool may lose what it is given
		b := make([]byte, 100_000)
		RecycleBody(b)
		for _, n := range []int{1000, 400_000} {
			page(n)
		}
		if p := page(90_000); &p[:1][0] == &b[0] {
			return
		}
	}
	t.Error("it never came back")
}
