package lines

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// No sketch says of a text that the frame has that it has not.
func TestSketch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		p := make([]byte, rapid.IntRange(minSketched, 20000).Draw(t, "size"))
		values := rapid.SampledFrom([]int{2, 16, 256}).Draw(t, "values")
		for i := range p {
			p[i] = "0123456789abcdef"[r.IntN(16)] ^ byte(r.IntN(values)>>4)
		}
		var s sketch
		s.fill(p)
		for range 100 {
			from := r.IntN(len(p) - sketchGram + 1)
			text := p[from : from+sketchGram+r.IntN(min(40, len(p)-from-sketchGram+1))]
			if !s.may(text) {
				t.Fatalf("%q is not at %d", text, from)
			}
		}
		if !s.may(p[len(p)-sketchGram:]) || !s.may(p[:sketchGram]) {
			t.Fatal("what is at an end is not found")
		}
		// Long texts that are not there are found out.
		wrong := 0
		for range 100 {
			text := make([]byte, 40)
			for i := range text {
				text[i] = byte(r.Uint32())
			}
			if s.may(text) && !bytes.Contains(p, text) {
				wrong++
			}
		}
		if wrong > 50 {
			t.Fatalf("%d of 100 texts may be there", wrong)
		}
	})
}
