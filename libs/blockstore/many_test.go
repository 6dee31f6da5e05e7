package blockstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// manyBlocks are three replicas that hold the same rows of 40 streams over ten minutes,
// each in n small blocks of its own, which meet in time, or, if mixed, each of which has
// rows of all the time.
func manyBlocks(b tb, rows, n int, mixed bool) (sources []engine.Source, objects []*object) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	const length = 600 * sec
	var entries []enginetest.Entry
	for i := range rows {
		k := r.IntN(40)
		entries = append(entries, enginetest.Entry{
			Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("a%d", k%5)}, {Name: "pod", Value: fmt.Sprintf("p%02d", k)}}),
			Time:   max(0, int64(i)*(length/int64(rows))-r.Int64N(2*sec)), BatchTime: int64(i), Line: fmt.Sprintf("worker %d done with %08x in %d ms", i%7, r.Uint32(), i%300),
		})
	}
	cache := blockstore.NewCache(256<<20, nil)
	for replica := range 3 {
		var own []engine.Source
		parts := make([][]enginetest.Entry, n)
		for i, e := range entries {
			k := r.IntN(n)
			if !mixed {
				k = min(n-1, max(0, i+r.IntN(rows/n)-rows/n/2)*n/rows)
			}
			parts[k] = append(parts[k], e)
		}
		for i, part := range parts {
			o := &object{b: copyOf(b, enginetest.NewStore(part...), block.Options{})}
			objects = append(objects, o)
			own = append(own, engine.Local(blockstore.NewStore(openBlock(b, o), cache), fmt.Sprintf("replica %d block %d", replica, i)))
		}
		sources = append(sources, engine.Union(fmt.Sprintf("replica %d", replica), own...))
	}
	return sources, objects
}

// A query for the newest lines reads the blocks that have them, though each of many
// blocks overlaps its neighbours, so that all hang together.
func TestFewOfManyBlocksAreRead(t *testing.T) {
	entries := 12_000
	if os.Getenv("WEIR_FEWER") != "" { // as in the run with the race detector
		entries = 4_000
	}
	sources, objects := manyBlocks(t, entries, 40, false)
	for _, o := range objects {
		o.reads = nil
	}
	expr, err := syntax.ParseExpr(`{app=~".+"}`)
	if err != nil {
		t.Fatal(err)
	}
	q := engine.RangeQuery{Query: engine.Query{Expr: expr, Sources: sources}, End: 601 * sec, Limit: 100, Backward: true}
	res, err := engine.New(engine.Options{}).Range(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, s := range res.Streams {
		lines += len(s.Entries)
	}
	if lines != 100 {
		t.Errorf("%d lines, want 100", lines)
	}
	read := 0
	for _, o := range objects {
		if len(o.reads) > 0 {
			read++
		}
	}
	// Some are read ahead of need.
	if read > len(objects)/2 {
		t.Errorf("%d of %d blocks were read for the newest lines", read, len(objects))
	}
}

// cpu is the time that the process has computed for.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkManyBlocks asks replicas that have cut their rows into many small blocks.
func BenchmarkManyBlocks(b *testing.B) {
	for _, c := range []struct {
		n     int
		mixed bool
	}{{1, false}, {30, false}, {100, false}, {30, true}, {100, true}} {
		sources, _ := manyBlocks(b, 60_000, c.n, c.mixed)
		for _, query := range []struct {
			text  string
			limit int
		}{{`{app=~".+"}`, 100}, {`{app=~".+"}`, 5000}, {`{app=~".+"}`, 100_000}, {`{app="a1"} |= "00ff"`, 100}, {`sum(count_over_time({app=~".+"}[1m]))`, 0}} {
			b.Run(fmt.Sprintf("%d,%t/%s/%d", c.n, c.mixed, query.text, query.limit), func(b *testing.B) {
				expr, err := syntax.ParseExpr(query.text)
				if err != nil {
					b.Fatal(err)
				}
				q := engine.RangeQuery{Query: engine.Query{Expr: expr, Sources: sources}, End: 601 * sec, Step: time.Minute, Limit: query.limit, Backward: true}
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
