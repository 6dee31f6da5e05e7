package tombstone

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

type world struct {
	*testing.T
	bucket *objstoretest.Faults
	now    time.Time
}

func newWorld(t *testing.T) *world {
	return &world{t, &objstoretest.Faults{Bucket: objstore.NewMemory(nil)}, epoch}
}

func (w *world) store() *Store {
	return NewStore(w.bucket, func() time.Time { return w.now }, 0)
}

func (w *world) tombstone(query string) *Tombstone {
	w.Helper()
	w.now = w.now.Add(time.Millisecond)
	x, err := New(w.now, rand.Reader, "t", query, math.MinInt64, math.MaxInt64)
	if err != nil {
		w.Fatal(err)
	}
	return x
}

func (w *world) create(s *Store, query string) *Tombstone {
	w.Helper()
	x := w.tombstone(query)
	if err := s.Create(w.Context(), x); err != nil {
		w.Fatal(err)
	}
	return x
}

func (w *world) inForce(s *Store, want ...*Tombstone) *Set {
	w.Helper()
	set, err := s.Current(w.Context(), "t")
	if err != nil {
		w.Fatal(err)
	}
	var ids []string
	for _, x := range want {
		ids = append(ids, x.ID)
	}
	if got := set.IDs(); !slices.Equal(got, ids) {
		w.Errorf("in force: %v, want %v", got, ids)
	}
	return set
}

func (w *world) check(what string, err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestRule23SetIsYoung: a set is never older than the bound, so that a delete is in force everywhere after it.
func TestRule23SetIsYoung(t *testing.T) {
	w := newWorld(t)
	one, two := w.store(), w.store()
	w.inForce(two)
	calls := w.bucket.Calls()
	w.inForce(two)
	if w.bucket.Calls() != calls {
		t.Error("a young set is read again")
	}
	x := w.create(one, `{app="a"}`)
	w.inForce(one, x) // at once where it was created
	w.now = w.now.Add(DefaultMaxAge)
	w.inForce(two, x)
	w.bucket.Before = objstoretest.Failing(-1, func(op, _ string) bool { return op == "list" })
	w.now = w.now.Add(DefaultMaxAge)
	if _, err := two.Current(t.Context(), "t"); err == nil {
		t.Error("an old set is given out while the store is away")
	}
	if _, err := two.Current(t.Context(), "other"); err == nil {
		t.Error("no tombstones are known while the store is away")
	}
}

// TestRule23NamedSet: a sub-query works with just the tombstones that it names, and fetches what it lacks.
func TestRule23NamedSet(t *testing.T) {
	w := newWorld(t)
	one, two := w.store(), w.store()
	w.inForce(two)
	x := w.create(one, `{app="a"}`)
	before := w.inForce(one, x)
	set, err := two.Named(t.Context(), "t", before.IDs())
	if err != nil || set.Version() != before.Version() || len(set.All()) != 1 {
		t.Fatalf("%v, %v", set, err)
	}
	y := w.create(two, `{app="b"}`)
	if set, err = two.Named(t.Context(), "t", before.IDs()); err != nil || set.Version() != before.Version() {
		t.Errorf("with a newer one known: %v, %v", set, err)
	}
	if after, err := two.Fresh(t.Context(), "t"); err != nil || after.Version() == before.Version() {
		t.Errorf("two sets with one version: %v", err)
	}
	_, err = two.Named(t.Context(), "t", []string{y.ID, w.tombstone(`{app="c"}`).ID})
	w.check("one that is not there", err, objstore.ErrNotFound)
	if _, err = two.Named(t.Context(), "t", []string{"../x"}); err == nil {
		t.Error("a path is taken for an id")
	}
	if _, err = two.Named(t.Context(), "t", make([]string, MaxInForce+1)); err == nil {
		t.Error("too many are taken")
	}
}

// TestRule24StartOrCancel: of start and cancel one wins, for everybody and for ever.
func TestRule24StartOrCancel(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		x := w.create(w.store(), `{app="a"}`)
		var started, cancelled error
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { started = w.store().Start(context.WithoutCancel(t.Context()), "t", x.ID, "c") })
			wg.Go(func() { cancelled = w.store().Cancel(context.WithoutCancel(t.Context()), "t", x.ID, "u") })
			wg.Wait()
			if (started == nil) == (cancelled == nil) {
				t.Fatalf("start: %v, cancel: %v", started, cancelled)
			}
			if started == nil {
				w.check("cancel", cancelled, ErrStarted)
			} else {
				w.check("start", started, ErrCancelled)
			}
		}
		set, err := w.store().Fresh(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(set.IDs(), x.ID); got != (started == nil) {
			t.Errorf("in force: %v, start: %v", got, started)
		}
	}
	w.check("of nothing", w.store().Cancel(t.Context(), "t", w.tombstone(`{app="a"}`).ID, "u"), objstore.ErrNotFound)
	w.check("of a path", w.store().Cancel(t.Context(), "t", "../../x", "u"), objstore.ErrNotFound)
}

// TestRule24NothingRemovedBeforeStart: only tombstones whose rewriting has started may be applied.
func TestRule24NothingRemovedBeforeStart(t *testing.T) {
	w := newWorld(t)
	s := w.store()
	x, y := w.create(s, `{app="a"}`), w.create(s, `{app="b"}`)
	if got := w.inForce(s, x, y).Started(); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if x.MayStart(x.Created.Add(DefaultGrace-1), DefaultGrace) || !x.MayStart(x.Created.Add(DefaultGrace), DefaultGrace) {
		t.Error("it may not start just when its grace is over")
	}
	if err := s.Start(t.Context(), "t", y.ID, "c"); err != nil {
		t.Fatal(err)
	}
	if got := w.inForce(s, x, y).Started(); len(got) != 1 || got[0].ID != y.ID {
		t.Errorf("%v", got)
	}
	w.check("retire", s.Retire(t.Context(), "t", x.ID), objstore.ErrNotFound) // undecided
}

// TestSweep: what is left of cancelled and retired deletes goes, the tombstone first.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	s := w.store()
	x, y := w.create(s, `{app="a"}`), w.create(s, `{app="b"}`)
	r := Removal{Block: catalog.ID(w.tombstone(`{app="a"}`).ID), Sources: []catalog.ID{"s"}, Entries: 3, Time: epoch}
	for _, err := range []error{s.Cancel(t.Context(), "t", x.ID, "u"), s.Start(t.Context(), "t", y.ID, "c"), s.Record(t.Context(), "t", y.ID, r), s.Record(t.Context(), "t", y.ID, r)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List(t.Context(), "t")
	if err != nil || len(list) != 2 || list[0].Decision.State != Cancelled || list[1].Decision.By != "c" || list[0].ID != x.ID {
		t.Fatalf("%+v, %v", list, err)
	}
	removals, err := s.Removals(t.Context(), list[1], 10)
	if err != nil || len(removals) != 1 || removals[0].Entries != 3 || removals[0].Block != r.Block {
		t.Errorf("%+v, %v", removals, err)
	}
	count := func() (n int) {
		if err := w.bucket.List(t.Context(), "", func(objstore.Object) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 5}, {KeepCancelled, 4}, {KeepCancelled, 3}, {100 * KeepCancelled, 3}} {
		w.now = w.now.Add(step.after)
		if err := s.Sweep(t.Context(), "t", 200*KeepCancelled); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != step.want {
			t.Errorf("%v later there are %d objects, want %d", step.after, n, step.want)
		}
	}
	if err := s.Retire(t.Context(), "t", y.ID); err != nil {
		t.Fatal(err)
	}
	w.inForce(s)
	w.now = w.now.Add(100 * KeepCancelled)
	if err := s.Sweep(t.Context(), "t", 200*KeepCancelled); err != nil || count() != 0 {
		t.Errorf("%d objects are left, %v", count(), err)
	}
}

// TestDamagedTombstone: that a delete cannot be read is an error, not a set without it.
func TestDamagedTombstone(t *testing.T) {
	w := newWorld(t)
	x := w.create(w.store(), `{app="a"}`)
	w.bucket.Flip = func(string) bool { return true }
	_, err := w.store().Current(t.Context(), "t")
	w.check("flipped", err, ErrDamaged)
	w.check("cancel", w.store().Cancel(t.Context(), "t", x.ID, "me"), ErrDamaged)
	w.bucket.Flip = nil
	w.inForce(w.store(), x) // nothing was decided
	body, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	other := w.tombstone(`{app="b"}`)
	if err := objstore.PutBytes(t.Context(), w.bucket, key("t", other.ID), body); err != nil {
		t.Fatal(err)
	}
	_, err = w.store().Current(t.Context(), "t")
	w.check("under another's key", err, ErrDamaged)
}

func TestTooMany(t *testing.T) {
	w := newWorld(t)
	s := w.store()
	for range MaxInForce {
		x := w.tombstone(`{app="a"}`)
		body, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.bucket.PutNew(t.Context(), key("t", x.ID), body); err != nil {
			t.Fatal(err)
		}
	}
	w.check("one more", s.Create(t.Context(), w.tombstone(`{app="a"}`)), ErrTooMany)
}

// TestTooManyCancelled: what was cancelled is kept for a day, so that its number has a
// bound; those in force do not count.
func TestTooManyCancelled(t *testing.T) {
	w := newWorld(t)
	s := w.store()
	for range MaxCancelled {
		x := w.tombstone(`{app="a"}`)
		body, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.bucket.PutNew(t.Context(), key("t", x.ID), body); err != nil {
			t.Fatal(err)
		}
		if err := s.Cancel(t.Context(), "t", x.ID, "me"); err != nil {
			t.Fatal(err)
		}
	}
	w.check("one more", s.Create(t.Context(), w.tombstone(`{app="a"}`)), ErrCancels)
	w.now = w.now.Add(KeepCancelled)
	if err := s.Sweep(t.Context(), "t", time.Hour); err != nil {
		t.Fatal(err)
	}
	w.check("a day later", s.Create(t.Context(), w.tombstone(`{app="a"}`)), nil)
}

func TestMatching(t *testing.T) {
	w := newWorld(t)
	x, err := New(epoch, rand.Reader, "t", `{app="a", env!="dev"} |= "card"`, 100, 200)
	if err != nil {
		t.Fatal(err)
	}
	set := newSet([]*Tombstone{x, w.tombstone(`{app="b"}`)}, nil, epoch)
	labels := func(m ...string) (ls model.Labels) {
		for i := 0; i < len(m); i += 2 {
			ls = append(ls, model.Label{Name: m[i], Value: m[i+1]})
		}
		return ls
	}
	for _, c := range []struct {
		ls              model.Labels
		least, greatest int64
		want            int
	}{
		{labels("app", "a"), 0, 1000, 1}, {labels("app", "a"), 199, 300, 1}, {labels("app", "a"), 200, 300, 0}, {labels("app", "a"), 0, 100, 1},
		{labels("app", "a"), 0, 99, 0}, {labels("app", "a", "env", "dev"), 0, 1000, 0}, {labels("app", "b"), 0, 1, 1}, {labels("app", "c"), 0, 1, 0},
	} {
		if got := set.For(c.ls, c.least, c.greatest); len(got) != c.want {
			t.Errorf("%v from %d to %d: %d tombstones, want %d", c.ls, c.least, c.greatest, len(got), c.want)
		}
	}
	if len(x.Stages()) != 1 {
		t.Errorf("%d filters", len(x.Stages()))
	}
}
