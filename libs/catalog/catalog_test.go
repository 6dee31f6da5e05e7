package catalog

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func ids(blocks []Block) []ID {
	var out []ID
	for _, b := range blocks {
		out = append(out, b.ID)
	}
	slices.Sort(out)
	return out
}

func block(id ID, sources ...Source) Block {
	return Block{ID: id, Tenant: "t", MaxTime: 10, Sources: sources}
}

func TestHiding(t *testing.T) {
	whole := func(id ID) Source { return Source{id, 0, 1, "m"} }
	for _, c := range []struct {
		name   string
		blocks []Block
		live   []ID
	}{
		{"nothing merged", []Block{block("a"), block("b")}, []ID{"a", "b"}},
		{"merged", []Block{block("a"), block("b"), block("ab", whole("a"), whole("b"))}, []ID{"ab"}},
		{"two compactors, overlapping", []Block{block("a"), block("b"), block("c"), block("ab", whole("a"), whole("b")), block("bc", whole("b"), whole("c"))}, []ID{"ab", "bc"}},
		{"one part of two", []Block{block("a"), block("a1", Source{"a", 0, 2, "m"})}, []ID{"a", "a1"}},
		{"both parts", []Block{block("a"), block("a1", Source{"a", 0, 2, "m"}), block("a2", Source{"a", 1, 2, "m"})}, []ID{"a1", "a2"}},
		{"parts of different cuts", []Block{block("a"), block("a1", Source{"a", 0, 2, "m"}), block("a2", Source{"a", 1, 3, "m"})}, []ID{"a", "a1", "a2"}},
		{"parts of different merges", []Block{block("a"), block("a1", Source{"a", 0, 2, "m"}), block("a2", Source{"a", 1, 2, "n"})}, []ID{"a", "a1", "a2"}},
		{"merged twice over", []Block{block("a"), block("b", whole("a")), block("c", whole("b"))}, []ID{"c"}},
		{"source gone", []Block{block("b", whole("a"))}, []ID{"b"}},
		{"listed twice", []Block{block("a"), block("a")}, []ID{"a"}},
	} {
		s, err := NewSnapshot(c.blocks, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(s.Live("t", 0, 100)); !slices.Equal(got, c.live) {
			t.Errorf("%s: live %v, want %v", c.name, got, c.live)
		}
	}
}

func TestBadBlocks(t *testing.T) {
	for name, b := range map[string]Block{
		"times": {ID: "a", Tenant: "t", MinTime: 2, MaxTime: 1},
		"id":    {Tenant: "t"},
		"part":  {ID: "a", Tenant: "t", Sources: []Source{{"b", 2, 2, "m"}}},
		"self":  {ID: "a", Tenant: "t", Sources: []Source{{"a", 0, 1, "m"}}},
	} {
		if _, err := NewSnapshot([]Block{b}, time.Time{}); err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
}

// TestRule12NothingIsVoid: compactors that merge any blocks in any order, stop
// half-way and forget to delete, never make an entry disappear.
func TestRule12NothingIsVoid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := map[ID]map[int]bool{}
		var all []Block
		for i := range rapid.IntRange(1, 5).Draw(t, "blocks") {
			b := block(ID(fmt.Sprint("b", i)))
			all = append(all, b)
			content[b.ID] = map[int]bool{2 * i: true, 2*i + 1: true}
		}
		total := 2 * len(all)
		for m := range rapid.IntRange(0, 6).Draw(t, "merges") {
			// Some of what is there, hidden or not, is merged into one block or
			// two, of which the second may be missing.
			var sources []ID
			for _, b := range all {
				if rapid.Bool().Draw(t, "take") {
					sources = append(sources, b.ID)
				}
			}
			if len(sources) == 0 {
				continue
			}
			outputs := rapid.IntRange(1, 2).Draw(t, "outputs")
			for o := range outputs {
				if o > 0 && rapid.Bool().Draw(t, "stop") {
					break
				}
				b := block(ID(fmt.Sprint("m", m, "-", o)))
				content[b.ID] = map[int]bool{}
				for _, src := range sources {
					b.Sources = append(b.Sources, Source{src, o, outputs, ID(fmt.Sprint("m", m))})
					for e := range content[src] {
						if (e+m)%outputs == o { // each merge cuts elsewhere
							content[b.ID][e] = true
						}
					}
				}
				all = append(all, b)
			}
		}
		taken := time.Unix(1, 0)
		s, err := NewSnapshot(all, taken)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Taken().Equal(taken) {
			t.Fatalf("taken at %v", s.Taken())
		}
		// Nor do blocks that cannot be read, and are done without.
		bad := map[ID]bool{}
		for _, b := range all {
			if rapid.IntRange(0, 3).Draw(t, "bad") == 0 {
				bad[b.ID] = true
			}
		}
		rest, without := s.Without(bad)
		have := map[int]bool{}
		for _, id := range ids(rest.Live("t", 0, 100)) {
			if slices.Contains(without, id) {
				t.Fatalf("%s is live, without it", id)
			}
			maps.Copy(have, content[id])
		}
		if len(have) != total {
			t.Fatalf("%d entries of %d without %v", len(have), total, without)
		}
		for _, id := range without {
			if !bad[id] {
				t.Fatalf("%s is not bad", id)
			}
		}
		live := ids(s.Live("t", 0, 100))
		for _, b := range all {
			// A block is live, or hidden by blocks that have all of it.
			by := s.HiddenBy(b.ID)
			if slices.Contains(live, b.ID) != (len(by) == 0) {
				t.Fatalf("%s: live %v, hidden by %v", b.ID, live, by)
			}
			has := map[int]bool{}
			for _, id := range by {
				for e := range content[id] {
					has[e] = true
				}
			}
			for e := range content[b.ID] {
				if len(by) > 0 && !has[e] {
					t.Fatalf("%s is hidden by %v, which lack %d", b.ID, by, e)
				}
			}
		}
		there := map[int]bool{}
		for _, b := range s.Live("t", 0, 100) {
			for e := range content[b.ID] {
				there[e] = true
			}
		}
		if len(there) != total {
			t.Fatalf("%d of %d entries are in live blocks", len(there), total)
		}
	})
}
