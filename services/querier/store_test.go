package querier

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// entry is a row: a stream, seconds after the day's begin, a line.
type row struct {
	app  string
	at   int
	line string
}

// shop is a store with blocks, and a querier's side of it.
type shop struct {
	testing.TB
	objects objstore.Bucket // as it is
	bucket  *objstoretest.Faults
	loader  *catalog.Loader
	blocks  *blocks
	engine  *engine.Engine
	rand    *rand.ChaCha8
	now     time.Time
	near    bool
	applied []string // what the footers of further blocks list
}

func newShop(t testing.TB) *shop {
	s := &shop{TB: t, rand: rand.NewChaCha8([32]byte{1}), now: day.Add(36 * time.Hour), engine: engine.New(engine.Options{})}
	s.objects = objstore.NewMemory(func() time.Time { return s.now })
	s.bucket = &objstoretest.Faults{Bucket: s.objects}
	s.reopen(1 << 20)
	return s
}

// reopen is a querier that has just started, with as much memory for idle blocks.
func (s *shop) reopen(memory int64) {
	s.loader = catalog.NewLoader(catalog.LoaderOptions{
		Bucket: s.bucket, Now: func() time.Time { return s.now },
		Footer: func(ctx context.Context, key string, size int64) (catalog.Block, error) {
			info, err := block.ReadInfo(ctx, object{s.bucket, key, false}, size)
			if err != nil {
				return catalog.Block{}, err
			}
			return info.Catalog(), nil
		},
	})
	s.near = !s.near
	s.blocks = newBlocks(Store{Bucket: s.bucket, Loader: s.loader, Cache: blockstore.NewCache(1<<20, nil), Memory: memory, Near: s.near}, slog.New(slog.DiscardHandler), nil)
}

func (s *shop) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// put stores a block that replaces sources.
func (s *shop) put(sources []catalog.Block, rows ...row) catalog.Block {
	s.Helper()
	return s.putPart(sources, 0, 1, s.id(), rows...)
}

func (s *shop) id() catalog.ID {
	s.Helper()
	id, err := catalog.NewID(s.now, s.rand)
	s.must(err)
	return id
}

// putPart stores a part of what a merge made of sources.
func (s *shop) putPart(sources []catalog.Block, part, of int, merge catalog.ID, rows ...row) catalog.Block {
	s.Helper()
	meta := block.Meta{ID: s.id(), Tenant: "t", Partition: day, Tombstones: s.applied}
	for _, b := range sources {
		src := catalog.Source{ID: b.ID, Part: part, Of: of}
		if of > 1 {
			src.Merge = merge
		}
		meta.Sources = append(meta.Sources, src)
	}
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.at, b.at), cmp.Compare(a.line, b.line))
	})
	rows = slices.Compact(rows)
	var body bytes.Buffer
	w := block.NewWriter(&body, meta, block.Options{})
	for from := 0; from < len(rows); {
		to := from
		out := &model.Rows{}
		for ; to < len(rows) && rows[to].app == rows[from].app; to++ {
			out.Times = append(out.Times, day.Add(time.Duration(rows[to].at)*time.Second).UnixNano())
			out.Lines.AppendString(rows[to].line)
			out.BatchTimes = append(out.BatchTimes, 7)
			out.Positions = append(out.Positions, uint32(len(out.Times)))
		}
		s.must(w.Add(model.NewLabels([]model.Label{{Name: "app", Value: rows[from].app}}), out))
		from = to
	}
	info, err := w.Close()
	s.must(err)
	b := info.Catalog()
	s.must(objstore.PutBytes(s.Context(), s.objects, catalog.Key(b), body.Bytes()))
	return b
}

func (s *shop) refresh() { s.Helper(); s.must(s.loader.Refresh(s.Context())) }

func rows(app string, from, to int) (out []row) {
	for i := from; i < to; i++ {
		out = append(out, row{app, i, fmt.Sprintf("request %d of %s done", i, app)})
	}
	return out
}

// ask answers a query over the day.
func (s *shop) ask(query string, partial bool) (*engine.Result, error) {
	s.Helper()
	expr, err := syntax.ParseExpr(query)
	s.must(err)
	q := engine.RangeQuery{
		Query: engine.Query{Expr: expr, Partial: partial, Sources: []engine.Source{&stored{blocks: s.blocks, tenant: "t", partial: partial}}},
		Start: day.UnixNano(), End: day.Add(24 * time.Hour).UnixNano(), Step: 24 * time.Hour,
	}
	var res *engine.Result
	err = rerun(s.Context(), q.Sources, func() bool { return false }, func() (err error) {
		res, err = s.engine.Range(s.Context(), q)
		return err
	})
	return res, err
}

// lines returns the lines of an answer that must be complete, oldest first.
func (s *shop) lines(query string) []string {
	s.Helper()
	res, err := s.ask(query, false)
	s.must(err)
	if len(res.Warnings) > 0 {
		s.Errorf("warnings: %q", res.Warnings)
	}
	return linesOf(res)
}

func linesOf(res *engine.Result) (out []string) {
	for _, st := range res.Streams {
		for _, e := range st.Entries {
			out = append(out, string(e.Line))
		}
	}
	slices.Sort(out)
	return out
}

func textOf(list ...[]row) (out []string) {
	for _, l := range list {
		for _, r := range l {
			out = append(out, r.line)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *shop) same(what string, got, want []string) {
	s.Helper()
	if !slices.Equal(got, want) {
		s.Errorf("%s: got %d lines, want %d", what, len(got), len(want))
	}
}

func selectorOf(t testing.TB, text string) syntax.Expr {
	t.Helper()
	e, err := syntax.ParseExpr(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
