package blockstore_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/shopgen"
)

// replicas are n ingesters that hold the same lines: batches of four senders, which
// arrive out of order, in blocks that each of them cuts elsewhere.
func replicas(b tb, rows, n int) (sources []engine.Source) {
	b.Helper()
	const rate = 2000
	g, err := shopgen.New(shopgen.Config{Seed: 1, Start: time.Unix(1_760_000_000, 0), Rate: rate})
	if err != nil {
		b.Fatal(err)
	}
	var all []model.Labels
	for _, s := range g.Streams() {
		var ls []model.Label
		for k, v := range s.Labels() {
			ls = append(ls, model.Label{Name: k, Value: v})
		}
		all = append(all, model.NewLabels(ls))
	}
	const batch = 4500
	entries := make([]enginetest.Entry, rows)
	for i := range entries {
		r := g.Next()
		level := "info"
		if bytes.Contains(r.Line, []byte("error")) {
			level = "error"
		}
		entries[i] = enginetest.Entry{
			Labels: all[r.Stream], Time: int64(i) * sec / rate, BatchTime: int64(i / batch), Position: uint32(i % batch), Line: string(r.Line),
			Derived: model.Labels{{Name: "detected_level", Value: level}},
		}
	}
	cache := blockstore.NewCache(512<<20, nil)
	for replica := range n {
		rnd := rand.New(rand.NewPCG(uint64(replica), 2))
		batches := slices.Collect(slices.Chunk(entries, batch))
		for i := range batches {
			j := min(i+rnd.IntN(3), len(batches)-1)
			batches[i], batches[j] = batches[j], batches[i]
		}
		arrived := slices.Concat(batches...)
		var own []engine.Source
		for at := 0; at < len(arrived); {
			to := min(len(arrived), at+rows/6+rnd.IntN(rows/6))
			o := &object{b: copyOf(b, enginetest.NewStore(arrived[at:to]...), block.Options{NarrowRuns: true})}
			own = append(own, engine.Local(blockstore.NewStore(openBlock(b, o), cache), fmt.Sprintf("replica %d block %d", replica, len(own))))
			at = to
		}
		sources = append(sources, engine.Union(fmt.Sprintf("replica %d", replica), own...))
	}
	return sources
}

// BenchmarkReplicas asks replicas that cut blocks at different entries.
func BenchmarkReplicas(b *testing.B) {
	const rows = 300_000
	for _, n := range []int{1, 3} {
		sources := replicas(b, rows, n)
		for _, query := range []struct {
			text  string
			step  time.Duration
			limit int
		}{
			{`{env="prod"}`, 0, 100}, {`{env="prod"} |= "error"`, 0, 100}, {`sum(count_over_time({env="prod"}[10m]))`, 10 * time.Minute, 0},
			{`sum(count_over_time({env="prod"} |= "error" [10m]))`, 10 * time.Minute, 0}, {`sum by (detected_level) (rate({env="prod"}[10m]))`, 10 * time.Minute, 0},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, query.text), func(b *testing.B) {
				expr, err := syntax.ParseExpr(query.text)
				if err != nil {
					b.Fatal(err)
				}
				q := engine.RangeQuery{Query: engine.Query{Expr: expr, Sources: sources}, End: 600 * sec, Step: query.step, Limit: query.limit, Backward: true}
				if query.step > 0 {
					q.Start = 600 * sec
				}
				if _, err := engine.New(engine.Options{}).Range(context.Background(), q); err != nil {
					b.Fatal(err)
				}
				began := cpu()
				for b.Loop() {
					if _, err := engine.New(engine.Options{}).Range(context.Background(), q); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(cpu()-began)/float64(b.N)/1e6, "cpu-ms/op")
			})
		}
	}
}
