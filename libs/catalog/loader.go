package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/weir-logs/weir/libs/objstore"
)

// DefaultMaxAge is how old a listing may be and still tell what there is.
const DefaultMaxAge = 10 * time.Minute

// keepGone is how long an index remembers a block that was removed. A loader that has not listed for
// half of it starts anew from the index.
const keepGone = 14 * day

// ErrStale means that the listing is too old, or that there has been none: what blocks hold cannot
// be told.
var ErrStale = errors.New("the listing of the object store is too old")

// LoaderOptions are what a Loader works with.
type LoaderOptions struct {
	Bucket objstore.Bucket
	// Footer reads the footer of the block under key, an object of size bytes. An error that wraps
	// objstore.ErrUnavailable or a context's is passing, ErrNotFound says that the object has gone;
	// any other means that the block is damaged. It is called concurrently.
	Footer func(ctx context.Context, key string, size int64) (Block, error)
	// Expired reports whether retention has ended for all that a block holds, so that its object may
	// have been removed. nil: never.
	Expired func(b Block) bool
	Now     func() time.Time // nil: time.Now
	MaxAge  time.Duration    // 0: DefaultMaxAge
	Workers int              // footers and index objects read at a time; 0: 16
	Log     *slog.Logger     // nil: none
	Reg     prometheus.Registerer
}

// Loader knows the blocks of a bucket: it lists, reads the footers of blocks that are new to it and
// makes snapshots. It runs nothing by itself: call Refresh about once a minute. It is safe for
// concurrent use.
type Loader struct {
	o       LoaderOptions
	log     *slog.Logger
	metrics *loaderMetrics

	refresh sync.Mutex // one listing at a time; taken before mu

	mu       sync.Mutex // guards what follows and all tenants
	tenants  map[string]*tenantState
	listed   time.Time        // when the last listing of the whole bucket began
	modified time.Time        // the newest modification seen
	parsed   map[string]Block // keys that were announced, at most maxParsed
}

// tenantState is what is known of a tenant. Its maps are replaced or changed under Loader.mu only.
type tenantState struct {
	taken     time.Time // when the last listing that covers it began
	indexRead bool
	present   map[ID]Block      // listed, with valid footers
	gone      map[ID]IndexEntry // removed on purpose
	lost      map[ID]IndexEntry // vanished
	pending   map[ID]Block      // known, but the store does not say whether they are there
	passing   []Problem         // of the last listing: unreadable and unavailable
	announced map[ID]time.Time  // when present ones were learnt of otherwise than by a listing
	snapshot  *Snapshot
}

// NewLoader returns a loader that knows nothing yet.
func NewLoader(o LoaderOptions) *Loader {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Expired == nil {
		o.Expired = func(Block) bool { return false }
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Workers == 0 {
		o.Workers = 16
	}
	l := &Loader{o: o, log: o.Log, tenants: map[string]*tenantState{}, parsed: map[string]Block{}}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.metrics = newLoaderMetrics(o.Reg, l)
	return l
}

// found is an object of a listing that is named as a block.
type found struct {
	block Block // by its key
	whole bool  // its size is that of its key
}

// collect lists prefix into blocks by tenant. Tenants without blocks but with other objects are there.
func (l *Loader) collect(ctx context.Context, prefix string) (map[string][]found, error) {
	byTenant := map[string][]found{}
	var newest time.Time
	err := l.o.Bucket.List(ctx, prefix, func(o objstore.Object) error {
		if o.Modified.After(newest) {
			newest = o.Modified
		}
		b, err := ParseKey(o.Key)
		if err == nil {
			byTenant[b.Tenant] = append(byTenant[b.Tenant], found{b, o.Size == b.Size})
			return nil
		}
		tenant, rest, err := splitTenant(o.Key)
		if err == nil && (rest == indexName || strings.HasPrefix(rest, deletesName+"/")) {
			byTenant[tenant] = append(byTenant[tenant], []found{}...)
			return nil
		}
		l.metrics.foreign.Inc()
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if newest.After(l.modified) {
		l.modified = newest
	}
	return byTenant, err
}

// Refresh lists the whole bucket. Of a tenant about which it fails, the snapshot stays and grows old;
// the error joins all failures.
func (l *Loader) Refresh(ctx context.Context) error {
	l.refresh.Lock()
	defer l.refresh.Unlock()
	taken := l.o.Now()
	byTenant, err := l.collect(ctx, "")
	if err != nil {
		l.metrics.failures.Inc()
		return fmt.Errorf("list blocks: %w", err)
	}
	l.locked(func() {
		for tenant := range l.tenants {
			byTenant[tenant] = append(byTenant[tenant], []found{}...)
		}
	})
	var mu sync.Mutex // guards errs
	var errs []error
	var g errgroup.Group
	g.SetLimit(l.o.Workers)
	footers := make(chan struct{}, l.o.Workers) // a token for each reading of a footer
	for tenant, list := range byTenant {
		g.Go(func() error {
			if err := l.update(ctx, tenant, list, taken, footers); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("blocks of tenant %s: %w", tenant, err))
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	l.locked(func() { l.listed = taken })
	if len(errs) > 0 {
		l.metrics.failures.Inc()
	}
	return errors.Join(errs...)
}

// RefreshTenant lists one tenant's objects.
func (l *Loader) RefreshTenant(ctx context.Context, tenant string) error {
	l.refresh.Lock()
	defer l.refresh.Unlock()
	taken := l.o.Now()
	byTenant, err := l.collect(ctx, Prefix(tenant))
	if err == nil {
		err = l.update(ctx, tenant, byTenant[tenant], taken, make(chan struct{}, l.o.Workers))
	}
	if err != nil {
		l.metrics.failures.Inc()
		return fmt.Errorf("blocks of tenant %s: %w", tenant, err)
	}
	return nil
}

// locked calls f with l.mu held, also if it panics: what works on blocks goes on after a bug, and
// the loader is everybody's.
func (l *Loader) locked(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// state returns the tenant's state, new if there is none. l.mu is held.
func (l *Loader) state(tenant string) *tenantState {
	s := l.tenants[tenant]
	if s == nil {
		s = &tenantState{present: map[ID]Block{}, gone: map[ID]IndexEntry{}, lost: map[ID]IndexEntry{}, announced: map[ID]time.Time{}}
		l.tenants[tenant] = s
	}
	return s
}

// Snapshot returns what is known of a tenant's blocks. The error is ErrStale if that is too old; the
// snapshot, if not nil, says what it was. What it lacks is in its Problems.
func (l *Loader) Snapshot(tenant string) (*Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now()
	s := l.tenants[tenant]
	if s == nil { // a listing that shows nothing of a tenant says that it has nothing
		if l.listed.IsZero() || now.Sub(l.listed) > l.o.MaxAge {
			return nil, staleError(tenant, l.listed)
		}
		return newSnapshot(nil, nil, nil, l.listed)
	}
	if s.snapshot == nil || now.Sub(s.taken) > l.o.MaxAge {
		return s.snapshot, staleError(tenant, s.taken)
	}
	return s.snapshot, nil
}

func staleError(tenant string, taken time.Time) error {
	if taken.IsZero() {
		return fmt.Errorf("%w: tenant %s: there has been none", ErrStale, tenant)
	}
	return fmt.Errorf("%w: tenant %s: it is from %s", ErrStale, tenant, taken.UTC().Format(time.RFC3339))
}

// Tenants returns the tenants that have objects, ascending.
func (l *Loader) Tenants() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.tenants))
}

// Modified returns the newest time at which the store says that an object was written, as far as
// listings saw: ages are judged by the lesser of it and the own clock.
func (l *Loader) Modified() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.modified
}

// publish makes the tenant's snapshot anew. l.mu is held.
func (l *Loader) publish(tenant string, s *tenantState) error {
	gone := make(map[ID]*Block, len(s.gone))
	for id, e := range s.gone {
		gone[id] = &e.Block
	}
	build := func(problems []Problem) (*Snapshot, error) {
		return newSnapshot(slices.Collect(maps.Values(s.present)), gone, problems, s.taken)
	}
	snap, err := build(nil)
	if err != nil {
		return err
	}
	// What is in a block that is there is no problem.
	var problems []Problem
	add := func(p Problem) {
		if _, ok := snap.Covering(p.Block.ID); !ok {
			problems = append(problems, p)
		}
	}
	for _, p := range s.passing {
		add(p)
	}
	for _, e := range s.lost {
		add(Problem{Kind: Vanished, Block: e.Block})
	}
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Block.MinTime, b.Block.MinTime), cmp.Compare(a.Block.ID, b.Block.ID))
	})
	snap.problems = problems
	s.snapshot = snap
	return nil
}
