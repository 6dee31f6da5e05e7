// Package ingester is the service that owns recent entries: it makes them durable
// in a write-ahead log, holds them in a head, moves them to blocks on its disk and to
// the object store, and serves them to queries and live tails.
//
// Rows go through generations: the active head takes appends until it is large or old
// enough; frozen, it is written to a container of blocks, and its records are cut off
// the log. A query reads the union of heads and local blocks. docs/operations/data.md
// tells the whole way.
package ingester

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/services/ingester/local"
)

// Deps is what an ingester needs from outside.
type Deps struct {
	Log *slog.Logger
	Reg prometheus.Registerer // nil: count, publish nothing
	// DataDir is the process' data directory; the ingester keeps to `wal` and `blocks`
	// in it.
	DataDir string
	// Bucket is where blocks are uploaded to; nil: they stay on the local disk.
	Bucket objstore.Bucket
	// Known reports whether all queriers know the block with that key or what it was
	// merged into, so that the local copy can go at once; nil: it goes by age. It must
	// not call back.
	Known func(key string) bool
	// Settled reports whether the cluster has made up for a gap of this incarnation, or
	// says of itself that it is lost; nil: it has not. It must not call back.
	Settled func(gap string) bool
	// Cache is shared by all who read blocks; nil: a small one of its own.
	Cache *blockstore.Cache
	Now   func() time.Time // nil: time.Now
	Rand  io.Reader        // for names and ids; nil: crypto/rand
	LogFS wal.FS           // of the write-ahead log; nil: the operating system's
	// HeadLimit is the most bytes that the head may take.
	HeadLimit int64
	// ReadMemory is the most bytes that one read may hold, beside the rows
	// themselves; 0: no limit.
	ReadMemory int64
	// TableVersion returns the digest of the member table that this process knows.
	TableVersion func() uint64
	// HoldFactor notes, before entries are stored that were placed by a replication
	// factor, that there may be such; they are stored, or never will be, when done is
	// called. nil: nobody needs to know.
	HoldFactor func(rf int) (done func(), err error)
}

// Service is an ingester.
type Service struct {
	ingestv1.UnsafeIngestServiceServer

	cfg     Config
	deps    Deps
	logger  *slog.Logger
	metrics *metrics

	clock         processClock // set by Start
	log           *wal.Log     // nil before Start, as are the next two
	incarnation   string
	incarnationID [16]byte
	sequence      *sequence
	gens          *generations
	blocks        *blocks
	active        *limits.ActiveStreams
	reserved      atomic.Int64 // bytes on their way into the head
	reserving     sync.Mutex   // held while it grows
	squeezed      atomic.Bool  // a push found no memory
	room          *room        // where pushes wait for it
	followers     chan struct{}
	logReaders    chan struct{}   // holds one per follower that reads from the log
	writing       sync.RWMutex    // held for reading by writes in work
	leaving       bool            // guarded by writing: there are to be no more
	writesEnded   context.Context // ends when none is in work either
	endWrites     context.CancelFunc
	owing         atomic.Int64 // live tails that were not told that nothing more comes
	yielding      atomic.Bool  // the log is being truncated since the disk is full
	keptMu        sync.Mutex   // guards kept
	kept          keptLog
	covered       local.Ranges // records that were in local blocks at the start
	state         atomic.Int32
	report        atomic.Pointer[wal.Report]
	stop          context.Context // ends when the service stops
	cancel        context.CancelFunc

	now            func() time.Time
	rand           io.Reader
	testHook       func(step string) error // nil but in tests, as is the next
	walFS          wal.FS
	stateMu        sync.Mutex // held while the state of the blocks is changed
	stateDirty     bool       // guarded by stateMu: what is in force is not on disk
	tidying        sync.Mutex // held while local blocks are merged or uploaded
	encoder        sync.Mutex // held by the uploader's encoder
	writers        sync.Pool  // of *block.Writer: each has some MiB before its first row
	wholeWriters   sync.Pool  // likewise, of blocks with lines kept whole
	payloads       payloads
	memories       memories
	knowledge      *block.Knowledge
	workers        context.Context // ends when the workers are to
	stopWorkers    context.CancelFunc
	running        sync.WaitGroup
	wake           chan struct{}
	flushes        chan *request
	uploadWake     chan struct{}
	uploadRequests chan *request
}

// States of a service.
const (
	starting int32 = iota
	accepting
	stopped
)

var _ ingestv1.IngestServiceServer = (*Service)(nil)

// New returns an ingester. It opens nothing; until Start has returned all calls are
// refused.
func New(cfg Config, d Deps) *Service {
	s := &Service{
		cfg: cfg, deps: d, logger: d.Log, gens: newGenerations(), blocks: newBlocks(), sequence: newSequence(),
		followers: make(chan struct{}, cfg.MaxFollowers), logReaders: make(chan struct{}, maxLogReaders), kept: keptLog{bytes: int64(cfg.TailLog)}, now: d.Now, rand: d.Rand, walFS: d.LogFS,
		wake: make(chan struct{}, 1), flushes: make(chan *request), uploadWake: make(chan struct{}, 1), uploadRequests: make(chan *request),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.deps.Cache == nil {
		s.deps.Cache = blockstore.NewCache(16<<20, nil)
	}
	s.blocks.forget = s.deps.Cache.Forget
	s.active = limits.NewActiveStreams(s.now)
	if s.rand == nil {
		s.rand = rand.Reader
	}
	s.knowledge = block.NewKnowledge(s.knowledgeLimit())
	s.stop, s.cancel = context.WithCancel(context.Background())
	s.writesEnded, s.endWrites = context.WithCancel(context.Background())
	s.room = newRoom(d.HeadLimit/waitingShare, s.stop.Done())
	s.metrics = newMetrics(d.Reg, s)
	s.workers, s.stopWorkers = context.WithCancel(context.Background())
	return s
}

// waitingShare is which part of the head's share of memory writes may be that wait for
// room in it.
const waitingShare = 16

// knowledgeLimit is the memory for what is known of the lines of blocks written before.
func (s *Service) knowledgeLimit() int64 { return min(16<<20, s.deps.HeadLimit/16) }

// hook lets tests look at a step, or end it with an error as a crash would.
func (s *Service) hook(step string) error {
	if s.testHook == nil {
		return nil
	}
	return s.testHook(step)
}

func (s *Service) step(prefix string) local.Step {
	return func(name string) error { return s.hook(prefix + "." + name) }
}

// open takes the data directory, which it locks until Close.
func (s *Service) open() error {
	if err := os.MkdirAll(s.deps.DataDir, 0o700); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	log, err := wal.Open(filepath.Join(s.deps.DataDir, "wal"), wal.Options{
		SyncInterval:   s.cfg.WALSyncInterval,
		SegmentBytes:   int64(s.cfg.WALSegmentSize),
		MaxUsedPercent: s.cfg.DiskMaxUsed,
		MinFreeBytes:   off(s.cfg.DiskMinFree),
		ReserveBytes:   off(s.cfg.DiskReserve),
		FS:             s.walFS,
		Logger:         s.logger,
		Registerer:     s.deps.Reg,
	})
	if err != nil {
		return err
	}
	id, _ := log.Incarnation()
	s.log, s.incarnation, s.incarnationID = log, hex.EncodeToString(id[:]), id
	return nil
}

// openBlocks opens what is in local blocks, and returns which records of the log that
// covers.
func (s *Service) openBlocks(ctx context.Context) (local.Ranges, error) {
	list, lost, err := local.OpenDir(ctx, s.blocksDir())
	if err != nil {
		return nil, fmt.Errorf("open the local blocks: %w", err)
	}
	for _, d := range lost {
		s.logger.Error("local blocks are damaged and were set aside", "where", d.String())
	}
	s.metrics.damagedContainers.Add(float64(len(lost)))
	s.blocks.load(list, lost, s.loadState())
	var covered local.Ranges
	for _, c := range list {
		if c.Incarnation != s.incarnationID {
			continue // of another log: its numbers mean nothing here
		}
		for _, r := range c.Covers {
			covered = covered.Add(r)
		}
	}
	if n := len(covered); n > 0 && s.log.NextLSN() <= covered[n-1].Last {
		return nil, fmt.Errorf("the write-ahead log would begin again at record %d, but blocks hold records to %d: its state was removed; move the wal directory away to start with a new one", s.log.NextLSN(), covered[n-1].Last)
	}
	return covered, nil
}

// Incarnation is the identity of the data directory, once Start has returned.
func (s *Service) Incarnation() string { return s.incarnation }

// Start opens the data directory, reads what is not in local blocks from the
// write-ahead log into the head and begins to take writes. What was lost is reported
// and served around.
func (s *Service) Start(ctx context.Context) (err error) {
	began := time.Now()
	if err := s.open(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.blocks.close(), s.log.Close())
		}
	}()
	covered, err := s.openBlocks(ctx)
	if err != nil {
		return err
	}
	if s.clock, err = newProcessClock(s.rand); err != nil {
		return err
	}
	s.covered = covered
	report, err := s.log.Replay(ctx, (&replay{service: s, ctx: ctx, covered: covered}).record)
	if err != nil {
		return fmt.Errorf("replay the write-ahead log: %w", err)
	}
	s.report.Store(&report)
	for _, d := range report.Torn {
		s.logger.Warn("the write-ahead log ends in a record that was never acknowledged", "where", d.String())
	}
	for _, d := range report.Damage {
		s.logger.Error("the write-ahead log is damaged", "where", d.String())
	}
	s.gens.ready(s.log.NextLSN())
	s.sequence.ready(s.log.NextLSN(), s.clock.began)
	st := s.gens.stats()
	containers, blocks, bytes := s.blocks.count()
	s.logger.Info("opened local blocks and replayed the write-ahead log", "containers", containers, "blocks", blocks, "block_bytes", bytes,
		"records", report.Records, "record_bytes", report.Bytes, "entries", st.Rows, "streams", st.Streams, "took", time.Since(began).Round(time.Millisecond).String())
	s.state.Store(accepting)
	err = s.noteGaps()
	if err == nil {
		err = s.truncateLog()
	}
	if err != nil {
		s.logger.Warn("cannot truncate the write-ahead log", "err", err)
	}
	err = nil
	s.running.Go(func() { s.runFlusher(s.workers) })
	if s.deps.Bucket != nil {
		s.running.Go(func() { s.runUploader(s.workers) })
	}
	return nil
}

// replay takes records of the log into memory that are in no local block.
type replay struct {
	service *Service
	ctx     context.Context
	covered local.Ranges
	begun   bool
}

func (r *replay) record(lsn uint64, typ byte, payload []byte) error {
	s := r.service
	if r.covered.Has(lsn) {
		return nil
	}
	if typ != recordIngest {
		return fmt.Errorf("record %d is of type %d, which this version does not know", lsn, typ)
	}
	req := &ingestv1.IngestRequest{}
	if err := proto.Unmarshal(payload, req); err != nil {
		return fmt.Errorf("record %d: %w", lsn, err)
	}
	blocks, err := s.rows(req, &memory{})
	if err != nil {
		return fmt.Errorf("record %d: %w", lsn, err)
	}
	if !r.begun {
		r.begun = true
		known := lsn
		if n := len(r.covered); n > 0 {
			known = max(known, r.covered[n-1].Last+1)
		}
		s.gens.begin(lsn, known)
	}
	s.gens.append(req.GetTenant(), blocks, req.GetBatchTimeUnixNano(), lsn, s.now())
	s.noteStreams(req, blocks)
	if !s.full() {
		return nil
	}
	// What the log holds may be more than memory can: it goes to blocks meanwhile.
	s.gens.freeze()
	err = s.drain(r.ctx)
	s.gens.forget(s.now(), s.tailBytes())
	if err == nil || r.ctx.Err() != nil {
		return err
	}
	s.metrics.cutFailures.Inc()
	s.logger.Error("cannot write local blocks", "err", err)
	if size, _ := s.gens.size(); size > s.deps.HeadLimit {
		return fmt.Errorf("the write-ahead log holds more than the memory for recent entries can take (%d bytes), and it cannot be written to blocks: %w", s.deps.HeadLimit, err)
	}
	return nil
}

// Failed is closed when the log can take no more writes and the process has to
// start anew. It may be called once Start has returned.
func (s *Service) Failed() <-chan struct{} { return s.log.Failed() }

// Ready returns nil when the service takes writes and answers reads.
func (s *Service) Ready() error {
	switch s.state.Load() {
	case starting:
		return errors.New("the ingester is replaying its write-ahead log")
	case stopped:
		return errors.New("the ingester is stopping")
	}
	return nil
}

// DiskFull says how full the disk is when that keeps the service from taking writes, else "".
func (s *Service) DiskFull() string {
	if s.state.Load() != accepting {
		return ""
	}
	d, err := s.log.DiskState()
	if err != nil || !d.Full {
		return ""
	}
	return fmt.Sprintf("too full for writes: %d MiB free, %.1f %% used", d.FreeBytes>>20, d.UsedPercent)
}

// EndTails ends live tails; their clients go on with another process or, after a
// restart, this one. All else goes on.
func (s *Service) EndTails() { s.cancel() }

// Stop ends live tails and refuses further calls. Calls in work go on.
func (s *Service) Stop() {
	s.state.Store(stopped)
	s.cancel()
}

// Close ends the work in the background, syncs the log and gives the data directory
// free, after Start has succeeded. What is in memory is in the log.
func (s *Service) Close() error {
	s.Stop()
	s.stopWorkers()
	s.running.Wait()
	return errors.Join(s.log.Close(), s.blocks.close())
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { ingestv1.RegisterIngestServiceServer(r, s) }

// Flush implements ingestv1.IngestServiceServer. It returns when all that was
// acknowledged is in durable local blocks and, if there is an object store, there too.
func (s *Service) Flush(ctx context.Context, _ *ingestv1.FlushRequest) (*ingestv1.FlushResponse, error) {
	return &ingestv1.FlushResponse{}, s.flush(ctx, false)
}

// Compact implements ingestv1.IngestServiceServer: it flushes, and merges local blocks.
func (s *Service) Compact(ctx context.Context, _ *ingestv1.CompactRequest) (*ingestv1.CompactResponse, error) {
	return &ingestv1.CompactResponse{}, s.flush(ctx, true)
}

func (s *Service) flush(ctx context.Context, compact bool) error {
	if err := s.readable(); err != nil {
		return err
	}
	err := s.ask(ctx, s.flushes, &request{compact: compact})
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return rpcerr.Wrap(err, rpcerr.DiskFull, "the ingester's disk is full").WithRetry(30 * time.Second)
	case errors.Is(err, errStopping):
		return rpcerr.Wrap(err, rpcerr.NotReady, "%v", err).WithRetry(time.Second)
	case err != nil && ctx.Err() == nil:
		return rpcerr.Wrap(err, rpcerr.Unavailable, "local blocks cannot be written: %v", err).WithRetry(time.Second)
	case err != nil:
		return err
	}
	if s.deps.Bucket == nil {
		return nil
	}
	err = s.ask(ctx, s.uploadRequests, &request{})
	switch {
	case errors.Is(err, errStopping):
		return rpcerr.Wrap(err, rpcerr.NotReady, "%v", err).WithRetry(time.Second)
	case err != nil && ctx.Err() == nil:
		return rpcerr.Wrap(err, rpcerr.Unavailable, "blocks cannot be uploaded: %v", err).WithRetry(10 * time.Second)
	}
	return err
}

func (s *Service) readable() error {
	if err := s.Ready(); err != nil {
		return rpcerr.New(rpcerr.NotReady, "%v", err).WithRetry(time.Second)
	}
	return nil
}
