package column

import (
	"bytes"
	"fmt"
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
		v, err := NewView(&c, payload)
		if err != nil {
			t.Fatal(err)
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

// So has one of numbers that are kept as steps, forwards, backwards and anywhere.
func TestViewOfSteps(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, n := range []int{100, 511, 512, 513, 1024, 3000} {
		for _, prefix := range []string{"", "blk_"} {
			x := uint64(1) << 40
			values := make([]string, n)
			for i := range values {
				x += uint64(r.IntN(90)) - 20
				values[i] = fmt.Sprint(prefix, x)
			}
			slab, refs := slabOf(values)
			var e Encoder
			c, payload := e.Encode(nil, slab, refs)
			if c.Kind != Delta {
				t.Fatalf("%d values: %v", n, c.Kind)
			}
			v, err := NewView(&c, payload)
			if err != nil {
				t.Fatal(err)
			}
			size := v.MemorySize()
			for at := range 6 * n {
				i := 0
				switch k := at % n; at / n {
				case 0, 3:
					i = k
				case 1:
					i = n - 1 - k
				default:
					i = r.IntN(n)
				}
				if got, err := v.Append(nil, i); err != nil || string(got) != values[i] {
					t.Fatalf("value %d of %d: %q, %v, want %q", i, n, got, err, values[i])
				}
			}
			if v.MemorySize() != size {
				t.Errorf("%d bytes, %d when it was opened", v.MemorySize(), size)
			}
		}
	}
}

// Steps that are not what the column should have are an error, at once or when they are
// needed.
func TestViewOfDamagedSteps(t *testing.T) {
	for name, payload := range map[string]string{
		"none":       "",
		"too few":    "\x02\x02",
		"too many":   "\x02\x02\x02\x02",
		"unfinished": "\x02\x02\x82",
		"too long":   "\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02",
	} {
		c := &Info{Kind: Delta, N: 3, MinLen: 1, MaxLen: 1}
		v, err := NewView(c, []byte(payload))
		if err == nil {
			_, err = v.Append(nil, 2)
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		corrupt(t, err)
	}
}
