package querier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"

	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

// What is read ahead of queries takes a warmShare of the memory for parts of blocks, and of
// that for indexes; each block and each section counts as warmRead bytes at least, so that
// there are not many small reads.
const (
	warmShare = 1.0 / 8
	warmRead  = 32 << 10
)

// warmTemplates is how much of the memory for parts of blocks may be taken once templates are
// opened as well. More is not kept of what row groups have in common when memory is short.
const warmTemplates = 1.0 / 2

// Warm opens the newest blocks, reads the footers of their sections, and then makes their
// templates ready for needles, so that the first queries after a start need not. It is to be
// called once the catalog has been loaded; it does one thing after the other, and ends with the
// first failure of the store; blocks that are damaged are left to queries. Queries may run
// meanwhile.
func (s *Service) Warm(ctx context.Context) {
	if s.blocks == nil {
		return
	}
	defer func() {
		// Queries of a block that does this fail alone; so must not all others.
		if r := recover(); r != nil {
			s.logger.Error("reading blocks ahead of queries ended in a panic", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	n, bytes, err := s.blocks.warm(ctx)
	if err != nil && ctx.Err() == nil {
		s.logger.Warn("reading blocks ahead of queries failed: they are read when a query needs them", "err", err)
	}
	s.logger.Debug("blocks were read ahead of queries", "blocks", n, "bytes", bytes)
}

// warm returns how many blocks it opened, and how many bytes of parts of them it read.
func (b *blocks) warm(ctx context.Context) (opened int, bytes int64, err error) {
	parts, indexes := int64(float64(b.store.Cache.Limit())*warmShare), int64(float64(b.store.Memory)*warmShare)
	var read []catalog.Block
	for _, meta := range b.newest() {
		if parts < warmRead || indexes <= 0 || ctx.Err() != nil {
			break
		}
		o, err := b.acquire(ctx, meta)
		if errors.Is(err, objstore.ErrNotFound) {
			continue // it was replaced meanwhile
		}
		if err != nil && !passing(err) {
			parts -= warmRead // it was read, too
			continue          // it is damaged, which was told of
		}
		if err != nil {
			return opened, bytes, err
		}
		indexes -= o.size
		var n blockstore.Warmed
		err = b.ahead(o, func(s *blockstore.Store) (err error) {
			n, err = s.Warm(ctx, parts, warmRead)
			return err
		})
		opened++
		bytes += n.Bytes
		parts -= max(n.Counted, warmRead) // opening it is a read, too
		if err == nil {
			read = append(read, meta)
		} else if err = b.left(meta, err); err != nil {
			return opened, bytes, err
		}
	}
	for _, meta := range read {
		if ctx.Err() != nil {
			break
		}
		b.mu.Lock()
		open := b.open[meta.ID] != nil
		b.mu.Unlock()
		if !open {
			continue // there was no memory for it
		}
		o, err := b.acquire(ctx, meta)
		if err != nil {
			continue // it was replaced meanwhile, or read again, which failed
		}
		err = b.ahead(o, func(s *blockstore.Store) error {
			return s.WarmTemplates(ctx, int64(float64(b.store.Cache.Limit())*warmTemplates))
		})
		if err = b.left(meta, err); err != nil {
			return opened, bytes, err
		}
	}
	return opened, bytes, ctx.Err()
}

// ahead calls f with a block that was acquired, which it releases.
func (b *blocks) ahead(o *openBlock, f func(*blockstore.Store) error) error {
	defer b.release(o)
	return f(blockstore.NewStore(o.reader, b.store.Cache))
}

// left returns an error of a block that ends reading ahead: others are told of, and the block is
// left to queries. Of a query's panic that was waited for, the query tells; a block that is not
// there any more was replaced.
func (b *blocks) left(meta catalog.Block, err error) error {
	if err == nil || errors.Is(err, blockstore.ErrPanic) || errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	if passing(err) {
		return fmt.Errorf("block %s: %w", catalog.Key(meta), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(&blockError{meta, err})
	return nil
}

// newest returns the live blocks that this querier reads, those that reach the furthest in
// front.
func (b *blocks) newest() []catalog.Block {
	var out []catalog.Block
	for _, tenant := range b.store.Loader.Tenants() {
		snap, err := b.store.Loader.Snapshot(tenant)
		if err != nil {
			continue // queries will load it anew
		}
		live, _ := (&stored{blocks: b, tenant: tenant}).spread(snap.Live(tenant, math.MinInt64, math.MaxInt64))
		out = append(out, live...)
	}
	slices.SortFunc(out, func(x, y catalog.Block) int {
		return cmp.Or(cmp.Compare(y.MaxTime, x.MaxTime), cmp.Compare(y.MinTime, x.MinTime), cmp.Compare(x.ID, y.ID))
	})
	return out
}
