package querier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

// gets counts reads of the bucket, by key.
func (s *shop) gets() func() map[string]int {
	var mu sync.Mutex
	got := map[string]int{}
	s.bucket.Before = func(_ context.Context, op, key string) error {
		if op == "get" {
			mu.Lock()
			defer mu.Unlock()
			got[key]++
		}
		return nil
	}
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		out := got
		got = map[string]int{}
		return out
	}
}

// Blocks that were read ahead are not opened by queries, nor the footers of their sections
// read: a needle that the grams rule out reads nothing.
func TestWarm(t *testing.T) {
	s := newShop(t)
	b := s.put(nil, rows("a", 0, 50)...)
	s.reopen(1 << 20)
	s.refresh()
	n, bytes, err := s.blocks.warm(t.Context())
	if n != 1 || bytes == 0 || err != nil {
		t.Fatal(n, bytes, err)
	}
	if size := s.blocks.store.Cache.Size(); size < 2*bytes {
		t.Errorf("the cache has %d bytes, %d of footers: templates were not made ready", size, bytes)
	}
	if n, _, err := s.blocks.warm(t.Context()); n != 1 || err != nil {
		t.Error("again:", n, err)
	}
	gets := s.gets()
	s.same("absent", s.lines(`{app="a"} |= "zq00absent00needle"`), nil)
	if got := gets(); len(got) != 0 {
		t.Errorf("reads %v", got)
	}
	s.same("all", s.lines(`{app="a"}`), textOf(rows("a", 0, 50)))
	if n := gets()[catalog.Key(b)]; n == 0 {
		t.Error("lines were read ahead")
	}
	if o := s.blocks.open[b.ID]; o == nil || o.users != 0 {
		t.Errorf("%+v", o)
	}
}

// The newest blocks are read ahead, no more than fit in a share of the memory for them.
func TestWarmIsBounded(t *testing.T) {
	s := newShop(t)
	var all []catalog.Block
	for i := range 60 {
		all = append(all, s.put(nil, rows(fmt.Sprint("app", i), i*100, i*100+20)...))
	}
	for _, memory := range []int64{1 << 20, 30 << 10} {
		s.reopen(memory)
		s.blocks.store.Cache = blockstore.NewCache(8<<20, nil)
		if memory == 1<<20 {
			s.blocks.store.Cache = blockstore.NewCache(4<<20, nil)
		}
		s.refresh()
		n, _, err := s.blocks.warm(t.Context())
		if err != nil || n == 0 || n == len(all) {
			t.Fatal(n, err)
		}
		if want := int(s.blocks.store.Cache.Limit() / 8 / warmRead); n > want {
			t.Errorf("%d blocks, of at most %d", n, want)
		}
		if size := s.blocks.store.Cache.Size(); size > s.blocks.store.Cache.Limit()/2 {
			t.Errorf("%d bytes of parts, of %d", size, s.blocks.store.Cache.Limit())
		}
		if s.blocks.bytes > memory/4 {
			t.Errorf("%d bytes of indexes, of %d", s.blocks.bytes, memory)
		}
		for i, b := range all {
			if is := s.blocks.open[b.ID] != nil; is != (i >= len(all)-n) {
				t.Errorf("block %d of %d is open: %v, of %d", i, len(all), is, n)
			}
		}
	}
}

// A store that fails is left alone, and queries read what was not read ahead.
func TestWarmFails(t *testing.T) {
	s := newShop(t)
	var all [][]row
	var blocks []catalog.Block
	for i := range 5 {
		all = append(all, rows(fmt.Sprint("app", i), i*100, i*100+20))
		blocks = append(blocks, s.put(nil, all[i]...))
	}
	s.reopen(1 << 20)
	s.refresh()
	s.bucket.Before = func(_ context.Context, _, key string) error {
		if key == catalog.Key(blocks[3]) {
			return objstore.ErrUnavailable
		}
		return nil
	}
	n, _, err := s.blocks.warm(t.Context())
	if n != 1 || !errors.Is(err, objstore.ErrUnavailable) {
		t.Error(n, err)
	}
	s.bucket.Before = nil
	s.same("all", s.lines(`{app=~".+"}`), textOf(slices.Clone(all)...))
}

// A damaged block is passed over: the others are read ahead, and it is told of.
func TestWarmPassesOverDamage(t *testing.T) {
	s := newShop(t)
	var blocks []catalog.Block
	for i := range 5 {
		blocks = append(blocks, s.put(nil, rows(fmt.Sprint("app", i), i*100, i*100+20)...))
	}
	for _, opened := range []bool{false, true} { // the footers of sections are read wrong, or all is
		s.bucket.Flip = nil
		s.reopen(1 << 20)
		s.refresh()
		if opened {
			o, err := s.blocks.acquire(t.Context(), blocks[3])
			if err != nil {
				t.Fatal(err)
			}
			s.blocks.release(o)
		}
		s.bucket.Flip = func(key string) bool { return key == catalog.Key(blocks[3]) }
		if _, _, err := s.blocks.warm(t.Context()); err != nil {
			t.Error(err)
		}
		for _, i := range []int{1, 2, 4} { // there is no more memory for the first one
			if s.blocks.open[blocks[i].ID] == nil {
				t.Errorf("opened %v: block %d was not read ahead", opened, i)
			}
		}
		if n := testutil.ToFloat64(s.blocks.found); n != 1 {
			t.Errorf("opened %v: %v damaged blocks are counted", opened, n)
		}
	}
}

// A block that was replaced meanwhile is passed over: the others are read ahead.
func TestWarmPassesOverReplacedBlocks(t *testing.T) {
	for _, opened := range []bool{false, true} { // it is gone before it is opened, or behind that
		s := newShop(t)
		var blocks []catalog.Block
		for i := range 4 {
			blocks = append(blocks, s.put(nil, rows(fmt.Sprint("app", i), i*100, i*100+20)...))
		}
		s.reopen(1 << 20)
		s.refresh()
		if opened {
			o, err := s.blocks.acquire(t.Context(), blocks[3])
			if err != nil {
				t.Fatal(err)
			}
			s.blocks.release(o)
		}
		if err := s.bucket.Delete(t.Context(), catalog.Key(blocks[3])); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.blocks.warm(t.Context()); err != nil {
			t.Errorf("opened %v: %v", opened, err)
		}
		if s.blocks.open[blocks[2].ID] == nil {
			t.Errorf("opened %v: the next block was not read ahead", opened)
		}
		if n := testutil.ToFloat64(s.blocks.found); n != 0 {
			t.Errorf("opened %v: %v damaged blocks are counted", opened, n)
		}
	}
}
