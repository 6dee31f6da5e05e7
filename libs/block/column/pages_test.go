package column

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Parts of a payload, joined, are the payload, and a view of each has the values that the
// column has there.
func TestPages(t *testing.T) {
	c := NewCompressor(LevelDefault)
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.IntRange(0, 9).Draw(t, "shape")
		values := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return drawValue(t, shape) }), 1, 100).Draw(t, "values")
		var slab []byte
		refs := make([]Ref, len(values))
		for i, v := range values {
			refs[i] = MakeRef(uint32(len(slab)), uint32(len(v)))
			slab = append(slab, v...)
		}
		info, payload := (&Encoder{}).Encode(nil, slab, refs)
		info.Size = uint32(len(payload))
		if _, ok := info.PageSize(1); !ok {
			return
		}
		count := rapid.IntRange(1, len(values)+2).Draw(t, "count")
		packed := rapid.Bool().Draw(t, "packed")
		p, head := NewPager(&info, payload)
		var pages [][]byte
		var sizes []int
		for from := 0; from < info.N; from += count {
			n := min(count, info.N-from)
			part := p.Append(nil, n)
			if size, _ := info.PageSize(n); size >= 0 && size != len(part) {
				t.Fatalf("a part of %d bytes, not %d", len(part), size)
			}
			sizes = append(sizes, len(part))
			pages = append(pages, c.AppendPage(nil, part, packed))
		}
		read := func(i int) ([]byte, error) { return ReadPage(pages[i], sizes[i]) }
		got, err := JoinPages(&info, head, count, read)
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("%v: %x, not %x", err, got, payload)
		}
		var dict *View
		if info.Kind == Dict {
			if dict, err = NewHeadView(&info, head); err != nil {
				t.Fatal(err)
			}
		}
		for k := range pages {
			part, err := read(k)
			if err != nil {
				t.Fatal(err)
			}
			n := min(count, info.N-k*count)
			v, err := PageView(&info, n, dict, part)
			if err != nil {
				t.Fatal(err)
			}
			if m := v.MemorySize(); dict != nil && m > 256 {
				t.Fatalf("a page of a dictionary takes %d bytes, as if it had the distinct values to itself", m)
			}
			for range 3 {
				i := rapid.IntRange(0, n-1).Draw(t, "value")
				if got, err := v.Append(nil, i); err != nil || string(got) != values[k*count+i] {
					t.Fatalf("value %d of page %d: %q, %v, not %q", i, k, got, err, values[k*count+i])
				}
			}
			at, bit := rapid.IntRange(0, len(pages[k])-1).Draw(t, "byte"), rapid.IntRange(0, 7).Draw(t, "bit")
			pages[k][at] ^= 1 << bit
			if _, err := read(k); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("a page with a changed bit: %v", err)
			}
			pages[k][at] ^= 1 << bit
		}
	})
}

// Pages that are not what a column's description says are no payload: no byte of one is
// left that no page told.
func TestPagesThatDoNotFit(t *testing.T) {
	for name, x := range map[string]struct {
		size  uint32
		parts []int
		ok    bool
	}{
		"right":              {13, []int{5, 5, 3}, true},
		"payload too large":  {14, []int{5, 5, 3}, false},
		"payload too small":  {12, []int{5, 5, 3}, false},
		"less than planes":   {4, []int{1, 1, 2}, false},
		"first page short":   {13, []int{4, 5, 3}, false},
		"last page short":    {13, []int{5, 5, 2}, false},
		"last page long":     {13, []int{5, 5, 4}, false},
		"page of no lengths": {13, []int{5, 1, 7}, false},
	} {
		c := Info{Kind: Bytes, Width: 1, N: 5, Size: x.size}
		got, err := JoinPages(&c, nil, 2, func(i int) ([]byte, error) { return bytes.Repeat([]byte{1}, x.parts[i]), nil })
		if x.ok && (err != nil || !bytes.Equal(got, bytes.Repeat([]byte{1}, 13))) || !x.ok && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

// Times that are read by parts are those that were encoded.
func TestTimesPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 2000).Draw(t, "rows")
		unit := rapid.SampledFrom([]int64{1, 1e3, 1e9}).Draw(t, "unit")
		times, x := make([]int64, n), rapid.Int64Range(-1e6, 1e6).Draw(t, "first")
		step := rapid.Int64Range(0, 1e9).Draw(t, "step")
		for i := range times {
			x += int64(uint64(i+1) * 0x9E3779B97F4A7C15 % uint64(step+1))
			times[i] = x * unit
		}
		ends := []uint32{uint32(n)}
		for _, e := range rapid.SliceOfN(rapid.IntRange(1, n), 0, 30).Draw(t, "runs") {
			ends = append(ends, uint32(e))
		}
		slices.Sort(ends)
		ends = slices.Compact(ends)
		whole := AppendTimes(nil, times, ends)
		steps := TimesGroup * rapid.IntRange(1, 4).Draw(t, "groups")
		head, parts := CutTimes(whole, times, ends, steps)
		p, err := OpenTimesPages(head, n, ends, steps)
		if err != nil {
			t.Fatal(err)
		}
		if all := bytes.Join(parts, nil); !bytes.HasSuffix(whole, all) || len(all) == 0 && len(parts) > 0 {
			t.Fatal("parts are not what was cut")
		}
		if len(parts) > p.Parts() || len(parts) < p.Parts()-1 {
			t.Fatalf("%d parts, not %d", p.Parts(), len(parts))
		}
		row := 0
		for i := range p.Parts() {
			var part []byte
			if i < len(parts) {
				part = parts[i]
			}
			got, err := p.Decode([]int64{7}, i, part)
			from, to := p.Rows(i)
			if err != nil || from != row || got[0] != 7 || !slices.Equal(got[1:], times[from:to]) || i > 0 && p.Before(i) != times[from-1] {
				t.Fatalf("part %d, rows %d to %d: %v", i, from, to, err)
			}
			for _, k := range []int{from, to - 1} {
				if p.Part(k) != i {
					t.Fatalf("row %d is in part %d, not %d", k, p.Part(k), i)
				}
			}
			row = to
		}
		if row != n {
			t.Fatalf("parts of %d rows of %d", row, n)
		}
		for i := range p.before {
			p.before[i]++
			if _, err := p.Decode(nil, i, parts[i]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("the head says of part %d what the one before does not end with: %v", i+1, err)
			}
			p.before[i]--
		}
		at := rapid.IntRange(0, len(head)-1).Draw(t, "byte")
		head[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		if p, err := OpenTimesPages(head, n, ends, steps); err == nil {
			for i := range min(len(parts), p.Parts()) {
				_, _ = p.Decode(nil, i, parts[i])
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
