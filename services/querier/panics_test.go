package querier

import (
	"context"
	"testing"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// A query that a panic ends leaves no block in use: it would be held open, and never be
// removed, for good.
func TestPanicsReleaseBlocks(t *testing.T) {
	s := newShop(t)
	good := s.put(nil, rows("a", 0, 50)...)
	bad := s.put(nil, rows("a", 50, 60)...)
	s.refresh()
	s.bucket.Before = func(_ context.Context, op, key string) error {
		if key == catalog.Key(bad) {
			panic("in " + op)
		}
		return nil
	}
	ends := func(what string, ask func() error) {
		defer func() {
			if p := engine.Recovered(recover()); p.Told == nil {
				t.Errorf("%s: %v", what, p)
			}
		}()
		t.Errorf("%s: %v", what, ask())
	}
	open := func(src engine.Source) func() error {
		return func() error {
			_, err := src.Open(t.Context(), nil, 0, 1<<62)
			return err
		}
	}
	ends("stored", open(&stored{blocks: s.blocks, tenant: good.Tenant}))
	ends("some", open(some{s.blocks, []catalog.Block{good, bad}}))
	ends("read ahead", func() error {
		_, _, err := s.blocks.warm(t.Context())
		return err
	})
	for _, b := range []catalog.Block{good, bad} {
		if s.blocks.inUse(b.ID) {
			t.Errorf("block %s is in use", b.ID)
		}
	}
}
