package checker

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// same says whether two histories hold the same.
func same(t *testing.T, a, b *History) {
	t.Helper()
	list := func(h *History) (out []record) {
		for _, r := range h.all() {
			x := *r
			x.acked = min(1, x.acked) // places count from what is remembered
			out = append(out, x)
		}
		return out
	}
	if x, y := list(a), list(b); !reflect.DeepEqual(x, y) {
		t.Fatalf("%d entries are not the %d that were written:\n%+v\n%+v", len(y), len(x), y, x)
	}
	if x, y := a.Acknowledged(nil), b.Acknowledged(nil); len(x)+len(y) > 0 && !reflect.DeepEqual(x, y) {
		t.Fatalf("acknowledged: %v, not %v", y, x)
	}
}

// TestHistoryFile writes a history at random, forgets some of it and opens it again.
func TestHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	rng := rand.New(rand.NewPCG(1, 2))
	h, err := OpenHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	seq := [2]uint32{}
	for round := range 12 {
		for range 12 {
			w := uint32(rng.IntN(2))
			var batch []Entry
			for range 1 + rng.IntN(5) {
				batch = append(batch, Entry{ID{w, seq[w]}, rng.IntN(3), int64(seq[w])*1000 - rng.Int64N(5000)})
				seq[w]++
			}
			for range 1 + rng.IntN(2) {
				h.Sent(batch)
				switch rng.IntN(3) {
				case 0:
					h.Acked(batch...)
				case 1:
					h.Refused(batch[0])
					h.Acked(batch[1:]...)
				}
			}
		}
		if round%3 == 2 {
			h.Forget(int64(seq[0])*1000 - 25_000)
			h.mu.Lock()
			h.journal.size = max(h.journal.size, compactAbove) // as if it were large
			h.journal.compact(h)
			h.mu.Unlock()
		}
		if err := h.Err(); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 { // a line that was cut short
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("s 1 99999"); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		again, err := OpenHistory(path)
		if err != nil {
			t.Fatal(err)
		}
		if round%3 == 2 {
			same(t, h, again)
		}
		for w := range seq {
			if got := again.next(uint32(w)); got != seq[w] {
				t.Fatalf("writer %d goes on at %d, not %d", w, got, seq[w])
			}
		}
		h = again
	}
	if err := os.WriteFile(path, []byte("s 1 2 3 4\nsomething else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHistory(path); err == nil {
		t.Error("what is no history is taken for one")
	}
}

// TestSpans judges parts of a history.
func TestSpans(t *testing.T) {
	h := &History{}
	var all []Entry
	for i := range uint32(10) {
		all = append(all, Entry{ID{0, i}, int(i % 2), int64(i) * 10})
	}
	h.Sent(all)
	h.Acked(all[:8]...)
	h.Refused(all[8])
	read := func(span Span, skip int) *Read {
		r := &Read{Span: span}
		for i, e := range all[:8] {
			if span.has(e.Time) && i != skip {
				r.Add([]string{"0", "1"}[e.Stream], e.Time, e.Line(0))
			}
		}
		r.EndPage()
		return r
	}
	span := Span{20, 60}
	if v := h.Judge(h.Mark(), read(span, -1), nil); v.Err() != nil || v.Acked != 4 {
		t.Error(v)
	}
	if v := h.Judge(h.Mark(), read(span, 3), nil); v.Lost != 1 {
		t.Error(v)
	}
	outside := read(Span{}, -1)
	outside.Span = span
	r := &Read{Span: span}
	r.Add("1", all[1].Time, all[1].Line(0))
	if v := h.Judge(h.Mark(), r, nil); v.Corrupt != 1 {
		t.Errorf("a row outside of what was asked for: %s", v)
	}
	for _, x := range []struct {
		counts        map[int]int
		short, differ int
	}{
		{map[int]int{0: 4, 1: 4}, 0, 0},
		{map[int]int{0: 4, 1: 5}, 0, 0}, // the last may be there
		{map[int]int{0: 3, 1: 4}, 1, 0},
		{map[int]int{1: 4}, 1, 0},
		{map[int]int{0: 5, 1: 4}, 0, 1}, // one was refused
		{map[int]int{0: 4, 1: 4, 2: 1}, 0, 1},
	} {
		var v Verdict
		h.JudgeCounts(&v, h.Mark(), Span{}, x.counts)
		if v.Short != x.short || v.Differ != x.differ {
			t.Errorf("%v: %s", x.counts, v)
		}
	}
	// What is forgotten is not missed, and the rest still is.
	h.Forget(30)
	if v := h.Judge(h.Mark(), read(Span{30, 100}, 4), nil); v.Lost != 1 || h.Len() != 7 || len(h.Acknowledged(nil)) != 5 {
		t.Errorf("%s, %d remembered", v, h.Len())
	}
}
