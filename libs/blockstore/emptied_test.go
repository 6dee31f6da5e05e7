package blockstore

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/block"
)

// bodies asks a cache for row groups of 100 bytes, of which 10 stay.
type bodies struct {
	*testing.T
	*Cache
	block *block.Reader
	loads int
}

func (b *bodies) ask(n int) emptying {
	p, err := b.get(context.Background(), key{block: b.block, kind: kindBody, n: n}, func() (part, error) {
		b.loads++
		return emptying{&sized{n: 100}, 10}, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return p.(emptying)
}

func (b *bodies) section(n, first, groups int) {
	if _, err := b.get(context.Background(), key{block: b.block, kind: kindSection, n: n}, func() (part, error) {
		return sectioned{&sized{n: 1}, first, groups}, nil
	}); err != nil {
		b.Fatal(err)
	}
}

// What stays of row groups is there when they are asked for again, counts for what it takes,
// and is in nobody's way once what went is there again.
func TestCacheKeepsWhatStays(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := &bodies{T: t, Cache: NewCache(room, reg), block: new(block.Reader)}
	for n := range 20 {
		b.ask(n)
	}
	for n := range 20 {
		if p := b.ask(n); p.MemorySize() != 100 && p.MemorySize() != 10 {
			t.Error(p.MemorySize())
		}
	}
	if b.loads != 20 || b.Size() > room {
		t.Error(b.loads, "loads", b.Size(), "bytes")
	}
	of := 0
	for n := range 20 {
		if e := b.entries[key{block: b.block, kind: kindBody, n: n}]; e.queue.of == ofEmptied {
			of++
		}
	}
	if got, err := testutil.GatherAndCount(reg, "weir_blockstore_cache_emptied_bytes"); got != 1 || err != nil {
		t.Error(got, err)
	}
	if of != 12 || b.shares[ofEmptied].size() != 120 || testutil.ToFloat64(b.metrics.emptyHits) != 12 || testutil.ToFloat64(b.metrics.evictions) != 12 {
		t.Error(of, "are emptied", b.shares[ofEmptied].size(), testutil.ToFloat64(b.metrics.emptyHits), testutil.ToFloat64(b.metrics.evictions))
	}
	// One that is read again is as any other.
	n := 0
	for b.entries[key{block: b.block, kind: kindBody, n: n}].queue.of != ofEmptied {
		n++
	}
	b.ask(n).grow(90)
	b.measure(key{block: b.block, kind: kindBody, n: n})
	if e := b.entries[key{block: b.block, kind: kindBody, n: n}]; e.queue.of != ofRowGroups || e.size != 90 || testutil.ToFloat64(b.metrics.misses[kindBody]) != 21 {
		t.Errorf("%+v", e)
	}
	b.Forget(b.block)
	if b.Size() != 0 || len(b.entries) != 0 {
		t.Error(b.Size(), "bytes of a block that is forgotten")
	}
}

// What stays never takes the room that sections and recent row groups have.
func TestWhatStaysIsBounded(t *testing.T) {
	b := &bodies{T: t, Cache: NewCache(room, nil), block: new(block.Reader)}
	for n := range 500 {
		b.ask(n)
		if s := &b.shares[ofEmptied]; s.size() > b.most(ofEmptied) {
			t.Fatal(s.size(), "bytes stay")
		}
	}
	if b.shares[ofEmptied].size() < room/4 || b.shares[ofRowGroups].size() < room/recentShare {
		t.Error(b.shares[ofEmptied].size(), b.shares[ofRowGroups].size())
	}
	// If it comes again and again, most of what there is room for is found each time.
	for pass := range 8 {
		had := b.loads
		for n := range 60 {
			b.ask(n)
		}
		if found := 60 - (b.loads - had); pass > 4 && found < 30 {
			t.Errorf("pass %d finds %d of 60", pass, found)
		}
	}
}

// What stays has room that sections leave, and gives it back to them.
func TestWhatStaysMakesRoomForSections(t *testing.T) {
	b := &bodies{T: t, Cache: NewCache(room, nil), block: new(block.Reader)}
	for n := range 300 {
		b.ask(n)
	}
	if n := b.shares[ofEmptied].size(); n <= 3*room/8 || n > room/2 {
		t.Error(n, "bytes stay beside no sections")
	}
	const size = room / 20
	for n := range 10 {
		if _, err := b.get(context.Background(), key{block: b.block, kind: kindSection, n: n}, func() (part, error) {
			return sectioned{&sized{n: size}, 1000 + n, 1}, nil
		}); err != nil {
			t.Fatal(err)
		}
		for n := range 300 { // what is asked for goes on
			b.ask(n)
		}
		if got := b.shares[ofSections].size(); got != int64(n+1)*size {
			t.Errorf("%d bytes of %d sections", got, n+1)
		}
	}
	if n := b.shares[ofEmptied].size(); n > 3*room/8 || n < room/4 || b.Size() > room {
		t.Error(n, "bytes stay beside sections of half of the cache, and all are", b.Size())
	}
}

// Row groups hold on to their section: what stays of them goes with it, and nothing stays of
// those that were opened with one that is gone.
func TestWhatStaysGoesWithItsSection(t *testing.T) {
	b := &bodies{T: t, Cache: NewCache(room, nil), block: new(block.Reader)}
	b.section(0, 0, 10)
	b.section(1, 10, 10)
	for n := range 20 {
		b.ask(n)
	}
	was := map[int]int{} // share
	for n := range 20 {
		was[n] = b.entries[key{block: b.block, kind: kindBody, n: n}].queue.of
	}
	b.forget([]key{{block: b.block, kind: kindSection, n: 0}})
	kept := [2]int{}
	for n := range 20 {
		e := b.entries[key{block: b.block, kind: kindBody, n: n}]
		if stays := n >= 10 || was[n] != ofEmptied; stays != (e != nil) {
			t.Error("row group", n, "stays:", e != nil)
		} else if stays {
			kept[n/10]++
		}
	}
	if kept[0] == 0 || kept[0] == 10 || kept[1] != 10 {
		t.Error(kept)
	}
	for n := 20; n < 60; n++ {
		b.ask(n)
	}
	for n := range 10 {
		if e := b.entries[key{block: b.block, kind: kindBody, n: n}]; e != nil && e.queue.of == ofEmptied {
			t.Error("row group", n, "holds on to a section that is gone")
		}
	}
}

// Who still uses lines that went has no part in what is counted for what stays of them.
func TestWhatWentIsNotCounted(t *testing.T) {
	b := &bodies{T: t, Cache: NewCache(room, nil), block: new(block.Reader)}
	used := b.ask(0)
	e := b.entries[key{block: b.block, kind: kindBody, n: 0}]
	b.mu.Lock()
	b.leave(e, nil)
	b.mu.Unlock()
	used.grow(500)
	b.note(e, used, true)
	if e.queue.of != ofEmptied || e.size != 10 || b.Size() != 10 {
		t.Errorf("%+v, %d bytes", e, b.Size())
	}
}
