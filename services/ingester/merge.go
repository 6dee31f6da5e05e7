package ingester

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/unite"
	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/ingester/local"
)

const (
	// smallContainer is the size below which containers are merged.
	smallContainer = 64 << 20
	// maxSmall is how many small containers there may be.
	maxSmall = 12
	// maxMerge is how many are merged at a time.
	maxMerge = 32
)

// merge merges the small containers into one if there are many of them, or, if
// compact, any. It does nothing while blocks are being uploaded.
func (s *Service) merge(ctx context.Context, compact bool) error {
	if !s.tidying.TryLock() {
		return nil
	}
	defer s.tidying.Unlock()
	small := s.smallContainers(compact)
	if len(small) < 2 || len(small) <= maxSmall && !compact {
		return nil
	}
	if err := s.mergeContainers(ctx, small[:min(len(small), maxMerge)]); err != nil {
		return fmt.Errorf("merge local blocks: %w", err)
	}
	return nil
}

// smallContainers returns the containers that may be merged, oldest first.
func (s *Service) smallContainers(compact bool) []*local.Container {
	s.blocks.mu.RLock()
	defer s.blocks.mu.RUnlock()
	var out []*local.Container
	for _, c := range s.blocks.containers {
		damaged := slices.ContainsFunc(c.Blocks, func(b local.Block) bool { _, is := s.blocks.bad[b.ID]; return is })
		if !damaged && (compact || c.Size() < smallContainer) {
			out = append(out, c)
		}
	}
	return out
}

func (s *Service) mergeContainers(ctx context.Context, from []*local.Container) (err error) {
	d := local.Directory{Incarnation: s.incarnationID, Created: s.now()}
	for _, c := range from {
		d.Replaces = append(d.Replaces, c.Name())
		if c.Incarnation == s.incarnationID {
			for _, r := range c.Covers {
				d.Covers = d.Covers.Add(r)
			}
		}
	}
	held := s.blocks.all(func(b *localBlock) bool { return slices.Contains(from, b.container) })
	defer held.release()
	w, err := local.Create(s.blocksDir(), d, s.rand, s.step("merge"))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	now := s.now()
	var verbatim []*localBlock
	groups := map[partition][]*localBlock{}
	s.blocks.mu.RLock()
	for _, b := range held.blocks {
		switch _, up := s.blocks.uploaded[b.ID]; {
		case s.blockExpired(b.Block, now):
		case up, s.blocks.alone[b.ID]: // as it is, or else it would be uploaded, or panic, again
			verbatim = append(verbatim, b)
		default:
			k := partition{b.Tenant, b.Partition}
			groups[k] = append(groups[k], b)
		}
	}
	s.blocks.mu.RUnlock()
	for _, k := range sortedPartitions(groups) {
		if list := groups[k]; len(list) == 1 {
			verbatim = append(verbatim, list...)
		} else if err := s.mergeBlocks(ctx, w, list); err != nil {
			return err
		}
	}
	for _, b := range verbatim {
		if err := s.copyBlock(ctx, w, b); err != nil {
			return err
		}
	}
	c, err := w.Commit(ctx)
	if err != nil {
		return err
	}
	if err := s.hook("merge.publish"); err != nil {
		return err
	}
	s.blocks.publish(c, from, nil)
	s.metrics.merges.Inc()
	s.logger.Debug("merged local blocks", "containers", len(from), "into", c.Name(), "blocks", len(c.Blocks), "bytes", c.Size())
	return s.hook("merge.done")
}

// partition is a tenant and a day; the zero time is any.
type partition struct {
	tenant string
	day    time.Time
}

func sortedPartitions(groups map[partition][]*localBlock) []partition {
	out := make([]partition, 0, len(groups))
	for k := range groups {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b partition) int { return cmp.Or(cmp.Compare(a.tenant, b.tenant), a.day.Compare(b.day)) })
	return out
}

// copyBlock copies a block as it is.
func (s *Service) copyBlock(ctx context.Context, w *local.Writer, b *localBlock) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := io.Copy(w, b.container.Section(b.Block)); err != nil {
		return err
	}
	return w.End(*b.Block)
}

// mergeBlocks writes the union of blocks of one tenant and partition.
func (s *Service) mergeBlocks(ctx context.Context, w *local.Writer, list []*localBlock) error {
	_, err := s.uniteBlocks(ctx, w, list)
	return err
}

func (s *Service) uniteBlocks(ctx context.Context, w *local.Writer, list []*localBlock) (block.Info, error) {
	meta := block.Meta{Tenant: list[0].Tenant, Partition: list[0].Partition}
	born := list[0].Born
	want := uint64(0)
	var sources []unite.Each
	for _, b := range list {
		meta.Sources = append(meta.Sources, catalog.Source{ID: b.ID, Of: 1})
		meta.Level = max(meta.Level, b.Level)
		if b.Born.Before(born) {
			born = b.Born
		}
		want += uint64(b.Rows)
		sources = append(sources, func(yield func(model.Labels, *model.Rows) error) error {
			if err := b.each(ctx, yield); err != nil {
				if isDamage(err) {
					s.damaged(b, err)
				}
				return err
			}
			return nil
		})
	}
	var stats unite.Stats
	info, err := s.writeBlock(w, meta, born, false, func(yield func(model.Labels, *model.Rows) error) (err error) {
		stats, err = unite.Streams(sources, block.Compare, yield)
		return err
	})
	if errors.Is(err, bug.ErrPanic) {
		s.blocks.leaveAlone(list)
	}
	if err != nil {
		return info, err
	}
	// Rows in are rows out and copies, or nothing may go in favour of this.
	if stats.In != want || stats.Out+stats.Copies != want || uint64(info.Rows) != stats.Out {
		return info, fmt.Errorf("the merge of %d rows found %d, dropped %d copies and wrote %d", want, stats.In, stats.Copies, info.Rows)
	}
	return info, nil
}
