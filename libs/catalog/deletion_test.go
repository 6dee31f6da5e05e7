package catalog

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)

func confirmed(stored time.Time, ids ...ID) func(ID) (time.Time, bool) {
	return func(id ID) (time.Time, bool) { return stored, slices.Contains(ids, id) }
}

func planned(t *testing.T, r DeletionRules, blocks ...Block) []ID {
	t.Helper()
	s, err := NewSnapshot(blocks, epoch)
	if err != nil {
		t.Fatal(err)
	}
	plan, _ := r.Plan(s, "t")
	out := []ID{}
	for _, d := range plan {
		out = append(out, d.Block.ID)
	}
	return out
}

func wantPlan(t *testing.T, what string, got []ID, want ...ID) {
	t.Helper()
	if !slices.Equal(got, append([]ID{}, want...)) {
		t.Errorf("%s: %v may go, want %v", what, got, want)
	}
}

// TestRule14ReadBackFirst: a source goes only after its successor was read back and has stood for the delay.
func TestRule14ReadBackFirst(t *testing.T) {
	a, ab := block("a"), block("ab", Source{"a", 0, 1, "m"})
	now := epoch.Add(48 * time.Hour)
	rules := DeletionRules{Now: now, Delay: 24 * time.Hour, Confirmed: confirmed(now.Add(-24*time.Hour), "ab")}
	wantPlan(t, "read back, a day old", planned(t, rules, a, ab), "a")
	rules.Confirmed = confirmed(epoch)
	wantPlan(t, "not read back", planned(t, rules, a, ab))
	rules.Confirmed = confirmed(now.Add(-24*time.Hour+time.Nanosecond), "ab")
	wantPlan(t, "too young", planned(t, rules, a, ab))
	rules.Confirmed = confirmed(epoch, "ab")
	wantPlan(t, "not listed", planned(t, rules, a))
	rules.InUse = func(id ID) bool { return id == "a" }
	wantPlan(t, "read by somebody", planned(t, rules, a, ab))
	// Embedded: at once.
	rules = DeletionRules{Now: now, Confirmed: confirmed(now, "ab")}
	wantPlan(t, "without delay", planned(t, rules, a, ab), "a")
}

// TestRule13AllParts: a source goes only when all parts of one merge are there and were read back.
func TestRule13AllParts(t *testing.T) {
	a := block("a")
	first, second := block("a1", Source{"a", 0, 2, "m"}), block("a2", Source{"a", 1, 2, "m"})
	other := block("a3", Source{"a", 1, 2, "n"})
	rules := DeletionRules{Now: epoch, Confirmed: confirmed(epoch, "a1", "a2", "a3")}
	wantPlan(t, "one part", planned(t, rules, a, first))
	wantPlan(t, "parts of two merges", planned(t, rules, a, first, other))
	wantPlan(t, "both", planned(t, rules, a, first, second), "a")
	rules.Confirmed = confirmed(epoch, "a1")
	wantPlan(t, "one of both read back", planned(t, rules, a, first, second))
}

// TestRule12DescendantsOutliveAncestors: a block goes only when its sources have gone, so that none comes to
// life again, with rows that a delete removed.
func TestRule12DescendantsOutliveAncestors(t *testing.T) {
	a, b, c := block("a"), block("b", Source{"a", 0, 1, "m"}), block("c", Source{"b", 0, 1, "n"})
	rules := DeletionRules{Now: epoch, Confirmed: confirmed(epoch, "b", "c")}
	wantPlan(t, "chain", planned(t, rules, a, b, c), "a")
	wantPlan(t, "chain, later", planned(t, rules, b, c), "b")
	wantPlan(t, "chain, at last", planned(t, rules, c))
	rules.Expired = func(x Block) bool { return x.ID == "c" }
	wantPlan(t, "the newest expired", planned(t, rules, a, c, b), "a")
	rules.Confirmed = confirmed(epoch)
	wantPlan(t, "none was read back", planned(t, rules, a, b, c))
}

// TestRule25Budget: what a retention removes in one cycle is bounded, and a clock that jumps makes nothing old.
func TestRule25Budget(t *testing.T) {
	var blocks []Block
	for i := range 100 {
		b := block(testID(uint64(i)))
		b.Size, b.MinTime, b.MaxTime = 10, int64(i), int64(i)
		blocks = append(blocks, b)
	}
	rules := DeletionRules{Now: epoch, Confirmed: confirmed(epoch), Expired: func(Block) bool { return true }}
	want := ids(blocks[:20])
	got := planned(t, rules, blocks...)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%d blocks may go, want the oldest 20", len(got))
	}
	rules.MaxShare = 1
	if got := planned(t, rules, blocks...); len(got) != 100 {
		t.Errorf("by force %d of 100 may go", len(got))
	}
	rules.MaxShare = 0
	wantPlan(t, "a single block", planned(t, rules, blocks[0]), blocks[0].ID)

	ahead, newest := epoch.AddDate(10, 0, 0), epoch
	if now := SafeNow(ahead, newest); !now.Equal(newest) {
		t.Errorf("a clock ten years ahead is believed: %v", now)
	}
	if now := SafeNow(epoch, ahead); !now.Equal(epoch) {
		t.Errorf("a store ten years ahead is believed: %v", now)
	}
	if ExpiredAt(blocks[0], SafeNow(ahead, time.Time{}), time.Hour) {
		t.Error("a block is expired by the clock of a store that says nothing")
	}
}

func TestExpiredAt(t *testing.T) {
	b := block("a")
	for _, c := range []struct {
		max  int64
		now  time.Time
		keep time.Duration
		want bool
	}{
		{100, time.Unix(0, 111), 10, true}, {100, time.Unix(0, 110), 10, false}, {100, time.Unix(0, 1<<62), 0, false},
		{100, time.Unix(0, 1<<62), -1, false}, {math.MinInt64, time.Unix(0, math.MinInt64), math.MaxInt64, false},
		{math.MinInt64, time.Unix(0, 5), math.MaxInt64, true}, {math.MaxInt64, epoch, 1, false},
	} {
		if b.MaxTime = c.max; ExpiredAt(b, c.now, c.keep) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// TestPlansLoseNothing: whatever is merged, read back, expired and deleted, in the order of the plans and
// stopping anywhere, each entry that is not expired stays in a live block, and none comes back.
func TestPlansLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		listed := map[ID]Block{}
		content := map[ID]map[int]bool{}
		next := 0
		add := func(b Block, has map[int]bool) {
			listed[b.ID], content[b.ID] = b, has
		}
		snapshot := func() *Snapshot {
			var all []Block
			for _, b := range listed {
				all = append(all, b)
			}
			s, err := NewSnapshot(all, epoch)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				next++
				add(Block{ID: testID(uint64(next)), Tenant: "t", Size: 1}, map[int]bool{next: true})
			case 1: // a merge of live blocks into one or two, one of which may be missing
				var sources []Block
				for _, b := range snapshot().Live("t", 0, 1) {
					if rapid.Bool().Draw(t, "take") {
						sources = append(sources, b)
					}
				}
				n := rapid.IntRange(1, 2).Draw(t, "outputs")
				next++
				merge := testID(uint64(next))
				drop := rapid.IntRange(0, 3*next).Draw(t, "delete")
				for o := range n {
					if len(sources) == 0 || o > 0 && rapid.Bool().Draw(t, "stop") {
						break
					}
					next++
					b := Block{ID: testID(uint64(next)), Tenant: "t", Size: 1}
					has := map[int]bool{}
					for _, src := range sources {
						b.Sources = append(b.Sources, Source{src.ID, o, n, merge})
						for e := range content[src.ID] {
							if e%n == o && e != drop {
								has[e] = true
							}
						}
					}
					add(b, has)
				}
			default:
				rules := DeletionRules{Now: epoch, Confirmed: func(id ID) (time.Time, bool) { return epoch, rapid.Bool().Draw(t, "read back") }}
				before := reachable(snapshot(), content)
				plan, _ := rules.Plan(snapshot(), "t")
				for _, d := range plan {
					if rapid.IntRange(0, 4).Draw(t, "crash") == 0 {
						break
					}
					delete(listed, d.Block.ID)
					after := reachable(snapshot(), content)
					for e := range before {
						if !after[e] {
							t.Fatalf("entry %d is gone after the deletion of %s", e, d.Block.ID)
						}
					}
					for e := range after {
						if !before[e] {
							t.Fatalf("entry %d is back after the deletion of %s", e, d.Block.ID)
						}
					}
				}
			}
		}
	})
}

func reachable(s *Snapshot, content map[ID]map[int]bool) map[int]bool {
	out := map[int]bool{}
	for _, b := range s.Live("t", 0, 1) {
		for e := range content[b.ID] {
			out[e] = true
		}
	}
	return out
}
