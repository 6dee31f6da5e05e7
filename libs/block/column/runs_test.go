package column

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// Runs are encoded as their values would be as text, to the byte.
func TestEncodeRunsIsEncode(t *testing.T) {
	generators := []func(t *rapid.T, k int) string{
		func(t *rapid.T, k int) string { return fmt.Sprint(rapid.IntRange(0, 3000).Draw(t, "x")) },
		func(t *rapid.T, k int) string { return fmt.Sprint(1000000 + k*3 + rapid.IntRange(0, 2).Draw(t, "x")) },
		func(t *rapid.T, k int) string { return fmt.Sprintf("%03d", rapid.IntRange(0, 999).Draw(t, "x")) },
		func(t *rapid.T, k int) string { return fmt.Sprintf("%03d", rapid.IntRange(100, 999).Draw(t, "x")) },
		func(t *rapid.T, k int) string { return fmt.Sprintf("blk_%d", rapid.IntRange(0, 1<<40).Draw(t, "x")) },
		func(t *rapid.T, k int) string { return fmt.Sprintf("ab%04d", rapid.IntRange(0, 9999).Draw(t, "x")) },
		func(t *rapid.T, k int) string { return fmt.Sprintf("%08x", rapid.Uint32().Draw(t, "x")) },
		func(t *rapid.T, k int) string { return fmt.Sprintf("%07X", rapid.Uint32Range(0, 1<<28-1).Draw(t, "x")) },
		func(t *rapid.T, k int) string { return fmt.Sprintf("%020d%d", 7, rapid.IntRange(0, 9).Draw(t, "x")) },
		func(t *rapid.T, k int) string {
			return fmt.Sprintf("%08x-1234-%04x-abcd-%012d", rapid.Uint32().Draw(t, "x"), k&0xffff, k)
		},
		func(t *rapid.T, k int) string {
			return fmt.Sprintf("10.%d.%d.7", rapid.IntRange(0, 255).Draw(t, "x"), rapid.IntRange(0, 255).Draw(t, "y"))
		},
		func(t *rapid.T, k int) string { return fmt.Sprintf("10.0.0.%d", rapid.IntRange(0, 300).Draw(t, "x")) },
		func(t *rapid.T, k int) string {
			return []string{"GET", "PUT", "", "x-1"}[rapid.IntRange(0, 3).Draw(t, "x")]
		},
		func(t *rapid.T, k int) string { return "80" },
		func(t *rapid.T, k int) string { return rapid.StringN(0, 12, 40).Draw(t, "x") },
	}
	rapid.Check(t, func(t *rapid.T) {
		var enc, before Encoder // the runs may be of another encoder
		enc.FewDistinct(rapid.Bool().Draw(t, "few distinct"))
		var slab []byte
		var refs []Ref
		var runs []Run
		base := rapid.IntRange(0, len(generators)-1).Draw(t, "generator")
		for range rapid.IntRange(1, 5).Draw(t, "runs") {
			g := base
			if rapid.IntRange(0, 3).Draw(t, "other") == 0 {
				g = rapid.IntRange(0, len(generators)-1).Draw(t, "generator")
			}
			var text []byte
			var part []Ref
			n := rapid.SampledFrom([]int{1, 3, 17, 40, 300}).Draw(t, "n")
			few := rapid.Bool().Draw(t, "few")
			var seen []string
			for k := range n {
				var v string
				if few && len(seen) >= 3 {
					v = seen[rapid.IntRange(0, len(seen)-1).Draw(t, "again")]
				} else {
					v = generators[g](t, k)
					seen = append(seen, v)
				}
				part = append(part, MakeRef(uint32(len(text)), uint32(len(v))))
				text = append(text, v...)
			}
			from := rapid.IntRange(0, n-1).Draw(t, "from")
			to := rapid.IntRange(from+1, n).Draw(t, "to")
			if rapid.Bool().Draw(t, "whole") {
				from, to = 0, n
			}
			for _, r := range part[from:to] {
				refs = append(refs, MakeRef(uint32(len(slab)), uint32(r.Len())))
				slab = append(slab, r.Of(text)...)
			}
			if rapid.IntRange(0, 5).Draw(t, "text") == 0 {
				runs = append(runs, Run{Text: &Text{Slab: text, Refs: part[from:to]}})
				continue
			}
			c, payload := before.Encode(nil, text, part)
			v, err := Open(&c, payload)
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, Run{Values: v, From: from, To: to})
		}
		want, payload := enc.Encode(nil, slab, refs)
		got, dst := enc.EncodeRuns([]byte("before"), runs)
		if !reflect.DeepEqual(got, want) || !bytes.Equal(dst, append([]byte("before"), payload...)) {
			t.Fatalf("runs are encoded as %+v, their text as %+v", got, want)
		}
	})
}

// Integers likewise.
func TestEncodeSignedRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var enc Encoder
		var all []int64
		var runs []Run
		for range rapid.IntRange(1, 4).Draw(t, "runs") {
			part := rapid.SliceOfN(rapid.Int64(), 1, 20).Draw(t, "values")
			from := rapid.IntRange(0, len(part)-1).Draw(t, "from")
			all = append(all, part[from:]...)
			if rapid.Bool().Draw(t, "plain") {
				runs = append(runs, Run{Text: &Text{Ints: part[from:]}})
				continue
			}
			c, payload := enc.EncodeSigned(nil, part)
			v, err := Open(&c, payload)
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, Run{Values: v, From: from, To: len(part)})
		}
		want, payload := enc.EncodeSigned(nil, all)
		got, dst := enc.EncodeRuns(nil, runs)
		if !reflect.DeepEqual(got, want) || !bytes.Equal(dst, payload) {
			t.Fatalf("%+v, not %+v", got, want)
		}
	})
}
