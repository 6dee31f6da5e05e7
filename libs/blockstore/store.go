package blockstore

import (
	"context"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Store is a block as a store for the query engine. It is safe for concurrent use.
type Store struct {
	block *block.Reader
	cache *Cache
}

// NewStore returns a block as a store. Everything that is read goes through the cache.
func NewStore(r *block.Reader, c *Cache) *Store { return &Store{r, c} }

// Open implements engine.Store. No row is read for it, so a stream may be listed for a
// run that reaches into the range or spans it, and runs are given whole. The snapshot
// is an engine.Selective.
func (s *Store) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sn := &snapshot{store: s, start: start, end: end}
	sn.numbers = s.block.Match(matchers, start, end)
	sn.ascending = sn.numbers
	if !slices.IsSorted(sn.numbers) {
		sn.ascending = slices.Sorted(slices.Values(sn.numbers))
	}
	known := s.block.Info().HashVersion == model.HashVersion
	sn.streams = make([]engine.Stream, len(sn.numbers))
	var all []engine.Run
	for i, n := range sn.numbers {
		from := len(all)
		for _, r := range s.block.Runs(int(n), start, end) {
			run := engine.Run(r)
			if !known {
				run.Digest = 0
			}
			all = append(all, run)
		}
		// An array that grew meanwhile is still right for the streams before.
		sn.streams[i] = engine.Stream{Labels: s.block.Labels(int(n)), Runs: all[from:len(all):len(all)]}
	}
	sn.all = newSelected(ctx, sn, nil)
	return sn, nil
}

func (s *Store) section(ctx context.Context, n int) (*block.Section, error) {
	return get(ctx, s.cache, key{block: s.block, kind: kindSection, n: n}, func() (*block.Section, error) { return s.block.ReadSection(ctx, n) })
}

func (s *Store) body(ctx context.Context, group int) (*lines.Body, error) {
	return get(ctx, s.cache, key{block: s.block, kind: kindBody, n: group}, func() (*lines.Body, error) {
		n, _ := s.block.Place(group)
		sec, err := s.section(ctx, n)
		if err != nil {
			return nil, err
		}
		return s.block.ReadBody(ctx, sec, group)
	})
}

func (s *Store) order(ctx context.Context, body *lines.Body, group int) (*block.Order, error) {
	return get(ctx, s.cache, key{block: s.block, kind: kindOrder, n: group}, func() (*block.Order, error) { return s.block.ReadOrder(ctx, body, group) })
}

func (s *Store) metadata(ctx context.Context, body *lines.Body, group int) (*block.Metadata, error) {
	return get(ctx, s.cache, key{block: s.block, kind: kindMetadata, n: group}, func() (*block.Metadata, error) { return s.block.ReadMetadata(ctx, body, group) })
}

func get[T part](ctx context.Context, c *Cache, k key, load func() (T, error)) (T, error) {
	p, err := c.get(ctx, k, func() (part, error) { return load() })
	if err != nil {
		var none T
		return none, err
	}
	return p.(T), nil
}

// snapshot is the streams of a block that a query asked for. The block never changes.
type snapshot struct {
	store      *Store
	start, end int64
	streams    []engine.Stream
	numbers    []uint32 // of the streams in the block
	ascending  []uint32 // the same
	all        *selected

	mu   sync.Mutex
	keys []key            // of what the cache has for the query
	used map[int]struct{} // row groups whose parts may have grown
}

// Streams implements engine.Snapshot.
func (sn *snapshot) Streams() []engine.Stream { return sn.streams }

// Rows implements engine.Snapshot.
func (sn *snapshot) Rows(stream int, start, end int64, backward bool) engine.RowReader {
	return sn.all.Rows(stream, start, end, backward)
}

// own notes that the cache has a part for the query.
func (sn *snapshot) own(k key, group int) {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.keys = append(sn.keys, k)
	if sn.used == nil {
		sn.used = map[int]struct{}{}
	}
	sn.used[group] = struct{}{}
}

// Close implements engine.Snapshot.
func (sn *snapshot) Close() {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	c := sn.store.cache
	c.forget(sn.keys)
	for group := range sn.used {
		c.measure(key{block: sn.store.block, kind: kindBody, n: group})
		c.measure(key{block: sn.store.block, kind: kindMetadata, n: group})
	}
	sn.keys, sn.used = nil, nil
}

// Select implements engine.Selective.
func (sn *snapshot) Select(ctx context.Context, n *engine.Need) engine.Snapshot {
	return newSelected(ctx, sn, n)
}
