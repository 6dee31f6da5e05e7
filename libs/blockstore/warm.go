package blockstore

import "context"

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
