package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// arrange puts sources into unions, or not, or into unions of unions.
func arrange(t *rapid.T, in []engine.Source) []engine.Source {
	for depth := range rapid.IntRange(0, 2).Draw(t, "unions") {
		n := rapid.IntRange(1, len(in)).Draw(t, "united")
		u := engine.Union(fmt.Sprint("u", depth), in[:n]...)
		in = append([]engine.Source{u}, in[n:]...)
	}
	return in
}

// many is entries spread over stores as blocks are: cut by time, merged into larger
// ones that are there beside what they were made of, whole or in part.
func many(t *rapid.T, all []enginetest.Entry) []*enginetest.Store {
	var parts [][]enginetest.Entry
	for range rapid.IntRange(1, 6).Draw(t, "cuts") {
		parts = append(parts, nil)
	}
	for _, e := range all {
		i := int(e.Time/sec/3) * len(parts) / 101
		if rapid.IntRange(0, 9).Draw(t, "late") == 0 {
			i = rapid.IntRange(0, len(parts)-1).Draw(t, "part")
		}
		parts[i] = append(parts[i], e)
	}
	for range rapid.IntRange(0, 3).Draw(t, "merges") {
		from := rapid.IntRange(0, len(parts)-1).Draw(t, "from")
		to := rapid.IntRange(from, len(parts)).Draw(t, "to")
		parts = append(parts, slices.Concat(parts[from:to]...))
	}
	var out []*enginetest.Store
	for _, p := range parts {
		s := enginetest.NewStore(p...)
		s.RunRows, s.BatchRows = rapid.IntRange(0, 5).Draw(t, "run"), rapid.IntRange(0, 5).Draw(t, "rows")
		s.Selective = rapid.Bool().Draw(t, "selective")
		out = append(out, s)
	}
	return out
}

// A union of blocks, copies and half-finished merges answers as one clean copy does,
// and so do two such unions of the same entries beside each other.
func TestUnionEqualsOneCopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := entries(t)
		digests := rapid.Bool().Draw(t, "digests")
		stores := many(t, all)
		src := []engine.Source{engine.Union("a", sources(stores, digests)...)}
		if rapid.Bool().Draw(t, "replica") {
			other := many(t, all)
			src = append(src, engine.Union("b", sources(other, digests)...))
			stores = append(stores, other...)
		}
		x := excluded(t)
		one := []engine.Source{engine.Local(enginetest.NewStore(without(all, x)...), "one")}
		q := engine.RangeQuery{
			Query: engine.Query{Expr: pick(t, "query", exprs...)}, Start: int64(rapid.IntRange(0, 99).Draw(t, "start")) * sec * 3,
			End: 301 * sec, Step: time.Minute, Limit: pick(t, "limit", 0, 1, 3, 10), Backward: rapid.Bool().Draw(t, "backward"),
		}
		var got, want []string
		for page := 0; page == 0 || q.Cursor != ""; page++ {
			q.Sources, q.Excluded = src, x
			res, err := run(q)
			if err != nil {
				t.Fatal(err)
			}
			closed(t, stores)
			cursor := res.NextCursor
			got = append(got, texts(res)...)
			q.Sources, q.Excluded = one, nil
			clean, err := run(q)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, texts(clean)...)
			if d := diff(points(res), points(clean)); d != "" {
				t.Fatalf("%s: %s", q.Expr, d)
			}
			if !slices.Equal(got, want) || cursor != clean.NextCursor {
				t.Fatalf("%s, page %d: got %q, want %q", q.Expr, page, got, want)
			}
			q.Cursor = cursor
		}
	})
}

// The error of a source names it; a copy is read where there is one (R 18).
func TestUnionReadsTheCopy(t *testing.T) {
	all := []enginetest.Entry{}
	for i := range 50 {
		all = append(all, enginetest.Entry{Labels: labels("a", fmt.Sprint(i%2)), Time: int64(i/4) * sec, Line: fmt.Sprint("line ", i), BatchTime: 1, Position: uint32(i)})
	}
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		copies bool
		reads  int
	}{"copy": {true, 0}, "copy, later": {true, 5}, "none": {false, 0}, "none, later": {false, 3}} {
		stores := []*enginetest.Store{enginetest.NewStore(all...), enginetest.NewStore(all...), enginetest.NewStore()}
		if !c.copies {
			stores[1] = enginetest.NewStore(all[40:]...)
		}
		for bad := range 2 {
			for _, query := range exprs[:3] {
				for _, backward := range []bool{false, true} {
					var left atomic.Int64
					left.Store(int64(c.reads))
					for _, s := range stores {
						s.FailRows, s.BatchRows = nil, 2
					}
					stores[bad].FailRows = func() error {
						if left.Add(-1) < 0 {
							return boom
						}
						return nil
					}
					q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, strings.ReplaceAll(query.String(), "app", "a")), Sources: []engine.Source{engine.Union("u", sources(stores, true)...)}}, End: 301 * sec, Step: time.Minute, Backward: backward}
					res, err := run(q)
					stores[bad].FailRows = nil
					if err != nil {
						if c.copies || !errors.Is(err, boom) || !errors.Is(err, engine.ErrIncomplete) || !strings.Contains(err.Error(), fmt.Sprint("u: s", bad)) {
							t.Errorf("%s: %v", name, err)
						}
						continue
					}
					q.Sources = []engine.Source{engine.Local(enginetest.NewStore(all...), "one")}
					want, err := run(q)
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(texts(res), texts(want)) || diff(points(res), points(want)) != "" {
						t.Errorf("%s: %s: got %v, want %v", name, q.Expr, texts(res), texts(want))
					}
				}
			}
		}
	}
}

// Replicas whose blocks overlap, and are cut at other rows in each, are known to be
// copies, and if one has a row twice instead of another one, they are united.
func TestUnionsCutElsewhereAreCopies(t *testing.T) {
	var all []enginetest.Entry
	for i := range 100 {
		all = append(all, enginetest.Entry{Labels: labels("a", "b"), Time: int64(i) * sec, Line: fmt.Sprint("line ", i), BatchTime: 1, Position: uint32(i)})
	}
	for name, c := range map[string]struct {
		a, b [][]enginetest.Entry
		both bool // are read
	}{
		"equal": {
			[][]enginetest.Entry{slices.Concat(all[:40], all[50:60]), slices.Concat(all[40:50], all[60:])},
			[][]enginetest.Entry{slices.Concat(all[:60], all[70:80]), slices.Concat(all[60:70], all[80:])}, false,
		},
		"another row is there twice": {
			[][]enginetest.Entry{slices.Concat(all[:40], all[50:60]), slices.Concat(all[40:50], all[59:70], all[71:])},
			[][]enginetest.Entry{slices.Concat(all[:60], all[70:80]), slices.Concat(all[60:70], all[79:90], all[91:])}, true,
		},
	} {
		var src []engine.Source
		var reads [2]atomic.Int64
		for r, parts := range [][][]enginetest.Entry{c.a, c.b} {
			var own []engine.Source
			for i, part := range parts {
				s := enginetest.NewStore(part...)
				s.FailRows = func() error { reads[r].Add(1); return nil }
				own = append(own, engine.Local(s, fmt.Sprint(r, "/", i)))
			}
			src = append(src, engine.Union(fmt.Sprint(r), own...))
		}
		for _, query := range []string{`{a="b"}`, `sum(rate({a="b"} |= "line" [10s]))`} {
			reads[0].Store(0)
			reads[1].Store(0)
			q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, query), Sources: src}, End: 101 * sec, Step: time.Minute}
			res, err := run(q)
			if err != nil {
				t.Fatal(err)
			}
			if got := reads[0].Load() > 0 && reads[1].Load() > 0; got != c.both {
				t.Errorf("%s: %s: both were read: %t", name, query, got)
			}
			q.Sources = []engine.Source{engine.Local(enginetest.NewStore(all...), "one")}
			want, err := run(q)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(texts(res), texts(want)) || diff(points(res), points(want)) != "" {
				t.Errorf("%s: %s: got %v %v, want %v %v", name, query, texts(res), points(res), texts(want), points(want))
			}
		}
	}
}

// A scan with a limit leaves sources alone whose rows come later.
func TestUnionStopsEarly(t *testing.T) {
	var src []engine.Source
	read := make([]int, 40)
	for i := range read {
		var es []enginetest.Entry
		for k := range 10 {
			es = append(es, enginetest.Entry{Labels: labels("a", "b"), Time: int64(10*i+k) * sec, Line: "x", BatchTime: 1})
		}
		s := enginetest.NewStore(es...)
		s.FailRows = func() error { read[i]++; return nil }
		src = append(src, engine.Local(s, fmt.Sprint("block", i)))
	}
	q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, `{a="b"}`), Sources: []engine.Source{engine.Union("blocks", src...)}}, End: 400 * sec, Limit: 15, Backward: true}
	res, err := run(q)
	if err != nil || len(texts(res)) != 15 {
		t.Fatalf("%v, %v", texts(res), err)
	}
	touched := 0
	for i, n := range read {
		if n > 0 {
			touched++
			if i < 30 {
				t.Errorf("block %d was read", i)
			}
		}
	}
	if touched < 2 {
		t.Errorf("%d blocks were read", touched)
	}
}

// Union opens hundreds of sources and says which one fails.
func TestUnionOpenFails(t *testing.T) {
	src := make([]engine.Source, 300)
	stores := make([]*enginetest.Store, len(src))
	for i := range src {
		stores[i] = enginetest.NewStore(enginetest.Entry{Labels: labels("a", "b"), Time: int64(i), Line: "x"})
		src[i] = engine.Local(stores[i], fmt.Sprint("block", i))
	}
	src[77] = closedSource{src[77]}
	_, err := engine.Union("u", src...).Open(context.Background(), nil, 0, 1000)
	if err == nil || err.Error() != "block77: closed" {
		t.Errorf("got %v", err)
	}
	closed(t, stores)
	src = slices.Delete(src, 77, 78)
	s, err := engine.Union("u", src...).Open(context.Background(), nil, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if st := s.Streams(); len(st) != 1 || len(st[0].Runs) != len(src) {
		t.Errorf("got %v", st)
	}
	s.Close()
	closed(t, stores)
}

type closedSource struct{ engine.Source }

func (closedSource) Open(context.Context, []*syntax.Matcher, int64, int64) (engine.Session, error) {
	return nil, errors.New("closed")
}

// TestRule6CursorIsTheLastEntry: pages neither lose nor repeat entries of one time and one
// batch, of which nothing but the hash tells the order, wherever a page ends; whatever
// sources have which of them, and also if one of these is another when the next page is read.
func TestRule6CursorIsTheLastEntry(t *testing.T) {
	var all []enginetest.Entry
	for i := range 30 {
		all = append(all, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", i%2)}}),
			Time: 10 * sec, Line: fmt.Sprint("line ", i), BatchTime: 7, Position: 3})
	}
	one, two, whole := enginetest.NewStore(all[:20]...), enginetest.NewStore(all[10:]...), enginetest.NewStore(all...)
	sel, err := syntax.ParseExpr(`{app=~".+"}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, backward := range []bool{false, true} {
		for limit := 1; limit <= len(all); limit++ {
			q := engine.RangeQuery{Query: engine.Query{Expr: sel}, Start: 0, End: 20 * sec, Limit: limit, Backward: backward}
			seen := map[string]int{}
			for page := 0; ; page++ {
				q.Sources = sources([]*enginetest.Store{one, two}, true)
				if page%2 == 1 { // both were merged meanwhile
					q.Sources = sources([]*enginetest.Store{whole}, true)
				}
				res, err := run(q)
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, s := range res.Streams {
					for _, e := range s.Entries {
						seen[string(e.Line)]++
						n++
					}
				}
				if n > limit || n < limit && res.NextCursor != "" {
					t.Fatalf("limit %d, backward %v: a page of %d entries", limit, backward, n)
				}
				if res.NextCursor == "" {
					break
				}
				if page == len(all) {
					t.Fatalf("limit %d, backward %v: pages without an end, %v", limit, backward, seen)
				}
				q.Cursor = res.NextCursor
			}
			for line, n := range seen {
				if n != 1 {
					t.Errorf("limit %d, backward %v: %q came %d times", limit, backward, line, n)
				}
			}
			if len(seen) != len(all) {
				t.Fatalf("limit %d, backward %v: %d of %d entries", limit, backward, len(seen), len(all))
			}
		}
	}
}
