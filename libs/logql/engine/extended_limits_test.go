package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// What a query with stages of many entries holds counts towards its memory.
func TestExtendedMemory(t *testing.T) {
	var all []enginetest.Entry
	for i := range 3000 {
		all = append(all, enginetest.Entry{Labels: labels("app", "a"), Time: int64(i) * sec / 100, Position: uint32(i), Line: fmt.Sprintf("n=%d %s", i, strings.Repeat("x", 200))})
	}
	store := enginetest.NewStore(all...)
	store.BatchRows = 100
	ask := func(query string, limit int64) (*engine.Result, error) {
		in := engine.Query{Expr: parse(t, query), Sources: sources([]*enginetest.Store{store}, true), Limits: engine.Limits{MaxMemory: limit}}
		defer closed(t, []*enginetest.Store{store})
		if strings.HasPrefix(query, "{") {
			return run(engine.RangeQuery{Query: in, End: 100 * sec, Limit: 5})
		}
		return engine.New(engine.Options{}).Instant(t.Context(), in, 60*sec)
	}
	const much, little = 64 << 20, 600 << 10
	for query, enough := range map[string]int64{
		`{app="a"} | sort app | distinct n`:                                  much,
		`{app="a"} | logfmt n | sort n | distinct app`:                       much,
		`{app="a"} | logfmt n | top 3 n`:                                     much,
		`{app="a"} | logfmt n | distinct n | sort app | dedup app`:           much,
		`count_distinct_over_time(n, {app="a"} | logfmt n [2m])`:             much,
		`{app="a"} | sort app desc | limit 4`:                                little,
		`{app="a"} | sample 0.5 | dedup app`:                                 little,
		`{app="a"} | limit 4 | sort app`:                                     little,
		`histogram_over_time(10, 100, {app="a"} | logfmt n | unwrap n [2m])`: little,
		`sum(count_over_time({app="a"} | sample 0.9 [2m]))`:                  little,
		`{app="a"} | logfmt n | n in ({app="a"} | logfmt n) | limit 2`:       much,
	} {
		if res, err := ask(query, enough); err != nil {
			t.Errorf("%s fails within %d bytes: %v", query, enough, err)
		} else if res.Statistics.PeakMemory == 0 {
			t.Errorf("%s holds nothing", query)
		}
		if enough == much {
			if _, err := ask(query, 300<<10); !errors.Is(err, engine.ErrLimit) || !strings.Contains(err.Error(), "more memory") {
				t.Errorf("%s within 300 KiB: %v", query, err)
			}
		}
	}
}

func TestSubqueryHasTooManyValues(t *testing.T) {
	var all []enginetest.Entry
	for i := range 10_001 {
		all = append(all, enginetest.Entry{Labels: labels("app", "a"), Time: int64(i), Position: uint32(i), Line: fmt.Sprint("n=", i)})
	}
	q := engine.RangeQuery{
		Query: engine.Query{Expr: parse(t, `{app="a"} | logfmt | n in ({app="a"} | logfmt)`), Sources: sources([]*enginetest.Store{enginetest.NewStore(all...)}, true)},
		End:   sec, Limit: 5,
	}
	if _, err := run(q); !errors.Is(err, engine.ErrLimit) || !strings.Contains(err.Error(), "too many values (limit: 10000 values") {
		t.Errorf("10001 values: %v", err)
	}
	q.End = 10_000
	if res, err := run(q); err != nil || len(res.Streams) == 0 {
		t.Errorf("10000 values: %v, %v", res, err)
	}
}

// The values of all subqueries together fit into what is sent to a source, and equal
// subqueries run once.
func TestSubqueriesHaveTooManyValuesTogether(t *testing.T) {
	var all []enginetest.Entry
	pad := strings.Repeat("x", 450)
	for i := range 1000 {
		all = append(all, enginetest.Entry{Labels: labels("app", "a"), Time: int64(i), Position: uint32(i), Line: fmt.Sprint("n=", i, pad)})
	}
	for _, n := range []int{8, 10} {
		text := `{app="a"} | logfmt` + strings.Repeat(` | n in ({app="a"} | logfmt)`, n)
		store := enginetest.NewStore(all...)
		res, err := run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, text), Sources: sources([]*enginetest.Store{store}, true)}, End: sec, Limit: 5})
		closed(t, []*enginetest.Store{store})
		if n == 8 {
			// What is sent to sources can be read there.
			list := `"` + strings.Join(slices.Repeat([]string{pad}, 1000), `", "`) + `"`
			if _, err := syntax.ParseCanonical(`{app="a"} | logfmt` + strings.Repeat(` | n in (`+list+`)`, n)); err != nil {
				t.Error(err)
			}
		}
		switch {
		case n == 8 && (err != nil || len(texts(res)) != 5):
			t.Errorf("%d lists: %v, %v", n, res, err)
		case n == 10 && (!errors.Is(err, engine.ErrLimit) || !strings.Contains(err.Error(), "too many values together (limit: 4194304 bytes); narrow them, such as that of label 'n': {app=\"a\"}")):
			t.Errorf("%d lists: %v", n, err)
		}
	}
}

// The budget of searches without a selector is that of what is in the range.
func TestBareBudget(t *testing.T) {
	store := enginetest.NewStore(
		enginetest.Entry{Labels: labels("app", "a"), Time: 1 * sec, Line: "0123456789"},
		enginetest.Entry{Labels: labels("app", "b"), Time: 2 * sec, Line: "0123456789"},
		enginetest.Entry{Labels: labels("app", "b"), Time: 20 * sec, Line: "0123456789"},
	)
	store.RunRows = 1
	ask := func(query string, end int64, budget int64) (int, error) {
		res, err := run(engine.RangeQuery{
			Query: engine.Query{Expr: parse(t, query), Sources: sources([]*enginetest.Store{store}, true), Limits: engine.Limits{MaxBareBytes: budget}},
			End:   end, Limit: 5, Step: time.Second,
		})
		closed(t, []*enginetest.Store{store})
		if err != nil {
			return 0, err
		}
		return len(res.Streams) + len(res.Matrix), nil
	}
	for _, query := range []string{`|= "5"`, `| limit 3`, `count_over_time(|= "5" [1s])`, `count_distinct_over_time(app, |= "5" [1s])`} {
		if n, err := ask(query, 10*sec, 20); n == 0 || err != nil {
			t.Errorf("%s within its budget: %d, %v", query, n, err)
		}
		if _, err := ask(query, 30*sec, 20); !errors.Is(err, engine.ErrLimit) || !strings.Contains(err.Error(), "up to 30 bytes") || !strings.Contains(err.Error(), "is 20;") {
			t.Errorf("%s beyond its budget: %v", query, err)
		}
	}
	if n, err := ask(`{app=~".+"} |= "5"`, 30*sec, 20); n != 2 || err != nil {
		t.Errorf("with a selector: %d, %v", n, err)
	}
}

// Explain says what runs where.
func TestExplainExtended(t *testing.T) {
	store := enginetest.NewStore(enginetest.Entry{Labels: labels("app", "a"), Time: sec, Line: "x"})
	for query, want := range map[string]string{
		`{app="a"} |= "x" | sample 0.5 | json | sort n`:           "behind the merge: | sort n",
		`{app="a"} | n in ({app="a"} |= "y")`:                     "runs the subquery {app=\"a\"} |= \"y\" before",
		`abs(sum(rate({app="a"} | unroll n [1m])))`:               "behind the merge: | unroll n",
		`sum(count_over_time({app="a"} | n in ({app="a"}) [1m]))`: "runs the subquery",
		`time() - 5`: "",
	} {
		p, err := engine.New(engine.Options{}).Explain(t.Context(), engine.RangeQuery{
			Query: engine.Query{Expr: parse(t, query), Sources: sources([]*enginetest.Store{store}, true)}, End: 10 * sec, Limit: 5, Step: time.Second,
		})
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		var notes []string
		var walk func(n *engine.PlanNode)
		walk = func(n *engine.PlanNode) {
			notes = append(notes, n.Notes...)
			for _, in := range n.Inputs {
				walk(in)
			}
		}
		walk(p.Root)
		if !strings.Contains(strings.Join(notes, "\n"), want) {
			t.Errorf("%s: notes %q", query, notes)
		}
	}
}
