package blockstore_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// overlap reports whether times of any of the parts lie between times of another one.
func overlap(parts [][]enginetest.Entry) bool {
	extent := func(part []enginetest.Entry) (least, greatest int64) {
		least, greatest = math.MaxInt64, math.MinInt64
		for _, e := range part {
			least, greatest = min(least, e.Time), max(greatest, e.Time)
		}
		return least, greatest
	}
	for i := range parts {
		for k := range parts[:i] {
			a, b := extent(parts[i])
			c, d := extent(parts[k])
			if a <= d && c <= b {
				return true
			}
		}
	}
	return false
}

// Blocks, and an ingester's memory, that overlap here and there in time answer as one
// store with all their rows, and do not unite rows one by one where they do not overlap.
func TestOverlapsEqualMemory(t *testing.T) {
	const length = 600 * sec
	overlaps := 0
	var columns float64 // rows that were counted by columns though blocks overlap
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		odd := rapid.SampledFrom([]int{0, 1}).Draw(t, "odd")
		var entries []enginetest.Entry
		for i := range rapid.SampledFrom([]int{50, 600}).Draw(t, "entries") {
			k := r.IntN(4)
			entries = append(entries, enginetest.Entry{
				Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("a%d", k%3)}, {Name: "pod", Value: fmt.Sprintf("p%02d", k)}}),
				Time:   r.Int64N(length/sec) * sec, BatchTime: int64(i / 10), Position: uint32(i % 10), Line: fieldLine(r, odd),
			})
		}
		// Each place takes rows of a part of the time. An entry that several may have is
		// in one of them, or in all.
		type place struct{ from, to int64 }
		places := []place{{0, length - rapid.SampledFrom([]int64{0, 100, 400}).Draw(t, "first")*sec}}
		for range rapid.IntRange(1, 3).Draw(t, "others") {
			from := rapid.Int64Range(0, 500).Draw(t, "from") * sec
			places = append(places, place{from, from + rapid.SampledFrom([]int64{20, 100, 600}).Draw(t, "length")*sec})
		}
		parts := make([][]enginetest.Entry, len(places))
		var all []enginetest.Entry
		for _, e := range entries {
			var may []int
			for i, p := range places {
				if p.from <= e.Time && e.Time < p.to {
					may = append(may, i)
				}
			}
			if len(may) == 0 {
				continue
			}
			all = append(all, e)
			if r.IntN(3) > 0 {
				may = may[:1]
			} else if r.IntN(2) > 0 {
				may = may[len(may)-1:]
			}
			for _, i := range may {
				parts[i] = append(parts[i], e)
			}
		}
		reg := prometheus.NewRegistry()
		cache := blockstore.NewCache(1<<20, reg)
		head := rapid.Bool().Draw(t, "head") // the last one is no block
		var sources []engine.Source
		for i, part := range parts {
			store := enginetest.NewStore(part...)
			store.RunRows = 10
			if i == len(parts)-1 && head {
				sources = append(sources, engine.Local(store, fmt.Sprint("b", i)))
				continue
			}
			o := &object{b: copyOf(t, store, block.Options{RowGroupBytes: rapid.SampledFrom([]int{3000, 0}).Draw(t, "group")})}
			sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprint("b", i)))
		}
		asked := sources
		switch rapid.IntRange(0, 2).Draw(t, "arrangement") {
		case 1:
			asked = []engine.Source{engine.Union("union", sources...)}
		case 2:
			n := len(sources) - 1
			asked = []engine.Source{sources[n], engine.Union("union", sources[:n]...)}
		}
		text := rapid.SampledFrom(append(fieldQueries, queries...)).Draw(t, "query")
		expr, err := syntax.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		q := engine.RangeQuery{Start: rapid.Int64Range(0, 300).Draw(t, "start") * sec, Step: 30 * time.Second, Limit: 50, Backward: rapid.Bool().Draw(t, "backward")}
		q.End = q.Start + rapid.Int64Range(1, 600).Draw(t, "span")*sec
		q.Expr = expr
		run := func(sources ...engine.Source) string {
			q := q
			q.Sources = sources
			res, err := engine.New(engine.Options{}).Range(context.Background(), q)
			if err != nil {
				return "error" // of whichever line fails first
			}
			rounded(res)
			return dump(res)
		}
		if got, want := run(asked...), run(engine.Local(enginetest.NewStore(all...), "memory")); got != want {
			t.Fatalf("%s %+v\n got %s\nwant %s", text, q, got, want)
		}
		if overlap(parts) {
			overlaps++
			columns += fieldRows(t, reg, "columns")
		}
	})
	if !t.Failed() && overlaps >= 40 && columns == 0 { // else it was run for less
		t.Error("overlapping blocks were never counted by columns")
	}
}

// rounded takes from points what sums in another order may round otherwise.
func rounded(res *engine.Result) {
	for _, s := range res.Matrix {
		for i := range s.Points {
			s.Points[i].Value, _ = strconv.ParseFloat(strconv.FormatFloat(s.Points[i].Value, 'g', 10, 64), 64)
		}
	}
}
