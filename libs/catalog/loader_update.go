package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-logs/weir/libs/objstore"
)

// update takes what a listing that began at taken shows of a tenant. l.refresh is held; the
// bucket is read without l.mu.
func (l *Loader) update(ctx context.Context, tenant string, list []found, taken time.Time, tokens chan struct{}) error {
	var s *tenantState
	var readIndex bool
	l.locked(func() {
		s = l.state(tenant)
		if s.indexRead && taken.Sub(s.taken) > keepGone/2 && s.snapshot != nil {
			// What was removed meanwhile the index may have forgotten.
			s.present, s.gone, s.indexRead = map[ID]Block{}, map[ID]IndexEntry{}, false
		}
		readIndex = !s.indexRead
	})
	if readIndex {
		if err := l.readIndex(ctx, tenant); err != nil {
			return err
		}
	}

	// What is known needs no footer.
	var known, goneBlocks map[ID]Block
	l.locked(func() {
		known = make(map[ID]Block, len(s.present)+len(s.lost))
		maps.Copy(known, s.present)
		for id, e := range s.lost {
			known[id] = e.Block
		}
		maps.Copy(known, s.pending)
		goneBlocks = make(map[ID]Block, len(s.gone))
		for id, e := range s.gone {
			goneBlocks[id] = e.Block
		}
	})
	now := make(map[ID]Block, len(list))
	var fresh []Block
	for _, f := range list {
		if !f.whole {
			l.metrics.half.Inc()
			continue // a size unlike its key's does not exist
		}
		cached, ok := known[f.block.ID]
		if !ok {
			cached, ok = goneBlocks[f.block.ID]
		}
		if ok && Key(cached) == Key(f.block) {
			now[f.block.ID] = cached
		} else {
			fresh = append(fresh, f.block)
		}
	}
	read, passing := l.footers(ctx, fresh, tokens)
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, b := range read {
		now[b.ID] = b
	}
	if len(fresh) == 0 && l.unchanged(tenant, now, taken) {
		return nil
	}
	return l.settle(ctx, tenant, known, now, passing, taken)
}

// unchanged reports whether a listing shows just what is known, and dates the snapshot by it.
func (l *Loader) unchanged(tenant string, now map[ID]Block, taken time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(tenant)
	if s.snapshot == nil || len(s.lost)+len(s.pending)+len(s.passing)+len(s.announced) > 0 || len(now) != len(s.present) {
		return false
	}
	for id := range now {
		if _, ok := s.present[id]; !ok {
			return false
		}
	}
	snap := *s.snapshot
	snap.taken = taken
	s.snapshot, s.taken = &snap, taken
	return true
}

// settle finds out what became of the known blocks that are not among now, and publishes.
func (l *Loader) settle(ctx context.Context, tenant string, known, now map[ID]Block, passing []Problem, taken time.Time) error {
	var s *tenantState
	var missing []Block
	var err error
	l.locked(func() {
		s = l.state(tenant)
		s.addAnnounced(now, taken)
		missing, err = l.missing(s, known, now, passing)
	})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		// Another process may have removed them: the index says so.
		if err := l.readIndex(ctx, tenant); err != nil {
			return err
		}
		l.locked(func() { missing, err = l.missing(s, known, now, passing) })
		if err != nil {
			return err
		}
	}
	// A listing may be behind; the object itself is not.
	var mu sync.Mutex // guards now, passing, lost
	var lost []Block
	pending := map[ID]Block{}
	var g errgroup.Group
	g.SetLimit(l.o.Workers)
	for _, b := range missing {
		g.Go(func() error {
			o, err := l.o.Bucket.Stat(ctx, Key(b))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && o.Size == b.Size:
				now[b.ID] = b
			case err == nil || errors.Is(err, objstore.ErrNotFound):
				lost = append(lost, b)
			default:
				passing = append(passing, Problem{Unavailable, b, err})
				pending[b.ID] = b
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	if err := ctx.Err(); err != nil {
		return err
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	s.addAnnounced(now, taken)
	s.present = now
	for _, b := range lost {
		if !has(s.lost, b.ID) {
			l.log.Error("block vanished", "key", Key(b))
			s.lost[b.ID] = IndexEntry{b, Lost, taken}
		}
	}
	for id := range s.lost {
		delete(pending, id) // it is still lost
	}
	s.taken, s.passing, s.pending = taken, passing, pending
	for id := range s.lost {
		if has(now, id) {
			delete(s.lost, id) // it is back
		}
	}
	for id, b := range known {
		// What is hidden or expired and no more listed went on purpose; its lineage is kept.
		if !has(now, id) && !has(s.lost, id) && !has(pending, id) && !has(s.gone, id) {
			s.gone[id] = IndexEntry{b, Gone, taken}
		}
	}
	for id, e := range s.gone {
		if taken.Sub(e.Since) > keepGone {
			delete(s.gone, id)
		}
	}
	return l.publish(tenant, s)
}

// addAnnounced adds to a listing that began at taken what was learnt of since. l.mu is held.
func (s *tenantState) addAnnounced(now map[ID]Block, taken time.Time) {
	for id, at := range s.announced {
		if at.Before(taken) {
			delete(s.announced, id) // the listing speaks
		} else if b, ok := s.present[id]; ok {
			now[id] = b
		}
	}
}

func has[V any](m map[ID]V, id ID) bool {
	_, ok := m[id]
	return ok
}

// missing returns the known blocks that are not among now and went otherwise than hidden, expired or
// removed on purpose. l.mu is held.
func (l *Loader) missing(s *tenantState, known, now map[ID]Block, passing []Problem) ([]Block, error) {
	all := true
	for id := range known {
		all = all && has(now, id)
	}
	if all {
		return nil, nil
	}
	gone := make(map[ID]*Block, len(s.gone))
	for id, e := range s.gone {
		gone[id] = &e.Block
	}
	for id, b := range known { // passed through, if they went with their ancestors
		if !has(now, id) && gone[id] == nil {
			gone[id] = &b
		}
	}
	snap, err := newSnapshot(slices.Collect(maps.Values(now)), gone, nil, time.Time{})
	if err != nil {
		return nil, err
	}
	var out []Block
	for id, b := range known {
		if has(now, id) {
			continue
		}
		if has(s.gone, id) {
			delete(s.lost, id)
			continue
		}
		if _, ok := snap.Covering(id); ok || l.o.Expired(b) {
			delete(s.lost, id)
			continue
		}
		if slices.ContainsFunc(passing, func(p Problem) bool { return p.Block.ID == id }) {
			continue // it is there, and reported
		}
		out = append(out, b)
	}
	return out, nil
}

// footers reads the footers of blocks known by their keys.
func (l *Loader) footers(ctx context.Context, fresh []Block, tokens chan struct{}) (read []Block, problems []Problem) {
	var mu sync.Mutex // guards read, problems
	var wg sync.WaitGroup
	for _, b := range fresh {
		tokens <- struct{}{}
		wg.Go(func() {
			defer func() { <-tokens }()
			got, err := l.footer(ctx, b)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				read = append(read, got)
			case errors.Is(err, objstore.ErrNotFound):
				// It went since the listing, and was not known before.
			case passes(err):
				problems = append(problems, Problem{Unavailable, b, err})
			default:
				l.log.Error("footer of block cannot be read", "key", Key(b), "err", err)
				problems = append(problems, Problem{Unreadable, b, err})
			}
		})
	}
	wg.Wait()
	return read, problems
}

func passes(err error) bool {
	return errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, objstore.ErrDenied) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// footer reads the footer of the block that a key describes and checks that it is that block's.
func (l *Loader) footer(ctx context.Context, b Block) (Block, error) {
	l.metrics.footers.Inc()
	key := Key(b)
	got, err := l.o.Footer(ctx, key, b.Size)
	if err != nil {
		return Block{}, err
	}
	if err := got.validate(); err != nil {
		return Block{}, err
	}
	if Key(got) != key {
		return Block{}, fmt.Errorf("the footer is that of %s", Key(got))
	}
	return got, nil
}

// Announce takes blocks that are or were in the bucket and were learnt of otherwise than by a listing,
// by their keys: after it the tenant's snapshot has each of them, or blocks that contain it. What is
// known costs nothing. One that is neither there nor in others, and was not removed on purpose, has
// vanished: it is among the snapshot's problems.
func (l *Loader) Announce(ctx context.Context, keys ...string) error {
	var g errgroup.Group
	g.SetLimit(l.o.Workers)
	for _, key := range keys {
		b, err := l.parse(key)
		if err != nil {
			return err
		}
		if l.knows(b) {
			continue
		}
		g.Go(func() error {
			err := l.announce(ctx, b)
			if !errors.Is(err, objstore.ErrNotFound) || l.knows(b) {
				return err
			}
			if err := l.RefreshTenant(ctx, b.Tenant); err != nil {
				return err
			}
			if l.knows(b) {
				return nil
			}
			// Who has removed it says so in the index.
			if err := l.readIndex(ctx, b.Tenant); err != nil {
				return err
			}
			return l.vanished(b)
		})
	}
	return g.Wait()
}

// maxParsed is how many keys are kept parsed: ingesters announce the same ones with
// every answer.
const maxParsed = 4096

// parse is ParseKey.
func (l *Loader) parse(key string) (Block, error) {
	var b Block
	var ok bool
	l.locked(func() { b, ok = l.parsed[key] })
	if ok {
		return b, nil
	}
	b, err := ParseKey(key)
	if err != nil {
		return b, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.parsed) >= maxParsed {
		clear(l.parsed)
	}
	l.parsed[key] = b
	return b, nil
}

// vanished notes that a block is gone, unless the index knows why.
func (l *Loader) vanished(b Block) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(b.Tenant)
	if !has(s.present, b.ID) && !has(s.gone, b.ID) && !has(s.lost, b.ID) {
		if l.o.Expired(b) {
			s.gone[b.ID] = IndexEntry{b, Gone, l.o.Now()}
		} else {
			l.log.Error("block vanished", "key", Key(b))
			s.lost[b.ID] = IndexEntry{b, Lost, l.o.Now()}
		}
	}
	return l.publish(b.Tenant, s)
}

// knows reports whether the block is listed, contained in live ones, was removed on purpose or has
// vanished.
func (l *Loader) knows(b Block) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.tenants[b.Tenant]
	if s == nil || s.snapshot == nil {
		return false
	}
	if has(s.present, b.ID) || has(s.gone, b.ID) || has(s.lost, b.ID) {
		return true
	}
	_, ok := s.snapshot.Covering(b.ID)
	return ok
}

func (l *Loader) announce(ctx context.Context, b Block) error {
	o, err := l.o.Bucket.Stat(ctx, Key(b))
	if err != nil {
		return err
	}
	if o.Size != b.Size {
		return fmt.Errorf("block %s has %d bytes: %w", Key(b), o.Size, objstore.ErrDamaged)
	}
	got, err := l.footer(ctx, b)
	if err != nil {
		return fmt.Errorf("footer of block %s: %w", Key(b), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(b.Tenant)
	if has(s.gone, b.ID) {
		return nil // removed meanwhile
	}
	s.present[b.ID] = got
	s.announced[b.ID] = l.o.Now()
	if s.snapshot == nil {
		return nil // the first listing makes one
	}
	return l.publish(b.Tenant, s)
}
