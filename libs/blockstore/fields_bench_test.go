package blockstore_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// BenchmarkFields aggregates the lines of services of a corpus by their fields, where row groups
// are open, and where they have to be opened from files of which the system has no pages. The
// footers of sections are open. It reports milliseconds, of all time and of CPU time.
func BenchmarkFields(b *testing.B) {
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
	all := time.Duration(end-start).Truncate(time.Second) + time.Second
	for _, q := range []struct {
		name, text string
		step       time.Duration
	}{
		{"status", `sum by (status) (count_over_time({app="gateway"} | json | method="GET" [5m]))`, 5 * time.Minute},
		{"level", `sum by (level) (rate({app="payments"} | json level="level" [5m]))`, 5 * time.Minute},
		{"logfmt", `sum by (level) (count_over_time({app="checkout"} | logfmt level="level" [5m]))`, 5 * time.Minute},
		{"path", fmt.Sprintf(`topk(10, sum by (path) (count_over_time({app="gateway"} | json path="path" [%s])))`, all), 0},
		{"quantile", fmt.Sprintf(`quantile_over_time(0.95, {app="gateway"} | json request_time="request_time", method="method" | method=~"GET|HEAD" | unwrap request_time [%s]) by (method)`, all), 0},
		{"sum", fmt.Sprintf(`sum by (currency) (sum_over_time({app="payments"} | json currency="currency", duration_ms="duration_ms" | unwrap duration_ms [%s]))`, all), 0},
	} {
		expr, err := syntax.ParseExpr(q.text)
		if err != nil {
			b.Fatal(err)
		}
		query := engine.Query{Expr: expr, Sources: []engine.Source{engine.Union("blocks", sources...)}}
		for _, opened := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/open=%v", q.name, opened), func(b *testing.B) {
				var cpu, wall []float64
				read := 0
				for b.Loop() {
					c.cache.Drop(!opened)
					for _, f := range c.files {
						if f.read.Store(0); !opened {
							f.drop(b)
						}
					}
					from, begun := cpuTime(), time.Now()
					var res *engine.Result
					var err error
					if q.step > 0 {
						res, err = engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{Query: query, Start: start, End: end, Step: q.step})
					} else {
						res, err = engine.New(engine.Options{}).Instant(context.Background(), query, end)
					}
					if err != nil || len(res.Vector)+len(res.Matrix) == 0 {
						b.Fatal("no answer", err)
					}
					cpu, wall = append(cpu, cpuTime()-from), append(wall, time.Since(begun).Seconds()*1e3)
					for _, f := range c.files {
						read += int(f.read.Load())
					}
				}
				slices.Sort(cpu)
				slices.Sort(wall)
				b.ReportMetric(cpu[len(cpu)/2], "median-cpu-ms")
				b.ReportMetric(cpu[0], "least-cpu-ms")
				b.ReportMetric(wall[len(wall)/2], "median-ms")
				b.ReportMetric(float64(read)/float64(len(wall))/1e3, "kB")
			})
		}
	}
}
