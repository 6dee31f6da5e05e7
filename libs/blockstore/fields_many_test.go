package blockstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Numbers and distinct values of more than a byte, in one slot and in two, tell rows apart.
func TestFieldsOfManyValues(t *testing.T) {
	var entries []enginetest.Entry
	for i := range 6000 {
		entries = append(entries, enginetest.Entry{
			Labels: model.NewLabels([]model.Label{{Name: "app", Value: "a"}}), Time: int64(i) * sec / 100, Position: uint32(i),
			Line: fmt.Sprintf(`{"code":%d,"path":"/x/w%dy","n":%d.%d,"tail":%d}`, 1000+i*7919%900, i*31%1100, i%300, i%7, i),
		})
	}
	store := enginetest.NewStore(entries...)
	o := &object{b: copyOf(t, store, block.Options{})}
	fromBlock := blockstore.NewStore(openBlock(t, o), blockstore.NewCache(16<<20, nil))
	for _, q := range []string{
		`sum by (code) (count_over_time({app="a"} | json [20s]))`, `sum by (path) (count_over_time({app="a"} | json path="path" [20s]))`,
		`sum by (n) (count_over_time({app="a"} | json [1m]))`, `sum by (code) (sum_over_time({app="a"} | json | unwrap n [1m]))`,
		`quantile_over_time(0.9, {app="a"} | json | unwrap code [1m]) by (app)`,
	} {
		expr, err := syntax.ParseExpr(q)
		if err != nil {
			t.Fatal(err)
		}
		run := func(s engine.Store) string {
			res, err := engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{
				Query: engine.Query{Expr: expr, Sources: []engine.Source{engine.Local(s, "s")}}, End: 60 * sec, Step: 20e9})
			if err != nil {
				t.Fatal(err)
			}
			return dump(res)
		}
		if got, want := run(fromBlock), run(store); got != want || len(got) < 1000 && q[0] == 's' {
			t.Errorf("%s: the block answers otherwise than memory:\n%.500s\n%.500s", q, got, want)
		}
	}
}

// A time in lines that is told by that of the row is not told by the values of its column.
func TestFieldsThatAreTimes(t *testing.T) {
	const base = 1_760_000_000
	var entries []enginetest.Entry
	for i := range 600 {
		at := int64(base + i/3)
		entries = append(entries, enginetest.Entry{
			Labels: model.NewLabels([]model.Label{{Name: "app", Value: "a"}}), Time: at * sec, Position: uint32(i),
			Line: fmt.Sprintf(`{"ts":"%s","n":%d}`, time.Unix(at, 0).UTC().Format("2006-01-02T15:04:05"), i),
		})
	}
	store := enginetest.NewStore(entries...)
	o := &object{b: copyOf(t, store, block.Options{})}
	fromBlock := blockstore.NewStore(openBlock(t, o), blockstore.NewCache(16<<20, nil))
	expr, err := syntax.ParseExpr(`sum by (ts) (count_over_time({app="a"} | json ts="ts" [5m]))`)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []engine.Store{store, fromBlock} {
		res, err := engine.New(engine.Options{}).Instant(context.Background(), engine.Query{Expr: expr, Sources: []engine.Source{engine.Local(s, "s")}}, (base+250)*sec)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Vector) != 200 || res.Vector[0].Value != 3 {
			t.Fatalf("%d series: %v", len(res.Vector), res.Vector[:min(1, len(res.Vector))])
		}
	}
}

// The last row of a row group is counted if the range begins with it.
func TestPartsWithOneRow(t *testing.T) {
	var entries []enginetest.Entry
	for i := range 50 {
		entries = append(entries, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: "a"}}), Time: int64(i), Line: "x"})
	}
	s := blockstore.NewStore(openBlock(t, &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{})}), blockstore.NewCache(1<<20, nil))
	for _, of := range [][3]int64{{49, 60, 1}, {-9, 1, 1}, {50, 60, 0}, {-9, 0, 0}} {
		sn, err := s.Open(context.Background(), nil, of[0], of[1])
		if err != nil {
			t.Fatal(err)
		}
		rows := int64(0)
		c := sn.(engine.Selective).Select(context.Background(), &engine.Need{}).(engine.Counter)
		for n := range c.Parts() {
			if _, _, err := c.Count(n, func(int64) (int, int64) { return 0, 1 << 40 }, func(_, _, n int) error { rows += int64(n); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if rows != of[2] || int64(c.Parts()) != of[2] {
			t.Errorf("from %d to %d: %d rows in %d parts", of[0], of[1], rows, c.Parts())
		}
		sn.Close()
	}
}
