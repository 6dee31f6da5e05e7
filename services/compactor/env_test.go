package compactor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// entry is a row as tests name it: a stream, a time after the day's begin, a line.
type entry struct {
	app   string
	at    time.Duration
	line  string
	batch int64
	level string
}

func (e entry) String() string { return fmt.Sprintf("%s@%s %s", e.app, e.at, e.line) }

// env is a store with a compactor, and a clock of its own.
type env struct {
	testing.TB
	bucket  *faults
	loader  *catalog.Loader
	limits  limits.Limits
	reg     *prometheus.Registry
	service *Service
	rand    *random
	dir     string

	mu    sync.Mutex // guards what follows
	time  time.Time
	store time.Time // by the store's clock
}

func (e *env) storeNow() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.store
}

type random struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func (r *random) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Read(b)
}

func (e *env) now() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.time
}

// pass lets time go by; the store sees a write, as it would of others.
func (e *env) pass(d time.Duration) {
	e.mu.Lock()
	e.time, e.store = e.time.Add(d), e.store.Add(d)
	e.mu.Unlock()
	e.must(objstore.PutBytes(e.Context(), e.bucket, "t/other/note", nil))
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env) For(string) limits.Limits { return e.limits }

// start returns a store at noon of the day with a compactor. change may be nil.
func start(t testing.TB, change ...func(*Config, *Deps)) *env {
	e := &env{TB: t, time: day.Add(12 * time.Hour), store: day.Add(12 * time.Hour), rand: &random{r: rand.NewChaCha8([32]byte{1})}, dir: t.TempDir(), limits: limits.Default()}
	e.bucket = &faults{Bucket: objstore.NewMemory(e.storeNow)}
	e.service, e.loader, e.reg = e.compactor(change...)
	return e
}

// compactor returns another compactor of the store.
func (e *env) compactor(change ...func(*Config, *Deps)) (*Service, *catalog.Loader, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	cfg := DefaultConfig()
	loader := catalog.NewLoader(catalog.LoaderOptions{Bucket: e.bucket, Footer: Footer(e.bucket), Now: e.now})
	d := Deps{Log: slog.New(slog.DiscardHandler), Reg: reg, Bucket: e.bucket, Loader: loader, Limits: e, TempDir: e.dir, Now: e.now, Rand: e.rand,
		Tombstones: tombstone.NewStore(e.bucket, e.now, 0)}
	for _, f := range change {
		f(&cfg, &d)
	}
	if err := cfg.Validate(); err != nil {
		e.Fatal(err)
	}
	return New(cfg, d), loader, reg
}

// put stores a block of entries, as an ingester would.
func (e *env) put(partition time.Time, entries ...entry) catalog.Block {
	e.Helper()
	id, err := catalog.NewID(e.now(), e.rand)
	e.must(err)
	body, b := e.build(block.Meta{ID: id, Tenant: "t", Partition: partition}, entries...)
	e.must(objstore.PutBytes(e.Context(), e.bucket, catalog.Key(b), body))
	return b
}

func (e *env) build(meta block.Meta, entries ...entry) ([]byte, catalog.Block) {
	e.Helper()
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.at, b.at), cmp.Compare(a.batch, b.batch))
	})
	var body bytes.Buffer
	w := block.NewWriter(&body, meta, block.Options{})
	for from := 0; from < len(entries); {
		to := from
		rows := &model.Rows{}
		level := model.Column{Name: "detected_level", Version: 1}
		for ; to < len(entries) && entries[to].app == entries[from].app; to++ {
			x := entries[to]
			rows.Times = append(rows.Times, day.Add(x.at).UnixNano())
			rows.Lines.AppendString(x.line)
			rows.BatchTimes = append(rows.BatchTimes, x.batch+1)
			rows.Positions = append(rows.Positions, uint32(to-from))
			if x.level != "" {
				level.AppendString(to-from, x.level)
			}
		}
		if level.Finish(to - from); level.Values.Len() > 0 {
			rows.Derived = []model.Column{level}
		}
		e.must(w.Add(labels(entries[from].app), rows))
		from = to
	}
	info, err := w.Close()
	e.must(err)
	return body.Bytes(), info.Catalog()
}

func labels(app string) model.Labels {
	return model.NewLabels([]model.Label{{Name: "app", Value: app}})
}

func (e *env) cycle() {
	e.Helper()
	e.must(e.service.Cycle(e.Context()))
}

// live returns the tenant's live blocks, as a reader with nothing in mind sees them.
func (e *env) live() []catalog.Block {
	e.Helper()
	loader := catalog.NewLoader(catalog.LoaderOptions{Bucket: e.bucket.Bucket, Footer: Footer(e.bucket.Bucket), Now: e.now})
	e.must(loader.Refresh(context.WithoutCancel(e.Context())))
	snap, err := loader.Snapshot("t")
	e.must(err)
	if p := snap.Problems("t", compact.MinTime, compact.MaxTime); len(p) > 0 {
		e.Fatalf("the store has problems: %+v", p)
	}
	return snap.Live("t", compact.MinTime, compact.MaxTime)
}

// entries returns what the live blocks hold together, each once; every block is read
// whole and checked.
func (e *env) entries() []string {
	e.Helper()
	seen := map[string]bool{}
	for _, b := range e.live() {
		r, err := OpenBlock(context.WithoutCancel(e.Context()), e.bucket.Bucket, b)
		e.must(err)
		e.must(r.Verify(context.WithoutCancel(e.Context())))
		own := map[string]bool{}
		e.must(r.Each(context.WithoutCancel(e.Context()), func(ls model.Labels, rows *model.Rows) error {
			for i := range rows.Len() {
				s := entry{app: ls.Get("app"), at: time.Unix(0, rows.Times[i]).Sub(day), line: string(rows.Lines.At(i))}.String()
				if own[s] {
					e.Errorf("block %s holds %s twice", b.ID, s)
				}
				own[s], seen[s] = true, true
			}
			return nil
		}))
	}
	out := make([]string, 0, len(seen))
	for s := range seen {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func (e *env) wantEntries(list ...entry) {
	e.Helper()
	var want []string
	for _, x := range list {
		want = append(want, x.String())
	}
	slices.Sort(want)
	want = slices.Compact(want)
	got := e.entries()
	if slices.Equal(got, want) {
		return
	}
	lost := slices.DeleteFunc(slices.Clone(want), func(s string) bool { return slices.Contains(got, s) })
	more := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return slices.Contains(want, s) })
	e.Errorf("%d of %d entries are lost, such as %q; %d are too many, such as %q", len(lost), len(want), lost[:min(3, len(lost))], len(more), more[:min(3, len(more))])
}

// objects returns the keys of blocks in the bucket.
func (e *env) objects() (keys []string) {
	e.must(e.bucket.Bucket.List(context.WithoutCancel(e.Context()), "t/", func(o objstore.Object) error {
		if _, err := catalog.ParseKey(o.Key); err == nil {
			keys = append(keys, o.Key)
		}
		return nil
	}))
	return keys
}

func (e *env) tenant() context.Context { return tenant.NewContext(e.Context(), "t") }

// faults is a bucket that fails as it is told to.
type faults struct {
	objstore.Bucket
	mu sync.Mutex // guards what follows
	// before is called with the name of a call and the key; its error is that call's.
	before func(op, key string) error
	// cut stores only the first half of what Put is given, and reports success.
	cut func(key string) bool
	// stale leaves an object out of listings.
	stale func(key string) bool
}

var errFault = fmt.Errorf("%w: 503 slow down", objstore.ErrUnavailable)

func (f *faults) call(op, key string) error {
	f.mu.Lock()
	g := f.before
	f.mu.Unlock()
	if g == nil {
		return nil
	}
	return g(op, key)
}

func (f *faults) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *faults) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := f.call("put", key); err != nil {
		return err
	}
	f.mu.Lock()
	cut := f.cut != nil && f.cut(key)
	f.mu.Unlock()
	if cut {
		return f.Bucket.Put(ctx, key, body, size/2)
	}
	return errors.Join(f.Bucket.Put(ctx, key, body, size), f.call("after put", key))
}

func (f *faults) PutNew(ctx context.Context, key string, body []byte) error {
	if err := f.call("put new", key); err != nil {
		return err
	}
	return f.Bucket.PutNew(ctx, key, body)
}

func (f *faults) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if err := f.call("get", key); err != nil {
		return nil, err
	}
	return f.Bucket.Get(ctx, key, off, n)
}

func (f *faults) Stat(ctx context.Context, key string) (objstore.Object, error) {
	if err := f.call("stat", key); err != nil {
		return objstore.Object{}, err
	}
	return f.Bucket.Stat(ctx, key)
}

func (f *faults) Delete(ctx context.Context, key string) error {
	if err := f.call("delete", key); err != nil {
		return err
	}
	return f.Bucket.Delete(ctx, key)
}

func (f *faults) List(ctx context.Context, prefix string, yield func(objstore.Object) error) error {
	if err := f.call("list", prefix); err != nil {
		return err
	}
	return f.Bucket.List(ctx, prefix, func(o objstore.Object) error {
		f.mu.Lock()
		stale := f.stale != nil && f.stale(o.Key)
		f.mu.Unlock()
		if stale {
			return nil
		}
		return yield(o)
	})
}

// lines returns the lines of a source in its order.
func lines(t *testing.T, s compact.Source) string {
	t.Helper()
	var out []string
	err := s.Each(t.Context(), compact.MinTime, compact.MaxTime, func(int) bool { return false }, func(_ model.Labels, rows *model.Rows, from, to int) error {
		for i := from; i < to; i++ {
			out = append(out, string(rows.Lines.At(i)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}
