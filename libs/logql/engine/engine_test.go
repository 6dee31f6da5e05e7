package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sec = int64(time.Second)

func parse(t testing.TB, q string) syntax.Expr {
	t.Helper()
	e, err := syntax.ParseExpr(q)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return e
}

func labels(pairs ...string) model.Labels {
	var ls []model.Label
	for i := 0; i < len(pairs); i += 2 {
		ls = append(ls, model.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return model.NewLabels(ls)
}

func sample() *enginetest.Store {
	var es []enginetest.Entry
	for i := range 100 {
		app := []string{"a", "b"}[i%2]
		es = append(es, enginetest.Entry{Labels: labels("app", app), Time: int64(i) * sec,
			Line: fmt.Sprintf(`{"n":%d,"level":"%s"}`, i, []string{"info", "error", "warn"}[i%3]), BatchTime: 1, Position: uint32(i)})
	}
	return enginetest.NewStore(es...)
}

func TestFirst(t *testing.T) {
	st := sample()
	e := engine.New(engine.Options{})
	src := []engine.Source{engine.Local(st, "one")}
	for _, q := range []string{`{app="a"} |= "error" | json`, `count_over_time({app=~".+"}[10s])`, `sum by (level) (count_over_time({app=~".+"} | json [20s]))`,
		`max by (app) (rate({app=~".+"}[20s])) * 2`, `quantile_over_time(0.5, {app="a"} | json | unwrap n [30s]) by (app)`, `sum(count_over_time({app=~".+"}[1m]))`} {
		res, err := e.Range(context.Background(), engine.RangeQuery{Query: engine.Query{Expr: parse(t, q), Sources: src, Limits: engine.DefaultLimits()}, Start: 0, End: 100 * sec, Step: 20 * time.Second, Limit: 5, Backward: true})
		if err != nil {
			t.Fatal(q, err)
		}
		t.Logf("%s: %+v", q, res)
	}
	if st.OpenSnapshots() != 0 {
		t.Error("snapshots left open")
	}
}
