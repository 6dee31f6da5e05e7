package blockstore_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Keys with blanks around them make the labels that those without make, in columns too.
func TestKeysWithBlanks(t *testing.T) {
	for _, form := range []string{`{"level ":"l%d","n":%d}`, `{" level":"l%d","n":%d}`, `{"level\t":"l%d","n":%d}`, `{"a ":{"b":"l%d"},"n":%d}`} {
		var entries []enginetest.Entry
		for i := range 200 {
			entries = append(entries, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: "a"}}),
				Time: int64(i) * sec, BatchTime: 1, Position: uint32(i), Line: fmt.Sprintf(form, i%3, i)})
		}
		store := enginetest.NewStore(entries...)
		o := &object{b: copyOf(t, store, block.Options{})}
		fromBlock := engine.Local(blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil)), "block")
		for _, q := range []string{`{app="a"} | json | level="l1"`, `sum by (level) (count_over_time({app="a"} | json [1m]))`, `{app="a"} | json | a_b="l1"`} {
			expr, err := syntax.ParseExpr(q)
			if err != nil {
				t.Fatal(err)
			}
			run := func(src engine.Source) string {
				res, err := engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{
					Query: engine.Query{Expr: expr, Sources: []engine.Source{src}}, Limit: 1000, End: 200 * sec, Step: 30e9})
				if err != nil {
					return "error: " + err.Error()
				}
				return dump(res)
			}
			if got, want := run(fromBlock), run(engine.Local(store, "memory")); got != want {
				t.Errorf("%s of %s\nblock:  %.300s\nmemory: %.300s", q, form, got, want)
			}
		}
	}
}
