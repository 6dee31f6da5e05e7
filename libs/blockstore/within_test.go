package blockstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// copies are blocks of copies of the rows of many streams, each copy cut at rows of its own.
// A copy lacks one of so many rows; 0: none.
func copies(t tb, r *rand.Rand, cache *blockstore.Cache, streams, rows, n, lacks int) (sources []engine.Source, all []enginetest.Entry) {
	for i := range rows {
		for k := range streams {
			all = append(all, enginetest.Entry{Labels: podLabels(k), Time: int64(i)*10*sec + int64(k), BatchTime: int64(i + 1), Position: uint32(k), Line: fieldLine(r, 1)})
		}
	}
	for c := range n {
		for at := 0; at < len(all); {
			to := min(len(all), at+1+r.IntN(len(all)))
			var part []enginetest.Entry
			for _, e := range all[at:to] {
				if c == 0 || lacks == 0 || r.IntN(lacks) > 0 {
					part = append(part, e)
				}
			}
			if at = to; len(part) > 0 {
				o := &object{b: copyOf(t, enginetest.NewStore(part...), block.Options{})}
				sources = append(sources, engine.Local(blockstore.NewStore(openBlock(t, o), cache), fmt.Sprintf("copy %d block %d", c, len(sources))))
			}
		}
	}
	return sources, all
}

// Queries over blocks with copies of the rows of many streams answer within their limit as a
// store in memory, or end with the limit's error; sessions give back what they held.
func TestBlocksStayWithinMemory(t *testing.T) {
	answered, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		cache := blockstore.NewCache(1<<20, nil)
		sources, all := copies(t, r, cache, rapid.SampledFrom([]int{1, 30, 90}).Draw(t, "streams"), rapid.IntRange(1, 12).Draw(t, "rows"),
			rapid.IntRange(1, 3).Draw(t, "copies"), rapid.SampledFrom([]int{0, 3, 40}).Draw(t, "lacks"))
		text := rapid.SampledFrom([]string{
			`{app=~".+"}`, `{app=~".+"} |= "e"`, `sum(count_over_time({app=~".+"}[2m]))`, `sum by (pod) (count_over_time({app=~".+"} |= "e" [2m]))`,
			`sum by (app) (bytes_over_time({app=~".+"}[2m]))`, `sum by (app) (count_over_time({app=~".+"} | json | __error__="" [2m]))`,
		}).Draw(t, "query")
		expr, err := syntax.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		src := engine.Union("blocks", sources...)
		q := engine.RangeQuery{
			Query: engine.Query{Expr: expr}, End: 200 * sec, Step: 30 * time.Second, Limit: rapid.SampledFrom([]int{3, 10_000}).Draw(t, "limit"),
			Backward: rapid.Bool().Draw(t, "backward"),
		}
		run := func(limit int64, src engine.Source) (*engine.Result, string, error) {
			q := q
			q.Sources, q.Limits.MaxMemory = []engine.Source{src}, limit
			res, err := engine.New(engine.Options{}).Range(context.Background(), q)
			if err != nil {
				return nil, "", err
			}
			rounded(res)
			return res, dump(res), nil
		}
		_, want, err := run(0, engine.Local(enginetest.NewStore(all...), "memory"))
		if err != nil {
			t.Fatal(err)
		}
		res, got, err := run(0, src)
		if err != nil || got != want {
			t.Fatalf("%s, %v\n got %s\nwant %s", text, err, got, want)
		}
		limit := rapid.Int64Range(1, res.Statistics.PeakMemory*9/8).Draw(t, "memory")
		switch _, got, err = run(limit, src); {
		case err == nil && got == want:
			answered++
		case err == nil:
			t.Fatalf("%s within %d bytes\n got %s\nwant %s", text, limit, got, want)
		case !errors.Is(err, engine.ErrLimit):
			t.Fatal(err)
		default:
			refused++
		}

		m := engine.NewMemory(limit)
		ctx := engine.WithMemory(context.Background(), m)
		s, err := src.Open(ctx, nil, 0, q.End)
		if err != nil {
			t.Fatal(err)
		}
		if _, log := expr.(*syntax.LogSelector); log {
			_, err = s.Scan(ctx, engine.ScanRequest{Query: expr, End: q.End, Limit: q.Limit, Backward: q.Backward}, func(*engine.ScanRows) error { return nil })
		} else {
			_, _, err = s.Aggregate(ctx, engine.AggregateRequest{Query: expr, Start: 120 * sec, End: 180 * sec, Step: 30 * sec})
		}
		if err != nil && !errors.Is(err, engine.ErrLimit) {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if m.Held() != 0 {
			t.Fatalf("%s within %d bytes: %d are held at the end, %v", text, limit, m.Held(), err)
		}
	})
	if n := answered + refused; !t.Failed() && n >= 50 && (answered == 0 || refused == 0) {
		t.Errorf("%d queries had enough memory, %d had not", answered, refused)
	}
}

// What is reserved is about what is held: of a plan by streams, of rows that many cursors stand
// in, and of those of one stream that it goes through.
func TestWhatIsReserved(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	held := func(streams, rows, n int, limit int64, ask func(context.Context, engine.Session) error) *engine.Memory {
		t.Helper()
		sources, _ := copies(t, r, blockstore.NewCache(32<<20, nil), streams, rows, n, 0)
		m := engine.NewMemory(limit)
		ctx := engine.WithMemory(context.Background(), m)
		s, err := engine.Union("blocks", sources...).Open(ctx, nil, 0, 1e6*sec)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := ask(ctx, s); err != nil {
			t.Error(err)
		}
		return m
	}
	expr, err := syntax.ParseExpr(`{app=~".+"}`)
	if err != nil {
		t.Fatal(err)
	}
	scan := func(ctx context.Context, s engine.Session) error {
		_, err := s.Scan(ctx, engine.ScanRequest{Query: expr, End: 1e6 * sec}, func(*engine.ScanRows) error { return nil })
		return err
	}
	const streams = 2000
	if m := held(streams, 3, 2, 0, func(_ context.Context, s engine.Session) error { s.Streams(); return nil }); m.Peak() < 300*streams || m.Peak() > 1500*streams {
		t.Errorf("a plan of %d streams holds %d bytes", streams, m.Peak())
	}
	// Cursors alone are 1 KiB. The rows of all streams are some 700 kB, which lie in a chunk.
	if m := held(streams, 3, 1, 0, scan); m.Peak() < 1000*streams || m.Peak() > 2500*streams {
		t.Errorf("a scan of %d streams holds %d bytes", streams, m.Peak())
	}
	if m := held(1, 40_000, 1, 2<<20, scan); m.Peak() < 200<<10 {
		t.Errorf("a scan of 40000 rows holds %d bytes", m.Peak())
	}
}

// Where the series of all stretches of a block have no room, those of one may have.
func TestSeriesOfOneStretch(t *testing.T) {
	var entries []enginetest.Entry
	for i := range 20_000 {
		entries = append(entries, enginetest.Entry{Labels: podLabels(1), Time: int64(i), BatchTime: 1, Position: uint32(i), Line: fmt.Sprintf(`{"user":"user number %d","n":%d}`, i*7%2000, i)})
	}
	o := &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{RowGroupBytes: 16 << 10})}
	src := engine.Local(blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<24, nil)), "block")
	for _, text := range []string{
		`sum by (user) (sum_over_time({app=~".+"} | json user="user", n="n" | unwrap n [1h]))`,
		`quantile_over_time(0.5, {app=~".+"} | json user="user", n="n" | unwrap n [1h]) by (user)`,
	} {
		expr, err := syntax.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		run := func(limit int64) (string, int64, error) {
			q := engine.Query{Expr: expr, Sources: []engine.Source{src}, Limits: engine.Limits{MaxMemory: limit}}
			res, err := engine.New(engine.Options{}).Instant(context.Background(), q, 3600*sec)
			if err != nil {
				return "", 0, err
			}
			return fmt.Sprint(res.Vector), res.Statistics.PeakMemory, nil
		}
		want, peak, err := run(0)
		if err != nil || peak == 0 {
			t.Fatal(err, peak)
		}
		if got, _, err := run(peak * 5 / 8); err != nil || got != want {
			t.Errorf("%s with %d of %d bytes: %v\n got %.200s\nwant %.200s", text, peak*5/8, peak, err, got, want)
		}
		if _, _, err := run(peak / 50); !errors.Is(err, engine.ErrLimit) {
			t.Errorf("%s with %d of %d bytes: %v", text, peak/50, peak, err)
		}
	}
}
