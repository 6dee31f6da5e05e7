package blockstore_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Queries over many streams of few lines. WEIR_HC names a file of lines to measure with.
func TestManyStreams(t *testing.T) {
	repeat, n, lines := 2, 500, [][]byte{[]byte("level=info msg=\"request done\""), []byte("Failed password for x 7"), []byte("warn: 12ms")}
	if name := os.Getenv("WEIR_HC"); name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		repeat, n, lines = 5, 50000, bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	}
	t0 := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	step := int64(24*time.Hour) / int64(20*n)
	ids := make([]int, n)
	label := make([]model.Labels, n)
	for id := range ids {
		ids[id] = id
		label[id] = model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("svc-%03d", id%500)}, {Name: "env", Value: "prod"},
			{Name: "pod", Value: fmt.Sprintf("svc-%03d-%08x", id%500, uint32(id)*2654435761)}})
	}
	slices.SortFunc(ids, func(a, b int) int { return block.Compare(label[a], label[b]) })
	var buf bytes.Buffer
	w := block.NewWriter(&buf, block.Meta{ID: "b", Tenant: "t"}, block.Options{})
	begin := time.Now()
	failed := 0
	for _, id := range ids {
		rows := &model.Rows{}
		for k := range 20 {
			i := id + k*n
			line := lines[i%len(lines)]
			if bytes.Contains(line, []byte("Failed password")) {
				failed++
			}
			rows.Times = append(rows.Times, t0+int64(i)*step)
			rows.BatchTimes = append(rows.BatchTimes, t0+int64(i/1000+1)*1000*step)
			rows.Positions = append(rows.Positions, uint32(i%1000))
			rows.Lines.Append(line)
		}
		if err := w.Add(label[id], rows); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes written in %v", buf.Len(), time.Since(begin))
	o := &object{b: buf.Bytes()}
	cache := blockstore.NewCache(256<<20, nil)
	store := blockstore.NewStore(openBlock(t, o), cache)
	e := engine.New(engine.Options{})
	for _, q := range []string{
		`sum(count_over_time({env="prod"}[24h]))`, `{env="prod"} |= "zq00absent00needle00"`, `sum(count_over_time({env="prod"} |= "Failed password" [24h]))`,
		`{pod="` + label[ids[7]].Get("pod") + `"}`, `{app="svc-250"}`, `{env="prod"}`, `sum by (pod) (count_over_time({app="svc-250"}[24h]))`, `sum by (app) (count_over_time({env="prod"}[24h]))`,
	} {
		expr, err := syntax.ParseExpr(q)
		if err != nil {
			t.Fatal(err)
		}
		for range repeat {
			begin := time.Now()
			o.reads = nil
			in := engine.Query{Expr: expr, Sources: []engine.Source{engine.Local(store, "s")}}
			var res *engine.Result
			if _, ok := expr.(*syntax.LogSelector); ok {
				res, err = e.Range(context.Background(), engine.RangeQuery{Query: in, Start: t0, End: t0 + int64(24*time.Hour), Limit: 100, Backward: true})
			} else {
				res, err = e.Instant(context.Background(), in, t0+int64(24*time.Hour))
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%-90s %9v %5d reads, %d MB cached", q, time.Since(begin).Round(time.Microsecond), len(o.reads), cache.Size()>>20)
			if q == `sum(count_over_time({env="prod"} |= "Failed password" [24h]))` && failed > 0 && (len(res.Vector) != 1 || res.Vector[0].Value != float64(failed)) {
				t.Errorf("%v, want %d", res.Vector, failed)
			}
		}
	}
}
