package compactor

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// fact is a row as the naive twin knows it: what its line is made of.
type fact struct {
	service, env int
	time         int64 // milliseconds
	kind         int   // of line
	user, status int
	level        string // metadata; "": none
}

func (f fact) labels() model.Labels {
	return model.NewLabels([]model.Label{{Name: "env", Value: fmt.Sprint("e", f.env)}, {Name: "service_name", Value: fmt.Sprintf("s%02d", f.service)}})
}

func (f fact) line() string {
	switch f.kind {
	case 0:
		return fmt.Sprintf("served by %s in time status=%d user=u%d took=%dms", letter(f.user), f.status, f.user, f.user*7)
	case 1:
		return fmt.Sprintf("job %s of u%d ended with %d after %d steps", letter(f.user), f.user, f.status, f.time%9)
	}
	return fmt.Sprintf("cache %s is cold, id %08x", letter(f.service), uint32(f.user)*2654435761)
}

func letter(k int) string { return string(rune('a' + k%26)) }

const ms = 1_000_000

// question is a query of entries, and which they are.
type question struct {
	text string
	has  func(fact) bool
}

var questions = []question{
	{`{env=~".+"}`, func(fact) bool { return true }},
	{`{env="e1"}`, func(f fact) bool { return f.env == 1 }},
	{`{service_name=~"s[02].", env!="e0"} |= "u1"`, func(f fact) bool {
		return (f.service < 10 || f.service/10 == 2) && f.env != 0 && strings.Contains(f.line(), "u1")
	}},
	{`{env=~".+"} != "job"`, func(f fact) bool { return !strings.Contains(f.line(), "job") }},
	{`{env=~".+"} |~ "served by [a-d]|with 5"`, func(f fact) bool {
		return f.kind == 0 && f.user%26 < 4 || f.kind == 1 && f.status == 500
	}},
	{`{service_name="s17"}`, func(f fact) bool { return f.service == 17 }},
	{`{env=~".+"} | logfmt | status="500"`, func(f fact) bool { return f.kind == 0 && f.status == 500 }},
	{`{env=~"e[02]"} |= "served" | logfmt | user=~"u[3-7]" | status!="200"`, func(f fact) bool {
		return f.env != 1 && f.kind == 0 && f.user >= 3 && f.user <= 7 && f.status != 200
	}},
	{`{env=~".+"} | detected_level="warn"`, func(f fact) bool { return f.level == "warn" }},
	{`{env=~".+"} | detected_level="" |= "u"`, func(f fact) bool { return f.level == "" && strings.Contains(f.line(), "u") }},
}

// writeFacts writes a block of facts.
func writeFacts(t *rapid.T, id string, facts []fact, o block.Options) *block.Reader {
	facts = slices.Clone(facts)
	slices.SortFunc(facts, func(a, b fact) int { return cmp.Or(block.Compare(a.labels(), b.labels()), cmp.Compare(a.time, b.time)) })
	var body bytes.Buffer
	w := block.NewWriter(&body, block.Meta{ID: catalog.ID(id), Tenant: "t"}, o)
	for _, f := range facts {
		rows := &model.Rows{Times: []int64{f.time * ms}, BatchTimes: []int64{1}, Positions: []uint32{0}}
		rows.Lines.AppendString(f.line())
		if f.level != "" {
			level := model.Column{Name: blockstore.LevelName, Version: 1}
			level.AppendString(0, f.level)
			rows.Derived = []model.Column{level}
		}
		if err := w.Add(f.labels(), rows); err != nil {
			t.Fatal(err)
		}
	}
	return openFacts(t, w, &body)
}

func openFacts(t *rapid.T, w *block.Writer, body *bytes.Buffer) *block.Reader {
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := block.Open(t.Context(), fileRangeOf(body.Bytes()), int64(body.Len()))
	if err == nil {
		err = r.Verify(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mergeFacts merges blocks into parts that are cut at times, and proves it. It returns how many
// rows each delete removed, too.
func mergeFacts(t *rapid.T, id string, blocks []*block.Reader, deletes []pending, cuts []int64, fix bool, o block.Options) (out []*block.Reader, removed uint64) {
	var sources []compact.Source
	var marked []string
	for _, b := range blocks {
		src, err := compact.NewBlockSource(b)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, src)
	}
	var removes []compact.Remover
	for _, d := range deletes {
		removes = append(removes, d)
		marked = append(marked, d.ID)
	}
	slices.Sort(marked)
	m, err := compact.NewMerge(sources, removes, fix, block.Compare)
	if err != nil {
		t.Fatal(err)
	}
	start := int64(compact.MinTime)
	var lists [][]compact.Stream
	for i, end := range append(slices.Clone(cuts), compact.MaxTime) {
		var body bytes.Buffer
		w := block.NewWriter(&body, block.Meta{ID: catalog.ID(fmt.Sprint(id, i)), Tenant: "t", Ordered: fix, Tombstones: marked}, o)
		if err := m.Run(t.Context(), start, end, w); err != nil {
			t.Fatal(err)
		}
		b := openFacts(t, w, &body)
		streams, err := compact.Streams(b)
		if err != nil {
			t.Fatal(err)
		}
		out, lists, start = append(out, b), append(lists, streams), end
	}
	if err := m.Prove(); err != nil {
		t.Fatal(err)
	}
	if err := m.ProveResults(lists...); err != nil {
		t.Fatal(err)
	}
	for _, d := range deletes {
		removed += m.RemovedBy(d.ID)
	}
	return out, removed
}

// Whatever deletes with filters there are, however blocks of many services, whose sections go on
// where the last one ended, overlap, and whether they were merged, in part, again, and with which
// of the deletes applied: what queries find of them, by lines, fields and patterns, is what a
// twin finds that keeps all entries in a list.
func TestDeletesAndFiltersOverSectionsThatGoOn(t *testing.T) {
	sections, gone, e := 0, uint64(0), engine.New(engine.Options{})
	draws := 0
	rapid.Check(t, func(t *rapid.T) {
		if draws++; draws > 25 && os.Getenv("WEIR_FEWER") != "" { // as in the run with the race detector
			return
		}
		services, rows := rapid.IntRange(30, 50).Draw(t, "services"), rapid.IntRange(3, 14).Draw(t, "rows")
		seed := rapid.IntRange(0, 1000).Draw(t, "seed")
		var all []fact
		last := int64(0)
		for s := range services {
			for k := range rows {
				h := (s*31+k*17+seed)*2654435761>>7&0xffff + k
				f := fact{service: s, env: s * 7 % 3, time: int64(k*50 + h%50), kind: h % 3, user: h % 29, status: []int{200, 404, 500}[h/3%3], level: []string{"", "info", "warn"}[h/7%3]}
				all, last = append(all, f), max(last, f.time)
			}
		}
		at := func(what string) int64 { return int64(rapid.IntRange(0, int(last)+1).Draw(t, what)) }
		options := func(what string) block.Options {
			o := block.Options{RowGroupBytes: rapid.SampledFrom([]int{700, 5000}).Draw(t, what+" group"), SectionBytes: rapid.SampledFrom([]int64{2500, 9000}).Draw(t, what+" section"), Level: column.LevelFastest}
			switch rapid.SampledFrom([]string{"plain", "pages", "whole"}).Draw(t, what) {
			case "pages":
				o.Pages, o.Level = true, column.LevelBetter
			case "whole":
				o.Whole = true
			}
			return o
		}
		var deletes []pending
		x := &engine.Excluded{Version: "1"}
		dead := func(fact) bool { return false }
		for i := range rapid.IntRange(0, 3).Draw(t, "deletes") {
			q, start, end := rapid.SampledFrom(questions[1:]).Draw(t, "delete"), at("from"), at("to")
			sel, err := selection.Parse(q.text)
			if err != nil {
				t.Fatal(err)
			}
			d := pending{&tombstone.Tombstone{ID: fmt.Sprint("d", i), Tenant: "t", Query: q.text, Start: min(start, end) * ms, End: max(start, end) * ms}, sel}
			deletes = append(deletes, d)
			x.Tombstones = append(x.Tombstones, engine.Tombstone{ID: d.ID, Selector: sel.Selector(), Start: d.Start, End: d.End})
			before := dead
			dead = func(f fact) bool { return before(f) || f.time*ms >= d.Start && f.time*ms < d.End && q.has(f) }
		}
		// Blocks of times that overlap, of which each row is in one at least.
		var blocks []*block.Reader
		for i := range rapid.IntRange(1, 4).Draw(t, "blocks") {
			from, to := int64(0), last+1
			if i > 0 {
				from = at("block from")
				to = from + 1 + at("block length")
			}
			some := slices.DeleteFunc(slices.Clone(all), func(f fact) bool { return f.time < from || f.time >= to || i == 0 && f.service%5 == 4 })
			if i == 0 && len(some) > 0 {
				rest := slices.DeleteFunc(slices.Clone(all), func(f fact) bool { return f.service%5 != 4 })
				blocks = append(blocks, writeFacts(t, "rest", rest, options("rest")))
			}
			if len(some) > 0 {
				blocks = append(blocks, writeFacts(t, fmt.Sprint("b", i), some, options("block")))
			}
		}
		var want []fact
		for _, f := range all {
			if !dead(f) {
				want = append(want, f)
			}
		}
		ask := func(stage string) {
			cache := blockstore.NewCache(1<<20, nil)
			var sources []engine.Source
			for i, b := range blocks {
				sections = max(sections, b.Sections())
				sources = append(sources, engine.Local(blockstore.NewStore(b, cache), fmt.Sprint("b", i)))
			}
			in := engine.Query{Sources: []engine.Source{engine.Union("u", sources...)}, Excluded: x}
			askFacts(t, e, stage, in, want, at(stage+" start"), at(stage+" end"))
		}
		ask("not merged")
		n, applied := rapid.IntRange(1, len(blocks)).Draw(t, "merged"), rapid.IntRange(0, len(deletes)).Draw(t, "applied")
		var cuts []int64
		for range rapid.IntRange(0, 2).Draw(t, "cuts") {
			cuts = append(cuts, at("cut")*ms)
		}
		slices.Sort(cuts)
		made, removed := mergeFacts(t, "m", blocks[:n], deletes[:applied], slices.Compact(cuts), false, options("merge"))
		blocks = append(made, blocks[n:]...)
		gone += removed
		ask("merged")
		blocks, removed = mergeFacts(t, "f", blocks, deletes, nil, true, options("full merge"))
		gone += removed
		if n := blocks[0].Info().Rows; n != int64(len(want)) {
			t.Fatalf("%d rows are left of %d, want %d", n, len(all), len(want))
		}
		ask("merged again")
	})
	if sections < 3 || gone == 0 {
		t.Errorf("at most %d sections, %d rows were removed", sections, gone)
	}
}

// askFacts asks every third question of what has some facts, of start <= time < end, or of all
// times.
func askFacts(t *rapid.T, e *engine.Engine, stage string, in engine.Query, facts []fact, start, end int64) {
	start, end = min(start, end), max(start, end)+1
	if rapid.Bool().Draw(t, stage+" all") {
		start, end = 0, math.MaxInt32
	}
	width := rapid.SampledFrom([]int64{30, 1000, math.MaxInt32}).Draw(t, stage+" width")
	for i := rapid.IntRange(0, 2).Draw(t, stage+" questions"); i < len(questions); i += 3 {
		q := questions[i]
		expr, err := syntax.ParseExpr(q.text)
		if err != nil {
			t.Fatal(err)
		}
		in.Expr = expr
		want, levels, buckets := map[string]int{}, map[string]float64{}, map[int64]uint64{}
		for _, f := range facts {
			if f.time >= start && f.time < end && q.has(f) {
				want[fmt.Sprint(f.labels().Get("service_name"), " ", f.time, " ", f.line())]++
				buckets[f.time/width]++
			}
			if f.time > start && f.time <= end && q.has(f) {
				levels[f.level]++
			}
		}
		res, err := e.Range(t.Context(), engine.RangeQuery{Query: in, Start: start * ms, End: end * ms})
		if err != nil {
			t.Fatal(stage, q.text, err)
		}
		got := map[string]int{}
		for _, s := range res.Streams {
			for _, x := range s.Entries {
				got[fmt.Sprint(s.Labels.Get("service_name"), " ", x.Time/ms, " ", string(x.Line))]++
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%s, %s from %d to %d: %v\nwant %v", stage, q.text, start, end, got, want)
		}
		if res, err = e.Patterns(t.Context(), engine.PatternsQuery{Query: in, Start: start * ms, End: end * ms, Width: width * ms}); err != nil {
			t.Fatal(stage, q.text, err)
		}
		found := map[int64]uint64{}
		for _, p := range res.Patterns {
			for at, n := range p.Samples {
				found[at] += n
			}
		}
		if !maps.Equal(found, buckets) {
			t.Fatalf("%s, patterns of %s from %d to %d by %d: %v\nwant %v", stage, q.text, start, end, width, found, buckets)
		}
		if in.Expr, err = syntax.ParseExpr(fmt.Sprintf(`sum by (detected_level) (count_over_time(%s [%dms]))`, q.text, end-start)); err != nil {
			t.Fatal(err)
		}
		if res, err = e.Instant(t.Context(), in, end*ms); err != nil {
			t.Fatal(stage, q.text, err)
		}
		counts := map[string]float64{}
		for _, s := range res.Vector {
			counts[s.Labels.Get("detected_level")] = s.Value
		}
		if !maps.Equal(counts, levels) {
			t.Fatalf("%s, count of %s from %d to %d: %v, want %v", stage, q.text, start, end, counts, levels)
		}
	}
}
