package blockstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/model"
)

// Templates of sections whose footers are in the cache are made ready: nothing is read for it,
// no more memory is taken than is allowed, and what is damaged is told of.
func TestWarmTemplates(t *testing.T) {
	var entries []enginetest.Entry
	for app := range 4 {
		for i := range 40 {
			entries = append(entries, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("app", app)}}),
				Time: int64(i) * sec, BatchTime: 1, Position: uint32(i), Line: fmt.Sprintf("service %d: user %d is in", app, i)})
		}
	}
	o := &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{RowGroupBytes: 1 << 9, SectionBytes: 1})}
	ctx := context.Background()
	warm := func(limit int64) (*blockstore.Cache, error) {
		r, cache := openBlock(t, o), blockstore.NewCache(1<<20, nil)
		if r.Sections() < 4 {
			t.Fatal(r.Sections(), "sections")
		}
		store := blockstore.NewStore(r, cache)
		if _, err := store.Warm(ctx, 1<<20, 1); err != nil {
			t.Fatal(err)
		}
		o.reads = nil
		had := cache.Size()
		err := store.WarmTemplates(ctx, limit)
		if len(o.reads) > 0 {
			t.Errorf("reads %v", o.reads)
		}
		if cache.Size() > max(had, limit) {
			t.Errorf("%d bytes, of at most %d", cache.Size(), limit)
		}
		return cache, err
	}
	footers, err := warm(0)
	if err != nil {
		t.Fatal(err)
	}
	all, err := warm(1 << 20)
	if err != nil || all.Size() <= footers.Size() {
		t.Error(all.Size(), footers.Size(), err)
	}
	some, err := warm(all.Size() - 1)
	if err != nil || some.Size() <= footers.Size() || some.Size() >= all.Size() {
		t.Error(some.Size(), footers.Size(), all.Size(), err)
	}

	// Footers that are not in the cache are left to queries.
	cache := blockstore.NewCache(1<<20, nil)
	if err := blockstore.NewStore(openBlock(t, o), cache).WarmTemplates(ctx, 1<<20); err != nil || cache.Size() > 0 {
		t.Error(cache.Size(), err)
	}
	ended, end := context.WithCancel(ctx)
	end()
	if err := blockstore.NewStore(openBlock(t, o), cache).WarmTemplates(ended, 1<<20); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	r := openBlock(t, o)
	o.reads = nil
	if _, err := r.ReadSectionFooter(ctx, 0); err != nil {
		t.Fatal(err)
	}
	o.b = append([]byte(nil), o.b...)
	o.b[o.reads[0][0]+20] ^= 1
	if _, err := warm(1 << 20); !errors.Is(err, column.ErrCorrupt) {
		t.Error(err)
	}
}
