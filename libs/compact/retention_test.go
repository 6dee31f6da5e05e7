package compact_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/model"
)

func rules(t testing.TB, all time.Duration, list ...limits.RetentionStream) *compact.Rules {
	t.Helper()
	r, err := compact.NewRules(limits.Limits{RetentionPeriod: all, RetentionStream: list})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const hour = int64(time.Hour)

func stream(app string, from, to int64) compact.Stream {
	return compact.Stream{Labels: model.NewLabels([]model.Label{{Name: "app", Value: app}}),
		Runs: []block.Run{{MinTime: from * hour, MaxTime: from * hour, Rows: 1}, {MinTime: to * hour, MaxTime: to * hour, Rows: 2}}}
}

func TestJudge(t *testing.T) {
	r := rules(t, 100*time.Hour,
		limits.RetentionStream{Selector: `{app="keep"}`, Priority: 9, Period: 0},
		limits.RetentionStream{Selector: `{app=~"keep|short"}`, Priority: 2, Period: 10 * time.Hour},
		limits.RetentionStream{Selector: `{app="debug"} | detected_level="debug"`, Period: 20 * time.Hour})
	streams := []compact.Stream{stream("short", 0, 1), stream("other", 0, 2), stream("debug", 0, 3), stream("keep", 0, 1)}
	for _, c := range []struct {
		streams     []compact.Stream
		now         int64
		marks       []string
		whole, part bool
		entries     uint64
	}{
		{streams: streams, now: 5},
		{streams: streams[:1], now: 10},
		{streams: streams[:1], now: 12, whole: true, entries: 3},
		{streams: streams, now: 14, part: true, entries: 3},
		{streams: streams, now: 24, part: true, entries: 6},
		{streams: streams, now: 104, part: true, entries: 9},
		{streams: streams, now: 104, marks: r.Marks(3*hour, 104*hour)},
		{streams: streams, now: 104, marks: r.Marks(3*hour, 24*hour), part: true, entries: 6},
		{streams: streams[:3], now: 104, whole: true, entries: 9},
		{streams: streams[3:], now: 1e6},
		{streams: streams[2:3], now: 24, part: true, entries: 3},
	} {
		v := r.Judge(c.streams, c.marks, c.now*hour)
		if v.Whole != c.whole || v.Part != c.part || v.Entries != c.entries {
			t.Errorf("%d streams at %d, marks %v: %+v", len(c.streams), c.now, c.marks, v)
		}
		if v.Next <= c.now*hour {
			t.Errorf("%d streams at %d: next at %d", len(c.streams), c.now, v.Next)
		}
		if later := r.Judge(c.streams, c.marks, v.Next-1); v.Next != compact.MaxTime && (later.Whole != v.Whole || later.Part != v.Part) {
			t.Errorf("%d streams at %d: it changes before %d", len(c.streams), c.now, v.Next)
		}
	}
	if r := rules(t, 99*time.Hour); len(r.Marks(0, 100*hour)) != 1 || r.Marks(0, 100*hour)[0] == rules(t, 98*time.Hour).Marks(0, 100*hour)[0] {
		t.Error("other rules have the same marks")
	}
	if _, any := rules(t, 0).Shortest(); any {
		t.Error("for ever is a period")
	}
}

// TestRetentionRows compares the removal of rows with the rules, taken one by one.
func TestRetentionRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []limits.RetentionStream
		for range rapid.IntRange(0, 4).Draw(t, "rules") {
			list = append(list, limits.RetentionStream{
				Selector: rapid.SampledFrom([]string{`{app="a"}`, `{app=~".+"}`, `{app="b"} |= "x"`, `{app=~".+"} | detected_level="debug"`}).Draw(t, "selector"),
				Priority: rapid.IntRange(0, 2).Draw(t, "priority"), Period: time.Duration(rapid.IntRange(0, 5).Draw(t, "period")),
			})
		}
		all := time.Duration(rapid.IntRange(0, 5).Draw(t, "all"))
		r, err := compact.NewRules(limits.Limits{RetentionPeriod: all, RetentionStream: list})
		if err != nil {
			t.Fatal(err)
		}
		const now = 10
		for _, app := range []string{"a", "b"} {
			ls := model.NewLabels([]model.Label{{Name: "app", Value: app}})
			rm := r.Remover(now).ForStream(ls)
			rows := &model.Rows{}
			level := model.Column{Name: "detected_level", Version: 1}
			for i := range 12 {
				rows.Times = append(rows.Times, int64(i))
				rows.Lines.AppendString(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "line"))
				level.AppendString(i, rapid.SampledFrom([]string{"debug", "info"}).Draw(t, "level"))
			}
			rows.Derived = []model.Column{level}
			for i := range rows.Len() {
				// The naive way: of those that match the highest priority, then the shortest.
				best := limits.RetentionStream{Priority: math.MinInt, Period: all}
				for _, rule := range list {
					s, _ := selection.Parse(rule.Selector)
					if !s.Stream(ls) || !s.ForStream(ls).Match(rows, i) {
						continue
					}
					shorter := rule.Period != 0 && (best.Period == 0 || rule.Period < best.Period)
					if rule.Priority > best.Priority || rule.Priority == best.Priority && shorter {
						best = rule
					}
				}
				want := best.Period > 0 && now-rows.Times[i] > int64(best.Period)
				if got := rm != nil && rm.Remove(rows, i); got != want {
					t.Fatalf("%s row %d of %v, all %d: removed %t, want %t", app, i, list, all, got, want)
				}
			}
		}
	})
}

func sized(id string, from, to int64, size int64) compact.Block {
	return compact.Block{Block: catalog.Block{ID: catalog.ID(id), Tenant: "t", MinTime: from * hour, MaxTime: to * hour, Size: size}}
}

// TestR25EqualRunsCountOnce: the copies of three replicas are one tenant's bytes
// once.
func TestR25EqualRunsCountOnce(t *testing.T) {
	blocks := []compact.Block{sized("a", 0, 5, 100), sized("b", 0, 5, 100), sized("c", 0, 5, 100), sized("d", 7, 9, 50)}
	streams := func(b compact.Block) ([]compact.Stream, error) {
		if b.ID == "d" {
			return nil, fmt.Errorf("nobody overlaps it")
		}
		return []compact.Stream{{Labels: nil, Runs: []block.Run{{MinTime: 0, MaxTime: 5 * hour, Rows: 10, Bytes: 1000, Digest: 7}}}}, nil
	}
	list, err := compact.Count(blocks, streams)
	if err != nil || compact.Total(list) != 150 {
		t.Fatal(err, compact.Total(list))
	}
	if got := compact.Excess(list, 150); len(got) != 0 {
		t.Errorf("%v goes", got)
	}
	// All copies of the oldest go, or it would still be there.
	if got := compact.Excess(list, 149); len(got) == 0 || got[0].ID == "d" {
		t.Errorf("%v goes", got)
	}
	if got := compact.Excess(list, 0); got != nil {
		t.Error("0 is no limit")
	}
}

// TestR25Budget: what may go in a cycle is a share of the tenant, and what is larger
// than that goes after as many cycles as that takes, not never.
func TestR25Budget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []compact.Sized
		total := int64(0)
		for i := range rapid.IntRange(1, 30).Draw(t, "n") {
			size := int64(rapid.IntRange(1, 1000).Draw(t, "size"))
			list = append(list, compact.Sized{Block: sized(fmt.Sprint(i), 0, int64(i), size), Unique: size, Cost: size})
			total += size
		}
		expired := len(list)
		var a compact.Allowance
		gone, left := int64(0), list
		for cycle := int64(1); len(left) > 0; cycle++ {
			// The total shrinks; the share is that of what is there.
			n := a.Spend(left, total-gone, 0.2)
			for _, b := range n {
				gone += b.Size
			}
			left = left[len(n):]
			if float64(gone) > 0.2*float64(total)*float64(cycle)+1 {
				t.Fatalf("%d of %d bytes are gone after %d cycles", gone, total, cycle)
			}
			if cycle > int64(100*expired) {
				t.Fatalf("%d blocks are still there", len(left))
			}
		}
		// Nothing was saved for the next mistake.
		if a.Spend(nil, total, 0.2); len(a.Spend([]compact.Sized{{Block: sized("x", 0, 0, total), Unique: total, Cost: total}}, total, 0.2)) != 0 {
			t.Fatal("all goes at once")
		}
	})
}
