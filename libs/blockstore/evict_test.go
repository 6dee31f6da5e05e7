package blockstore

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
)

// asker asks a cache for parts of row groups.
type asker struct {
	testing.TB
	*Cache
}

// ask asks for a part, and reports whether it was there.
func (a asker) ask(n, size int) (there bool) {
	a.Helper()
	there = true
	if _, err := a.get(context.Background(), key{kind: kindBody, n: n}, func() (part, error) {
		there = false
		return &sized{n: size}, nil
	}); err != nil {
		a.Fatal(err)
	}
	if a.Size() > a.Limit() {
		a.Fatal(a.Size(), "bytes")
	}
	return there
}

// pass asks for parts one after the other, each some times in a row, and returns how many
// were there.
func (a asker) pass(parts []int, times int) (there int) {
	for _, n := range parts {
		if a.ask(n, 10) {
			there++
		}
		for range times - 1 {
			if !a.ask(n, 10) {
				a.Fatal("a part is gone while it is in use")
			}
		}
	}
	return there
}

func numbers(from, to int) (out []int) {
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

// The room is for 100 parts.
const room = 1000

// A query that is repeated over a bit more parts than there is room for, or over far more,
// finds most of those that there is room for: were the oldest one dropped, it would find none.
func TestCacheKeepsWhatLoopsNeed(t *testing.T) {
	for _, parts := range []int{101, 110, 150, 400} {
		for _, times := range []int{1, 3} {
			a := asker{t, NewCache(room, nil)}
			r := rand.New(rand.NewPCG(uint64(parts), uint64(times)))
			for pass := range 8 {
				loop := numbers(0, parts)
				for i := range len(loop) / 4 { // several goroutines read
					some := loop[4*i : 4*i+4]
					r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
				}
				if there := a.pass(loop, times); pass > 0 && there < 75 {
					t.Errorf("%d parts, asked for %d times each: pass %d finds %d", parts, times, pass, there)
				}
			}
		}
	}
}

// What is asked for again and again survives those that pass over three times as much as there
// is room for, between any two of its uses, whether it was there first or came later.
func TestCacheKeepsWhatIsUsedBetweenScans(t *testing.T) {
	for _, first := range []bool{true, false} {
		a := asker{t, NewCache(room, nil)}
		hot, scanned := numbers(0, 50), 1000
		scan := func() {
			a.pass(numbers(scanned, scanned+300), 2)
			scanned += 300
		}
		if !first {
			scan()
		}
		for range 6 { // time to settle
			a.pass(hot, 2)
		}
		for range 5 {
			scan()
			if there := a.pass(hot, 2); there != len(hot) {
				t.Errorf("%d of %d parts are there behind a scan (first: %v)", there, len(hot), first)
			}
		}
	}
}

// What is not asked for any more makes place for what is, once that is asked for again.
func TestCacheFollowsUses(t *testing.T) {
	a := asker{t, NewCache(room, nil)}
	for range 20 {
		a.pass(numbers(0, 90), 3)
	}
	// At once, if it was not asked for while enough was loaded.
	a.pass(numbers(1000, 1300), 1)
	hot := numbers(0, 90)
	if there := a.pass(hot, 1); there < 75 {
		t.Errorf("%d parts are there behind those that are asked for once", there)
	}
	a.pass(numbers(2000, 2600), 1)
	if there := a.pass(hot, 1); there > 0 {
		t.Errorf("%d parts are there that were not asked for for long", there)
	}
	if there := a.pass(numbers(2400, 2500), 1); there < 50 {
		t.Errorf("%d parts are there of those that came when the others were stale", there)
	}
	for range 3 {
		a.pass(hot, 3)
	}
	others := numbers(100, 190)
	a.pass(others, 3)
	a.pass(others, 3)
	a.pass(others, 3)
	if there := a.pass(others, 3); there < 75 {
		t.Errorf("%d parts are there when they are asked for the fourth time", there)
	}
	// A query that goes back and forth between more parts than were loaded lately loads each
	// of them twice, about.
	r := rand.New(rand.NewPCG(1, 2))
	loads := 0
	for range 600 {
		if !a.ask(200+r.IntN(30), 10) {
			loads++
		}
	}
	if loads > 100 {
		t.Errorf("%d loads of 30 parts", loads)
	}
}

// Sections stay within half of the cache while row groups need the rest, and row groups
// do not drive them out.
func TestCacheShares(t *testing.T) {
	c := NewCache(room, nil)
	load := func(kind kind, n int) {
		if _, err := c.get(context.Background(), key{kind: kind, n: n}, func() (part, error) { return &sized{n: 10}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	held := func(share int) int64 { return c.shares[share].size() }
	for n := range 300 {
		load(kindSection, n)
	}
	if held(ofSections) != room {
		t.Error("sections take", held(ofSections))
	}
	for n := range 300 {
		load(kindBody, n)
		load(kindProgram, n)
	}
	if s, g := held(ofSections), held(ofRowGroups); s > room/2 || s < room/2-20 || g < room/2-20 {
		t.Error("sections take", s, "row groups", g)
	}
	for n := range 3000 {
		load(kindOrder, n)
	}
	if s := held(ofSections); s > room/2 || s < room/2-20 {
		t.Error("sections take", s)
	}
}

// Whatever is done, what the cache counts is what its parts take, and no more than its limit
// but for the part that was asked for last.
func TestCacheCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCache(room, nil)
		blocks := [2]*block.Reader{new(block.Reader), new(block.Reader)}
		drawKey := func() key {
			return key{block: blocks[rapid.IntRange(0, 1).Draw(t, "block")], kind: kind(rapid.IntRange(0, int(kinds)-1).Draw(t, "kind")), n: rapid.IntRange(0, 9).Draw(t, "part")}
		}
		var last key
		t.Repeat(map[string]func(*rapid.T){
			"get": func(t *rapid.T) {
				last = drawKey()
				size := rapid.IntRange(1, 300).Draw(t, "size")
				stays := rapid.IntRange(0, size).Draw(t, "stays")
				if _, err := c.get(context.Background(), last, func() (part, error) {
					switch last.kind {
					case kindBody:
						return emptying{&sized{n: size}, stays}, nil
					case kindSection:
						return sectioned{&sized{n: size}, last.n, 3}, nil
					}
					return &sized{n: size}, nil
				}); err != nil {
					t.Fatal(err)
				}
				if c.entries[last] == nil {
					t.Fatal("the part that is asked for is not there")
				}
			},
			"grow": func(t *rapid.T) {
				k := drawKey()
				if e := c.entries[k]; e != nil {
					e.part.(interface{ grow(int) }).grow(rapid.IntRange(1, 2*room).Draw(t, "size"))
					c.measure(k)
					last = k
				}
			},
			"forget": func(t *rapid.T) { c.forget([]key{drawKey()}) },
			"drop":   func(t *rapid.T) { c.Forget(blocks[rapid.IntRange(0, 1).Draw(t, "block")]) },
			"": func(t *rapid.T) {
				sum, listed := int64(0), 0
				for i := range c.shares {
					for _, q := range []*queue{&c.shares[i].recent, &c.shares[i].kept} {
						of := int64(0)
						for p := q.Front(); p != nil; p = p.Next() {
							e := p.Value.(*entry)
							share := e.key.kind.share()
							if x, is := e.part.(emptier); is && i == ofEmptied && x.MemorySize() == x.EmptiedSize() {
								share = ofEmptied
							}
							if c.entries[e.key] != e || e.queue != q || e.place != p || share != i || q.of != i || e.size != int64(e.part.MemorySize()) {
								t.Fatalf("%+v", e)
							}
							of += e.size
							listed++
						}
						if of != q.size {
							t.Fatal(of, "bytes, not", q.size)
						}
						sum += of
					}
				}
				if sum != c.Size() || listed != len(c.entries) {
					t.Fatal(sum, "bytes in", listed, "parts, not", c.Size(), "in", len(c.entries))
				}
				others := sum
				if e := c.entries[last]; e != nil {
					others -= e.size
				}
				if sum > room && others > 0 {
					t.Fatal(sum, "bytes")
				}
			},
		})
	})
}

func TestGone(t *testing.T) {
	g := &NewCache(1, nil).gone
	if g.at(key{n: 1}) != 0 {
		t.Error("of a part that never was there")
	}
	all := len(g.parts) * len(g.parts[0])
	for round := range uint64(3) { // the last one counts
		for n := range 3 * all {
			g.note(key{n: n}, round*100_000+uint64(n+1))
		}
	}
	known := slices.DeleteFunc(numbers(0, 3*all), func(n int) bool {
		at := g.at(key{n: n})
		if at != 0 && at != uint64(200_000+n+1) {
			t.Error(n, at)
		}
		return at == 0
	})
	if len(known) < all*9/10 || len(known) > all {
		t.Error(len(known), "are known")
	}
}
