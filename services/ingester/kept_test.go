package ingester

import (
	"sync/atomic"
	"testing"

	"github.com/weir-logs/weir/libs/objstore"
)

// What of the log is kept for tails is not taken for new at the next start: it goes with
// the blocks that cover it.
func TestKeptLogIsNotReplayed(t *testing.T) {
	dir, store := t.TempDir(), objstore.NewMemory(nil)
	var known atomic.Bool
	begin := func() *node {
		return startWith(t, dir, 1<<30, func(c *Config, d *Deps) {
			c.TailLog = 1 << 20
			d.Bucket, d.Known = store, func(string) bool { return known.Load() }
		}, nil)
	}
	n := begin()
	if _, err := n.ingest(1, "a", []int64{1}, "line"); err != nil {
		t.Fatal(err)
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if first := n.svc.log.FirstLSN(); first != 1 {
		t.Fatalf("the log begins at %d: nothing is kept", first)
	}
	if _, err := n.ingest(2, "a", []int64{2}, "in memory alone"); err != nil {
		t.Fatal(err)
	}
	known.Store(true)
	until(t, func() bool { containers, _, _ := n.svc.blocks.count(); return containers == 0 })
	n.close()

	n = begin()
	if rows := n.svc.gens.stats().Rows; rows != 1 {
		t.Errorf("%d rows are in memory, want the one that is not in the object store", rows)
	}
}
