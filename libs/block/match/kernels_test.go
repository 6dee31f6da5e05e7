package match

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
)

// Every kernel finds what printing the values finds.
func TestKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	kinds := map[string]func(x uint64) string{
		"uuid": func(x uint64) string {
			return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(x), x>>32&0xffff, x>>48&0xfff, x>>52, x*0x9E3779B97F4A7C15>>16)
		},
		"hex32":   func(x uint64) string { return fmt.Sprintf("%016x%016x", x, x*0x9E3779B97F4A7C15) },
		"hex21":   func(x uint64) string { return fmt.Sprintf("%016x%05x", x*0x9E3779B97F4A7C15, x>>44) },
		"hex16":   func(x uint64) string { return fmt.Sprintf("%016x", x) },
		"tiny":    func(x uint64) string { return fmt.Sprint(x >> (53 + x%4*2)) },
		"n987x":   func(x uint64) string { return fmt.Sprintf("n987x%d", 5_000_000+x>>56) },
		"near":    func(x uint64) string { return fmt.Sprint(1795526909 + x>>44) },
		"nearer":  func(x uint64) string { return fmt.Sprintf("q%d", 1795526909123+x>>50) },
		"of9":     func(x uint64) string { return fmt.Sprint(99_900_000 + x>>46) },
		"of19":    func(x uint64) string { return fmt.Sprint(9_200_000_000_000_000_000 + x>>11) },
		"of20":    func(x uint64) string { return fmt.Sprint(x>>1 + x>>60<<60) },
		"padnear": func(x uint64) string { return fmt.Sprintf("%012d", 7_000_000+x>>50) },
		"hex":     func(x uint64) string { return fmt.Sprintf("%013x", x>>12) },
		"HEX":     func(x uint64) string { return fmt.Sprintf("%010X", x>>24) },
		"ip":      func(x uint64) string { return fmt.Sprintf("%d.%d.%d.%d", x&255, x>>8&255, x>>16&255, x>>24&255) },
		"int":     func(x uint64) string { return fmt.Sprint(x >> (x & 63)) },
		"few":     func(x uint64) string { return fmt.Sprint(x >> 40 >> (x % 3 / 2 * 21)) },
		"small":   func(x uint64) string { return fmt.Sprint(x >> 44) },
		"pad":     func(x uint64) string { return fmt.Sprintf("%09d", x>>36) },
		"n1X":     func(x uint64) string { return fmt.Sprintf("n1X%d", x>>(x&63)) },
		"padded":  func(x uint64) string { return fmt.Sprintf("u%04d", x>>52) },
		"prefix":  func(x uint64) string { return fmt.Sprintf("n1x%d", x>>40) },
		"bytes":   func(x uint64) string { return fmt.Sprintf("a%x.%c", x>>40, 'g'+x&7) },
		"dict":    func(x uint64) string { return fmt.Sprintf("%07x", x&63*0x1234567) },
	}
	var e evaluation // of one after the other
	for name, print := range kinds {
		var slab []byte
		var refs []column.Ref
		for range 300 {
			s := print(r.Uint64())
			refs = append(refs, column.MakeRef(uint32(len(slab)), uint32(len(s))))
			slab = append(slab, s...)
		}
		var enc column.Encoder
		info, payload := enc.Encode(nil, slab, refs)
		v, err := column.Open(&info, payload)
		if err != nil {
			t.Fatal(err)
		}
		for range 4000 {
			s := refs[r.IntN(len(refs))].Of(slab)
			from := r.IntN(len(s))
			part := bytes.Clone(s[from : from+1+r.IntN(len(s)-from)])
			if i := r.IntN(len(part)); r.IntN(2) == 0 {
				// A byte elsewhere, or another one.
				c := part[i]
				if part = append(part[:i], part[i+1:]...); r.IntN(3) > 0 {
					k := r.IntN(len(part) + 1)
					part = append(part[:k], append([]byte{c}, part[k:]...)...)
				}
				if len(part) == 0 {
					continue
				}
			}
			n := needle{text: part, fold: r.IntN(3) == 0}
			if n.fold {
				n.text = lower(nil, part)
			}
			w := way(r.IntN(4))
			s2 := info.Summary()
			got := e.scanValues(v, w, &n)
			able := possible(&s2, w, n.text, n.fold) && (w != contains || holdsDigits(&info, n.text))
			for i, ref := range refs {
				want := holds(ref.Of(slab), w, &n)
				if want && !able {
					t.Fatalf("%s: %q (%d) is ruled out, %q has it", name, n.text, w, ref.Of(slab))
				}
				if able && (got != nil && got.has(i)) != want {
					t.Fatalf("%s (%v): %q (way %d, any case %v) in %q: want %v", name, info.Kind, n.text, w, n.fold, ref.Of(slab), want)
				}
			}
		}
	}
}

// Lengths of numbers are what a block says, which may be anything.
func TestScanNumbersOfWrongLengths(t *testing.T) {
	for _, size := range []int{0, 1, 9, 25, 40, 1 << 20} {
		for _, begin := range []string{"", "n=", "a prefix of many bytes "} {
			info := column.Info{Kind: column.Int, N: 3, MaxLen: size, Classes: 255, Width: 1, Prefix: []byte(begin), Min: 12345678901234567}
			v, err := column.Open(&info, []byte{1, 2, 3})
			if err != nil {
				t.Fatal(err)
			}
			var e evaluation
			e.scanValues(v, contains, &needle{text: []byte("45")})
		}
	}
}
