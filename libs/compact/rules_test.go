package compact_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/compact"
)

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
