package blockstore_test

import (
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

// Blocks that all have rows of the same time, of streams of which each block has another
// part, answer as one store with all their rows: those of streams that follow each other
// from block to block, those that meet at one time, those that overlap and those of which
// blocks have equal runs, and pages of them.
func TestStreamsOfBlocksEqualMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		n := rapid.IntRange(2, 4).Draw(t, "blocks")
		odd := rapid.SampledFrom([]int{0, 2, 8, 30}).Draw(t, "streams that are not cut in order, of 30")
		parts := make([][]enginetest.Entry, n)
		var all []enginetest.Entry
		for k := range rapid.SampledFrom([]int{4, 30}).Draw(t, "streams") {
			var times []int64
			for range r.IntN(9) {
				times = append(times, r.Int64N(40)*10*sec)
			}
			slices.Sort(times)
			how := r.IntN(30)
			if how >= odd {
				times = slices.Compact(times)
			}
			later := r.IntN(1 + len(times))
			in := func(i int) int { return min(n-1, (i*n+later)/max(1, len(times))) } // in order
			for i, at := range times {
				e := enginetest.Entry{Labels: podLabels(k), Time: at, BatchTime: int64(i), Position: uint32(k), Line: fieldLine(r, 1)}
				all = append(all, e)
				to := in(i)
				if how < odd {
					switch {
					case how%3 == 0:
						to = r.IntN(n)
					case how%3 == 1 || in(i+1) > to: // a copy, or one where the next block begins
						parts[(to+1)%n] = append(parts[(to+1)%n], e)
					}
				}
				parts[to] = append(parts[to], e)
			}
		}
		cache := blockstore.NewCache(1<<20, nil)
		var sources []engine.Source
		for i, part := range parts {
			o := &object{b: copyOf(t, enginetest.NewStore(part...), block.Options{
				RowGroupBytes: rapid.SampledFrom([]int{300, 3000, 0}).Draw(t, "group"), NarrowRuns: rapid.Bool().Draw(t, "narrow"), Whole: rapid.Bool().Draw(t, "whole")})}
			sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprint("b", i)))
		}
		asked := []engine.Source{engine.Union("union", sources...)}
		switch rapid.IntRange(0, 2).Draw(t, "beside") {
		case 1: // what some have, in memory
			asked = append(asked, engine.Local(enginetest.NewStore(parts[n-1]...), "memory"))
		case 2: // a replica that cut elsewhere
			o := &object{b: copyOf(t, enginetest.NewStore(slices.Concat(parts[1:]...)...), block.Options{})}
			asked = append(asked, engine.Union("replica", sources[0], engine.Local(blockstore.NewStore(openBlock(t, o), cache), "c")))
		}
		text := rapid.SampledFrom(slices.Concat(fieldQueries, queries, []string{`{app=~".+"}`, `{pod=~"p.*"} != "zzz"`, `sum(count_over_time({app=~".+"}[50s]))`})).Draw(t, "query")
		expr, err := syntax.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		q := engine.RangeQuery{Step: 30 * time.Second, Limit: rapid.SampledFrom([]int{3, 1000}).Draw(t, "limit"), Backward: rapid.Bool().Draw(t, "backward")}
		q.Start = rapid.Int64Range(0, 40).Draw(t, "start") * 10 * sec
		q.End = q.Start + rapid.Int64Range(1, 400).Draw(t, "span")*sec
		q.Expr = expr
		run := func(sources ...engine.Source) (pages string) {
			q := q
			q.Sources = sources
			for range 20 {
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
		if got, want := run(asked...), run(engine.Local(enginetest.NewStore(all...), "memory")); got != want {
			t.Fatalf("%s %+v\n got %s\nwant %s", text, q, got, want)
		}
	})
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
