package catalog

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLoadersAgree: while compactors merge and delete by the rules, crash between any two steps and are
// started anew, no loader ever misses an entry or sees a problem, however seldom it looks. When an object
// then vanishes that was not hidden, every loader says so, also one that is started afterwards.
func TestLoadersAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newStore(t)
		content := map[ID]map[int]bool{}
		entries := map[int]bool{}
		serial := uint64(0)
		put := func(b Block, has map[int]bool) Block {
			serial++
			b.ID, b.Tenant, b.Size = testID(serial), "t", 1
			content[b.ID] = has
			s.store(b)
			return b
		}
		loaders := []*Loader{s.loader(), s.loader(), s.loader()}
		pick := func() *Loader { return loaders[rapid.IntRange(0, len(loaders)-1).Draw(rt, "loader")] }
		check := func(l *Loader) *Snapshot {
			snap := s.refresh(l)
			has := map[int]bool{}
			for _, b := range snap.Live("t", -1000, 1000) {
				for e := range content[b.ID] {
					has[e] = true
				}
			}
			if problems := snap.Problems("t", -1000, 1000); len(problems) > 0 || len(has) != len(entries) {
				rt.Fatalf("%d of %d entries, problems %v", len(has), len(entries), problems)
			}
			return snap
		}
		for range rapid.IntRange(5, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0, 1:
				e := len(entries)
				entries[e] = true
				b := put(Block{}, map[int]bool{e: true})
				if rapid.Bool().Draw(rt, "announce") {
					if err := pick().Announce(t.Context(), Key(b)); err != nil {
						rt.Fatal(err)
					}
				}
			case 2: // a merge, perhaps by a compactor whose listing is old
				l := pick()
				snap, err := l.Snapshot("t")
				if err != nil {
					snap = check(l)
				}
				var sources []Block
				for _, b := range snap.Live("t", -1000, 1000) {
					if _, err := s.bucket.Stat(t.Context(), Key(b)); err == nil && rapid.Bool().Draw(rt, "take") {
						sources = append(sources, b)
					}
				}
				if len(sources) == 0 {
					continue
				}
				n := rapid.IntRange(1, 2).Draw(rt, "outputs")
				merge := ID(fmt.Sprint("merge ", rand.Uint64()))
				for o := range n {
					b, has := Block{Level: 1}, map[int]bool{}
					for _, src := range sources {
						b.Sources = append(b.Sources, Source{src.ID, o, n, merge})
						for e := range content[src.ID] {
							if e%n == o {
								has[e] = true
							}
						}
					}
					if o > 0 && rapid.Bool().Draw(rt, "crash") {
						break
					}
					put(b, has)
				}
			case 3: // deletions by the rules
				l := pick()
				snap := check(l)
				rules := DeletionRules{Now: s.now, Confirmed: func(ID) (time.Time, bool) { return time.Time{}, true }}
				plan, _ := rules.Plan(snap, "t")
				for _, d := range plan {
					if err := l.Removing(t.Context(), "t", d.Block.ID); err != nil {
						rt.Fatal(err)
					}
					if rapid.Bool().Draw(rt, "crash") {
						break
					}
					s.delete(d.Block)
				}
			case 4:
				check(pick())
			case 5:
				l := pick()
				check(l)
				s.save(l)
			case 6: // a restart
				loaders[rapid.IntRange(0, len(loaders)-1).Draw(rt, "which")] = s.loader()
			}
		}
		var snap *Snapshot
		for _, l := range loaders {
			snap = check(l)
			s.save(l)
		}
		live := snap.Live("t", -1000, 1000)
		if len(live) == 0 {
			return
		}
		lost := live[rapid.IntRange(0, len(live)-1).Draw(rt, "lost")]
		s.delete(lost)
		for _, l := range append(loaders, s.loader()) {
			found := false
			for _, p := range s.refresh(l).Problems("t", -1000, 1000) {
				found = found || p.Block.ID == lost.ID && p.Kind == Vanished
			}
			if !found {
				rt.Fatalf("nobody misses %s", lost.ID)
			}
		}
	})
}
