package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

func TestMemory(t *testing.T) {
	m := engine.NewMemory(100)
	if err := m.Reserve(60); err != nil {
		t.Fatal(err)
	}
	if err := m.Reserve(41); !errors.Is(err, engine.ErrLimit) || m.Held() != 60 || m.Err() != nil {
		t.Errorf("%v, %d held, %v: a refused reservation is its caller's business", err, m.Held(), m.Err())
	}
	if !m.Claim(140) || m.Err() != nil {
		t.Errorf("a claim of all that is left of twice the limit is refused: %v", m.Err())
	}
	if m.Claim(1) || m.Held() != 200 || !errors.Is(m.Err(), engine.ErrMemory) || !errors.Is(m.Err(), engine.ErrLimit) {
		t.Errorf("%d held, %v", m.Held(), m.Err())
	}
	if err := m.Reserve(1); !errors.Is(err, engine.ErrMemory) || m.Held() != 200 {
		t.Errorf("%d held, %v: twice the limit is for all together", m.Held(), err)
	}
	m.Release(60)
	m.Unclaim(140)
	if m.Held() != 0 || m.Peak() != 200 || !errors.Is(m.Err(), engine.ErrMemory) {
		t.Errorf("%d held, %d at most, %v: a refused claim is kept", m.Held(), m.Peak(), m.Err())
	}
	var none *engine.Memory
	if !none.Claim(1<<40) || none.Err() != nil || none.Held() != 0 {
		t.Error("no memory has a limit")
	}
	if m := engine.NewMemory(0); !m.Claim(1<<40) || m.Err() != nil {
		t.Error("no limit is one")
	}
}

// refused reports whether an error is that of the query's memory.
func refused(err error) bool {
	return errors.Is(err, engine.ErrLimit) && strings.Contains(err.Error(), "more memory")
}

var heldExprs = append(slices.Clone(exprs), func() (out []syntax.Expr) {
	for _, q := range []string{`sum(count_over_time({app=~".+"}[1m]))`, `quantile_over_time(0.5, {app=~".+"} | logfmt | unwrap n | __error__="" [1m]) by (app)`,
		`absent_over_time({app="c"}[1m])`, `topk(1, sum by (level) (rate({app=~".+"} | logfmt | __error__="" [1m])))`} {
		e, err := syntax.ParseExpr(q)
		if err != nil {
			panic(err)
		}
		out = append(out, e)
	}
	return out
}()...)

// Queries over sources that hold copies of each other's rows, in whatever way they are
// arranged and whichever source fails, answer within their limit as without one, or end with
// the limit's error. What was given out until then is the beginning of the answer. What they
// give back is no more than what they took.
func TestQueriesStayWithinMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := entries(t)
		digests := rapid.Bool().Draw(t, "digests")
		stores := spread(t, all, !digests)
		in := arrange(t, sources(stores, digests))
		q := engine.RangeQuery{Query: engine.Query{Sources: in, Excluded: excluded(t)}, End: 301 * sec, Step: time.Minute, Backward: rapid.Bool().Draw(t, "backward")}
		q.Expr, q.Split = pick(t, "query", heldExprs...), splits(t)
		if _, ok := q.Expr.(*syntax.LogSelector); ok {
			q.Limit = pick(t, "limit", 1, 5, 1000)
		}
		e := engine.New(engine.Options{})
		want, err := e.Range(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		peak := want.Statistics.PeakMemory
		q.Limits.MaxMemory = rapid.Int64Range(1, 1+peak+peak/4).Draw(t, "memory")
		fails := rapid.IntRange(0, 3).Draw(t, "fails") == 0
		if fails { // once, in the middle
			left := rapid.IntRange(0, 10).Draw(t, "reads")
			stores[0].FailRows = failAfter(left)
		}
		var emitted []engine.LogStream
		if rapid.Bool().Draw(t, "emit") {
			q.Emit = func(ls []engine.LogStream) error { emitted = append(emitted, ls...); return nil }
		}
		got, held, err := e.HeldAfter(t.Context(), q)
		closed(t, stores)
		switch {
		case err == nil:
			got.Streams = append(got.Streams, emitted...)
			if !slices.Equal(texts(got), texts(want)) || diff(points(got), points(want)) != "" {
				t.Fatalf("%s within %d bytes: got %+v, want %+v", q.Expr, q.Limits.MaxMemory, got, want)
			}
			if q.Limits.MaxMemory < 48 && len(all) > 0 && len(texts(want)) > 0 {
				t.Fatalf("%s within %d bytes", q.Expr, q.Limits.MaxMemory)
			}
		case !refused(err) && !(fails && errors.Is(err, errReads)):
			t.Fatalf("%s within %d bytes of %d: %v", q.Expr, q.Limits.MaxMemory, peak, err)
		default:
			of := texts(want)
			for _, e := range texts(&engine.Result{Streams: emitted}) {
				if !slices.Contains(of, e) {
					t.Fatalf("%s emitted %s, which is not in %q", q.Expr, e, of)
				}
			}
		}
		if held < 0 || held > 0 && err == nil && q.Expr == heldExprs[0] {
			t.Fatalf("%s within %d bytes: %v, and %d bytes are held", q.Expr, q.Limits.MaxMemory, err, held)
		}
	})
}

var errReads = errors.New("boom")

// failAfter fails once some calls were made.
func failAfter(n int) func() error {
	var left atomic.Int64
	left.Store(int64(n))
	return func() error {
		if left.Add(-1) < 0 {
			return errReads
		}
		return nil
	}
}

// A session of a union gives back what it held, also of what it was asked when a part of it
// failed or there was too little.
func TestSessionsGiveMemoryBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stores := spread(t, entries(t), false)
		src := engine.Union("all", arrange(t, sources(stores, true))...)
		if rapid.Bool().Draw(t, "dies") {
			src = engine.Union("more", src, dying{engine.Local(stores[0], "dies"), 3})
		}
		m := engine.NewMemory(rapid.SampledFrom([]int64{0, 100, 1000, 3000, 10_000}).Draw(t, "memory"))
		ctx := engine.WithMemory(context.Background(), m)
		s, err := src.Open(ctx, nil, 0, 301*sec)
		if err == nil {
			for range rapid.IntRange(1, 3).Draw(t, "requests") {
				switch rapid.IntRange(0, 3).Draw(t, "request") {
				case 0:
					_, err = s.Scan(ctx, engine.ScanRequest{Query: exprs[0], End: 301 * sec}, func(*engine.ScanRows) error { return nil })
				case 1:
					_, _, err = s.Aggregate(ctx, engine.AggregateRequest{Query: exprs[1], Start: 60 * sec, End: 300 * sec, Step: 60 * sec})
				case 2:
					_, _, err = s.Patterns(ctx, engine.PatternsRequest{Query: exprs[0].(*syntax.LogSelector), End: 301 * sec, Width: 60 * sec})
				default:
					s.Streams()
				}
				if m.Err() != nil && err == nil {
					_, err = s.Scan(ctx, engine.ScanRequest{Query: exprs[0], End: 301 * sec}, func(*engine.ScanRows) error { t.Fatal("rows of a plan that was refused"); return nil })
					if !refused(err) {
						t.Fatalf("a session goes on though a claim was refused: %v", err)
					}
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		closed(t, stores)
		if m.Held() != 0 {
			t.Fatalf("%d bytes are held at the end, %v", m.Held(), err)
		}
	})
}

// opaque hides what its session can do besides.
type opaque struct{ engine.Source }

func (o opaque) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	s, err := o.Source.Open(ctx, m, start, end)
	if err != nil {
		return nil, err
	}
	return struct{ engine.Session }{s}, nil
}

// So does one that is cut where its parts overlap, also when that is taken back.
func TestCutSessionsGiveMemoryBack(t *testing.T) {
	for _, dies := range []bool{false, true} {
		var parts []engine.Source
		for i, from := range []int64{0, 50, 500} {
			var all []enginetest.Entry
			for k := range 100 {
				all = append(all, enginetest.Entry{Labels: labels("app", "a"), Time: (from + int64(k)) * sec, BatchTime: 1, Line: "x"})
			}
			parts = append(parts, opaque{engine.Local(enginetest.NewStore(all...), string(rune('a'+i)))})
		}
		if dies {
			parts[2] = dying{parts[2], 0}
		}
		m := engine.NewMemory(0)
		ctx := engine.WithMemory(context.Background(), m)
		s, err := engine.Union("all", parts...).Open(ctx, nil, 0, 1000*sec)
		if err != nil {
			t.Fatal(err)
		}
		series, _, err := s.Aggregate(ctx, engine.AggregateRequest{Query: parse(t, `sum(count_over_time({app="a"}[1h]))`), Start: 1000 * sec, End: 1000 * sec})
		if (err != nil) != dies || !dies && (len(series) != 1 || series[0].Counts[0] != 250) {
			t.Errorf("dies %v: %v, %+v", dies, err, series)
		}
		if err := s.Close(); err != nil || m.Held() != 0 || m.Peak() == 0 {
			t.Errorf("dies %v: %d bytes are held at the end, %v", dies, m.Held(), err)
		}
	}
}
