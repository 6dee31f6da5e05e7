package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/objstore"
)

// readIndex takes what a tenant's index object says. A damaged one says nothing: it can be made
// again.
func (l *Loader) readIndex(ctx context.Context, tenant string) error {
	x, err := l.loadIndex(ctx, tenant)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(tenant)
	if x != nil {
		for _, e := range x.Entries {
			l.learn(s, e, !s.indexRead)
		}
	}
	s.indexRead = true
	return nil
}

// learn takes an entry of an index. Whether a block is present only a listing tells: first is true
// before the first one. l.mu is held.
func (l *Loader) learn(s *tenantState, e IndexEntry, first bool) {
	if ValidateID(e.ID) != nil {
		return
	}
	if e.State == Gone {
		if have, ok := s.gone[e.ID]; !ok || have.Since.Before(e.Since) {
			s.gone[e.ID] = e
		}
		return
	}
	if has(s.gone, e.ID) || has(s.present, e.ID) {
		return
	}
	if e.State == Lost {
		s.lost[e.ID] = e
	} else if first {
		s.present[e.ID] = e.Block
	}
}

// loadIndex returns the tenant's index object, nil if there is none that can be read.
func (l *Loader) loadIndex(ctx context.Context, tenant string) (*Index, error) {
	key := IndexKey(tenant)
	b, err := objstore.ReadAll(ctx, l.o.Bucket, key, MaxIndexSize)
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return nil, nil
	case errors.Is(err, objstore.ErrRange), errors.Is(err, objstore.ErrDamaged): // replaced while it was read, or too large
	case err != nil:
		return nil, fmt.Errorf("read index: %w", err)
	default:
		x, decodeErr := DecodeIndex(b)
		if decodeErr == nil && x.Tenant == tenant {
			return x, nil
		}
		if err = decodeErr; err == nil {
			err = fmt.Errorf("%w: it is that of tenant %s", ErrIndex, x.Tenant)
		}
	}
	l.log.Warn("index object is passed over", "key", key, "err", err)
	return nil, nil
}

// SaveIndex writes the tenant's index object from what the loader knows and what the index has, and
// reports whether that was needed. It is for compactors, after a Refresh. Two that write at once may
// lose each other's notes of what was removed for one round, no more: each keeps its own.
func (l *Loader) SaveIndex(ctx context.Context, tenant string) (written bool, err error) {
	have, err := l.loadIndex(ctx, tenant)
	if err != nil {
		return false, err
	}
	entries, taken, err := l.entries(tenant, have)
	if err != nil || entries == nil { // no listing has shown anything of it
		return false, err
	}
	x := &Index{Tenant: tenant, Taken: taken, Entries: slices.Collect(maps.Values(entries))}
	body, err := x.Encode()
	if err != nil {
		return false, fmt.Errorf("index of tenant %s: %w", tenant, err)
	}
	if have != nil {
		have.Taken = taken
		if old, err := have.Encode(); err == nil && slices.Equal(old, body) {
			return false, nil
		}
	}
	if err := objstore.PutBytes(ctx, l.o.Bucket, IndexKey(tenant), body); err != nil {
		return false, fmt.Errorf("index of tenant %s: %w", tenant, err)
	}
	return true, nil
}

// entries returns what an index of the tenant is to have that has what have, which may be nil,
// has, and when that was so; nil if nothing is known of the tenant.
func (l *Loader) entries(tenant string, have *Index) (entries map[ID]IndexEntry, taken time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.tenants[tenant]
	if s == nil {
		return nil, taken, nil
	}
	if s.snapshot == nil || !s.indexRead {
		return nil, taken, fmt.Errorf("index of tenant %s: %w", tenant, ErrStale)
	}
	entries = map[ID]IndexEntry{}
	if have != nil {
		for _, e := range have.Entries {
			_, covered := s.snapshot.Covering(e.ID)
			switch {
			case e.State == Gone:
				l.learn(s, e, false)
			case !covered:
				// Another process knows of it, or knew; its loss would show here.
				entries[e.ID] = e
			}
		}
	}
	for id, e := range s.gone {
		if s.taken.Sub(e.Since) <= keepGone {
			entries[id] = e
		}
	}
	for id, b := range s.pending {
		entries[id] = IndexEntry{Block: b}
	}
	maps.Copy(entries, s.lost)
	for id, b := range s.present {
		// One that was noted as removed and is still there is there.
		entries[id] = IndexEntry{Block: b}
		if e, ok := s.gone[id]; ok {
			entries[id] = e
		}
	}
	return entries, s.taken, nil
}

// Removing notes that the objects of blocks are about to be removed, in the index too, so that nobody
// takes them for lost. Only after it has returned nil may they be deleted.
func (l *Loader) Removing(ctx context.Context, tenant string, ids ...ID) error {
	var err error
	l.locked(func() {
		s := l.state(tenant)
		now := l.o.Now()
		for _, id := range ids {
			b, ok := s.present[id]
			if !ok {
				err = fmt.Errorf("block %s of tenant %s is not known", id, tenant)
				return
			}
			s.gone[id] = IndexEntry{b, Gone, now}
		}
	})
	if err != nil {
		return err
	}
	_, err = l.SaveIndex(ctx, tenant)
	return err
}

// Acknowledge makes an end of a block that vanished: an operator accepts the loss, and answers are
// whole without it.
func (l *Loader) Acknowledge(ctx context.Context, tenant string, id ID) error {
	var err error
	l.locked(func() {
		s := l.state(tenant)
		e, ok := s.lost[id]
		if !ok {
			err = fmt.Errorf("block %s of tenant %s is not lost", id, tenant)
			return
		}
		delete(s.lost, id)
		s.gone[id] = IndexEntry{e.Block, Gone, l.o.Now()}
		err = l.publish(tenant, s)
	})
	if err != nil {
		return err
	}
	_, err = l.SaveIndex(ctx, tenant)
	return err
}
