package template

import (
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Lines whose templates would need more columns than a section can have are raw.
func TestColumnsAreBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	for range 30 {
		a := NewAnalyzer()
		a.limit = r.IntN(40)
		raw, cut := 0, 0
		for k := range 6 {
			if k == 3 {
				a.Next(1 + 2*r.IntN(2))
			}
			var texts []string
			for range 1 + r.IntN(120) {
				s := strings.Repeat("=:;,|!/*"[r.IntN(8):], 1+r.IntN(2))
				if r.IntN(3) == 0 {
					s += day.Format("2006-01-02T15:04:05.000") + " up"
				}
				texts = append(texts, s+strings.Repeat(" 1", r.IntN(12))+[]string{"", "\x00", " word", " other"}[r.IntN(4)])
			}
			lines, times := input(day.UnixNano(), texts...)
			b, err := a.Analyze(lines, times, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			slots, counts := a.Slots()
			n := 0
			for _, f := range b.Rows {
				n += int(counts[f])
			}
			if n != len(slots) || len(a.cols) > a.limit+1 {
				t.Fatalf("%d slots, not %d; %d columns, at most %d and that of raw lines are allowed", len(slots), n, len(a.cols), a.limit)
			}
			tab, number := all(a)
			rebuild(t, tab, number, b, lines, times)
			raw, cut = raw+b.RawRows, cut+len(times)-b.RawRows
		}
		if raw == 0 || a.limit > 20 && cut == 0 {
			t.Fatalf("%d raw lines, %d others", raw, cut)
		}
	}
}

// Contexts have the numbers in the order in which they came first.
func TestColumnIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x columnIDs
		for range 3 {
			want := map[slotContext]uint32{}
			few := rapid.Uint64Range(1, 1<<rapid.IntRange(1, 40).Draw(t, "bits")).Draw(t, "few")
			for i := range rapid.IntRange(0, 3000).Draw(t, "n") {
				h := uint64(i) * 0x9E3779B97F4A7C15 % few
				c := slotContext{hash: h << (h % 3 * 20), nth: uint64(i % 3), time: i%7 == 0, lay: Layout(i % 2)}
				id, ok := want[c]
				if !ok {
					id = uint32(len(want))
					want[c] = id
				}
				if got, fresh := x.id(c); got != id || fresh == ok {
					t.Fatalf("%+v: %d, %v, not %d, %v", c, got, fresh, id, !ok)
				}
			}
			x.reset()
		}
	})
}
