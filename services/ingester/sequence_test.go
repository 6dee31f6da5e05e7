package ingester

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/weir-logs/weir/libs/wal"
)

// A record that cannot be applied fails alone.
func TestPanicOfOneRecordStopsNoOther(t *testing.T) {
	log, err := wal.Open(filepath.Join(t.TempDir(), "wal"), wal.Options{ReserveBytes: -1, MinFreeBytes: -1, MaxUsedPercent: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	q := newSequence()
	var all []*pending
	for range 3 {
		p, err := q.begin(context.Background(), log, nil, recordIngest, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	apply := func(p *pending) {
		if p == all[1] {
			panic("no")
		}
		p.added = 7
	}
	for _, i := range []int{2, 1, 0} { // their handlers come in any order
		if err := all[i].ticket.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		q.finish(all[i], nil, apply)
	}
	for i, p := range all {
		<-p.applied
		if (p.broken != nil) != (i == 1) || (p.added == 7) == (i == 1) {
			t.Errorf("record %d: %v, %d", i, p.broken, p.added)
		}
	}
}
