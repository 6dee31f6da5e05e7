package catalog

import (
	"slices"
	"testing"
	"time"
)

// TestRule16Replace: a block that vanishes during a query is replaced by what contains it, and the results of
// all that these contain are discarded.
func TestRule16Replace(t *testing.T) {
	whole := func(id ID, m ID) Source { return Source{id, 0, 1, m} }
	a, b, c := block("a"), block("b"), block("c")
	ab := block("ab", whole("a", "m"), whole("b", "m"))
	abc := block("abc", whole("ab", "n"), whole("c", "n"))
	gone := func(blocks ...Block) map[ID]*Block {
		out := map[ID]*Block{}
		for _, b := range blocks {
			out[b.ID] = &b
		}
		return out
	}
	for _, x := range []struct {
		name      string
		listed    []Block
		gone      map[ID]*Block
		inUse     []ID
		add, drop []ID
		ok        bool
	}{
		{"merged", []Block{ab, c}, nil, []ID{"a", "b", "c"}, []ID{"ab"}, []ID{"a", "b"}, true},
		{"merged twice", []Block{abc}, gone(ab), []ID{"a", "b", "c"}, []ID{"abc"}, []ID{"a", "b", "c"}, true},
		{"merged twice, all there", []Block{b, c, ab, abc}, nil, []ID{"a", "b", "c"}, []ID{"abc"}, []ID{"a", "b", "c"}, true},
		{"read already", []Block{ab, c}, nil, []ID{"a", "ab"}, nil, []ID{"a"}, true},
		{"way unknown", []Block{abc}, nil, []ID{"a", "b"}, nil, nil, false},
		{"lost", []Block{b, c}, nil, []ID{"a", "b"}, nil, nil, false},
		{"still listed, live", []Block{a, b}, nil, []ID{"a", "b"}, nil, nil, false},
	} {
		s, err := newSnapshot(x.listed, x.gone, nil, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		add, drop, ok := s.Replace("a", x.inUse)
		if slices.Sort(drop); ok != x.ok || !slices.Equal(ids(add), x.add) || !slices.Equal(drop, x.drop) {
			t.Errorf("%s: add %v, drop %v, %v; want %v, %v, %v", x.name, ids(add), drop, ok, x.add, x.drop, x.ok)
		}
	}
}

// TestCircles: footers that name each other, which nobody writes, end no query in a loop.
func TestCircles(t *testing.T) {
	a, b := block("a", Source{"b", 0, 1, "m"}), block("b", Source{"a", 0, 1, "n"})
	s, err := NewSnapshot([]Block{a, b}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if live, ok := s.Covering("a"); ok {
		t.Errorf("%v", live)
	}
}

// TestRule22Version: answers may be kept as long as the blocks of the range are the same ones.
func TestRule22Version(t *testing.T) {
	version := func(start, end int64, blocks ...Block) string {
		s, err := NewSnapshot(blocks, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return s.Version("t", start, end)
	}
	a, b, late := block("a"), block("b"), block("c")
	late.MinTime, late.MaxTime = 100, 200
	was := version(0, 50, a, b)
	if was != version(0, 50, b, a) || was != version(0, 50, a, b, late) {
		t.Error("it depends on the order, or on blocks outside the range")
	}
	for name, other := range map[string]string{
		"one more": version(0, 150, a, b, late), "one less": version(0, 50, a), "another": version(0, 50, a, block("d")),
		"merged": version(0, 50, a, b, block("ab", Source{"a", 0, 1, "m"}, Source{"b", 0, 1, "m"})),
		"none":   version(0, 50), "names that join alike": version(0, 50, block("ab")),
	} {
		if other == was {
			t.Errorf("%s: the same version", name)
		}
	}
}

// TestRule12OnlyListedBlocksHide: a block that was removed hides nothing, though it held
// all that another one holds which is listed still, or again.
func TestRule12OnlyListedBlocksHide(t *testing.T) {
	a, ab := block("a"), block("ab", Source{"a", 0, 1, "m"})
	snap, err := newSnapshot([]Block{a}, map[ID]*Block{"ab": &ab}, nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if live := snap.Live(a.Tenant, a.MinTime, a.MaxTime+1); len(live) != 1 || snap.HiddenBy("a") != nil {
		t.Errorf("%d live blocks, hidden by %v", len(live), snap.HiddenBy("a"))
	}
}

// TestWithout: blocks that cannot be read are left out where others contain them, and what they
// were made from is live then.
func TestWithout(t *testing.T) {
	whole := func(id ID) Source { return Source{id, 0, 1, "m"} }
	part := func(id ID, i int) Source { return Source{id, i, 2, "m"} }
	for _, c := range []struct {
		name         string
		blocks, gone []Block
		bad          []ID
		without      []ID
		live         []ID
	}{
		{"nothing bad", []Block{block("a"), block("b", whole("a"))}, nil, nil, nil, []ID{"b"}},
		{"not listed", []Block{block("a")}, nil, []ID{"x"}, nil, []ID{"a"}},
		{"made from nothing", []Block{block("a")}, nil, []ID{"a"}, nil, []ID{"a"}},
		{"sources are there", []Block{block("a"), block("b"), block("ab", whole("a"), whole("b"))}, nil, []ID{"ab"}, []ID{"ab"}, []ID{"a", "b"}},
		{"one source is not", []Block{block("a"), block("ab", whole("a"), whole("b"))}, nil, []ID{"ab"}, nil, []ID{"ab"}},
		{"one is elsewhere", []Block{block("a"), block("bc", whole("b"), whole("c")), block("ab", whole("a"), whole("b"))}, nil, []ID{"ab"}, []ID{"ab"}, []ID{"a", "bc"}},
		{"one part of two", []Block{block("a"), block("a1", part("a", 0)), block("a2", part("a", 1))}, nil, []ID{"a1"}, []ID{"a1"}, []ID{"a", "a2"}},
		{"a source is bad, too", []Block{block("a"), block("b", whole("a")), block("c", whole("b"))}, nil, []ID{"b", "c"}, []ID{"b", "c"}, []ID{"a"}},
		{"and made from nothing", []Block{block("a"), block("b", whole("a"))}, nil, []ID{"a", "b"}, nil, []ID{"b"}},
		{"its source was removed", []Block{block("a"), block("c", whole("b"))}, []Block{block("b", whole("a"))}, []ID{"c"}, nil, []ID{"a", "c"}},
		{"they name each other", []Block{block("b", whole("c")), block("c", whole("b"))}, nil, []ID{"b", "c"}, nil, nil},
	} {
		gone := map[ID]*Block{}
		for i := range c.gone {
			gone[c.gone[i].ID] = &c.gone[i]
		}
		s, err := newSnapshot(c.blocks, gone, nil, time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		bad := map[ID]bool{}
		for _, id := range c.bad {
			bad[id] = true
		}
		rest, without := s.Without(bad)
		if got := ids(rest.Live("t", 0, 100)); !slices.Equal(without, c.without) || !slices.Equal(got, c.live) || !rest.Taken().Equal(s.Taken()) {
			t.Errorf("%s: without %v, live %v, want %v, %v", c.name, without, got, c.without, c.live)
		}
	}
}
