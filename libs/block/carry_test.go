package block_test

import (
	"bytes"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/model"
)

// A stream may have rows that are taken over and rows that are not, but none of a time that
// both have, and no row comes before those that were announced.
func TestCarriedAmongAdded(t *testing.T) {
	var kept []row
	for i := range 40 {
		kept = append(kept, row{time: int64(100 + i), line: "is kept"})
	}
	source, _ := write(t, oneStream(kept...), block.Meta{ID: "s"}, block.Options{}, 100)
	r := open(t, source)
	section, err := r.ReadSection(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.ReadRowGroup(t.Context(), section, 0)
	if err != nil {
		t.Fatal(err)
	}
	ls, runs := r.Labels(0), r.Runs(0, 0, 1000)
	bytesOf := func(rows int) int { return rows * len("is kept") }
	type step func(w *block.Writer) error
	announce := func(w *block.Writer) error { return w.CarryRuns(ls, runs) }
	carry := func(from, to int) step {
		return func(w *block.Writer) error { return w.Carry(ls, r.Carry(g), from, to, bytesOf(to-from)) }
	}
	add := func(times ...int64) step {
		rows := &model.Rows{}
		for i, at := range times {
			rows.Times = append(rows.Times, at)
			rows.BatchTimes = append(rows.BatchTimes, 1)
			rows.Positions = append(rows.Positions, uint32(i))
			rows.Lines.AppendString("is added")
		}
		return func(w *block.Writer) error { return w.Add(ls, rows) }
	}
	for name, c := range map[string]struct {
		steps []step
		rows  int // 0: one step is refused, or the end is
	}{
		"carried":                     {[]step{announce, carry(0, 40)}, 40},
		"added before":                {[]step{add(98, 99), announce, carry(0, 40)}, 42},
		"added behind":                {[]step{announce, carry(0, 10), carry(10, 40), add(140, 140), add(140, 141)}, 0},
		"added behind, ascending":     {[]step{announce, carry(0, 40), add(140), add(141, 142)}, 43},
		"before and behind":           {[]step{add(1), announce, carry(0, 40), add(140, 150)}, 43},
		"of the last one's time":      {[]step{announce, carry(0, 40), add(139)}, 0},
		"of a time before":            {[]step{announce, carry(0, 40), add(120)}, 0},
		"carried at the time of some": {[]step{add(100), announce, carry(0, 40)}, 0},
		"carried behind later ones":   {[]step{add(500), announce, carry(0, 40)}, 0},
		"before all came":             {[]step{announce, carry(0, 39), add(140)}, 0},
		"not all came":                {[]step{announce, carry(0, 39)}, 0},
		"not announced":               {[]step{add(1), carry(0, 40)}, 0},
	} {
		var out bytes.Buffer
		w := block.NewWriter(&out, block.Meta{ID: "b"}, block.Options{NoGrams: true})
		var err error
		for _, s := range c.steps {
			if err == nil {
				err = s(w)
			}
		}
		if err == nil {
			_, err = w.Close()
		}
		if (err == nil) != (c.rows > 0) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		got := open(t, out.Bytes())
		if err := got.Verify(t.Context()); err != nil || int(got.Info().Rows) != c.rows {
			t.Errorf("%s: %d rows, want %d: %v", name, got.Info().Rows, c.rows, err)
		}
	}
}
