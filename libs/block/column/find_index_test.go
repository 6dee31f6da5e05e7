package column

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// An index finds what a look at every value finds.
func TestIndex(t *testing.T) {
	kinds, runs := map[Kind]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		n := rapid.IntRange(minIndexed-2, 3000).Draw(t, "values")
		spread := rapid.SampledFrom([]uint64{1 << 4, 1 << 12, 1 << 62}).Draw(t, "spread") // of one half
		uuid, digits := rapid.Bool().Draw(t, "uuid"), rapid.SampledFrom([]int{16, 17, 32}).Draw(t, "digits")
		id := func() string {
			s := fmt.Sprintf("%016x%016x", r.Uint64N(spread), r.Uint64())
			if uuid {
				return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
			}
			return s[32-digits:]
		}
		values := make([]string, n)
		for i := range values {
			values[i] = id()
			if i > 0 && r.IntN(20) == 0 {
				values[i] = values[r.IntN(i)]
			}
		}
		slab, refs := slabOf(values)
		var e Encoder
		info, payload := e.Encode(nil, slab, refs)
		v, err := Open(&info, payload)
		if err != nil {
			t.Fatal(err)
		}
		size := v.MemorySize()
		if v.Index() != 0 {
			t.Fatal("the first call made an index")
		}
		took := v.Index()
		if took > 0 {
			kinds[info.Kind]++
		}
		if v.Index() != 0 || v.MemorySize() != size+took {
			t.Fatalf("%d bytes, then %d, of which the index is %d", size, v.MemorySize(), took)
		}
		for k := range 50 {
			wanted := values[r.IntN(n)]
			switch k {
			case 0:
				wanted = values[0]
			case 1:
				wanted = values[n-1]
			case 2:
				wanted = id()
			}
			var got, want []int
			v.Find([]byte(wanted), func(i int) { got = append(got, i) })
			for i, s := range values {
				if s == wanted {
					want = append(want, i)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%q of %d values: found %v, it is at %v", wanted, n, got, want)
			}
		}
	})
	if !t.Failed() && runs >= 40 && (kinds[Hex] == 0 || kinds[UUID] == 0) {
		t.Errorf("indexes of %v", kinds)
	}
}

// TestNobodyFillsABucket: keys that were chosen to fall together by what their first and last
// words have in common, or that differ in the middle alone, are spread.
func TestNobodyFillsABucket(t *testing.T) {
	const n = 1 << 12
	for _, size := range []int{8, 16, 24} {
		x := &keyIndex{shift: 64 - 12}
		counts := make([]int, n)
		key := make([]byte, size)
		for i := range uint64(n) {
			word := i * 0x9E3779B97F4A7C15
			switch size {
			case 8:
				binary.LittleEndian.PutUint64(key, word<<20)
			case 16: // the exclusive or of the first and the turned last is always the same
				binary.LittleEndian.PutUint64(key, word)
				binary.LittleEndian.PutUint64(key[8:], bits.RotateLeft64(word, -29))
			case 24:
				binary.LittleEndian.PutUint64(key[8:], word)
			}
			counts[x.bucket(key)]++
		}
		if most := slices.Max(counts); most > n/16 {
			t.Errorf("%d bytes: %d of %d keys in one bucket", size, most, n)
		}
	}
}
