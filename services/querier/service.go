// Package querier is the service that answers queries: it plans them, asks every
// ingester that may hold what they need, unites the answers, and says so when one
// is not complete. It serves live tails the same way.
package querier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// ReasonCursor is the reason of a tail's cursor that means nothing here.
const ReasonCursor rpcerr.Reason = "CURSOR_EXPIRED"

// Config is the configuration of a querier.
type Config struct {
	MaxConcurrent int `yaml:"max_concurrent" help:"Queries that run at once. Each may use an equal part of the memory for queries."`
	MaxQueued     int `yaml:"max_queued" help:"Queries that may wait for their turn; those beyond are refused."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config { return Config{MaxConcurrent: 4, MaxQueued: 256} }

// Validate returns all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.MaxConcurrent < 1 {
		errs = append(errs, fmt.Errorf("max_concurrent is %d, must be at least 1", c.MaxConcurrent))
	}
	if c.MaxQueued < 0 {
		errs = append(errs, fmt.Errorf("max_queued is %d, must not be negative", c.MaxQueued))
	}
	return errors.Join(errs...)
}

// Ring tells who may hold what.
type Ring interface {
	View() *ring.View
}

// Ingesters gives the client of a member.
type Ingesters interface {
	Ingester(m *ring.Member) (ingestv1.IngestServiceClient, error)
}

// Limits knows each tenant's limits.
type Limits interface {
	For(tenant string) limits.Limits
}

// Deps is what a querier needs from outside.
type Deps struct {
	Log       *slog.Logger
	Reg       prometheus.Registerer // nil: count, publish nothing
	Ring      Ring
	Ingesters Ingesters
	Limits    Limits
	Store     *Store  // nil: ingesters hold all there is
	Deletes   Deletes // nil: nothing is deleted
	// Learn merges the member table of a member, given its version; nil: there is none
	// but the own one.
	Learn  func(ctx context.Context, member string, version uint64) bool
	Memory int64 // bytes for all queries together
	Now    func() time.Time
}

// Service is a querier.
type Service struct {
	queryv1.UnsafeQueryServiceServer
	tailv1.UnsafeTailServiceServer

	deps   Deps
	logger *slog.Logger
	engine *engine.Engine
	blocks *blocks // nil: there is no store
	memory int64   // bytes for one query
	hedger *hedger

	running   chan struct{} // holds an item per query that runs
	queued    atomic.Int64
	maxQueued int64
	refused   prometheus.Counter

	mu      sync.Mutex // guards tails
	tails   map[string]int
	open    prometheus.Gauge
	tooMany prometheus.Counter
}

var (
	_ queryv1.QueryServiceServer = (*Service)(nil)
	_ tailv1.TailServiceServer   = (*Service)(nil)
)

// New returns a querier.
func New(cfg Config, d Deps) *Service {
	f := promauto.With(d.Reg)
	s := &Service{
		deps: d, logger: d.Log,
		engine:    engine.New(engine.Options{Now: d.Now, Registerer: d.Reg}),
		memory:    d.Memory / int64(cfg.MaxConcurrent),
		running:   make(chan struct{}, cfg.MaxConcurrent),
		maxQueued: int64(cfg.MaxQueued),
		tails:     map[string]int{},
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_refused_queries_total", Help: "Queries refused because too many were waiting."}),
		open: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_querier_tails", Help: "Live tails being served."}),
		tooMany: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_refused_tails_total", Help: "Live tails refused because the tenant had as many as it may."}),
	}
	s.hedger = newHedger(d.Reg)
	if d.Store != nil {
		s.blocks = newBlocks(*d.Store, d.Log, d.Reg)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_querier_running_queries", Help: "Queries that run."},
		func() float64 { return float64(len(s.running)) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_querier_queued_queries", Help: "Queries that wait for their turn."},
		func() float64 { return float64(s.queued.Load()) })
	return s
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	queryv1.RegisterQueryServiceServer(r, s)
	tailv1.RegisterTailServiceServer(r, s)
}

// admission is the place of a query that runs.
type admission struct {
	release func()
	waited  time.Duration
}

// admit waits for a place. A query that would wait behind too many others is
// refused at once.
func (s *Service) admit(ctx context.Context) (admission, error) {
	release := func() { <-s.running }
	select {
	case s.running <- struct{}{}:
		return admission{release: release}, nil
	default:
	}
	if s.queued.Add(1) > s.maxQueued {
		s.queued.Add(-1)
		s.refused.Inc()
		return admission{}, rpcerr.New(rpcerr.Overloaded, "too many outstanding requests").WithRetry(time.Second)
	}
	defer s.queued.Add(-1)
	began := s.deps.Now()
	select {
	case s.running <- struct{}{}:
		return admission{release, s.deps.Now().Sub(began)}, nil
	case <-ctx.Done():
		return admission{}, ctx.Err()
	}
}

// scope is what a query of a tenant may touch.
type scope struct {
	tenant string
	limits limits.Limits
	now    time.Time
}

func (s *Service) scope(ctx context.Context) (scope, error) {
	id, err := tenant.Require(ctx)
	if err != nil {
		return scope{}, err
	}
	return scope{id, s.deps.Limits.For(id), s.deps.Now()}, nil
}

// InUse reports whether a query reads a block of the object store.
func (s *Service) InUse(id catalog.ID) bool { return s.blocks != nil && s.blocks.inUse(id) }

// sources returns every ingester that may hold entries and the object store, and the
// judge of whether an answer without some of them is complete.
func (s *Service) sources(sc scope, partial bool) ([]engine.Source, func(missing []string) error) {
	out, complete := s.ingesters(sc)
	if l := losses(s.deps.Ring.View(), sc.limits.MaxFuture); l != nil {
		out = append(out, l)
	}
	if s.blocks == nil {
		return out, complete
	}
	return append(out, &stored{blocks: s.blocks, tenant: sc.tenant, partial: partial}), func(missing []string) error {
		if slices.Contains(missing, storeName) {
			return rpcerr.New(rpcerr.Incomplete, "the answer would not be complete: no answer from the object store").WithRetry(time.Second)
		}
		return complete(missing)
	}
}

// unreachable is a source that cannot be opened.
type unreachable struct {
	name string
	err  error
}

// Name implements engine.Source.
func (u unreachable) Name() string { return u.name }

// Open implements engine.Source.
func (u unreachable) Open(context.Context, []*syntax.Matcher, int64, int64) (engine.Session, error) {
	return nil, u.err
}
