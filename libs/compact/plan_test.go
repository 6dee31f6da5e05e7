package compact_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
)

var (
	day    = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	policy = compact.Policy{MergeSize: 64 << 20, MergeShare: 0.1, MaxWait: 24 * time.Hour, CloseAfter: 2 * time.Hour, MaxSources: 4}
)

const mib = 1 << 20

// planned is a block, written briefly: the hour of day that it begins at, the hours
// that it spans, its size in MiB, its level and when it was made.
type planned struct {
	id           string
	from, hours  int
	size         int64
	level        int
	made         time.Duration // after the day's begin
	ordered, due bool
	any          bool
}

func (p planned) block() compact.Block {
	b := compact.Block{Block: catalog.Block{ID: catalog.ID(p.id), Tenant: "t", Partition: day, Level: p.level, Size: p.size * mib}, Ordered: p.ordered, Created: day.Add(p.made), Due: p.due}
	b.MinTime = day.Add(time.Duration(p.from) * time.Hour).UnixNano()
	b.MaxTime = b.MinTime + int64(p.hours)*int64(time.Hour)
	if p.any {
		b.Partition = time.Time{}
	}
	return b
}

func TestPlan(t *testing.T) {
	h := time.Hour
	for name, c := range map[string]struct {
		blocks []planned
		now    time.Duration // after the day's begin
		want   string
	}{
		"nothing": {nil, 50 * h, ""},
		"an open partition waits": {
			[]planned{{id: "a", size: 5, made: 3 * h}, {id: "b", from: 1, size: 5, made: 4 * h}}, 5 * h, ""},
		"until there is enough": {
			[]planned{{id: "a", size: 30, made: 3 * h}, {id: "b", from: 1, size: 40, made: 4 * h}}, 5 * h, "small a b"},
		"or many": {
			[]planned{{id: "a", made: h}, {id: "b", made: h}, {id: "c", made: h}, {id: "d", made: h}, {id: "e", made: h}}, 5 * h, "small a b c d"},
		"or it is old": {
			[]planned{{id: "a", size: 1, made: h}, {id: "b", size: 1, made: 20 * h}}, 25 * h, "small a b"},
		"one block is not merged with itself": {
			[]planned{{id: "a", size: 300, made: h}}, 5 * h, ""},
		"blocks of a level together": {
			[]planned{{id: "a", size: 300, level: 1, made: h}, {id: "b", from: 1, size: 40, made: h}, {id: "c", from: 2, size: 40, made: h}}, 5 * h, "small b c"},
		"the window closes": {
			[]planned{{id: "a", size: 1, made: h}, {id: "b", size: 1, level: 1, made: 24 * h}}, 26 * h, "closed fix a b"},
		"not before blocks have settled": {
			[]planned{{id: "a", size: 1, made: 24 * h}, {id: "b", size: 1, made: 25 * h}}, 26 * h, ""},
		"a single block is merged once, too": {
			[]planned{{id: "a", size: 1, made: h}}, 26 * h, "closed fix a"},
		"and never again": {
			[]planned{{id: "a", size: 1, ordered: true, made: h}}, 100 * h, ""},
		"too many for one merge": {
			[]planned{{id: "a", made: h}, {id: "b", from: 1, made: h}, {id: "c", from: 2, made: h}, {id: "d", from: 3, made: h}, {id: "e", from: 4, made: h}}, 100 * h, "small a b c d"},
		"late and little": {
			[]planned{{id: "a", size: 100, ordered: true, made: 30 * h}, {id: "b", size: 5, made: 40 * h}}, 60 * h, ""},
		"late and a tenth": {
			[]planned{{id: "a", size: 100, ordered: true, made: 30 * h}, {id: "b", size: 10, made: 40 * h}}, 60 * h, "late fix a b"},
		"late ones of a day are merged with each other": {
			[]planned{{id: "a", size: 100, ordered: true, made: 30 * h}, {id: "b", size: 4, made: 40 * h}, {id: "c", size: 5, made: 50 * h}}, 65 * h, "late b c"},
		"two full merges at once": {
			[]planned{{id: "a", hours: 5, ordered: true, made: 30 * h}, {id: "b", hours: 5, ordered: true, made: 30 * h}}, 60 * h, "closed fix a b"},
		"parts of one full merge": {
			[]planned{{id: "a", hours: 5, ordered: true, made: 30 * h}, {id: "b", from: 6, ordered: true, made: 30 * h}}, 60 * h, ""},
		"any time waits": {
			[]planned{{id: "a", any: true, size: 1, made: h}}, 20 * h, ""},
		"any time is cut": {
			[]planned{{id: "a", any: true, size: 1, made: h}}, 25 * h, "any_time a"},
		"a delete": {
			[]planned{{id: "a", size: 1, made: h, due: true}, {id: "b", size: 1, made: 2 * h}}, 5 * h, "remove a"},
		"a delete in a fixed block": {
			[]planned{{id: "a", size: 1, ordered: true, made: h, due: true}}, 60 * h, "remove fix a"},
		"a delete goes with a merge": {
			[]planned{{id: "a", size: 100, made: h, due: true}, {id: "b", size: 1, made: 2 * h}}, 5 * h, "small a b"},
	} {
		t.Run(name, func(t *testing.T) {
			var blocks []compact.Block
			for _, b := range c.blocks {
				blocks = append(blocks, b.block())
			}
			var got []string
			for _, task := range compact.Plan(blocks, day.Add(c.now), policy) {
				s := string(task.Reason)
				if task.Fix {
					s += " fix"
				}
				for _, b := range task.Sources {
					s += " " + string(b.ID)
				}
				got = append(got, s)
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

// TestPlanProperties: what a plan may never be.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var blocks []compact.Block
		for i := range rapid.IntRange(0, 20).Draw(t, "n") {
			b := planned{id: fmt.Sprint(i), from: rapid.IntRange(0, 20).Draw(t, "from"), hours: rapid.IntRange(0, 3).Draw(t, "hours"),
				size: int64(rapid.IntRange(0, 80).Draw(t, "size")), level: rapid.IntRange(0, 2).Draw(t, "level"),
				made: time.Duration(rapid.IntRange(0, 90).Draw(t, "made")) * time.Hour, ordered: rapid.Bool().Draw(t, "ordered"),
				any: rapid.IntRange(0, 4).Draw(t, "any") == 0, due: rapid.IntRange(0, 4).Draw(t, "due") == 0}.block()
			if b.Partition.IsZero() {
				b.Ordered = false
			}
			blocks = append(blocks, b)
		}
		now := day.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "now")) * time.Hour)
		closed := now.Sub(day) >= 26*time.Hour
		seen := map[catalog.ID]bool{}
		for _, task := range compact.Plan(blocks, now, policy) {
			if len(task.Sources) == 0 || len(task.Sources) > policy.MaxSources {
				t.Fatalf("%d sources", len(task.Sources))
			}
			all := 0
			for _, b := range blocks {
				if b.Partition.Equal(task.Partition) {
					all++
				}
			}
			for _, b := range task.Sources {
				if seen[b.ID] || !b.Partition.Equal(task.Partition) {
					t.Fatalf("block %s", b.ID)
				}
				seen[b.ID] = true
			}
			// R 5: the order is fixed by the full merge of a closed partition alone; a
			// block whose order was fixed before keeps it.
			if task.Fix && (!closed || len(task.Sources) != all) && (task.Reason != compact.ReasonRemove || !task.Sources[0].Ordered) {
				t.Fatalf("order is fixed: %+v", task)
			}
		}
		for _, b := range blocks {
			if b.Due && !seen[b.ID] {
				t.Fatalf("block %s is due and not planned", b.ID)
			}
		}
	})
}

func TestCuts(t *testing.T) {
	s := &source{streams: map[string][]entry{}}
	if got := compact.Cuts([]compact.Source{s}, 3); got != nil {
		t.Error(got)
	}
	var list []compact.Stream
	const slot = int64(5 * time.Minute)
	for i := range 100 {
		list = append(list, compact.Stream{Runs: []block.Run{{MinTime: int64(i) * slot, Bytes: 100}}})
	}
	cuts := compact.Cuts([]compact.Source{fixed(list)}, 4)
	if want := []int64{25 * slot, 50 * slot, 75 * slot}; !slices.Equal(cuts, want) {
		t.Errorf("got %v", cuts)
	}
	if cuts := compact.Cuts([]compact.Source{fixed(list[:1])}, 4); len(cuts) != 0 {
		t.Errorf("a slot was cut: %v", cuts)
	}
}

// fixed is a source of which only the streams matter.
func fixed(list []compact.Stream) compact.Source { return streamsOnly{list: list} }

type streamsOnly struct {
	*source
	list []compact.Stream
}

func (s streamsOnly) Streams() []compact.Stream { return s.list }
