package querier

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Patterns of blocks are those of their lines, which are not read; replicas count once.
func TestPatternsOfBlocks(t *testing.T) {
	s := newShop(t)
	all := rows("a", 0, 500)
	s.put(nil, all[:300]...)
	s.put(nil, all[100:]...)
	s.put(nil, all[:400]...)
	s.refresh()
	q := engine.PatternsQuery{
		Query: engine.Query{Expr: selectorOf(t, `{app="a"}`), Sources: []engine.Source{&stored{blocks: s.blocks, tenant: "t"}}},
		Start: day.Add(10 * time.Second).UnixNano(), End: day.Add(490 * time.Second).UnixNano(), Width: int64(100 * time.Second),
	}
	res, err := s.engine.Patterns(t.Context(), q)
	s.must(err)
	base := day.UnixNano() / q.Width
	if len(res.Patterns) != 1 || res.Patterns[0].Text != "request <_> of a done" || res.Patterns[0].Total != 480 || res.Patterns[0].Samples[base] != 90 || res.Patterns[0].Samples[base+4] != 90 {
		t.Errorf("got %+v", res.Patterns)
	}
	// Of one copy nothing but templates is read.
	clean := newShop(t)
	clean.put(nil, all...)
	clean.refresh()
	q.Sources = []engine.Source{&stored{blocks: clean.blocks, tenant: "t"}}
	res, err = clean.engine.Patterns(t.Context(), q)
	s.must(err)
	if res.Statistics.BytesRead != 0 || res.Statistics.EntriesRead != 480 || len(res.Patterns) != 1 || res.Patterns[0].Total != 480 {
		t.Errorf("%+v, %+v", res.Statistics, res.Patterns)
	}
}

// However blocks overlap, and whatever of them is deleted or asked for, patterns count
// each entry once.
func TestPatternsOfBlocksCountOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := newShop(t)
		var all []row
		for _, app := range []string{"a", "b", "c"} {
			all = append(all, rows(app, 0, rapid.IntRange(1, 80).Draw(r, "rows"))...)
		}
		for range rapid.IntRange(0, 3).Draw(r, "blocks") {
			from := rapid.IntRange(0, 80).Draw(r, "from")
			to := from + rapid.IntRange(1, 40).Draw(r, "for")
			if list := slices.DeleteFunc(slices.Clone(all), func(x row) bool { return x.at < from || x.at >= to }); len(list) > 0 {
				s.put(nil, list...)
			}
		}
		s.put(nil, all...)
		s.refresh()
		at := func(n int) int64 { return day.Add(time.Duration(n) * time.Second).UnixNano() }
		x := &engine.Excluded{Version: "1"}
		dead := func(row) bool { return false }
		if rapid.Bool().Draw(r, "deletes") {
			from, to := rapid.IntRange(0, 80).Draw(r, "deleted from"), rapid.IntRange(0, 80).Draw(r, "deleted to")
			text := rapid.SampledFrom([]string{`{app="a"}`, `{app=~".+"} |= "1"`}).Draw(r, "delete")
			x.Tombstones = []engine.Tombstone{{Selector: selectorOf(t, text).(*syntax.LogSelector), Start: at(from), End: at(to)}}
			x.Retention = []engine.Cutoff{{Before: at(5)}}
			dead = func(e row) bool {
				hit := e.app == "a"
				if strings.Contains(text, "1") {
					hit = strings.Contains(e.line, "1")
				}
				return e.at < 5 || hit && e.at >= from && e.at < to
			}
		}
		start := rapid.IntRange(0, 80).Draw(r, "start")
		end := start + rapid.IntRange(1, 80).Draw(r, "length")
		q := engine.PatternsQuery{
			Query: engine.Query{Expr: selectorOf(t, `{app=~".+"}`), Sources: []engine.Source{&stored{blocks: s.blocks, tenant: "t"}}, Excluded: x},
			Start: at(start), End: at(end), Width: int64(20 * time.Second),
		}
		res, err := s.engine.Patterns(t.Context(), q)
		s.must(err)
		got, want := map[int64]uint64{}, map[int64]uint64{}
		for _, p := range res.Patterns {
			for b, n := range p.Samples {
				got[b] += n
			}
		}
		for _, e := range all {
			if e.at >= start && e.at < end && !dead(e) {
				want[at(e.at)/q.Width]++
			}
		}
		if !maps.Equal(got, want) {
			r.Fatalf("got %v, want %v", got, want)
		}
	})
}
