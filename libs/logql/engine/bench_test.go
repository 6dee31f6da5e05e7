package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
)

// benchStore holds 100,000 lines of about 150 bytes in 10 streams.
func benchStore() *enginetest.Store {
	rnd := rand.New(rand.NewPCG(3, 4))
	es := make([]enginetest.Entry, 100_000)
	for i := range es {
		es[i] = enginetest.Entry{
			Labels: labels("app", fmt.Sprint("app", i%10), "env", "prod"),
			Time:   int64(i) * 36 * int64(time.Millisecond),
			Line: fmt.Sprintf(`{"ts":"2026-11-20T10:00:04.731Z","level":%q,"msg":"request served","path":"/api/v1/orders/%d","status":%d,"duration":"%dms","user":"erin"}`,
				[]string{"info", "info", "info", "error"}[rnd.IntN(4)], rnd.IntN(1e6), 200+rnd.IntN(4)*100, rnd.IntN(500)),
			Derived: labels("detected_level", []string{"info", "error"}[rnd.IntN(2)]), BatchTime: 1, Position: uint32(i),
		}
	}
	s := enginetest.NewStore(es...)
	s.BatchRows, s.RunRows = 1024, 1024
	return s
}

func BenchmarkQuery(b *testing.B) {
	engine.SetSplitRows(64 << 10)
	src := []engine.Source{engine.Local(benchStore(), "one")}
	e := engine.New(engine.Options{})
	for _, bench := range []struct{ name, query string }{
		{"last100", `{env="prod"}`},
		{"filter", `{env="prod"} |= "orders/99999"`},
		{"count", `sum(count_over_time({env="prod"}[1h]))`},
		{"countBy", `sum by (app) (count_over_time({env="prod"}[5m]))`},
		{"countByLevel", `sum by (detected_level) (count_over_time({env="prod"}[5m]))`},
		{"countFilter", `sum by (app) (count_over_time({env="prod"} |= "error" [5m]))`},
		{"jsonFilter", `sum by (status) (count_over_time({env="prod"} | json | duration > 250ms [5m]))`},
		{"unwrap", `sum by (app) (sum_over_time({env="prod"} | json | unwrap duration(duration) [5m]))`},
		{"quantile", `quantile_over_time(0.99, {env="prod"} | json | unwrap duration(duration) [5m]) by (app)`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			q := engine.RangeQuery{Query: engine.Query{Expr: parse(b, bench.query), Sources: src}, End: 3600 * sec, Step: 5 * time.Minute, Limit: 100, Backward: true}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Range(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkUnion counts over two sources that hold the same rows and do not know it.
func BenchmarkUnion(b *testing.B) {
	s := benchStore()
	s.NoDigests = true
	src := []engine.Source{engine.Local(s, "one"), engine.Local(s, "two")}
	e := engine.New(engine.Options{})
	q := engine.RangeQuery{Query: engine.Query{Expr: parse(b, `sum by (app) (count_over_time({env="prod"}[5m]))`), Sources: src}, End: 3600 * sec, Step: 5 * time.Minute}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Range(context.Background(), q); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBlocks is over a union of 300 sources that follow each other in time.
func BenchmarkBlocks(b *testing.B) {
	var src []engine.Source
	for i := range 300 {
		es := make([]enginetest.Entry, 0, 1000)
		for k := range 1000 {
			es = append(es, enginetest.Entry{
				Labels: labels("app", fmt.Sprint("app", k%20), "env", "prod"), Time: int64(i*1000+k) * 12 * int64(time.Millisecond),
				Line: fmt.Sprintf("level=info msg=\"request served\" n=%d", k), BatchTime: 1, Position: uint32(k),
			})
		}
		s := enginetest.NewStore(es...)
		s.RunRows = 50
		src = append(src, engine.Local(s, fmt.Sprint("block", i)))
	}
	e := engine.New(engine.Options{})
	union := []engine.Source{engine.Union("blocks", src...)}
	for _, bench := range []struct{ name, query string }{
		{"last100", `{env="prod"}`},
		{"rare", `{env="prod"} |= "n=77" |= "zzz"`},
		{"oneStream", `{app="app3"} |= "zzz"`},
		{"all", `quantile_over_time(0.5, {env="prod"} | logfmt | unwrap n [5m]) by (app)`},
		{"countBy", `sum by (app) (count_over_time({env="prod"}[5m]))`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			q := engine.RangeQuery{Query: engine.Query{Expr: parse(b, bench.query), Sources: union}, End: 3600 * sec, Step: 5 * time.Minute, Limit: 100, Backward: true}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Range(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkManyStreams is over 20,000 streams of 5 lines each.
func BenchmarkManyStreams(b *testing.B) {
	es := make([]enginetest.Entry, 0, 100_000)
	for i := range cap(es) {
		es = append(es, enginetest.Entry{
			Labels: labels("pod", fmt.Sprint("pod", i%20_000), "env", "prod"), Time: int64(i) * 36 * int64(time.Millisecond),
			Line: fmt.Sprintf("level=info n=%d", i), BatchTime: 1, Derived: labels("detected_level", []string{"info", "error"}[i%2]),
		})
	}
	s := enginetest.NewStore(es...)
	s.RunRows = 20
	src := []engine.Source{engine.Union("u", engine.Local(s, "block"), engine.Local(enginetest.NewStore(es[:5]...), "head"))}
	e := engine.New(engine.Options{})
	for _, bench := range []struct{ name, query string }{
		{"last100", `{env="prod"}`},
		{"count", `sum(count_over_time({env="prod"}[1h]))`},
		{"countByLevel", `sum by (detected_level) (count_over_time({env="prod"}[5m]))`},
		{"logfmt", `sum by (level) (count_over_time({env="prod"} | logfmt [5m]))`},
		{"rare", `{env="prod"} |= "n=777"`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			q := engine.RangeQuery{Query: engine.Query{Expr: parse(b, bench.query), Sources: src}, End: 3600 * sec, Step: 5 * time.Minute, Limit: 100, Backward: true}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Range(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
