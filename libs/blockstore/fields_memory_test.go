package blockstore_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Where each row is a series of its own and values are far apart, what values are counted
// in does not grow with their product.
func TestManySeriesOfManyValues(t *testing.T) {
	const rows = 6000
	var entries []enginetest.Entry
	for i := range rows {
		entries = append(entries, enginetest.Entry{
			Labels: model.NewLabels([]model.Label{{Name: "app", Value: "a"}}), Time: int64(i), Position: uint32(i),
			Line: fmt.Sprintf(`{"u":%d,"n":%d}`, 10000+i, 10000+i*7919%12000),
		})
	}
	store := enginetest.NewStore(entries...)
	o := &object{b: copyOf(t, store, block.Options{})}
	expr, err := syntax.ParseExpr(`quantile_over_time(0.5, {app="a"} | json u="u", n="n" | unwrap n [1m]) by (u)`)
	if err != nil {
		t.Fatal(err)
	}
	run := func(s engine.Store) (string, uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		res, err := engine.New(engine.Options{}).Instant(context.Background(), engine.Query{Expr: expr, Sources: []engine.Source{engine.Local(s, "s")}}, sec)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if len(res.Vector) != rows {
			t.Fatalf("%d series", len(res.Vector))
		}
		return fmt.Sprint(res.Vector), after.TotalAlloc - before.TotalAlloc
	}
	want, _ := run(store)
	got, size := run(blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil)))
	if got != want {
		t.Error("the block answers otherwise than memory")
	}
	if size > 64<<20 {
		t.Errorf("%d bytes for %d rows", size, rows)
	}
}
