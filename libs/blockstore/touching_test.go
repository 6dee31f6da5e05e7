package blockstore_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

func podLabels(k int) model.Labels {
	return model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("a%d", k%3)}, {Name: "pod", Value: fmt.Sprintf("p%02d", k)}})
}

// drawParts returns rows of streams and which of them each of n blocks has. Blocks are cut at
// one time, or at another one for each stream; times are few, so that many rows have the same.
// Most streams follow each other from block to block, but for some, whose rows lie anywhere, are
// in several blocks, or have one time on both sides of a cut. Of some, several blocks have all
// rows.
func drawParts(t *rapid.T, r *rand.Rand, n int) (parts [][]enginetest.Entry, all []enginetest.Entry) {
	odd := rapid.SampledFrom([]int{0, 2, 5, 8, 30}).Draw(t, "streams that are not cut in order, of 30")
	slots := rapid.SampledFrom([]int64{6, 40}).Draw(t, "times")
	together := rapid.Bool().Draw(t, "cut at one time")
	parts = make([][]enginetest.Entry, n)
	cuts := make([]int64, n-1)
	for i := range cuts {
		cuts[i] = slots * int64(i+1) / int64(n)
	}
	labels := make([]model.Labels, rapid.SampledFrom([]int{4, 30}).Draw(t, "streams"))
	copied := rapid.SampledFrom([]int{0, 15, 30}).Draw(t, "streams of which blocks have all rows, of 30")
	jobs := rapid.Bool().Draw(t, "jobs") // so that blocks have streams in another order
	for k := range labels {
		if labels[k] = podLabels(k); jobs {
			labels[k] = model.NewLabels(append(slices.Clone(labels[k]), model.Label{Name: "service_name", Value: fmt.Sprint("s", k*7%5)}))
		}
	}
	for k := range labels {
		var rows []enginetest.Entry
		for i := range r.IntN(9) {
			rows = append(rows, enginetest.Entry{Labels: labels[k], Time: r.Int64N(slots), BatchTime: int64(i), Position: uint32(k), Line: fieldLine(r, 1)})
		}
		slices.SortFunc(rows, func(a, b enginetest.Entry) int {
			return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Line, b.Line))
		})
		rows = slices.CompactFunc(rows, func(a, b enginetest.Entry) bool { return a.Time == b.Time && a.Line == b.Line }) // they would be copies
		later, before := r.IntN(1+len(rows)), r.IntN(2)
		in := func(i int) int { // rows of one time are in one block
			if together {
				at, _ := slices.BinarySearch(cuts, rows[i].Time+int64(before))
				return at
			}
			for i > 0 && rows[i-1].Time == rows[i].Time {
				i--
			}
			return min(n-1, (i*n+later)/max(1, len(rows)))
		}
		how := -1
		if r.IntN(30) < odd {
			how = r.IntN(6)
		}
		around, as := r.IntN(n), r.IntN(n)
		whole := r.IntN(30) < copied
		for i, e := range rows {
			e.Time *= 10 * sec
			if whole {
				all = append(all, e)
				for b := range n {
					if b == around || b == as || (k+b)%3 == 0 && 2*i < len(rows) { // and some a part
						parts[b] = append(parts[b], e)
					}
				}
				continue
			}
			to := in(i)
			next := min(n-1, to+1)
			if i+1 < len(rows) && !together {
				next = in(i + 1)
			}
			edge := next > to && (together && rows[i].Time == cuts[to]-int64(before) || !together)
			switch {
			case how == 0:
				to = r.IntN(n)
			case how == 1: // a copy of each
				parts[(to+1)%n] = append(parts[(to+1)%n], e)
			case how == 2 && edge: // a copy of one
				parts[next] = append(parts[next], e)
			case how == 3 && edge: // another row of that time
				o := e
				o.Line, o.BatchTime = "the other "+e.Line, e.BatchTime+100
				parts[next], all = append(parts[next], o), append(all, o)
			case how == 4 && i > 0 && i+1 < len(rows): // within what another one has
				to = (around + 1) % n
			case how == 4:
				to = around
			}
			parts[to], all = append(parts[to], e), append(all, e)
		}
	}
	return parts, all
}

// Blocks that all have rows of the same time, of streams of which each block has another
// part, answer as one store with all their rows: those of streams that follow each other
// from block to block, those that meet at one time, those that overlap and those of which
// blocks have equal runs, and pages of them. If a block cannot be read, an answer is right
// nevertheless, or there is none.
func TestStreamsOfBlocksEqualMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		n := rapid.IntRange(2, 4).Draw(t, "blocks")
		parts, all := drawParts(t, r, n)
		cache := blockstore.NewCache(1<<20, nil)
		var sources []engine.Source
		var objects []*object
		for i, part := range parts {
			o := &object{b: copyOf(t, enginetest.NewStore(part...), block.Options{
				RowGroupBytes: rapid.SampledFrom([]int{300, 3000, 0}).Draw(t, "group"), NarrowRuns: rapid.Bool().Draw(t, "narrow"), Whole: rapid.Bool().Draw(t, "whole")})}
			objects = append(objects, o)
			sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprint("b", i)))
		}
		r.Shuffle(n, func(i, k int) { sources[i], sources[k] = sources[k], sources[i] })
		asked := []engine.Source{engine.Union("union", sources...)}
		memory := engine.Local(enginetest.NewStore(all...), "memory")
		switch rapid.IntRange(0, 5).Draw(t, "beside") {
		case 1: // what some have, in memory
			asked = append(asked, engine.Local(enginetest.NewStore(parts[n-1]...), "memory"))
		case 2: // a replica that cut elsewhere
			o := &object{b: copyOf(t, enginetest.NewStore(slices.Concat(parts[1:]...)...), block.Options{})}
			first := sources[slices.IndexFunc(sources, func(s engine.Source) bool { return s.Name() == "b0" })]
			asked = append(asked, engine.Union("replica", first, engine.Local(blockstore.NewStore(openBlock(t, o), cache), "c")))
		case 3:
			asked = []engine.Source{engine.Union("outer", engine.Union("inner", sources[1:]...), sources[0])}
		}
		for range 5 {
			text := rapid.SampledFrom(touchingQueries).Draw(t, "query")
			if rapid.IntRange(0, 2).Draw(t, "any") == 0 {
				text = rapid.SampledFrom(slices.Concat(fieldQueries, queries)).Draw(t, "query")
			}
			q := engine.RangeQuery{End: 410 * sec, Step: 30 * time.Second, Limit: rapid.SampledFrom([]int{3, 1000}).Draw(t, "limit"), Backward: rapid.Bool().Draw(t, "backward")}
			if rapid.IntRange(0, 2).Draw(t, "range") == 0 {
				q.Start = rapid.Int64Range(0, 40).Draw(t, "start") * 10 * sec
				q.End = q.Start + rapid.Int64Range(1, 400).Draw(t, "span")*sec
			}
			if rapid.IntRange(0, 5).Draw(t, "delete") == 0 {
				from := rapid.Int64Range(0, 30).Draw(t, "deleted from") * 10 * sec
				what := parse(t, rapid.SampledFrom([]string{`{app="a1"}`, `{pod="p00"}`, `{pod=~".+"} |= "level"`}).Draw(t, "what"))
				q.Excluded = &engine.Excluded{Version: "1", Tombstones: []engine.Tombstone{{ID: "x", Selector: what.(*syntax.LogSelector), Start: from, End: from + 100*sec}}}
			}
			q.Expr = parse(t, text)
			run := func(sources ...engine.Source) (pages string) {
				q := q
				q.Sources = sources
				for range 100 {
					res, err := engine.New(engine.Options{}).Range(context.Background(), q)
					if err != nil {
						return pages + "error" // of whichever line fails first
					}
					rounded(res)
					pages += dump(res) + "\n"
					if q.Cursor = res.NextCursor; q.Cursor == "" {
						break
					}
				}
				return pages
			}
			want := run(memory)
			if fails := rapid.IntRange(-2*n, n-1).Draw(t, "fails"); fails >= 0 {
				objects[fails].fail = errors.New("boom")
				got := run(asked...)
				if right, failed := strings.CutSuffix(got, "error"); got != want && !(failed && strings.HasPrefix(want, right)) {
					t.Fatalf("%s %+v, block %d fails\n got %s\nwant %s", text, q, fails, got, want)
				}
				objects[fails].fail = nil
			}
			if got := run(asked...); got != want {
				t.Fatalf("%s %+v\n got %s\nwant %s", text, q, got, want)
			}
			if n := cache.OfQueries(); n > 0 {
				t.Fatalf("%s %+v: the cache has %d parts of it", text, q, n)
			}
		}
	})
}

// touchingQueries tell rows that are lost, there twice or out of order.
var touchingQueries = []string{
	`{app=~".+"}`, `{pod=~"p.*"} != "zzz"`, `sum(count_over_time({app=~".+"}[50s]))`, `sum(count_over_time({app=~".+"}[10m]))`,
	`sum by (pod) (count_over_time({app=~".+"}[10m]))`, `last_over_time({app=~".+"} | logfmt | unwrap code [50s]) by (app)`, `first_over_time({app=~".+"} | json | unwrap code [2m]) by (level)`,
}

func parse(t tb, text string) syntax.Expr {
	t.Helper()
	e, err := syntax.ParseExpr(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Streams that follow each other from block to block are counted without a row being read;
// if one has rows of both at the same times, only those of it are. What cannot be read then is an error.
func TestOnlyStreamsThatTouchAreUnited(t *testing.T) {
	const streams = 64
	for _, touch := range []bool{false, true} {
		var parts [2][]enginetest.Entry
		for k := range streams {
			for i := range 10 {
				e := enginetest.Entry{Labels: podLabels(k), Time: int64(i*streams+k) * sec, BatchTime: 1, Position: uint32(k), Line: fmt.Sprintf("line %d of %d", i, k)}
				b := (2*i + k%2) / 10 // cut at another time each
				parts[b] = append(parts[b], e)
				if touch && k == 7 {
					parts[1-b] = append(parts[1-b], e)
				}
			}
		}
		if touch { // so that both differ
			parts[1] = append(parts[1], enginetest.Entry{Labels: podLabels(7), Time: 77 * sec, BatchTime: 2, Line: "late"})
		}
		cache := blockstore.NewCache(1<<20, nil)
		var objects []*object
		var sources []engine.Source
		for i, part := range parts {
			o := &object{b: copyOf(t, enginetest.NewStore(part...), block.Options{RowGroupBytes: 300})}
			objects = append(objects, o)
			sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprint("b", i)))
			o.reads = nil
		}
		count := func() (float64, error) {
			expr, err := syntax.ParseExpr(`sum(count_over_time({pod=~".+"}[2h]))`)
			if err != nil {
				t.Fatal(err)
			}
			res, err := engine.New(engine.Options{}).Instant(context.Background(), engine.Query{Expr: expr, Sources: []engine.Source{engine.Union("u", sources...)}}, 7000*sec)
			if err != nil {
				return 0, err
			}
			return res.Vector[0].Value, nil
		}
		boom := errors.New("boom")
		objects[1].fail = boom
		got, err := count()
		if want := float64(10 * streams); !touch && (err != nil || got != want) {
			t.Errorf("%v, %v, want %v without a look at rows", got, err, want)
		} else if touch && (!errors.Is(err, boom) || !strings.Contains(err.Error(), "b1")) {
			t.Errorf("%v, %v, want an error of b1", got, err)
		}
		objects[1].fail = nil
		if !touch {
			continue
		}
		for _, o := range objects {
			o.reads = nil
		}
		if got, err := count(); err != nil || got != 10*streams+1 {
			t.Errorf("%v, %v, want %d", got, err, 10*streams+1)
		}
		if n := len(objects[0].reads) + len(objects[1].reads); n == 0 || n > 16 {
			t.Errorf("%d reads", n)
		}
	}
}

// Blocks with the same rows, or some of those of another one, are counted without a row being
// read, each row once. If one fails that answers, the other one does.
func TestCopiesAreLeftOut(t *testing.T) {
	const streams = 64
	var parts [3][]enginetest.Entry
	for k := range streams {
		for i := range 10 {
			e := enginetest.Entry{Labels: podLabels(k), Time: int64(i*streams+k) * sec, BatchTime: 1, Position: uint32(k), Line: fmt.Sprintf("line %d of %d", i, k)}
			for b := range parts {
				if b != 1 || k%2 == 0 { // the second has some streams
					parts[b] = append(parts[b], e)
				}
			}
		}
	}
	for failing := range 4 {
		cache := blockstore.NewCache(1<<20, nil)
		var objects []*object
		var sources []engine.Source
		for i, part := range parts {
			o := &object{b: copyOf(t, enginetest.NewStore(part...), block.Options{RowGroupBytes: 300})}
			objects = append(objects, o)
			sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprint("b", i)))
			o.reads = nil
		}
		if failing < 3 {
			objects[failing].fail = errors.New("boom")
		}
		for i, text := range []string{`sum(count_over_time({pod=~".+"}[2h]))`, `sum(count_over_time({pod=~".+"} |~ "line [0-9]" [2h]))`} {
			expr, err := syntax.ParseExpr(text)
			if err != nil {
				t.Fatal(err)
			}
			res, err := engine.New(engine.Options{}).Instant(context.Background(), engine.Query{Expr: expr, Sources: []engine.Source{engine.Union("u", sources...)}}, 7000*sec)
			if err != nil || len(res.Vector) != 1 || res.Vector[0].Value != 10*streams {
				t.Errorf("%s without block %d: %v, %v, want %d", text, failing, res, err, 10*streams)
			}
			if n := len(objects[0].reads) + len(objects[1].reads) + len(objects[2].reads); i == 0 && n > 0 {
				t.Errorf("%d reads", n)
			}
		}
	}
}

// Of three blocks with some runs of a stream each, one has all runs of both others, which
// overlap: each row counts once, whichever is asked first.
func TestCopiesThatOverlap(t *testing.T) {
	var parts [3][]enginetest.Entry
	for k := range 8 {
		from, to := 0, 900 // of one stream: runs are by 5 minutes
		if k%2 == 0 {
			to = 1
		} else if k != 3 {
			from = 899
		}
		for i := from; i < to; i++ {
			e := enginetest.Entry{Labels: podLabels(k), Time: int64(i) * sec, BatchTime: 1, Line: fmt.Sprintf("line %d of %d", i, k)}
			for b, in := range []bool{i < 600, k == 3, i >= 300} {
				if in {
					parts[b] = append(parts[b], e)
				}
			}
		}
	}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		cache := blockstore.NewCache(1<<20, nil)
		var sources []engine.Source
		for _, b := range order {
			o := &object{b: copyOf(t, enginetest.NewStore(parts[b]...), block.Options{})}
			sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprint("b", b)))
		}
		q := engine.Query{Expr: parse(t, `sum(count_over_time({pod=~".+"}[2h]))`), Sources: []engine.Source{engine.Union("u", sources...)}}
		if res, err := engine.New(engine.Options{}).Instant(context.Background(), q, 7000*sec); err != nil || res.Vector[0].Value != 907 {
			t.Errorf("%v: %v, %v, want 907", order, res, err)
		}
	}
}

// A block that fails amid a scan leaves it to one with the same rows: all come once, in order.
func TestScanGoesOnWithCopies(t *testing.T) {
	var all []enginetest.Entry
	for k := range 40 {
		l := model.NewLabels(append(slices.Clone(podLabels(k)), model.Label{Name: "service_name", Value: fmt.Sprint("s", k*7%5)}))
		for i := range 60 {
			all = append(all, enginetest.Entry{Labels: l, Time: int64(i) * sec, BatchTime: 1, Position: uint32(k), Line: fmt.Sprintf("line %d of %d", i, k)})
		}
	}
	var blocks [][]byte
	for _, part := range [][]enginetest.Entry{all, all, all[:20*60]} {
		blocks = append(blocks, copyOf(t, enginetest.NewStore(part...), block.Options{RowGroupBytes: 2000}))
	}
	for _, backward := range []bool{false, true} {
		q := engine.RangeQuery{End: 60 * sec, Limit: 3000, Backward: backward}
		q.Expr = parse(t, `{pod=~".+"}`)
		want := pagesOf(t, q, engine.Local(enginetest.NewStore(all...), "memory"))
		for failing := range 2 {
			for after := range 12 {
				cache := blockstore.NewCache(1<<20, nil)
				var sources []engine.Source
				for i, b := range blocks {
					o := &object{b: b}
					sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprint("b", i)))
					if o.reads = nil; i == failing {
						o.fail, o.after = errors.New("boom"), after
					}
				}
				if got := pagesOf(t, q, engine.Union("u", sources...)); got != want {
					t.Fatalf("block %d fails after %d reads, backward %v:\n got %s\nwant %s", failing, after, backward, got, want)
				}
			}
		}
	}
}

// Which streams of two blocks touch is found out once, is counted as memory, has no numbers if
// they are most of the streams, and goes with either block.
func TestTouchingIsKept(t *testing.T) {
	const streams = 64
	for _, touching := range []int{0, 1, streams/2 - 1, streams / 2, streams/2 + 1, streams} {
		for forget := range 2 {
			var parts [2][]enginetest.Entry
			for k := range streams {
				for i := range 4 {
					e := enginetest.Entry{Labels: podLabels(k), Time: int64(k+10*i) * sec, BatchTime: 1, Line: fmt.Sprintf("line %d of %d", i, k)}
					parts[i/2] = append(parts[i/2], e)
					if i == 1 && k < touching {
						e.Time += 10 * sec
						parts[0] = append(parts[0], e)
					}
				}
			}
			cache := blockstore.NewCache(1<<20, nil)
			var readers []*block.Reader
			var sources []engine.Source
			for i, part := range parts {
				readers = append(readers, openBlock(t, &object{b: copyOf(t, enginetest.NewStore(part...), block.Options{})}))
				sources = append(sources, engine.Local(blockstore.NewStore(readers[i], cache), fmt.Sprint("b", i)))
			}
			for range 3 {
				q := engine.Query{Expr: parse(t, `sum(count_over_time({pod=~".+"}[2h]))`), Sources: []engine.Source{engine.Union("u", sources...)}}
				res, err := engine.New(engine.Options{}).Instant(context.Background(), q, 7000*sec)
				if err != nil || res.Vector[0].Value != float64(4*streams+touching) {
					t.Fatalf("%d touch: %v, %v", touching, res, err)
				}
			}
			sizes := cache.Touching()
			if least := 8 * touching; len(sizes) != 1 || touching <= streams/2 && sizes[0] < least || sizes[0] > 512 || touching > streams/2 && sizes[0] > 160 {
				t.Errorf("%d of %d streams touch: parts of %v bytes", touching, streams, sizes)
			}
			if cache.Forget(readers[forget]); len(cache.Touching()) > 0 {
				t.Errorf("block %d is forgotten: parts of %v bytes", forget, cache.Touching())
			}
		}
	}
}

// Rows of many streams at the same times, of which two blocks have some each, come in the
// order of their labels, page by page, and one that both blocks have, where one begins and
// the other one ends, comes once.
func TestOrderOverBlocksOfTheSameTimes(t *testing.T) {
	for _, swap := range []bool{false, true} {
		var parts [2][]enginetest.Entry
		var all []enginetest.Entry
		for k := range 12 {
			for i := range 10 {
				e := enginetest.Entry{Labels: podLabels(k), Time: int64(i) * sec, BatchTime: 1, Position: uint32(k), Line: fmt.Sprintf("line %d of %d", i, k)}
				all = append(all, e)
				if i <= 2+k%5 {
					parts[0] = append(parts[0], e)
				}
				if i > 2+k%5 || i == 2+k%5 && k == 7 {
					parts[1] = append(parts[1], e)
				}
			}
		}
		if swap {
			parts[0], parts[1] = parts[1], parts[0]
		}
		cache := blockstore.NewCache(1<<20, nil)
		var sources []engine.Source
		for i, part := range parts {
			o := &object{b: copyOf(t, enginetest.NewStore(part...), block.Options{})}
			sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprint("b", i)))
		}
		for _, text := range []string{`{pod=~".+"}`, `{pod=~".+"} |= "of 7"`, `count_over_time({pod=~".+"}[4s])`, `sum(count_over_time({pod=~".+"}[4s]))`} {
			expr, err := syntax.ParseExpr(text)
			if err != nil {
				t.Fatal(err)
			}
			for _, backward := range []bool{false, true} {
				q := engine.RangeQuery{End: 10 * sec, Step: time.Second, Limit: 7, Backward: backward}
				q.Expr = expr
				if got, want := pagesOf(t, q, engine.Union("u", sources...)), pagesOf(t, q, engine.Local(enginetest.NewStore(all...), "memory")); got != want {
					t.Errorf("%s, backward %v:\n got %s\nwant %s", text, backward, got, want)
				}
			}
		}
	}
}

// pagesOf returns the answer to a query, all pages of it.
func pagesOf(t *testing.T, q engine.RangeQuery, sources ...engine.Source) (pages string) {
	t.Helper()
	q.Sources = sources
	for range 100 {
		res, err := engine.New(engine.Options{}).Range(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		pages += dump(res) + "\n"
		if q.Cursor = res.NextCursor; q.Cursor == "" {
			break
		}
	}
	return pages
}
