package blockstore_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Blocks that follow each other in time, or do not quite, answer as one store with all
// their rows: as sources, and as one union, page by page.
func TestChainEqualsMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := drawEntries(t)
		memory := engine.Local(enginetest.NewStore(entries...), "memory")
		n := rapid.IntRange(1, 4).Draw(t, "blocks")
		overlap := rapid.SampledFrom([]int64{0, 0, 20}).Draw(t, "overlap") * sec
		width := 300 * sec / int64(n)
		var sources []engine.Source
		for i := range n {
			part := slices.DeleteFunc(slices.Clone(entries), func(e enginetest.Entry) bool {
				return e.Time < int64(i)*width-overlap || e.Time >= int64(i+1)*width
			})
			o := &object{b: copyOf(t, enginetest.NewStore(part...), block.Options{RowGroupBytes: rapid.SampledFrom([]int{300, 3000, 0}).Draw(t, "group")})}
			sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil)), fmt.Sprint("b", i)))
		}
		union := []engine.Source{engine.Union("union", sources...)}
		expr, err := syntax.ParseExpr(rapid.SampledFrom(queries).Draw(t, "query"))
		if err != nil {
			t.Fatal(err)
		}
		start := int64(rapid.IntRange(-10, 290).Draw(t, "start")) * sec
		q := engine.RangeQuery{Start: start, End: start + int64(rapid.IntRange(1, 300).Draw(t, "length"))*sec, Step: 30 * time.Second,
			Limit: rapid.SampledFrom([]int{0, 1, 7, 100}).Draw(t, "limit"), Backward: rapid.Bool().Draw(t, "backward")}
		q.Expr = expr
		run := func(sources ...engine.Source) (out string) {
			q := q
			q.Sources = sources
			for range 5 {
				res, err := engine.New(engine.Options{}).Range(context.Background(), q)
				if err != nil {
					t.Fatal(expr, err)
				}
				out += dump(res) + "\n"
				if q.Cursor = res.NextCursor; q.Cursor == "" {
					break
				}
			}
			e := engine.New(engine.Options{})
			m := engine.MetaQuery{Start: -sec, End: 400 * sec, Sources: sources}
			var answers []any
			for _, ask := range []func() (any, error){
				func() (any, error) { names, _, err := e.Labels(context.Background(), m); return names, err },
				func() (any, error) {
					values, _, err := e.LabelValues(context.Background(), m, "pod")
					return values, err
				},
				func() (any, error) { series, _, err := e.Series(context.Background(), m); return series, err },
				func() (any, error) { values, _, err := e.Cardinality(context.Background(), m); return values, err },
			} {
				m.Memory = engine.NewMemory(0)
				answer, err := ask()
				if err != nil {
					t.Fatal(err)
				}
				answers = append(answers, answer)
				peak := m.Memory.Peak()
				for _, limit := range []int64{(peak + 1) / 2, (peak - 1) / 2} { // there is twice the limit for lists
					if m.Memory = engine.NewMemory(limit); limit <= 0 {
						continue
					}
					again, err := ask()
					if ok := 2*limit >= peak; ok && (err != nil || !reflect.DeepEqual(again, answer)) || !ok && !errors.Is(err, engine.ErrMemory) {
						t.Fatalf("within %d bytes of %d: %v, %v, want %v", limit, peak, again, err, answer)
					}
				}
			}
			return out + fmt.Sprint(answers...)
		}
		want := run(memory)
		if got := run(sources...); got != want {
			t.Fatalf("sources: %s %+v\n got %s\nwant %s", expr, q, got, want)
		}
		if got := run(union...); got != want {
			t.Fatalf("union: %s %+v\n got %s\nwant %s", expr, q, got, want)
		}
	})
}
