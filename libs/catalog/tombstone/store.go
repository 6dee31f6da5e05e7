package tombstone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

// Limits of a Store.
const (
	// DefaultMaxAge is how old a set may be that an answer is given by. Nobody waits longer for a
	// delete to be in force.
	DefaultMaxAge = 30 * time.Second
	// MaxInForce is how many deletes of a tenant are in force at most: each costs at every read.
	MaxInForce  = 1000
	maxRemovals = 10_000 // known of one delete
	maxTenants  = 10_000 // remembered
	// KeepCancelled is how long the objects of a cancelled delete stay, and after the tombstone its
	// decision: whoever lists meanwhile sees it cancelled.
	KeepCancelled = 24 * time.Hour
	// MaxCancelled is how many of these a tenant has at most: each is read and kept by whoever lists.
	MaxCancelled = 1000

	decisionSuffix = ".decision"
	removalInfix   = ".removal."
)

// Errors of a Store besides those of the bucket.
var (
	ErrStarted   = errors.New("rewriting has started: entries may be gone")
	ErrCancelled = errors.New("the delete was cancelled")
	ErrTooMany   = errors.New("too many deletes are in force")
	ErrCancels   = errors.New("too many deletes were cancelled in the last day")
)

// Store keeps the tombstones of all tenants in a bucket. It is safe for concurrent use.
type Store struct {
	bucket objstore.Bucket
	now    func() time.Time
	maxAge time.Duration

	mu      sync.Mutex // guards what follows
	tenants map[string]*tenantTombstones
	damaged map[string][]string // keys that the last listing of a tenant found, if any
}

// tenantTombstones is what is known of a tenant.
type tenantTombstones struct {
	// lock is a mutex that can be waited for with a context; it guards what follows.
	lock      chan struct{}
	all       map[string]*Tombstone
	named     map[string]*Tombstone // fetched since the last listing that was whole
	decisions map[string]Decision
	removals  map[string][]catalog.ID // blocks, by tombstone
	taken     time.Time               // when the last listing began
}

// NewStore returns a store. maxAge 0 is DefaultMaxAge.
func NewStore(b objstore.Bucket, now func() time.Time, maxAge time.Duration) *Store {
	if maxAge == 0 {
		maxAge = DefaultMaxAge
	}
	return &Store{bucket: b, now: now, maxAge: maxAge, tenants: map[string]*tenantTombstones{}, damaged: map[string][]string{}}
}

func key(tenant, id string) string { return catalog.DeletesPrefix(tenant) + id }

// locked calls f with the tenant's tombstones.
func (s *Store) locked(ctx context.Context, tenant string, f func(*tenantTombstones) error) error {
	s.mu.Lock()
	t := s.tenants[tenant]
	if t == nil {
		for other := range s.tenants {
			if len(s.tenants) < maxTenants {
				break
			}
			delete(s.tenants, other) // any: it is read again when it is asked for
		}
		t = &tenantTombstones{lock: make(chan struct{}, 1), all: map[string]*Tombstone{}, named: map[string]*Tombstone{}, decisions: map[string]Decision{}}
		s.tenants[tenant] = t
	}
	s.mu.Unlock()
	select {
	case t.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.lock }()
	return f(t)
}

// load lists the tenant's deletes and reads what is new, unless that was done less than age ago.
func (s *Store) load(ctx context.Context, tenant string, t *tenantTombstones, age time.Duration) error {
	now := s.now()
	if !t.taken.IsZero() && now.Sub(t.taken) < age {
		return nil
	}
	prefix := catalog.DeletesPrefix(tenant)
	there, decided := map[string]bool{}, map[string]bool{}
	removals := map[string][]catalog.ID{}
	err := s.bucket.List(ctx, prefix, func(o objstore.Object) error {
		name := strings.TrimPrefix(o.Key, prefix)
		if id, block, ok := strings.Cut(name, removalInfix); ok {
			if len(removals[id]) < maxRemovals {
				removals[id] = append(removals[id], catalog.ID(block))
			}
		} else if id, ok := strings.CutSuffix(name, decisionSuffix); ok {
			decided[id] = true
		} else if catalog.ValidateID(catalog.ID(name)) == nil {
			there[name] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list deletes: %w", err)
	}
	all, decisions := map[string]*Tombstone{}, map[string]Decision{}
	// What is whole is read once, though nothing is known of all as long as something is damaged.
	var bad damage
	for id := range decided {
		d, ok := t.decisions[id]
		if !ok {
			if d, err = s.decision(ctx, tenant, id); errors.Is(err, objstore.ErrNotFound) {
				continue // swept since
			} else if errors.Is(err, ErrDamaged) {
				bad.add(key(tenant, id)+decisionSuffix, err)
				continue
			} else if err != nil {
				return err
			}
			t.decisions[id] = d
		}
		decisions[id] = d
	}
	for id := range there {
		x := cmp.Or(t.all[id], t.named[id])
		if x == nil {
			if x, err = s.tombstone(ctx, tenant, id); errors.Is(err, objstore.ErrNotFound) {
				continue // retired since
			} else if errors.Is(err, ErrDamaged) {
				bad.add(key(tenant, id), err)
				continue
			} else if err != nil {
				return err
			}
			t.named[id] = x
		}
		all[id] = x
	}
	s.note(tenant, bad.keys)
	if err := bad.err(); err != nil {
		return err
	}
	t.all, t.decisions, t.removals, t.taken = all, decisions, removals, now
	clear(t.named)
	return nil
}

func (s *Store) tombstone(ctx context.Context, tenant, id string) (*Tombstone, error) {
	b, err := s.read(ctx, key(tenant, id))
	if err != nil {
		return nil, err
	}
	t, err := Decode(b)
	if err == nil && (t.ID != id || t.Tenant != tenant) {
		err = fmt.Errorf("%w: it is delete %s of tenant %s", ErrDamaged, t.ID, t.Tenant)
	}
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", key(tenant, id), err)
	}
	return t, nil
}

func (s *Store) decision(ctx context.Context, tenant, id string) (Decision, error) {
	k := key(tenant, id) + decisionSuffix
	b, err := s.read(ctx, k)
	if err != nil {
		return Decision{}, err
	}
	d, err := decodeDecision(b)
	if err != nil {
		return Decision{}, fmt.Errorf("object %s: %w", k, err)
	}
	return d, nil
}

// set returns what is in force. t is locked.
func (t *tenantTombstones) set() *Set {
	var all []*Tombstone
	started := map[string]bool{}
	for id, x := range t.all {
		switch t.decisions[id].State {
		case Cancelled:
			continue
		case Rewriting:
			started[id] = true
		}
		all = append(all, x)
	}
	return newSet(all, started, t.taken)
}

// Current returns the deletes in force, younger than the store's bound: by it a query may be answered.
func (s *Store) Current(ctx context.Context, tenant string) (set *Set, err error) {
	err = s.locked(ctx, tenant, func(t *tenantTombstones) error {
		if err := s.load(ctx, tenant, t, s.maxAge); err != nil {
			return err
		}
		set = t.set()
		return nil
	})
	return set, err
}

// Fresh is Current as of now.
func (s *Store) Fresh(ctx context.Context, tenant string) (set *Set, err error) {
	err = s.locked(ctx, tenant, func(t *tenantTombstones) error {
		if err := s.load(ctx, tenant, t, 0); err != nil {
			return err
		}
		set = t.set()
		return nil
	})
	return set, err
}

// Named returns the set of just these tombstones, as another has named it, and fetches those that it
// lacks. It is objstore.ErrNotFound if one was retired since: the query is to begin anew.
func (s *Store) Named(ctx context.Context, tenant string, ids []string) (set *Set, err error) {
	if len(ids) > MaxInForce {
		return nil, fmt.Errorf("%w: %d are named, at most %d are allowed", ErrTooMany, len(ids), MaxInForce)
	}
	err = s.locked(ctx, tenant, func(t *tenantTombstones) error {
		var all []*Tombstone
		for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
			if err := catalog.ValidateID(catalog.ID(id)); err != nil {
				return err
			}
			x := t.all[id]
			if x == nil {
				x = t.named[id]
			}
			if x == nil {
				var err error
				if x, err = s.tombstone(ctx, tenant, id); err != nil {
					return err
				}
				t.named[id] = x
			}
			all = append(all, x)
		}
		set = newSet(all, nil, s.now())
		return nil
	})
	return set, err
}

// Create puts a new tombstone, which is in force when it returns for everybody whose set is younger.
func (s *Store) Create(ctx context.Context, x *Tombstone) error {
	body, err := x.Encode()
	if err != nil {
		return err
	}
	return s.locked(ctx, x.Tenant, func(t *tenantTombstones) error {
		if err := s.load(ctx, x.Tenant, t, 0); err != nil {
			return err
		}
		if n := len(t.set().all); n >= MaxInForce {
			return fmt.Errorf("%w: %d, which is the most allowed", ErrTooMany, n)
		} else if n = len(t.all) - n; n >= MaxCancelled {
			return fmt.Errorf("%w: %d, which is the most allowed", ErrCancels, n)
		}
		if err := s.bucket.PutNew(ctx, key(x.Tenant, x.ID), body); err != nil {
			return fmt.Errorf("create delete: %w", err)
		}
		t.all[x.ID] = x
		return nil
	})
}

// Start makes the delete one that is carried out: only then may rows be removed by it. It is
// ErrCancelled if it was cancelled before. by names who starts it, for people.
func (s *Store) Start(ctx context.Context, tenant, id, by string) error {
	return s.decide(ctx, tenant, id, Decision{State: Rewriting, By: by})
}

// Cancel takes the delete back. It is ErrStarted if rewriting has started, objstore.ErrNotFound if
// there is no such delete, ErrDamaged if its object cannot be read.
func (s *Store) Cancel(ctx context.Context, tenant, id, by string) error {
	return s.decide(ctx, tenant, id, Decision{State: Cancelled, By: by})
}

// decide puts the decision, unless there is one: then it is nil if that is the same.
func (s *Store) decide(ctx context.Context, tenant, id string, d Decision) error {
	if err := catalog.ValidateID(catalog.ID(id)); err != nil {
		return fmt.Errorf("%w: delete: %w", objstore.ErrNotFound, err)
	}
	d.At = time.UnixMilli(s.now().UnixMilli()).UTC()
	body, err := d.encode()
	if err != nil {
		return err
	}
	return s.locked(ctx, tenant, func(t *tenantTombstones) error {
		// Nothing is decided about what cannot be read: it stays in the way, whatever is said of it.
		if _, err := s.tombstone(ctx, tenant, id); err != nil {
			return fmt.Errorf("delete %s: %w", id, err)
		}
		err := s.bucket.PutNew(ctx, key(tenant, id)+decisionSuffix, body)
		made := d
		if errors.Is(err, objstore.ErrExists) {
			made, err = s.decision(ctx, tenant, id)
		}
		if err != nil {
			return fmt.Errorf("delete %s: %w", id, err)
		}
		t.decisions[id] = made
		switch {
		case made.State == d.State:
			return nil
		case made.State == Rewriting:
			return fmt.Errorf("delete %s: %w", id, ErrStarted)
		}
		return fmt.Errorf("delete %s: %w", id, ErrCancelled)
	})
}

// Record keeps what the writing of a block removed by a delete. To do it twice is harmless.
func (s *Store) Record(ctx context.Context, tenant, id string, r Removal) error {
	if err := errors.Join(catalog.ValidateID(catalog.ID(id)), catalog.ValidateID(r.Block)); err != nil {
		return err
	}
	body, err := r.encode()
	if err != nil {
		return err
	}
	err = s.bucket.PutNew(ctx, key(tenant, id)+removalInfix+string(r.Block), body)
	if errors.Is(err, objstore.ErrExists) {
		return nil
	}
	return err
}

// Status is a delete with how far it is.
type Status struct {
	*Tombstone
	Decision Decision     // its State is Received if there is none
	Removed  []catalog.ID // blocks for which there is a Removal
}

// List returns all deletes that have not been retired, cancelled ones too, the oldest first.
func (s *Store) List(ctx context.Context, tenant string) (out []Status, err error) {
	err = s.locked(ctx, tenant, func(t *tenantTombstones) error {
		if err := s.load(ctx, tenant, t, 0); err != nil {
			return err
		}
		for _, id := range slices.Sorted(maps.Keys(t.all)) {
			out = append(out, Status{t.all[id], t.decisions[id], slices.Clone(t.removals[id])})
		}
		return nil
	})
	return out, err
}

// Removals reads the removals of a delete, the newest first, limit at most.
func (s *Store) Removals(ctx context.Context, st Status, limit int) ([]Removal, error) {
	var out []Removal
	blocks := slices.Sorted(slices.Values(st.Removed)) // ids sort by time
	slices.Reverse(blocks)
	for _, block := range blocks[:min(limit, len(blocks))] {
		k := key(st.Tenant, st.ID) + removalInfix + string(block)
		r, err := s.removal(ctx, k)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Retire takes a tombstone out of force for good: Retirable must have been nil. The decision and the
// removals stay, as the proof, until Sweep.
func (s *Store) Retire(ctx context.Context, tenant, id string) error {
	if err := catalog.ValidateID(catalog.ID(id)); err != nil {
		return err
	}
	return s.locked(ctx, tenant, func(t *tenantTombstones) error {
		d, err := s.decision(ctx, tenant, id)
		if err != nil {
			return fmt.Errorf("retire delete %s: %w", id, err)
		}
		if d.State != Rewriting {
			return fmt.Errorf("retire delete %s: %w", id, ErrCancelled)
		}
		if err := s.bucket.Delete(ctx, key(tenant, id)); err != nil {
			return err
		}
		delete(t.all, id)
		return nil
	})
}

// Sweep removes what is left of cancelled deletes, a day after, and of retired ones after keepProof.
// First the tombstone goes, and only when a later call finds it gone the decision, so that nobody
// finds a cancelled tombstone without its decision.
func (s *Store) Sweep(ctx context.Context, tenant string, keepProof time.Duration) error {
	return s.locked(ctx, tenant, func(t *tenantTombstones) error {
		if err := s.load(ctx, tenant, t, 0); err != nil {
			return err
		}
		now := s.now()
		for id, d := range t.decisions {
			age := now.Sub(d.At)
			_, there := t.all[id]
			switch {
			case there && d.State == Cancelled && age >= KeepCancelled:
				if err := s.bucket.Delete(ctx, key(tenant, id)); err != nil {
					return err
				}
				delete(t.all, id)
			case !there && (d.State == Cancelled && age >= 2*KeepCancelled || d.State == Rewriting && age >= keepProof):
				for _, block := range t.removals[id] {
					if err := s.bucket.Delete(ctx, key(tenant, id)+removalInfix+string(block)); err != nil {
						return err
					}
				}
				if err := s.bucket.Delete(ctx, key(tenant, id)+decisionSuffix); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
