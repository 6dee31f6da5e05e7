package blockstore

import "slices"

// Drop forgets what the cache has of some kinds of parts: filters made ready for
// sections and, if bodies is set, row groups.
func (c *Cache) Drop(bodies bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kinds := []kind{kindProgram, kindPicked, kindRows, kindFields}
	if bodies {
		kinds = append(kinds, kindBody, kindOrder, kindMetadata)
	}
	for k, e := range c.entries {
		if e.place != nil && slices.Contains(kinds, k.kind) {
			c.drop(e)
		}
	}
}

// HasBody reports whether the cache has the body of a row group.
func (s *Store) HasBody(group int) bool {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	return s.cache.entries[key{block: s.block, kind: kindBody, n: group}] != nil
}
