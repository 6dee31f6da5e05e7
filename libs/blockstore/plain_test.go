package blockstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Quoted text that varies is a slot as a whole: where some of it has escapes, or what ends
// words, in one row group or in all, columns tell no more than the lines do.
func TestTextThatVariesIsNotTakenForPlain(t *testing.T) {
	odds := []string{`C:\\x`, `say \"no\"`, `\u0041b`, "é", "\x7f", "a=b", `x\\\"y`, "tab\\tted"}
	queries := []string{
		`sum by (n) (count_over_time({app="a"} | json [1h]))`, `sum by (agent) (count_over_time({app="a"} | json [1h]))`,
		`sum by (n) (count_over_time({app="a"} | json n="n", agent="agent" | agent=~".*(no|b|x|é).*" [1h]))`,
		`{app="a"} | json | n="7"`, `{app="a"} | json | agent="%s"`, `{app="a"} |= "w1" | json | n="3"`, `{app="a"} | json a="agent" | a="%s"`,
		`sum by (n) (sum_over_time({app="a"} | json | unwrap v [1h]))`, `{app="b"} | logfmt | n="7"`, `sum by (n) (count_over_time({app="b"} | logfmt [1h]))`,
		`sum by (agent) (count_over_time({app="b"} | logfmt [1h]))`, `{app="b"} | logfmt | agent="%s"`,
	}
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		odd := rapid.SampledFrom([]int{0, 2, 100, 300}).Draw(t, "odd")
		some := odds[r.IntN(len(odds))]
		var entries []enginetest.Entry
		var agents []string
		for i := range 300 {
			var words []string
			for range 2 + r.IntN(7) {
				words = append(words, []string{"w1", "Gecko", "(X11;", "like", "v2.7", "rv-1)", "a/b", "/"}[r.IntN(8)])
			}
			if odd > 0 && i%odd == odd-1 {
				words[r.IntN(len(words))] = some
			}
			agent := strings.Join(words, " ")
			agents = append(agents, agent)
			app, line := "a", fmt.Sprintf(`{"t":%d,"agent":"%s","n":"%d","v":%d}`, i, agent, r.IntN(9), r.IntN(99))
			if r.IntN(3) == 0 {
				app, line = "b", fmt.Sprintf(`t=%d agent="%s" n=%d v=%d`, i, agent, r.IntN(9), r.IntN(99))
			}
			entries = append(entries, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: app}}), Time: int64(i) * sec, BatchTime: 1, Position: uint32(i), Line: line})
		}
		store := enginetest.NewStore(entries...)
		o := &object{b: copyOf(t, store, block.Options{RowGroupBytes: rapid.SampledFrom([]int{9000, 0}).Draw(t, "group")})}
		fromBlock := blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil))
		plain := strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\u0041`, "A", `\t`, "\t").Replace(agents[r.IntN(len(agents))])
		from := r.IntN(len(queries))
		for _, q := range slices.Concat(queries[from:], queries[:from])[:4] {
			expr, err := syntax.ParseExpr(strings.ReplaceAll(q, `"%s"`, "`"+plain+"`"))
			if err != nil {
				t.Fatal(err)
			}
			run := func(s engine.Store) string {
				res, err := engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{
					Query: engine.Query{Expr: expr, Sources: []engine.Source{engine.Local(s, "")}}, Limit: 1000, Start: 0, End: 3600 * sec, Step: 3600e9})
				if err != nil {
					return "error: " + err.Error()
				}
				return dump(res)
			}
			if got, want := run(fromBlock), run(store); got != want {
				t.Fatalf("%s\nblock:  %s\nmemory: %s", expr, got, want)
			}
		}
	})
}
