package column

import (
	"bytes"
	"fmt"
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

// However they are stored: in the kinds that lines are kept whole in, and one of numbers.
func TestAppendAllOfKinds(t *testing.T) {
	for _, c := range []struct {
		name string
		kind Kind
		ends bool
		text func(i int) string
	}{
		{"texts", Bytes, true, func(i int) string { return fmt.Sprintf("some text %d of %d!", i*i, i) }},
		{"texts of one length", Bytes, false, func(i int) string { return fmt.Sprintf("%c%03d text", 'g'+i%7, i*331%1000) }},
		{"few texts", Dict, true, func(i int) string { return []string{"", "some text", "another one"}[i*i%3] }},
		{"few of one length", Dict, false, func(i int) string { return []string{"some text", "more text", "last text"}[i*i%3] }},
		{"one text", Const, false, func(int) string { return "some text" }},
		{"numbers", Int, false, func(i int) string { return fmt.Sprint(1 + i*7919%80021) }},
	} {
		var slab []byte
		var refs []Ref
		for i := range 700 {
			s := c.text(i)
			refs = append(refs, MakeRef(uint32(len(slab)), uint32(len(s))))
			slab = append(slab, s...)
		}
		var e Encoder
		info, payload := e.Encode(nil, slab, refs)
		v, err := Open(&info, payload)
		if err != nil || v.kind != c.kind || (v.ends != nil) != c.ends {
			t.Errorf("%s: kind %d, ends: %v, %v", c.name, v.kind, v.ends != nil, err)
			continue
		}
		for _, r := range [][2]int{{0, 700}, {0, 1}, {3, 500}, {699, 700}, {9, 9}, {0, 0}, {700, 700}} {
			got, ends := v.AppendAll([]byte("before"), []uint32{6}, r[0], r[1])
			want, wantEnds := []byte("before"), []uint32{6}
			for i := r[0]; i < r[1]; i++ {
				want = append(want, c.text(i)...)
				wantEnds = append(wantEnds, uint32(len(want)))
			}
			if !bytes.Equal(got, want) || !slices.Equal(ends, wantEnds) {
				t.Errorf("%s: rows %d to %d: %q", c.name, r[0], r[1], got)
			}
		}
	}
}
