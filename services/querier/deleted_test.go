package querier

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// deletes are tombstones of a bucket that may be away.
func (s *shop) delete(store *tombstone.Store, query string) *tombstone.Tombstone {
	s.Helper()
	x, err := tombstone.New(s.now, s.rand, "t", query, 0, s.now.UnixNano())
	s.must(err)
	s.must(store.Create(s.Context(), x))
	return x
}

// Queries are answered by a set of deletes that is younger than its bound, or not at all;
// a delete that is cancelled is none.
func TestR23SetOfDeletes(t *testing.T) {
	s := newShop(t)
	now := func() time.Time { return s.now }
	own, other := tombstone.NewStore(s.bucket, now, 0), tombstone.NewStore(s.bucket, now, 0)
	service := &Service{deps: Deps{Deletes: own}}
	sc := func() scope { return scope{tenant: "t", limits: limits.Default(), now: s.now} }
	want := func(what string, n int) {
		t.Helper()
		x, err := service.excluded(t.Context(), sc())
		s.must(err)
		if n == 0 && x != nil || n > 0 && (x == nil || len(x.Tombstones) != n || x.Version == "") {
			t.Errorf("%s: %+v", what, x)
		}
	}
	want("none", 0)
	x := s.delete(other, `{app="a"} |= "card"`)
	s.now = s.now.Add(tombstone.DefaultMaxAge)
	want("another's, after the bound", 1)
	s.must(other.Cancel(t.Context(), "t", x.ID, "me"))
	s.now = s.now.Add(tombstone.DefaultMaxAge)
	want("cancelled", 0)
	s.delete(own, `{app="b"}`)
	want("own, at once", 1)
	s.bucket.Before = func(context.Context, string, string) error { return objstore.ErrUnavailable }
	want("within the bound", 1)
	s.now = s.now.Add(tombstone.DefaultMaxAge)
	if _, err := service.excluded(t.Context(), sc()); !rpcerr.Is(err, rpcerr.Unavailable) {
		t.Errorf("the store is away: %v", err)
	}
	s.bucket.Before, s.bucket.Flip = nil, func(key string) bool { return strings.HasSuffix(key, x.ID) }
	service.deps.Deletes = tombstone.NewStore(s.bucket, now, 0)
	if _, err := service.excluded(t.Context(), sc()); !rpcerr.Is(err, rpcerr.DataLoss) || !strings.Contains(err.Error(), x.ID) {
		t.Errorf("a damaged delete: %v", err)
	}
}

// A delete that a block's footer lists is not applied to it again: its rows are counted from
// the index. To a block that came later it is, as to an older copy, and counts are the same.
func TestR24CarriedOutDeletesCostNothing(t *testing.T) {
	s := newShop(t)
	now := func() time.Time { return s.now }
	store := tombstone.NewStore(s.bucket, now, 0)
	x := s.delete(store, `{app="a"} |= "request 1"`)
	all := rows("a", 0, 100)
	left := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return strings.Contains(r.line, "request 1") })
	service := &Service{deps: Deps{Deletes: store}}
	count := func(what string, want int, rowsRead bool) {
		t.Helper()
		s.refresh()
		out, err := service.excluded(t.Context(), scope{tenant: "t", limits: limits.Default(), now: s.now})
		s.must(err)
		expr := selectorOf(t, `sum(count_over_time({app=~".+"}[25h]))`)
		q := engine.Query{Expr: expr, Sources: []engine.Source{&stored{blocks: s.blocks, tenant: "t"}}, Excluded: out}
		res, err := s.engine.Instant(s.Context(), q, day.Add(24*time.Hour).UnixNano())
		s.must(err)
		if got := res.Vector[0].Value; got != float64(want) || (res.Statistics.BytesRead > 0) != rowsRead {
			t.Errorf("%s: %v entries, want %d; %d bytes were read", what, got, want, res.Statistics.BytesRead)
		}
	}
	s.applied = []string{"ordered", x.ID}
	s.put(nil, left...)
	count("carried out", len(left), false)
	s.applied = nil
	s.put(nil, all...)
	count("with a copy of before it", len(left), true)
	s.put(nil, row{"a", 200, "request 1 too late"}, row{"b", 1, "request 1 of another"})
	count("with what came later", len(left)+1, true)
}

// Retention holds when reading: of the rules that concern an entry the first counts.
func TestR25RetentionAtRead(t *testing.T) {
	s := newShop(t)
	var all []row
	for h := range 24 {
		for _, app := range []string{"a", "b", "c"} {
			all = append(all, row{app, 3600 * h, fmt.Sprintf("%s %d level=%s", app, h, []string{"debug", "error"}[h%2])})
		}
	}
	s.put(nil, all...)
	s.refresh()
	l := limits.Default()
	l.RetentionPeriod = 30 * time.Hour // it is noon of the next day: from 6:00 on
	l.RetentionStream = []limits.RetentionStream{
		{Selector: `{app="b"}`, Priority: 1, Period: 18 * time.Hour},
		{Selector: `{app="b"} |= "error"`, Priority: 2},
		{Selector: `{app=~"a|b"} |= "debug"`, Priority: 0, Period: 14 * time.Hour},
	}
	x, err := (&Service{}).excluded(t.Context(), scope{tenant: "t", limits: l, now: s.now})
	s.must(err)
	var want []string
	for _, e := range all {
		h := e.at / 3600
		debug := h%2 == 0
		keep := h >= 6
		switch {
		case e.app == "b" && !debug:
			keep = true
		case e.app == "b":
			keep = h >= 18
		case e.app == "a" && debug:
			keep = h >= 22
		}
		if keep {
			want = append(want, e.line)
		}
	}
	slices.Sort(want)
	ctx := engine.WithExcluded(t.Context(), x)
	ses, err := (&stored{blocks: s.blocks, tenant: "t"}).Open(ctx, nil, day.UnixNano(), day.Add(24*time.Hour).UnixNano())
	s.must(err)
	defer ses.Close()
	var got []string
	_, err = ses.Scan(ctx, engine.ScanRequest{Query: selectorOf(t, `{app=~".+"}`), Start: day.UnixNano(), End: day.Add(24 * time.Hour).UnixNano()}, func(r *engine.ScanRows) error {
		for i := range r.Times {
			got = append(got, string(r.Lines.At(i)))
		}
		return nil
	})
	s.must(err)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Sources that are read in place of a damaged block bring nothing back: a delete may have retired
// with the last of them, of which an older listing still tells, and which is open.
func TestR24SourcesBringNothingBack(t *testing.T) {
	s := newShop(t)
	store := tombstone.NewStore(s.bucket, func() time.Time { return s.now }, 0)
	x := s.delete(store, `{app="a"} |= "request 1"`)
	all := rows("a", 0, 100)
	left := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return strings.Contains(r.line, "request 1") })
	source := s.put(nil, all...)
	s.applied = []string{"another", x.ID}
	bad := s.put([]catalog.Block{source}, left...)
	s.refresh()
	s.bucket.Flip = func(key string) bool { return key == catalog.Key(bad) }
	expr := selectorOf(t, `{app="a"}`)
	ask := func(deletes ...engine.Tombstone) ([]string, error) {
		q := engine.RangeQuery{
			Query: engine.Query{Expr: expr, Sources: []engine.Source{&stored{blocks: s.blocks, tenant: "t"}}, Excluded: &engine.Excluded{Tombstones: deletes, Version: fmt.Sprint(len(deletes))}},
			Start: day.UnixNano(), End: day.Add(24 * time.Hour).UnixNano(), Step: time.Hour,
		}
		var res *engine.Result
		err := rerun(s.Context(), q.Sources, func() bool { return false }, func() (err error) {
			res, err = s.engine.Range(s.Context(), q)
			return err
		})
		if err != nil {
			return nil, err
		}
		return linesOf(res), nil
	}
	force := engine.Tombstone{ID: x.ID, Selector: x.Selector(), Start: x.Start, End: x.End}
	other := force
	other.ID = "another"
	var lists atomic.Int64
	s.bucket.Before = func(_ context.Context, op, _ string) error {
		if op == "list" {
			lists.Add(1)
		}
		return nil
	}
	for i, deletes := range [][]engine.Tombstone{{force, other}, {other, force}, {force}} {
		got, err := ask(deletes...)
		s.must(err)
		s.same("in force", got, textOf(left))
		if want := int64(i / 2); lists.Load() != want { // the other one may have retired, and the source is there
			t.Errorf("query %d: %d listings, want %d", i, lists.Load(), want)
		}
	}
	s.now = s.now.Add(time.Minute)
	s.must(s.objects.Delete(t.Context(), catalog.Key(source)))
	if got, err := ask(); !rpcerr.Is(err, rpcerr.DataLoss) {
		t.Errorf("retired: %d lines, %v", len(got), err)
	}
}
