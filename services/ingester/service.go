// Package ingester is the service that owns recent entries: it makes them durable
// in a write-ahead log, holds them in a head, and serves them to queries and live
// tails.
package ingester

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/services/ingester/head"
)

// Deps is what an ingester needs from outside.
type Deps struct {
	Log *slog.Logger
	Reg prometheus.Registerer // nil: count, publish nothing
	// DataDir is the process' data directory; the ingester keeps to `wal` in it.
	DataDir string
	// HeadLimit is the most bytes that the head may take.
	HeadLimit int64
	// ReadMemory is the most bytes that one read may hold, beside the rows
	// themselves; 0: no limit.
	ReadMemory int64
	// TableVersion returns the digest of the member table that this process knows.
	TableVersion func() uint64
}

// Service is an ingester.
type Service struct {
	ingestv1.UnsafeIngestServiceServer

	cfg     Config
	deps    Deps
	logger  *slog.Logger
	metrics *metrics

	log         *wal.Log // nil before Start, as is incarnation
	incarnation string
	head        *head.Head
	sequence    *sequence
	reserved    atomic.Int64 // bytes on their way into the head
	followers   chan struct{}
	state       atomic.Int32
	report      atomic.Pointer[wal.Report]
	stop        context.Context // ends when the service stops
	cancel      context.CancelFunc
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
		cfg: cfg, deps: d, logger: d.Log, head: head.New(), sequence: newSequence(),
		followers: make(chan struct{}, cfg.MaxFollowers),
	}
	s.metrics = newMetrics(d.Reg, s)
	s.stop, s.cancel = context.WithCancel(context.Background())
	return s
}

// open takes the data directory, which it locks until Close.
func (s *Service) open() error {
	if err := os.MkdirAll(s.deps.DataDir, 0o700); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	off := func(n conf.ByteSize) int64 { // 0 means none in the configuration, -1 in the log's options
		if n == 0 {
			return -1
		}
		return int64(n)
	}
	log, err := wal.Open(filepath.Join(s.deps.DataDir, "wal"), wal.Options{
		SyncInterval:   s.cfg.WALSyncInterval,
		SegmentBytes:   int64(s.cfg.WALSegmentSize),
		MaxUsedPercent: s.cfg.DiskMaxUsed,
		MinFreeBytes:   off(s.cfg.DiskMinFree),
		ReserveBytes:   off(s.cfg.DiskReserve),
		Logger:         s.logger,
		Registerer:     s.deps.Reg,
	})
	if err != nil {
		return err
	}
	id, _ := log.Incarnation()
	s.log, s.incarnation = log, hex.EncodeToString(id[:])
	return nil
}

// Incarnation is the identity of the data directory, once Start has returned.
func (s *Service) Incarnation() string { return s.incarnation }

// Start opens the data directory, reads the write-ahead log into the head and
// begins to take writes. What the log has lost is reported and served around.
func (s *Service) Start(ctx context.Context) error {
	began := time.Now()
	if err := s.open(); err != nil {
		return err
	}
	report, err := s.log.Replay(ctx, s.replay)
	if err != nil {
		return errors.Join(fmt.Errorf("replay the write-ahead log: %w", err), s.log.Close())
	}
	s.report.Store(&report)
	for _, d := range report.Torn {
		s.logger.Warn("the write-ahead log ends in a record that was never acknowledged", "where", d.String())
	}
	for _, d := range report.Damage {
		s.logger.Error("the write-ahead log is damaged", "where", d.String())
	}
	st := s.head.Stats()
	s.logger.Info("replayed the write-ahead log", "records", report.Records, "bytes", report.Bytes, "entries", st.Rows,
		"streams", st.Streams, "took", time.Since(began).Round(time.Millisecond).String())
	s.head.Advance(s.log.NextLSN() - 1)
	s.state.Store(accepting)
	return nil
}

func (s *Service) replay(lsn uint64, typ byte, payload []byte) error {
	if typ != recordIngest {
		return fmt.Errorf("record %d is of type %d, which this version does not know", lsn, typ)
	}
	req := &ingestv1.IngestRequest{}
	if err := proto.Unmarshal(payload, req); err != nil {
		return fmt.Errorf("record %d: %w", lsn, err)
	}
	blocks, err := s.blocks(req)
	if err != nil {
		return fmt.Errorf("record %d: %w", lsn, err)
	}
	s.head.Append(req.GetTenant(), blocks, req.GetBatchTimeUnixNano(), lsn)
	// Replay may fill the head to its limit and a little over: what was in
	// flight when it filled up was acknowledged too.
	if limit := s.deps.HeadLimit + s.deps.HeadLimit/8; s.head.Size() > limit {
		return fmt.Errorf("the write-ahead log holds more than the memory for recent entries can take (%d bytes): raise memory.limit", s.deps.HeadLimit)
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

// EndTails ends live tails; their clients go on with another process or, after a
// restart, this one. All else goes on.
func (s *Service) EndTails() { s.cancel() }

// Stop ends live tails and refuses further calls. Calls in work go on.
func (s *Service) Stop() {
	s.state.Store(stopped)
	s.cancel()
}

// Close syncs the log and gives the data directory free, after Start has succeeded.
func (s *Service) Close() error {
	s.Stop()
	return s.log.Close()
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { ingestv1.RegisterIngestServiceServer(r, s) }

// Flush implements ingestv1.IngestServiceServer. An acknowledged entry is on disk
// in the write-ahead log, and that is its final form here; so only the calls in
// work are waited for.
func (s *Service) Flush(ctx context.Context, _ *ingestv1.FlushRequest) (*ingestv1.FlushResponse, error) {
	if err := s.readable(); err != nil {
		return nil, err
	}
	if err := s.log.Cut(ctx); err != nil {
		return nil, walError(err)
	}
	return &ingestv1.FlushResponse{}, nil
}

// Compact implements ingestv1.IngestServiceServer.
func (s *Service) Compact(ctx context.Context, _ *ingestv1.CompactRequest) (*ingestv1.CompactResponse, error) {
	if _, err := s.Flush(ctx, nil); err != nil {
		return nil, err
	}
	return &ingestv1.CompactResponse{}, nil
}

// gaps says what this incarnation is known to miss.
func (s *Service) gaps() []string {
	r := s.report.Load()
	if r == nil {
		return nil
	}
	var out []string
	for _, d := range r.Damage {
		if d.FirstLSN == 0 {
			continue // nothing is missing
		}
		if len(out) == 16 {
			out = append(out, fmt.Sprintf("and %d more", len(r.Damage)-16))
			break
		}
		out = append(out, "write-ahead log of "+s.incarnation[:8]+": "+d.String())
	}
	return out
}

func (s *Service) readable() error {
	if err := s.Ready(); err != nil {
		return rpcerr.New(rpcerr.NotReady, "%v", err).WithRetry(time.Second)
	}
	return nil
}
