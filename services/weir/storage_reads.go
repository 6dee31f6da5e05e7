package weir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/diskcache"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/scrub"
	"github.com/weir-logs/weir/libs/serve"
	"github.com/weir-logs/weir/libs/wal"
)

// overNetwork reports whether the object store is on other machines.
func (p *Process) overNetwork() bool { return p.cfg.Storage.Type != objstore.TypeFilesystem }

// probe says so loudly if the object store over the network does not do what it must. The
// process starts all the same: ingesters write to their disks until it does.
func (p *Process) probe(ctx context.Context, bucket objstore.Bucket) {
	if !p.overNetwork() {
		return
	}
	if err := objstore.Probe(ctx, bucket); err != nil {
		p.tel.Log.Error("the object store cannot be used as it is: entries stay on the disks of ingesters, and queries of what was stored fail", "type", p.cfg.Storage.Type, "bucket", p.cfg.Storage.Bucket, "err", err)
	}
}

// cached returns the bucket as queriers read it: what they have read of a store over the
// network is kept on the local disk. Whoever checks what is stored reads the bucket.
func (p *Process) cached(bucket objstore.Bucket) (objstore.Bucket, error) {
	size := int64(p.cfg.Storage.CacheSize)
	if !p.overNetwork() || size == 0 || !p.cfg.runs("querier") {
		return bucket, nil
	}
	// A first start has no data directory yet, and so no disk to ask.
	if err := os.MkdirAll(p.cfg.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	free := func() (uint64, uint64, error) { return wal.OS{}.Space(p.cfg.DataDir) }
	now, total, err := free()
	if err != nil {
		return nil, fmt.Errorf("storage.cache_size: %w", err)
	}
	c, err := diskcache.New(bucket, diskcache.Options{
		Dir: filepath.Join(p.cfg.DataDir, "cache"), Size: min(size, int64(now/2)),
		Keep: func(key string) bool { _, err := catalog.ParseKey(key); return err == nil },
		// The cache gives way long before writes end.
		Reserve: int64(2 * p.cfg.Ingester.MustStayFree(total)),
		Free: func() (int64, error) {
			n, _, err := free()
			return int64(n), err
		},
		Log: p.tel.Log, Reg: p.tel.Registry,
	})
	if err != nil {
		return nil, fmt.Errorf("storage.cache_size: %w", err)
	}
	return c, nil
}

// initScrubber checks blocks in the background, each by one of the compactors.
func (p *Process) initScrubber() (serve.Service, error) {
	if p.cfg.Storage.ScrubInterval == 0 {
		return idle()
	}
	s := scrub.New(scrub.Options{
		Bucket: p.storage.bucket, Blocks: p.scrubbed, Every: p.cfg.Storage.ScrubInterval,
		State: filepath.Join(p.cfg.DataDir, "scrubbed"), Now: p.now, Log: p.tel.Log, Reg: p.tel.Registry,
	})
	return serve.NewService(nil, s.Run, nil), nil
}

// scrubbed returns the blocks that are this process's to check.
func (p *Process) scrubbed() []catalog.Block {
	self := p.clients.self.Load()
	view := p.View()
	if self == nil || view == nil {
		return nil
	}
	checkers := view.With(ring.Compactor)
	var out []catalog.Block
	for _, tenant := range p.storage.loader.Tenants() {
		snap, err := p.storage.loader.Snapshot(tenant)
		if err != nil {
			continue // it is too old; a later round has it
		}
		for _, b := range snap.Listed() {
			best, owner := uint64(0), *self
			for i, m := range checkers {
				if h := xxhash.Sum64String(string(b.ID) + m.Name); i == 0 || h > best {
					best, owner = h, m.Name
				}
			}
			if owner == *self {
				out = append(out, b)
			}
		}
	}
	return out
}
