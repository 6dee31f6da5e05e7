package tombstone

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

// damage is objects of a tenant that cannot be decoded. All of them are looked for, so that
// whoever mends them need not find them one by one.
type damage struct {
	keys []string
	errs map[string]error
}

func (d *damage) add(key string, err error) {
	if d.errs == nil {
		d.errs = map[string]error{}
	}
	d.keys, d.errs[key] = append(d.keys, key), err
}

// err says what is wrong with the first, and which the others are.
func (d *damage) err() error {
	if len(d.keys) == 0 {
		return nil
	}
	slices.Sort(d.keys)
	first := d.errs[d.keys[0]]
	if len(d.keys) == 1 {
		return first
	}
	return fmt.Errorf("%w; damaged, too: %s", first, Names(d.keys[1:]))
}

// Names lists keys for people, the first few of them.
func Names(keys []string) string {
	const most = 10
	if len(keys) <= most {
		return strings.Join(keys, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(keys[:most], ", "), len(keys)-most)
}

// note remembers what a listing of a tenant's deletes found damaged.
func (s *Store) note(tenant string, keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(keys) == 0 {
		delete(s.damaged, tenant)
		return
	}
	s.damaged[tenant] = slices.Sorted(slices.Values(keys))
}

// Damaged returns the keys of the objects that keep the deletes of their tenants from being
// known, as far as anybody has asked for these. It reads nothing.
func (s *Store) Damaged() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tenant := range slices.Sorted(maps.Keys(s.damaged)) {
		keys = append(keys, s.damaged[tenant]...)
	}
	return keys
}

// Recheck reads the deletes anew of the tenants that Damaged tells of: what was mended is told of
// no longer. What cannot be read now stays as it is known.
func (s *Store) Recheck(ctx context.Context) {
	s.mu.Lock()
	tenants := slices.Sorted(maps.Keys(s.damaged))
	s.mu.Unlock()
	for _, tenant := range tenants {
		_, _ = s.Fresh(ctx, tenant) // notes what it finds
	}
}

// Verify reads all objects of a tenant's deletes, whatever is known of them, and returns how many
// there are, and what is wrong with each that is damaged.
func (s *Store) Verify(ctx context.Context, tenant string) (n int, damaged []error, err error) {
	prefix := catalog.DeletesPrefix(tenant)
	var names []string
	err = s.bucket.List(ctx, prefix, func(o objstore.Object) error {
		names = append(names, strings.TrimPrefix(o.Key, prefix))
		return nil
	})
	if err != nil {
		return 0, nil, fmt.Errorf("list deletes: %w", err)
	}
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, decisionSuffix); ok {
			_, err = s.decision(ctx, tenant, id)
		} else if strings.Contains(name, removalInfix) {
			_, err = s.removal(ctx, prefix+name)
		} else if catalog.ValidateID(catalog.ID(name)) == nil {
			_, err = s.tombstone(ctx, tenant, name)
		} else {
			continue // nobody's
		}
		switch {
		case errors.Is(err, objstore.ErrNotFound): // since it was listed
			continue
		case errors.Is(err, ErrDamaged):
			damaged = append(damaged, err)
		case err != nil:
			return 0, nil, err
		}
		n++
	}
	return n, damaged, nil
}

func (s *Store) removal(ctx context.Context, key string) (Removal, error) {
	b, err := s.read(ctx, key)
	if err != nil {
		return Removal{}, err
	}
	r, err := decodeRemoval(b)
	if err != nil {
		return Removal{}, fmt.Errorf("object %s: %w", key, err)
	}
	return r, nil
}

// read reads an object. One that is larger than any is damaged.
func (s *Store) read(ctx context.Context, key string) ([]byte, error) {
	b, err := objstore.ReadAll(ctx, s.bucket, key, maxObject)
	if errors.Is(err, objstore.ErrDamaged) {
		return nil, fmt.Errorf("object %s: %w: %w", key, ErrDamaged, err)
	}
	return b, err
}
