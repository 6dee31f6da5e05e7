package weir

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/serve"
	"github.com/weir-logs/weir/services/querier"
)

// listEvery is how often the object store is listed.
const listEvery = 30 * time.Second

// storage is the object store as the modules of a process share it.
type storage struct {
	bucket *objstore.Client
	reads  objstore.Bucket // bucket, for queries
	loader *catalog.Loader
	cache  *blockstore.Cache
	// deletes is shared, so that a delete made here is in force here at once.
	deletes *tombstone.Store
	memory  int64       // for indexes of blocks that nobody uses
	learn   chan string // keys of blocks to be looked at
}

// object reads an object of the bucket.
type object struct {
	bucket objstore.Bucket
	key    string
}

// ReadRange implements block.RangeReader.
func (o object) ReadRange(ctx context.Context, off int64, n int) ([]byte, error) {
	return o.bucket.Get(ctx, o.key, off, n)
}

// initStorage opens the object store and keeps its listing fresh.
func (p *Process) initStorage() (serve.Service, error) {
	cfg := p.cfg.Storage
	bucket, err := objstore.Open(context.Background(), cfg, filepath.Join(p.cfg.DataDir, "objects"), p.now(), p.tel.Log, p.tel.Registry)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	st := &storage{bucket: bucket, deletes: tombstone.NewStore(bucket, p.now, 0), cache: blockstore.NewCache(p.budget.cache*13/16, p.tel.Registry), memory: p.budget.cache * 3 / 16, learn: make(chan string, 256)}
	st.loader = catalog.NewLoader(catalog.LoaderOptions{
		Bucket: bucket, Log: p.tel.Log, Reg: p.tel.Registry,
		Footer: func(ctx context.Context, key string, size int64) (catalog.Block, error) {
			info, err := block.ReadInfo(ctx, object{bucket, key}, size)
			if err != nil {
				return catalog.Block{}, err
			}
			return info.Catalog(), nil
		},
	})
	if st.reads, err = p.cached(bucket); err != nil {
		return nil, errors.Join(err, bucket.Close())
	}
	p.storage = st
	p.server.AddCondition("store", st.away)
	p.server.AddCondition("deletes", st.damagedDeletes)
	probed := false // a store that cannot be listed cannot be probed
	look := func(ctx context.Context) {
		err := st.refresh(ctx)
		if err != nil && ctx.Err() == nil {
			p.tel.Log.Error("cannot list the object store", "err", err)
		}
		if err == nil && !probed && ctx.Err() == nil {
			probed = true
			p.probe(ctx, bucket)
		}
	}
	start := func(ctx context.Context) error {
		// A store that is away does not keep the process from starting: ingesters write
		// to their disks, and queries say what they lack.
		bound, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("it does not answer"))
		defer cancel()
		if look(bound); bound.Err() != nil && ctx.Err() == nil {
			p.tel.Log.Error("cannot list the object store", "err", context.Cause(bound))
		}
		return nil
	}
	run := func(ctx context.Context) error {
		tick := time.NewTicker(listEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case key := <-st.learn:
				if err := st.loader.Announce(ctx, key); err != nil && ctx.Err() == nil {
					p.tel.Log.Warn("cannot read a block that was uploaded", "block", key, "err", err)
				}
				continue
			case <-tick.C:
			}
			look(ctx)
		}
	}
	return serve.NewService(start, run, func(error) error { return bucket.Close() }), nil
}

func (st *storage) refresh(ctx context.Context) error {
	err := st.loader.Refresh(ctx)
	st.deletes.Recheck(ctx)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// localKnown tells the ingester of this process which of its local blocks no query
// needs any more: those that this process knows to be in the store. For a query opens
// the ingesters first, and what it finds gone from them it finds in what is known then.
// nil where other processes have queriers, too.
func (p *Process) localKnown() func(key string) bool {
	if len(p.cfg.Cluster.Join) > 0 || !p.cfg.runs("all") {
		return nil
	}
	return func(key string) bool {
		if p.storage.has(key) {
			return true
		}
		select {
		case p.storage.learn <- key:
		default: // the next listing has it
		}
		return false
	}
}

// has reports whether a block, or what it was merged into, is known.
func (st *storage) has(key string) bool {
	b, err := catalog.ParseKey(key)
	if err != nil {
		return false
	}
	snap, err := st.loader.Snapshot(b.Tenant)
	if err != nil {
		return false
	}
	if _, ok := snap.Block(b.ID); ok {
		return true
	}
	_, ok := snap.Covering(b.ID)
	return ok
}

// store is the storage as a querier sees it.
func (p *Process) store() *querier.Store {
	st := p.storage
	// A directory that is shared may be another machine's disk.
	return &querier.Store{Bucket: st.reads, Loader: st.loader, Cache: st.cache, Memory: st.memory, Near: !p.overNetwork() && !p.cfg.Storage.Shared}
}
