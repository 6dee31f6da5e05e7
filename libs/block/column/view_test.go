package column

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// A view has the values that were encoded, in whatever order they are asked for, and short
// and long ones alike.
func TestViewOfText(t *testing.T) {
	for _, distinct := range []int{100, 1 << 20} {
		r := rand.New(rand.NewPCG(uint64(distinct), 1))
		var slab []byte
		var refs []Ref
		for len(refs) < 3000 {
			if len(refs) > distinct {
				refs = append(refs, refs[r.IntN(distinct)])
				continue
			}
			n := 1 + r.IntN(20)
			if r.IntN(10) == 0 {
				n = 300 + r.IntN(900)
			}
			refs = append(refs, MakeRef(uint32(len(slab)), uint32(n)))
			for range n {
				slab = append(slab, byte('a'+r.IntN(26)))
			}
		}
		var e Encoder
		c, payload := e.Encode(nil, slab, refs)
		if want := map[int]Kind{100: Dict, 1 << 20: Bytes}[distinct]; c.Kind != want {
			t.Fatalf("%v, want %v", c.Kind, want)
		}
		v, ok, err := NewView(&c, payload)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		for at := range 20000 {
			i := at % len(refs)
			if at >= len(refs) && r.IntN(3) > 0 {
				i = r.IntN(len(refs))
			}
			got, err := v.Append(nil, i)
			if err != nil || !bytes.Equal(got, refs[i].Of(slab)) {
				t.Fatalf("value %d: %q, %v, want %q", i, got, err, refs[i].Of(slab))
			}
		}
	}
}
