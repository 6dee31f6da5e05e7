package compact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/model"
)

// counting is a writer that tells how many rows it took over as they are stored.
type counting struct {
	*block.Writer
	rows int
}

func (c *counting) Carry(ls model.Labels, from *block.Carried, lo, hi, bytes int) error {
	c.rows += hi - lo
	return c.Writer.Carry(ls, from, lo, hi, bytes)
}

// TestRule15TakenOverOnlyApart: rows are taken over unread only where the closed intervals
// of the sources do not touch: where they share one time, batch times decide the order, and
// one may be a copy of another.
func TestRule15TakenOverOnlyApart(t *testing.T) {
	ctx, ls := context.Background(), model.NewLabels([]model.Label{{Name: "app", Value: "a"}})
	// build makes a block of lines a second apart.
	build := func(id string, first, batch int64, lines ...string) []byte {
		rows := &model.Rows{}
		for i, line := range lines {
			rows.Lines.AppendString(line)
			rows.Times = append(rows.Times, first+int64(i)*1e9)
			rows.BatchTimes = append(rows.BatchTimes, batch)
			rows.Positions = append(rows.Positions, uint32(i))
		}
		var out bytes.Buffer
		w := block.NewWriter(&out, block.Meta{ID: catalog.ID(id), Tenant: "t"}, block.Options{})
		if err := w.Add(ls, rows); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	old := build("old", 1e12, 9, "a", "b", "c") // its last one is of 1002 s
	for name, c := range map[string]struct {
		other []byte
		rows  int // that are taken over
		want  []string
	}{
		"apart":                  {build("new", 1002e9+1, 5, "d", "e"), 5, []string{"a", "b", "c", "d", "e"}},
		"before":                 {build("new", 998e9, 5, "d", "e"), 5, []string{"d", "e", "a", "b", "c"}},
		"of one time":            {build("new", 1002e9, 5, "d", "e"), 0, []string{"a", "b", "d", "c", "e"}},
		"of one time, copied":    {build("new", 1002e9, 5, "c", "e"), 0, []string{"a", "b", "c", "e"}},
		"of one time, at begin":  {build("new", 999e9, 5, "d", "e"), 0, []string{"d", "e", "a", "b", "c"}},
		"overlapping":            {build("new", 1001e9, 5, "b", "d"), 0, []string{"a", "b", "d", "c"}},
		"within, other times":    {build("new", 1000e9+1, 5, "d", "e"), 0, []string{"a", "d", "b", "e", "c"}},
		"the same block as copy": {old, 3, []string{"a", "b", "c"}},
	} {
		var sources []compact.Source
		for _, b := range [][]byte{old, c.other} {
			r, err := block.Open(ctx, inMemory(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			s, err := compact.NewBlockSource(r)
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, s)
		}
		m, err := compact.NewMerge(sources, nil, false, block.Compare)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := &counting{Writer: block.NewWriter(&out, block.Meta{ID: "m", Tenant: "t"}, block.Options{})}
		if err := errors.Join(m.Run(ctx, compact.MinTime, compact.MaxTime, w), m.Prove()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		info, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		r, err := block.Open(ctx, inMemory(out.Bytes()), info.Size)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if err := errors.Join(r.Verify(ctx), r.Each(ctx, func(_ model.Labels, rows *model.Rows) error {
			for i := range rows.Len() {
				got = append(got, string(rows.Lines.At(i)))
			}
			return nil
		})); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !slices.Equal(got, c.want) || w.rows != c.rows {
			t.Errorf("%s: %q, %d rows taken over; want %q, %d", name, got, w.rows, c.want, c.rows)
		}
	}
}

// TestR2R5CopiesAmongOthers: of an entry whose copies stand alone at their time, in
// batches that go on, the newest rule's values and the smallest place remain, whichever
// source has which.
func TestR2R5CopiesAmongOthers(t *testing.T) {
	for _, swapped := range []bool{false, true} {
		of := func(id string, batch int64, version uint32) *source {
			e := func(time int64, line string) entry {
				return entry{app: "a", time: time, line: line, batch: batch, position: 3, version: version, level: fmt.Sprint("by rule ", version)}
			}
			return &source{id: id, batch: 9, streams: map[string][]entry{"a": {e(1, "x"), e(2, id)}}}
		}
		early, newer := of("early", 2, 1), of("newer", 7, 2)
		sources := []compact.Source{early, newer}
		if swapped {
			sources = []compact.Source{newer, early}
		}
		m, err := compact.NewMerge(sources, nil, false, block.Compare)
		if err != nil {
			t.Fatal(err)
		}
		w := &result{t: t}
		if err := errors.Join(m.Run(t.Context(), compact.MinTime, compact.MaxTime, w), m.Prove()); err != nil {
			t.Fatal(err)
		}
		if len(w.entries) != 3 {
			t.Fatalf("%d entries: %+v", len(w.entries), w.entries)
		}
		if e := w.entries[0]; e.batch != 2 || e.position != 3 || e.version != 2 || e.level != "by rule 2" {
			t.Errorf("swapped %v: the copies became %+v", swapped, e)
		}
	}
}
