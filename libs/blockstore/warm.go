package blockstore

import (
	"context"

	"github.com/weir-logs/weir/libs/block/match"
)

// Warmed is what Warm read.
type Warmed struct {
	Bytes   int64 // of memory
	Counted int64 // the same, small sections counted as the least
}

// Warm reads footers of the block's sections into the cache, one after the other, until
// limit bytes are counted: a section counts as least bytes if it takes fewer.
func (s *Store) Warm(ctx context.Context, limit, least int64) (w Warmed, err error) {
	for n := range s.block.Sections() {
		if err := ctx.Err(); err != nil || w.Counted >= limit {
			return w, err
		}
		f, err := s.footer(ctx, n)
		if err != nil {
			return w, err
		}
		size := int64(f.MemorySize())
		w.Bytes += size
		w.Counted += max(size, least)
	}
	return w, nil
}

// WarmTemplates opens those footers of the block's sections that are in the cache, and works out
// what needles are asked of their templates, one after the other. It reads nothing, and leaves
// out sections with which the cache would have more than about limit bytes.
func (s *Store) WarmTemplates(ctx context.Context, limit int64) error {
	for n := range s.block.Sections() {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := key{block: s.block, kind: kindSection, n: n}
		if len(s.cache.missing([]key{k})) > 0 {
			continue
		}
		f, err := s.footer(ctx, n) // if it was dropped this moment it is read again
		if err != nil {
			return err
		}
		if f.Opened() || s.cache.Size()+openedSize*int64(f.MemorySize()) > limit {
			continue
		}
		sec, err := s.open(f, n)
		if err != nil {
			return err
		}
		match.Prepare(sec.Section)
		s.cache.measure(k)
	}
	return nil
}

// openedSize is how many times the memory of a section's footer and grams they take, about, once
// they are opened and what needles ask is worked out.
const openedSize = 8
