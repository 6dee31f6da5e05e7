package blockstore

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

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

// Empty has all row groups leave that are there, but for what stays of them, and returns of how
// many something does.
func (c *Cache) Empty() (stay int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		if e.key.kind == kindBody && e.place != nil && e.queue.of == ofRowGroups {
			if c.leave(e, nil); e.place != nil {
				stay++
			}
		}
	}
	return stay
}

// EmptyHits returns how often row groups were asked for of which something had stayed.
func (c *Cache) EmptyHits() float64 { return testutil.ToFloat64(c.metrics.emptyHits) }

// OfQueries returns how many parts there are of queries.
func (c *Cache) OfQueries() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.entries {
		if k.query != nil {
			n++
		}
	}
	return n
}

// Touching returns the sizes of what the cache has of streams that touch.
func (c *Cache) Touching() (sizes []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries {
		if k.kind == kindTouching {
			sizes = append(sizes, int(e.size))
		}
	}
	return sizes
}
