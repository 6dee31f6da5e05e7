package ingester

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

// recheckFailures is for how many tenants it may fail before the store is taken for away.
const recheckFailures = 4

// recheck looks for the uploads whose local copies are old enough to go. What the object
// store lost before anybody had listed it no catalog misses; so blocks that are neither
// there nor known to the tenant's catalog are to be uploaded again. The error tells of
// those that could not be looked for; a tenant's that cannot do not keep others from it.
func (s *Service) recheck(ctx context.Context) error {
	indexes := map[string]*catalog.Index{}
	var vanished []string
	failed := map[string]error{} // by tenant
	for _, u := range s.uncheckedUploads() {
		b, err := catalog.ParseKey(u.Key)
		if err == nil && failed[b.Tenant] != nil {
			continue
		}
		is := false
		if err == nil {
			is, err = s.accountedFor(ctx, u, b, indexes)
		}
		if err != nil {
			failed[b.Tenant] = fmt.Errorf("look for %s before its local copy goes: %w", u.Key, err)
			if len(failed) == recheckFailures {
				break
			}
			continue
		}
		if !is {
			s.logger.Error("a block vanished from the object store before it was listed; it is uploaded again", "key", u.Key)
			vanished = append(vanished, u.Key)
			continue
		}
		s.blocks.mu.Lock()
		s.blocks.checked[u.Key] = true
		s.blocks.mu.Unlock()
	}
	return errors.Join(errors.Join(slices.Collect(maps.Values(failed))...), s.changeState(func(st *state) bool {
		before := len(st.Uploads)
		st.Uploads = slices.DeleteFunc(st.Uploads, func(u upload) bool { return slices.Contains(vanished, u.Key) })
		return len(st.Uploads) < before
	}))
}

// uncheckedUploads returns the uploads of local blocks that are old enough to go.
func (s *Service) uncheckedUploads() (old []upload) {
	now := s.now()
	seen := map[string]bool{}
	s.blocks.mu.RLock()
	defer s.blocks.mu.RUnlock()
	for _, list := range s.blocks.byTenant {
		for _, b := range list {
			if u := s.blocks.uploaded[b.ID]; u != nil && now.Sub(u.At) >= s.cfg.KeepUploaded && !s.blocks.checked[u.Key] && !seen[u.Key] {
				seen[u.Key] = true
				old = append(old, *u)
			}
		}
	}
	return old
}

// accountedFor reports whether an upload is in the bucket, or the tenant's index tells
// what became of it: it was merged into others, or removed, or is known to be lost.
func (s *Service) accountedFor(ctx context.Context, u upload, b catalog.Block, indexes map[string]*catalog.Index) (bool, error) {
	o, err := s.deps.Bucket.Stat(ctx, u.Key)
	if err == nil && o.Size == b.Size {
		return true, nil
	}
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return false, err
	}
	x, ok := indexes[b.Tenant]
	if !ok {
		body, err := objstore.ReadAll(ctx, s.deps.Bucket, catalog.IndexKey(b.Tenant), catalog.MaxIndexSize)
		if err == nil {
			x, err = catalog.DecodeIndex(body)
		}
		if err != nil && !errors.Is(err, objstore.ErrNotFound) {
			return false, fmt.Errorf("index of tenant %s: %w", b.Tenant, err)
		}
		indexes[b.Tenant] = x
	}
	return x != nil && slices.ContainsFunc(x.Entries, func(e catalog.IndexEntry) bool {
		return e.ID == b.ID || slices.ContainsFunc(e.Sources, func(src catalog.Source) bool { return src.ID == b.ID })
	}), nil
}
