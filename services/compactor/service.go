// Package compactor is the service that tends the object store: it merges blocks,
// unites the copies of replicas, applies deletes and retention, and deletes what
// other blocks replace. Blocks belong to compactors by tenant and partition; that two
// work on one costs work, and never entries.
//
// Nothing that it does needs to be finished: a merge counts when its results are in
// the store, a block is deleted only after the results that replace it were read back
// as a whole, and whoever comes next goes on from what is listed.
package compactor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/ring"
)

// Limits knows each tenant's limits.
type Limits interface {
	For(tenant string) limits.Limits
}

// Deps is what a compactor needs from outside.
type Deps struct {
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: count, publish nothing
	Bucket objstore.Bucket
	// Loader knows the bucket's blocks. It may be shared; the compactor refreshes it.
	Loader *catalog.Loader
	Limits Limits
	// View shows the compactors that share the work. Self is this one's name. nil, or
	// nobody in it: this one does all.
	View func() *ring.View
	Self func() string
	// Alone says that no other process reads the bucket: blocks that are replaced go at
	// once, unless InUse.
	Alone bool
	// OwnClock says that the store's times are by this machine's clock.
	OwnClock bool
	// Elapsed returns the time that has passed since some moment before New, by a clock
	// that nobody sets. nil: the process' own.
	Elapsed func() time.Duration
	// InUse reports whether somebody in this process reads a block. nil: nobody does.
	InUse func(catalog.ID) bool
	// Stored is told the keys of blocks that are new in the bucket. nil: nobody is.
	Stored func(keys []string)
	// Tombstones keeps the deletes.
	Tombstones *tombstone.Store
	// Incarnations are all data directories that the member table has known, with which
	// of these deletes of a tenant, of which no block has entries any more, they have
	// confirmed. nil: deletes never retire.
	Incarnations func(ctx context.Context, deletes []*tombstone.Tombstone) ([]tombstone.Incarnation, error)
	// TempDir is a directory of the compactor's own: what is in it is removed.
	TempDir string
	Now     func() time.Time
	Rand    io.Reader // nil: crypto/rand
	// Step, if not nil, is called before each step that changes something, and ends it
	// with its error: for tests of what a crash leaves behind.
	Step func(name string) error
}

// Service is a compactor.
type Service struct {
	storagev1.UnsafeStorageServiceServer

	cfg  Config
	deps Deps
	// maxStreams is the constant; tests have less.
	maxStreams int
	log        *slog.Logger
	metrics    *metrics

	working sync.Mutex // held by a cycle; guards what follows
	// verified are the blocks that were read back whole since they may replace others, with the
	// store's time of their writing.
	verified   map[catalog.ID]time.Time
	allowances map[string]*compact.Allowance
	retained   time.Time // when retention was applied last
	made       int       // merges
	waits      waits

	mu sync.Mutex // guards what follows
	// Answers that stay true, by block.
	verdicts map[catalog.ID]verdict
	touches  map[touch]bool
	steady   steady
	dryRuns  int // shares of what dry runs may read at once that are taken
}

var _ storagev1.StorageServiceServer = (*Service)(nil)

// New returns a compactor of cfg, which is valid.
func New(cfg Config, d Deps) *Service {
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	if d.InUse == nil {
		d.InUse = func(catalog.ID) bool { return false }
	}
	if d.Elapsed == nil {
		began := time.Now()
		d.Elapsed = func() time.Duration { return time.Since(began) } // by the monotonic clock
	}
	if d.Alone {
		cfg.DeleteDelay = 0
	}
	m := newMetrics(d.Reg)
	m.lastSuccess.Set(float64(d.Now().UnixNano()) / 1e9) // else one whose cycles all fail would never be late
	return &Service{
		cfg: cfg, deps: d, maxStreams: maxStreams, log: d.Log, metrics: m,
		verified: map[catalog.ID]time.Time{}, verdicts: map[catalog.ID]verdict{}, touches: map[touch]bool{}, allowances: map[string]*compact.Allowance{},
		waits: waits{sets: map[uint64]*wait{}},
	}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { storagev1.RegisterStorageServiceServer(r, s) }

// Run works until ctx is done, and returns nil then. What fails is tried again in the
// next cycle.
func (s *Service) Run(ctx context.Context) error {
	if err := s.clearTemp(); err != nil {
		return err
	}
	// Compactors that start together do not work in step.
	wait := time.Duration(mathrand.Int64N(int64(s.cfg.Interval)/4 + 1))
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := s.Cycle(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("compaction cycle failed, the next one goes on", "err", err)
		}
		wait = s.cfg.Interval + time.Duration((mathrand.Float64()-0.5)*0.2*float64(s.cfg.Interval))
	}
}

// clearTemp removes what a process that was killed has left.
func (s *Service) clearTemp() error {
	if err := os.MkdirAll(s.deps.TempDir, 0o750); err != nil {
		return err
	}
	list, err := os.ReadDir(s.deps.TempDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range list {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			errs = append(errs, os.Remove(filepath.Join(s.deps.TempDir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// caught calls f, which is about what args say, as a logger takes them: a panic ends it as an
// error does, and not the process.
func (s *Service) caught(f func() error, args ...any) error {
	return bug.Caught(f, func(value any, stack []byte) {
		s.metrics.panics.Inc()
		s.log.Error("a bug: work on blocks ended in a panic, which says nothing about the blocks", append(args, "panic", value, "stack", string(stack))...)
	})
}

// step is called before a step that changes something.
func (s *Service) step(name string) error {
	if s.deps.Step == nil {
		return nil
	}
	return s.deps.Step(name)
}

// owns reports whether a partition of a tenant is this compactor's: the one whose
// name has the highest hash with it. Who is asked while members come and go may get
// two owners, which is harmless, or none, which the next cycle mends.
func (s *Service) owns(tenant string, partition time.Time) bool {
	if s.deps.View == nil {
		return true
	}
	view := s.deps.View()
	if view == nil {
		return false
	}
	self := s.deps.Self()
	best, owner, found := uint64(0), "", false
	for _, m := range view.With(ring.Compactor) {
		h := xxhash.Sum64String(fmt.Sprintf("%s/%d/%s", tenant, partition.Unix(), m.Name))
		if !found || h > best {
			best, owner, found = h, m.Name, true
		}
	}
	return !found || owner == self
}

// ownsTenant reports whether what is done once a tenant is this compactor's.
func (s *Service) ownsTenant(tenant string) bool { return s.owns(tenant, time.Time{}) }

func (s *Service) newID() (catalog.ID, error) { return catalog.NewID(s.deps.Now(), s.deps.Rand) }

// object reads an object of the bucket.
type object struct {
	bucket objstore.Bucket
	key    string
}

// ReadRange implements block.RangeReader.
func (o object) ReadRange(ctx context.Context, off int64, n int) ([]byte, error) {
	return o.bucket.Get(ctx, o.key, off, n)
}

func (s *Service) open(ctx context.Context, b catalog.Block) (*block.Reader, error) {
	return OpenBlock(ctx, s.deps.Bucket, b)
}

// OpenBlock opens a block of a bucket.
func OpenBlock(ctx context.Context, bucket objstore.Bucket, b catalog.Block) (*block.Reader, error) {
	key := catalog.Key(b)
	r, err := block.Open(ctx, object{bucket, key}, b.Size)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", key, err)
	}
	return r, nil
}

// Footer reads a block's footer as catalog.LoaderOptions want it.
func Footer(bucket objstore.Bucket) func(ctx context.Context, key string, size int64) (catalog.Block, error) {
	return func(ctx context.Context, key string, size int64) (catalog.Block, error) {
		info, err := block.ReadInfo(ctx, object{bucket, key}, size)
		if err != nil {
			return catalog.Block{}, err
		}
		return info.Catalog(), nil
	}
}
