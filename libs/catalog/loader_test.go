package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/objstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a bucket with blocks whose footers are what the test says.
type store struct {
	t      *testing.T
	bucket *objstore.Memory
	now    time.Time
	stale  func(o objstore.Object) bool // leaves an object out of listings
	down   error                        // of Stat, Get and List

	mu      sync.Mutex
	footers map[string]any // Block or error, by key
	reads   int
}

func newStore(t *testing.T) *store {
	s := &store{t: t, now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), footers: map[string]any{}}
	s.bucket = objstore.NewMemory(func() time.Time { return s.now })
	return s
}

// The store is the bucket, with its faults.
func (s *store) List(ctx context.Context, prefix string, yield func(objstore.Object) error) error {
	if s.down != nil {
		return s.down
	}
	return s.bucket.List(ctx, prefix, func(o objstore.Object) error {
		if s.stale != nil && s.stale(o) {
			return nil
		}
		return yield(o)
	})
}

func (s *store) Stat(ctx context.Context, key string) (objstore.Object, error) {
	if s.down != nil && key != IndexKey("t") {
		return objstore.Object{}, s.down
	}
	return s.bucket.Stat(ctx, key)
}

type bucket struct {
	objstore.Bucket
	*store
}

func (b bucket) List(ctx context.Context, prefix string, yield func(objstore.Object) error) error {
	return b.store.List(ctx, prefix, yield)
}

func (b bucket) Stat(ctx context.Context, key string) (objstore.Object, error) {
	return b.store.Stat(ctx, key)
}

func (s *store) footer(_ context.Context, key string, size int64) (Block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if o, err := s.bucket.Stat(context.Background(), key); err != nil || o.Size != size {
		return Block{}, fmt.Errorf("%w: %s", objstore.ErrNotFound, key)
	}
	if err, ok := s.footers[key].(error); ok {
		return Block{}, err
	}
	return s.footers[key].(Block), nil
}

func (s *store) loader() *Loader {
	return NewLoader(LoaderOptions{Bucket: bucket{s.bucket, s}, Footer: s.footer, Now: func() time.Time { return s.now }})
}

// put stores block n of tenant t, merged as a whole from sources.
func (s *store) put(n uint64, sources ...Block) Block {
	b := Block{ID: testID(n), Tenant: "t", MinTime: int64(n), MaxTime: int64(n) + 5, Size: int64(n) + 1, Rows: 3}
	for _, src := range sources {
		b.Sources = append(b.Sources, Source{src.ID, 0, 1, b.ID})
		b.Level = max(b.Level, src.Level+1)
		b.MinTime, b.MaxTime = min(b.MinTime, src.MinTime), max(b.MaxTime, src.MaxTime)
	}
	s.store(b)
	return b
}

func (s *store) store(b Block) {
	s.t.Helper()
	s.mu.Lock()
	s.footers[Key(b)] = b
	s.mu.Unlock()
	if err := objstore.PutBytes(s.t.Context(), s.bucket, Key(b), make([]byte, b.Size)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) delete(blocks ...Block) {
	s.t.Helper()
	for _, b := range blocks {
		if err := s.bucket.Delete(s.t.Context(), Key(b)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *store) refresh(l *Loader) *Snapshot {
	s.t.Helper()
	s.now = s.now.Add(time.Minute)
	if err := l.Refresh(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	snap, err := l.Snapshot("t")
	if err != nil {
		s.t.Fatal(err)
	}
	return snap
}

func (s *store) live(snap *Snapshot, want ...Block) {
	s.t.Helper()
	if got := ids(snap.Live("t", -1000, 1000)); !slices.Equal(got, ids(want)) {
		s.t.Errorf("live: %v, want %v", got, ids(want))
	}
}

func (s *store) problems(snap *Snapshot, want ...string) {
	s.t.Helper()
	got := []string{}
	for _, p := range snap.Problems("t", -1000, 1000) {
		got = append(got, fmt.Sprint(p.Kind, " ", p.Block.ID))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("problems: %q, want %q", got, want)
	}
}

func (s *store) save(l *Loader) {
	s.t.Helper()
	if _, err := l.SaveIndex(s.t.Context(), "t"); err != nil {
		s.t.Fatal(err)
	}
}

func TestLoader(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	if _, err := l.Snapshot("t"); !errors.Is(err, ErrStale) {
		t.Errorf("before a listing: %v", err)
	}
	snap := s.refresh(l)
	s.live(snap)
	a, b := s.put(1), s.put(2)
	s.live(s.refresh(l), a, b)
	ab := s.put(3, a, b)
	snap = s.refresh(l)
	s.live(snap, ab)
	s.problems(snap)
	if s.reads != 3 {
		t.Errorf("%d footers read for 3 blocks", s.reads)
	}
	if got := l.Tenants(); !slices.Equal(got, []string{"t"}) {
		t.Errorf("tenants %q", got)
	}
	if err := l.RefreshTenant(t.Context(), "t"); err != nil {
		t.Error(err)
	}
	if !l.Modified().Equal(s.now.Add(-time.Minute)) {
		t.Errorf("newest modification %v at %v", l.Modified(), s.now)
	}
}

// TestIndexSavesReads: a start reads no footer of a block that the index describes.
func TestIndexSavesReads(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a, b := s.put(1), s.put(2)
	ab := s.put(3, a, b)
	s.refresh(l)
	s.save(l)
	if written, err := l.SaveIndex(t.Context(), "t"); err != nil || written {
		t.Errorf("written again: %v, %v", written, err)
	}
	s.reads = 0
	c := s.put(4)
	snap := s.refresh(s.loader())
	s.live(snap, ab, c)
	s.problems(snap)
	if s.reads != 1 {
		t.Errorf("%d footers read, want that of the new block", s.reads)
	}
	// It is never trusted over the listing, and a damaged one is passed over.
	if err := objstore.PutBytes(t.Context(), s.bucket, IndexKey("t"), []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	s.reads = 0
	snap = s.refresh(s.loader())
	s.live(snap, ab, c)
	if s.reads != 4 {
		t.Errorf("%d footers read, want all", s.reads)
	}
}

// TestRule16Vanished: a block that is gone from the listing and was neither hidden nor expired is a
// problem of its range: for who saw it, after a restart through the index, and until it is back.
func TestRule16Vanished(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a, b := s.put(1), s.put(20)
	s.refresh(l)
	s.save(l)
	s.delete(a)
	want := "vanished " + string(a.ID)
	for name, loader := range map[string]*Loader{"who saw it": l, "after a restart": s.loader()} {
		snap := s.refresh(loader)
		s.live(snap, b)
		s.problems(snap, want)
		if got := snap.Problems("t", 7, 1000); len(got) > 0 {
			t.Errorf("%s: outside its range: %v", name, got)
		}
		if got := snap.Problems("t", 6, 7); len(got) != 1 || got[0].Key() != Key(a) {
			t.Errorf("%s: in its range: %v", name, got)
		}
		s.problems(s.refresh(loader), want) // it stays
		s.save(loader)
	}
	s.problems(s.refresh(s.loader()), want) // whoever wrote the index
	if err := s.bucket.Delete(t.Context(), IndexKey("t")); err != nil {
		t.Fatal(err)
	}
	s.save(l)                               // it was made again by who knows
	s.problems(s.refresh(s.loader()), want) // after another restart
	s.store(a)                              // from a backup
	snap := s.refresh(l)
	s.live(snap, a, b)
	s.problems(snap)

	s.delete(a)
	s.problems(s.refresh(l), want)
	if err := l.Acknowledge(t.Context(), "t", a.ID); err != nil {
		t.Error(err)
	}
	s.problems(s.refresh(l))
	s.problems(s.refresh(s.loader()))
	if err := l.Acknowledge(t.Context(), "t", b.ID); err == nil {
		t.Error("a block that is there is acknowledged as lost")
	}
}

// TestRule16VanishedAcrossMerges: sources that were removed are missed by nobody, though who comes back
// late sees only the grandchildren.
func TestRule16VanishedAcrossMerges(t *testing.T) {
	s := newStore(t)
	early, compactor := s.loader(), s.loader()
	a, b := s.put(1), s.put(2)
	s.refresh(early)
	s.refresh(compactor)
	ab := s.put(3, a, b)
	s.refresh(compactor)
	if err := compactor.Removing(t.Context(), "t", a.ID, b.ID); err != nil {
		t.Fatal(err)
	}
	s.delete(a, b)
	s.refresh(compactor)
	c := s.put(4)
	abc := s.put(5, ab, c)
	s.refresh(compactor)
	if err := compactor.Removing(t.Context(), "t", ab.ID, c.ID); err != nil {
		t.Fatal(err)
	}
	s.delete(ab, c)
	for _, l := range []*Loader{early, compactor, s.loader()} {
		snap := s.refresh(l)
		s.live(snap, abc)
		s.problems(snap)
		if by, ok := snap.Covering(a.ID); !ok || !slices.Equal(by, []ID{abc.ID}) {
			t.Errorf("the first block is in %v, %v", by, ok)
		}
	}
	// Without the notes the early one cannot know.
	s.delete(abc)
	s.problems(s.refresh(early), "vanished "+string(abc.ID))
}

// TestRule16HiddenMayGo: without any note a block that is hidden, or expired, may leave the listing.
func TestRule16HiddenMayGo(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	expired := ID("")
	l.o.Expired = func(b Block) bool { return b.ID == expired }
	a := s.put(1)
	b := s.put(2, a)
	old := s.put(3)
	s.refresh(l)
	expired = old.ID
	s.delete(a, old)
	snap := s.refresh(l)
	s.live(snap, b)
	s.problems(snap)
}

// TestRule16UnreadableFooter: the range of a block whose footer is damaged, or another's, has a problem,
// and it hides nothing. Where the store only fails, the problem passes.
func TestRule16UnreadableFooter(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a := s.put(1)
	b := s.put(2, a)
	s.footers[Key(b)] = errors.New("checksum")
	snap := s.refresh(l)
	s.live(snap, a)
	s.problems(snap, "unreadable "+string(b.ID))
	other := b
	other.Tenant = "u"
	s.footers[Key(b)] = other
	s.problems(s.refresh(l), "unreadable "+string(b.ID))
	s.footers[Key(b)] = fmt.Errorf("%w: 503", objstore.ErrUnavailable)
	s.problems(s.refresh(l), "unavailable "+string(b.ID))
	s.footers[Key(b)] = b
	snap = s.refresh(l)
	s.live(snap, b)
	s.problems(snap)
}

// TestHalfStored: an object whose size is not that of its key does not exist; one that shrinks is lost.
func TestHalfStored(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a := s.put(1)
	b := s.put(5, a)
	half := func() {
		if err := objstore.PutBytes(t.Context(), s.bucket, Key(b), make([]byte, b.Size-1)); err != nil {
			t.Fatal(err)
		}
	}
	half()
	snap := s.refresh(l)
	s.live(snap, a)
	s.problems(snap)
	s.store(b)
	s.live(s.refresh(l), b)
	s.delete(a)
	s.refresh(l)
	half()
	snap = s.refresh(l)
	s.live(snap)
	s.problems(snap, "vanished "+string(b.ID))
}

// TestStaleListing: a listing that is behind loses nothing that is known.
func TestStaleListing(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a := s.put(1)
	s.refresh(l)
	s.stale = func(o objstore.Object) bool { return true }
	snap := s.refresh(l)
	s.live(snap, a)
	s.problems(snap)
	b := s.put(2)
	if err := l.Announce(t.Context(), Key(b)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.live(s.refresh(l), a, b)
	}
}

// TestRule16OldListing: what is older than ten minutes says nothing.
func TestRule16OldListing(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a := s.put(1)
	s.refresh(l)
	s.down = fmt.Errorf("%w: 503", objstore.ErrUnavailable)
	s.now = s.now.Add(DefaultMaxAge)
	if err := l.Refresh(t.Context()); !errors.Is(err, objstore.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := l.Snapshot("t"); err != nil {
		t.Errorf("after ten minutes: %v", err)
	}
	s.now = s.now.Add(time.Nanosecond)
	for _, tenant := range []string{"t", "nobody"} {
		if _, err := l.Snapshot(tenant); !errors.Is(err, ErrStale) {
			t.Errorf("tenant %s after more than ten minutes: %v", tenant, err)
		}
	}
	s.down = nil
	s.live(s.refresh(l), a)
}

// TestStoreFailsWhileMissing: that a known block cannot be asked about is a problem that passes.
func TestStoreFailsWhileMissing(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a := s.put(1)
	s.refresh(l)
	s.stale = func(o objstore.Object) bool { s.down = objstore.ErrUnavailable; return true }
	snap := s.refresh(l)
	s.problems(snap, "unavailable "+string(a.ID))
	s.stale, s.down = nil, nil
	snap = s.refresh(l)
	s.live(snap, a)
	s.problems(snap)
}

// TestTwoWriters: compactors that write the index at once keep each other's notes.
func TestTwoWriters(t *testing.T) {
	s := newStore(t)
	one, two := s.loader(), s.loader()
	a, b := s.put(1), s.put(2)
	s.refresh(one)
	s.refresh(two)
	s.save(one)
	for l, x := range map[*Loader]Block{one: a, two: b} {
		if err := l.Removing(t.Context(), "t", x.ID); err != nil { // expired, say
			t.Fatal(err)
		}
		s.delete(x)
	}
	for _, l := range []*Loader{one, two, s.loader()} {
		s.problems(s.refresh(l))
	}
}

func TestForeignObjects(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a := s.put(1)
	for _, key := range []string{"readme", "t/notes/x", "t/deletes/1", "u/deletes/1", "t/any/1-2-3"} {
		if err := objstore.PutBytes(t.Context(), s.bucket, key, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.live(s.refresh(l), a)
	if got := strings.Join(l.Tenants(), " "); got != "t u" {
		t.Errorf("tenants %q", got)
	}
}

// TestRefreshesAtOnce: loaders are used from many goroutines.
func TestRefreshesAtOnce(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	var all []Block
	for n := range uint64(30) {
		all = append(all, s.put(n))
	}
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			var err error
			switch n % 3 {
			case 0:
				err = l.Refresh(t.Context())
			case 1:
				err = l.RefreshTenant(t.Context(), "t")
			case 2:
				for _, b := range all {
					err = errors.Join(err, l.Announce(t.Context(), Key(b)))
				}
			}
			if err != nil {
				t.Error(err)
			}
			_, _ = l.Snapshot("t")
		})
	}
	wg.Wait()
	snap, err := l.Snapshot("t")
	if err != nil {
		t.Fatal(err)
	}
	s.live(snap, all...)
}
