package engine_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// yielding counts the rows that a source's sessions give out.
type yielding struct {
	engine.Source
	rows *atomic.Int64
}

func (y yielding) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	s, err := y.Source.Open(ctx, m, start, end)
	return yieldingSession{s, y.rows}, err
}

type yieldingSession struct {
	engine.Session
	rows *atomic.Int64
}

func (y yieldingSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	return y.Session.Scan(ctx, req, func(rows *engine.ScanRows) error {
		y.rows.Add(int64(len(rows.Times)))
		return yield(rows)
	})
}

// Of what a stage about many entries does not need, sources give out little.
func TestStagesArePushedDown(t *testing.T) {
	entries := func(n int) (all []enginetest.Entry) {
		for i := range n {
			all = append(all, enginetest.Entry{Labels: labels("app", "a"), Time: int64(i) * sec / 100, Line: fmt.Sprintf("level=l%d job=j%d n=%d", i%3, i%7, i), BatchTime: 1})
		}
		return all
	}
	all := entries(2000)
	for _, tc := range []struct {
		query string
		most  int64
		found int
	}{
		{`{app="a"} | limit 20`, 20, 20},
		{`{app="a"} | logfmt | n > 1000 | limit 5 | keep n`, 5, 5},
		{`{app="a"} | logfmt | distinct level, job | keep level, job`, 21, 21},
		{`{app="a"} | logfmt | top 2 job | keep job, top_count`, 7, 2},
		{`{app="a"} | logfmt | line_format "x" | distinct level | limit 2`, 3, 2},
		{`{app="a"} | logfmt | top 1 nothing`, 1, 0},
	} {
		var rows atomic.Int64
		store := enginetest.NewStore(all...)
		res, err := run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, tc.query), Sources: []engine.Source{yielding{engine.Local(store, "s"), &rows}}},
			End: 1000 * sec, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(texts(res)); got != tc.found || rows.Load() > tc.most {
			t.Errorf("%s: %d entries of %d rows, want %d of %d at most", tc.query, got, rows.Load(), tc.found, tc.most)
		}
	}
	const n = 17_000
	// Where there are more values than are remembered, all is well still.
	res, err := run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, `{app="a"} | logfmt | distinct n | keep n`),
		Sources: []engine.Source{engine.Local(enginetest.NewStore(entries(n)...), "s")}}, End: 1000 * sec})
	if err != nil || len(texts(res)) != n {
		t.Errorf("%d entries, %v", len(texts(res)), err)
	}
}

// Entries in error are counted by what is wrong with them, too.
func TestTopOfErrors(t *testing.T) {
	var all []enginetest.Entry
	for i := range 30 {
		line := `{"a":1}`
		if i%3 == 0 {
			line = "no JSON"
		}
		all = append(all, enginetest.Entry{Labels: labels("app", "a"), Time: int64(i) * sec / 100, Line: line, BatchTime: 1})
	}
	res, err := run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, `{app="a"} | json | top 2 __error__ | keep __error__, top_count`),
		Sources: []engine.Source{engine.Local(enginetest.NewStore(all...), "s")}}, End: 1000 * sec, Limit: 10})
	if err != nil || len(res.Streams) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := res.Streams[0].Entries[0].Parsed.Get("top_count"); got != "10" {
		t.Errorf("%s of 10 entries", got)
	}
}

// A range in which there is no time has no entries.
func TestTopOfNoTime(t *testing.T) {
	store := enginetest.NewStore(enginetest.Entry{Labels: labels("app", "a"), Time: 5, Line: "a=b", BatchTime: 1})
	for _, backward := range []bool{false, true} {
		res, err := run(engine.RangeQuery{Query: engine.Query{Expr: parse(t, `{app="a"} | logfmt | top 2 a`),
			Sources: []engine.Source{engine.Local(store, "s")}}, Start: 5, End: 5, Limit: 10, Backward: backward})
		if err != nil || len(res.Streams) != 0 {
			t.Errorf("%+v, %v", res, err)
		}
	}
}
