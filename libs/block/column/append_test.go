package column

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Values that are appended together are those that are appended one by one.
func TestAppendAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "17", "18", "0017", "some text", "dead", "beef", "10.0.0.1"}), 1, 40).Draw(t, "texts")
		var slab []byte
		var refs []Ref
		for _, s := range texts {
			refs = append(refs, MakeRef(uint32(len(slab)), uint32(len(s))))
			slab = append(slab, s...)
		}
		var e Encoder
		info, payload := e.Encode(nil, slab, refs)
		v, err := Open(&info, payload)
		if err != nil {
			t.Fatal(err)
		}
		from := rapid.IntRange(0, len(texts)).Draw(t, "from")
		to := rapid.IntRange(from, len(texts)).Draw(t, "to")
		got, ends := v.AppendAll([]byte("before"), []uint32{6}, from, to)
		want, wantEnds := []byte("before"), []uint32{6}
		for i := from; i < to; i++ {
			want = append(want, texts[i]...)
			wantEnds = append(wantEnds, uint32(len(want)))
		}
		if !bytes.Equal(got, want) || !slices.Equal(ends, wantEnds) {
			t.Fatalf("%q %v, not %q %v", got, ends, want, wantEnds)
		}
	})
}
