package ingester

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

// TestRule11UnreadableIndexIsOneTenants: where a tenant's index cannot be read its old
// local copies stay; what is new is uploaded all the same.
func TestRule11UnreadableIndexIsOneTenants(t *testing.T) {
	store := objstore.NewMemory(nil)
	var now atomic.Int64
	now.Store(1e18)
	n := startWith(t, t.TempDir(), 1<<30, func(c *Config, d *Deps) {
		d.Bucket = store
		d.Now = func() time.Time { return time.Unix(0, now.Load()) }
		c.KeepUploaded = time.Hour
	}, nil)
	if _, err := n.ingest(1, "a", []int64{1}, "old"); err != nil {
		t.Fatal(err)
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	_, keys := stored(t, store)
	if err := store.Delete(t.Context(), keys[0]); err != nil {
		t.Fatal(err)
	}
	if err := objstore.PutBytes(t.Context(), store, catalog.IndexKey("t"), []byte("no index")); err != nil {
		t.Fatal(err)
	}
	now.Add(int64(2 * time.Hour))
	if _, err := n.ingest(2, "a", []int64{2}, "new"); err != nil {
		t.Fatal(err)
	}
	if err := n.flush(); err == nil {
		t.Error("nobody is told")
	}
	if got, _ := stored(t, store); len(got) != 1 {
		t.Errorf("the bucket has %q", got)
	}
	if here := contents(t, n.svc); len(here) != 2 {
		t.Errorf("the ingester has %q", here)
	}
}
