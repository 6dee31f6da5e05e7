package blockstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Templates of a section are opened only where its grams leave a row group: what is damaged
// there is found by those who need it.
func TestTemplatesAreOpenedWhereGramsLeaveRows(t *testing.T) {
	var entries []enginetest.Entry
	for i := range 3000 {
		entries = append(entries, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: "a"}}),
			Time: int64(i) * sec, BatchTime: 1, Position: uint32(i), Line: fmt.Sprintf("request %x of user %d is done", uint64(i+1)*0x9E3779B97F4A7C15, i)})
	}
	o := &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{})}
	over := func(store *blockstore.Store, q string) (int, error) {
		expr, err := syntax.ParseExpr(q)
		if err != nil {
			t.Fatal(err)
		}
		res, err := engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{
			Query: engine.Query{Expr: expr, Sources: []engine.Source{engine.Local(store, "block")}},
			Limit: 1000, End: 4000 * sec, Step: 4000e9})
		if err != nil {
			return 0, err
		}
		n := 0
		for _, s := range res.Streams {
			n += len(s.Entries)
		}
		return n + len(res.Matrix), nil
	}
	open := func() *blockstore.Store {
		return blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil))
	}
	ask := func(q string) (int, error) { return over(open(), q) }
	there, absent, count := `{app="a"} |= "user 77 is"`, `{app="a"} |= "zanquivortem"`, `count_over_time({app="a"} |= "zanquivortem" [1h])`
	for q, want := range map[string]int{there: 1, absent: 0, count: 0} {
		if got, err := ask(q); got != want || err != nil {
			t.Errorf("%s: %d results, %v, want %d", q, got, err, want)
		}
	}

	r := openBlock(t, o)
	o.reads = nil
	f, err := r.ReadSectionFooter(context.Background(), 0)
	if err != nil || len(o.reads) != 1 || f.Opened() {
		t.Fatalf("%v, %d reads, opened %v", err, len(o.reads), f.Opened())
	}
	size := f.MemorySize()
	if s, err := f.Open(); err != nil || !f.Opened() || s.Grams != f.Grams || f.MemorySize() <= size {
		t.Errorf("%v: %d bytes, then %d", err, size, f.MemorySize())
	}
	o.b = slices.Clone(o.b)
	o.b[o.reads[0][0]+20] ^= 1 // in the footer of the lines, which the read begins with
	for _, q := range []string{absent, count} {
		if got, err := ask(q); got != 0 || err != nil {
			t.Errorf("%s needs the templates: %d results, %v", q, got, err)
		}
	}
	var named *block.Error
	if _, err := ask(there); !errors.As(err, &named) || !errors.Is(err, column.ErrCorrupt) {
		t.Errorf("%s over damaged templates: %v", there, err)
	}

	// What was read wrong once is read again.
	store := open()
	if _, err := over(store, there); !errors.Is(err, column.ErrCorrupt) {
		t.Errorf("%s over damaged templates: %v", there, err)
	}
	o.b = slices.Clone(o.b) // what was read may be part of it
	o.b[o.reads[0][0]+20] ^= 1
	if got, err := over(store, there); got != 1 || err != nil {
		t.Errorf("%s once they are right: %d results, %v", there, got, err)
	}
}
