// Package querier is the service that answers queries: it plans them, asks every
// ingester that may hold what they need, unites the answers, and says so when one
// is not complete. It serves live tails the same way.
package querier

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// ReasonCursor is the reason of a tail's cursor that means nothing here.
const ReasonCursor rpcerr.Reason = "CURSOR_EXPIRED"

// Config is the configuration of a querier.
type Config struct {
	MaxConcurrent      int           `yaml:"max_concurrent" help:"Queries that run at once. Each may use an equal part of the memory for queries."`
	MaxQueued          int           `yaml:"max_queued" help:"Queries that may wait for their turn, of all tenants; those beyond are refused."`
	SmallCost          conf.ByteSize `yaml:"small_cost" help:"A query is small if it is estimated to read no more than this. Small queries and others wait apart."`
	SmallPlaces        int           `yaml:"small_places" help:"Of max_concurrent, how many only small queries take; one less than max_concurrent at most."`
	MaxCost            conf.ByteSize `yaml:"max_cost" help:"What queries that are not small may be estimated to read, all that run together. One of more runs, but beside small ones only."`
	SplitInterval      time.Duration `help:"Queries over a longer range are split by time: log queries into parts that are read one after the other, each twice as long as the one before, until there are enough entries; metric queries into parts of about this length, two at a time. 0: never."`
	MultiTenantQueries bool          `help:"Let a query name several tenants, as in X-Scope-OrgID: a|b. The streams of its answer have the label __tenant_id__."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{MaxConcurrent: 4, MaxQueued: 256, SmallCost: 128 * conf.MiB, SmallPlaces: 1, MaxCost: 64 * conf.GiB, SplitInterval: 24 * time.Hour}
}

// Validate returns all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.MaxConcurrent < 1 {
		errs = append(errs, fmt.Errorf("max_concurrent is %d, must be at least 1", c.MaxConcurrent))
	}
	if c.MaxQueued < 0 {
		errs = append(errs, fmt.Errorf("max_queued is %d, must not be negative", c.MaxQueued))
	}
	if c.SmallPlaces < 0 {
		errs = append(errs, fmt.Errorf("small_places is %d, must not be negative", c.SmallPlaces))
	}
	if c.SmallCost < 0 {
		errs = append(errs, errors.New("small_cost must not be negative"))
	}
	if c.SplitInterval < 0 || c.SplitInterval > 0 && c.SplitInterval < time.Minute {
		errs = append(errs, fmt.Errorf("split_interval is %s, must be 0 or at least 1m", c.SplitInterval))
	}
	if c.MaxCost < 1 {
		errs = append(errs, errors.New("max_cost must be at least 1"))
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
	Peers     Peers   // nil: there are no other queriers
	Workers   Workers // nil: this querier reads all blocks by itself
	// Learn merges the member table of a member, given its version; nil: there is none
	// but the own one.
	Learn  func(ctx context.Context, member string, version uint64) bool
	Memory int64 // bytes for all queries together
	// Results is the bytes for remembered parts of answers; 0: none are.
	Results int64
	// Tails is the bytes for what all live tails remember of what they have sent; 0: each
	// has a bound of its own alone.
	Tails int64
	Now   func() time.Time
}

// Service is a querier.
type Service struct {
	queryv1.UnsafeQueryServiceServer
	tailv1.UnsafeTailServiceServer
	ingestv1.UnsafeBlockServiceServer

	deps   Deps
	logger *slog.Logger
	engine *engine.Engine
	blocks *blocks // nil: there is no store
	// multiTenant tells that queries of several tenants are answered.
	multiTenant bool
	memory      int64 // bytes for one query
	split       time.Duration
	hedger      *hedger

	gate    *gate
	heads   heads
	results *engine.ResultCache // nil: nothing is remembered

	mu      sync.Mutex // guards tails
	tails   map[string]int
	open    prometheus.Gauge
	tooMany prometheus.Counter

	noMemory   prometheus.Counter
	tailMemory *tailMemory
}

var (
	_ queryv1.QueryServiceServer  = (*Service)(nil)
	_ tailv1.TailServiceServer    = (*Service)(nil)
	_ ingestv1.BlockServiceServer = (*Service)(nil)
)

// New returns a querier.
func New(cfg Config, d Deps) *Service {
	f := promauto.With(d.Reg)
	s := &Service{
		deps: d, logger: d.Log,
		engine: engine.New(engine.Options{Now: d.Now, Registerer: d.Reg}),
		memory: d.Memory / int64(cfg.MaxConcurrent), split: cfg.SplitInterval,
		tails: map[string]int{}, multiTenant: cfg.MultiTenantQueries,
		gate: newGate(queueLimits{
			places: cfg.MaxConcurrent, kept: min(cfg.SmallPlaces, cfg.MaxConcurrent-1), cost: int64(cfg.MaxCost), small: int64(cfg.SmallCost), waiting: cfg.MaxQueued,
		}, d.Now, rand.Text, d.Reg),
		open: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_querier_tails", Help: "Live tails being served."}),
		tooMany: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_refused_tails_total", Help: "Live tails refused because the tenant had as many as it may, or all tails together remembered as much as they may."}),
		noMemory: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_memory_refusals_total", Help: "Queries, and questions about streams, that were ended as they would have needed more memory than each may use, and calls of other queriers."}),
		tailMemory: newTailMemory(d.Tails, f),
	}
	s.hedger = newHedger(d.Reg)
	if d.Results > 0 {
		s.results = engine.NewResultCache(d.Results, d.Reg)
	}
	if d.Store != nil {
		s.blocks = newBlocks(*d.Store, d.Log, d.Reg)
		if d.Workers != nil {
			share := int64(workerShare * float64(d.Memory))
			s.memory = (d.Memory - share) / int64(cfg.MaxConcurrent)
			s.blocks.workers = newWorkers(d, 2*cfg.MaxConcurrent, share)
		}
	}
	return s
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	queryv1.RegisterQueryServiceServer(r, s)
	tailv1.RegisterTailServiceServer(r, s)
}

// RegisterInternal adds what other members call to a server.
func (s *Service) RegisterInternal(r grpc.ServiceRegistrar) {
	ingestv1.RegisterBlockServiceServer(r, s)
}

// scope is what a query of a tenant may touch.
type scope struct {
	tenant string
	limits limits.Limits
	now    time.Time
	parts  []*part // of several tenants; nil: it is one
}

func (s *Service) scope(ctx context.Context) (scope, error) {
	ids, err := tenant.RequireAll(ctx)
	if err != nil {
		return scope{}, err
	}
	return s.scopeOf(ids)
}

// InUse reports whether a query reads a block of the object store.
func (s *Service) InUse(id catalog.ID) bool { return s.blocks != nil && s.blocks.inUse(id) }

// sources returns every ingester that may hold entries and the object store, and the
// judge of whether an answer without some of them is complete.
func (s *Service) sources(sc scope, partial bool) ([]engine.Source, func(missing []string) error) {
	if sc.parts != nil {
		return s.sourcesOfAll(sc, partial)
	}
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

// toError is remote.ToError of a query's error, which it counts if it is that of its memory.
func (s *Service) toError(err error) error {
	if errors.Is(err, engine.ErrMemory) {
		s.noMemory.Inc()
	}
	return remote.ToError(err)
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
