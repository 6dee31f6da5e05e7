package engine_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Extreme times, steps, ranges, offsets and limits are answered rightly or refused,
// never wrongly.
func TestExtremes(t *testing.T) {
	const sec = int64(time.Second)
	var es []enginetest.Entry
	for i := range 3 {
		es = append(es, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "a", Value: "b"}}), Time: int64(i+1) * sec, Line: "x", BatchTime: 1, Position: uint32(i)})
	}
	source := engine.Local(enginetest.NewStore(es...), "one")
	e := engine.New(engine.Options{})
	year := 365 * 24 * time.Hour
	for _, text := range []string{
		`{a="b"}`, `count_over_time({a="b"}[1h])`, `count_over_time({a="b"}[100y])`, `count_over_time({a="b"}[1h] offset 99y)`,
		`count_over_time({a="b"}[290y])`, `count_over_time({a="b"}[1h] offset 290y)`, `count_over_time({a="b"}[1h] offset -290y)`,
		`quantile_over_time(0.5, {a="b"} | unwrap a [99y])`, `count_over_time({a="b"}[99y] offset 99y)`, `count_over_time({a="b"}[99y] offset -99y)`,
	} {
		expr, err := syntax.ParseExpr(text)
		if err != nil {
			t.Logf("%s: %v", text, err)
			continue
		}
		for _, span := range [][2]int64{
			{0, 10 * sec}, {math.MinInt64, math.MaxInt64}, {math.MinInt64, 0}, {0, math.MaxInt64}, {10 * sec, 0},
			{math.MinInt64 / 4, math.MaxInt64 / 4}, {-1 << 62, 1 << 62}, {3 * sec, 3 * sec},
			{0, math.MaxInt64 / 2}, {math.MinInt64 / 4, math.MaxInt64 / 2}, {math.MaxInt64/2 - sec, math.MaxInt64 / 2},
		} {
			for _, step := range []time.Duration{1, time.Second, year, 290 * year, math.MaxInt64, 0, -1, math.MinInt64} {
				for _, limit := range []int{0, 1, math.MaxUint32, math.MaxInt64 - 1, -1} {
					name := fmt.Sprintf("%s [%d, %d] step %d limit %d", text, span[0], span[1], step, limit)
					res, err := e.Range(t.Context(), engine.RangeQuery{
						Query: engine.Query{Expr: expr, Sources: []engine.Source{source}, Limits: engine.Limits{MaxPoints: 11000, MaxSeries: 500}},
						Start: span[0], End: span[1], Step: step, Limit: limit,
					})
					if err != nil {
						if !errors.Is(err, engine.ErrUser) && !errors.Is(err, engine.ErrLimit) && !errors.Is(err, engine.ErrPipeline) {
							t.Errorf("%s: %v", name, err)
						}
						continue
					}
					switch res.Type {
					case engine.TypeStreams:
						want := 0
						for i := range int64(3) {
							if at := (i + 1) * sec; at >= span[0] && at < span[1] {
								want++
							}
						}
						if limit > 0 {
							want = min(want, limit)
						}
						got := 0
						for _, s := range res.Streams {
							got += len(s.Entries)
						}
						if got != want {
							t.Errorf("%s: %d entries, want %d", name, got, want)
						}
					case engine.TypeMatrix:
						for _, s := range res.Matrix {
							for _, p := range s.Points {
								if p.Time < span[0]-int64(step) || p.Time > span[1] && p.Time-span[1] > int64(step) {
									t.Errorf("%s: a point at %d", name, p.Time)
								}
							}
						}
						// A window that ends behind the entries and is long enough has them.
						if text == `count_over_time({a="b"}[1h])` && span == [2]int64{0, 10 * sec} && len(res.Matrix) == 0 && step <= time.Hour {
							t.Errorf("%s: nothing", name)
						}
					}
				}
			}
		}
		for _, at := range []int64{math.MinInt64, math.MaxInt64, -1 << 62, 1 << 62, math.MaxInt64 / 2, math.MaxInt64 / 4, math.MinInt64 / 4, 0} {
			if _, err := e.Instant(t.Context(), engine.Query{Expr: expr, Sources: []engine.Source{source}}, at); err != nil && !errors.Is(err, engine.ErrUser) && !errors.Is(err, engine.ErrPipeline) {
				t.Errorf("%s at %d: %v", text, at, err)
			}
		}
	}
}
