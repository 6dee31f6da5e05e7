package blockstore_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// BenchmarkRanges asks a corpus for patterns, and for the bytes of lines, over 250 steps,
// where row groups are open and where they have to be opened. It reports seconds of CPU time.
func BenchmarkRanges(b *testing.B) {
	c := openCorpus(b)
	var sources []engine.Source
	start, end := int64(math.MaxInt64), int64(math.MinInt64)
	for i, s := range c.stores {
		sources = append(sources, engine.Local(s, fmt.Sprint("block ", i)))
		sn, err := s.Open(context.Background(), nil, math.MinInt64, math.MaxInt64)
		if err != nil {
			b.Fatal(err)
		}
		e := sn.(engine.Indexed).Extent()
		start, end = min(start, e.MinTime), max(end, e.MaxTime+1)
		sn.Close()
	}
	step := max(time.Duration(end-start)/250, 10*time.Second).Truncate(time.Second)
	expr := func(text string) engine.Query {
		e, err := syntax.ParseExpr(text)
		if err != nil {
			b.Fatal(err)
		}
		return engine.Query{Expr: e, Sources: []engine.Source{engine.Union("blocks", sources...)}}
	}
	for name, ask := range map[string]func() (*engine.Result, error){
		"patterns": func() (*engine.Result, error) {
			return engine.New(engine.Options{}).Patterns(context.Background(), engine.PatternsQuery{Query: expr(`{service_name=~".+"}`), Start: start, End: end, Width: int64(step)})
		},
		"bytes": func() (*engine.Result, error) {
			q := expr(fmt.Sprintf(`sum by (service_name) (bytes_over_time({service_name=~".+"}[%s]))`, step))
			return engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{Query: q, Start: start, End: end, Step: step})
		},
	} {
		for _, bodies := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/opened=%v", name, bodies), func(b *testing.B) {
				cost := 0.0
				var res *engine.Result
				for b.Loop() {
					c.cache.Drop(bodies)
					before := cpuTime()
					var err error
					if res, err = ask(); err != nil {
						b.Fatal(err)
					}
					cost += cpuTime() - before
				}
				b.ReportMetric(cost/1e3/float64(b.N), "cpu-s/op")
				b.ReportMetric(float64(res.Statistics.EntriesRead), "rows")
			})
		}
	}
}
