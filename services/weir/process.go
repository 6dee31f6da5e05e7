package weir

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/ring/gossip"
	"github.com/weir-logs/weir/libs/serve"
	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/services/compactor"
	"github.com/weir-logs/weir/services/distributor"
	"github.com/weir-logs/weir/services/gateway"
	"github.com/weir-logs/weir/services/ingester"
	"github.com/weir-logs/weir/services/querier"
)

// Process is a process that is put together and not started. Its modules share
// what is here; each is nil or empty before the module that makes it has started.
type Process struct {
	cfg     Config
	build   Build
	budget  budget
	tel     *obs.Telemetry
	server  *serve.Server
	modules *serve.Modules
	now     func() time.Time
	logFS   wal.FS // of the ingester's log; nil: the operating system's

	limits      *limits.Provider
	storage     *storage
	ingester    *ingester.Service    // nil if this process runs none
	distributor *distributor.Service // likewise
	querier     *querier.Service     // likewise
	compactor   *compactor.Service   // likewise
	clients     *clients
	member      atomic.Pointer[gossip.Membership] // set once the process has joined
	held        held
}

// ErrRestart is what Run returns when the process cannot go on but a new one can.
var ErrRestart = errors.New("the write-ahead log failed; a restart begins a new segment")

// NewProcess builds a process that logs to w. print writes the effective
// configuration.
func NewProcess(ctx context.Context, cfg Config, build Build, print func(io.Writer) error, w io.Writer, options ...Option) (*Process, error) {
	memory, err := cfg.Memory.budget()
	if err != nil {
		return nil, err
	}
	tel, err := obs.Start(ctx, obs.Config{Log: cfg.Log, Tracing: cfg.Tracing}, obs.BuildInfo{Program: "weir", Version: build.Version, Revision: build.Revision}, w)
	if err != nil {
		return nil, err
	}
	p := &Process{cfg: cfg, build: build, budget: memory, tel: tel, now: time.Now}
	for _, o := range options {
		o(p)
	}
	if p.server, err = serve.New(cfg.Server, serve.Options{
		Telemetry:      tel,
		Errors:         remote.Errors,
		InFlightExempt: gateway.LongLived,
		Alone:          len(cfg.Cluster.Join) == 0,
	}); err != nil {
		return nil, errors.Join(err, tel.Shutdown(ctx))
	}
	p.server.HandleConfig(print)
	p.clients = &clients{own: p.server.Conn(), dial: p.server.DialOptions(), view: p.View, conns: map[string]*grpc.ClientConn{}}
	p.modules = serve.NewModules(tel.Log)
	p.addModules()
	if err := p.modules.Init(cfg.Target...); err != nil {
		return nil, errors.Join(err, p.server.Close(), tel.Shutdown(ctx))
	}
	return p, nil
}

// Run runs the process until ctx ends or something fails.
func (p *Process) Run(ctx context.Context) error {
	governed, end := context.WithCancel(ctx)
	var governor sync.WaitGroup
	governor.Go(func() { p.budget.govern(governed) })
	err := serve.Run(ctx, p.server, p.modules)
	end()
	governor.Wait()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, p.tel.Shutdown(bound))
}

// HTTPAddr is the address of the open HTTP port.
func (p *Process) HTTPAddr() string { return p.server.Addr(serve.DoorHTTP).String() }

// GRPCAddr is the address of the open gRPC port.
func (p *Process) GRPCAddr() string { return p.server.Addr(serve.DoorGRPC).String() }

// Ready returns nil when the process answers requests.
func (p *Process) Ready(ctx context.Context) error { return p.server.Ready(ctx) }

func (p *Process) addModules() {
	cluster := []string{"limits"}
	if p.cfg.runs("ingester") {
		cluster = append(cluster, "ingester-store") // it joins when it has read its log
	}
	p.modules.Add(
		serve.Module{Name: "limits", Visibility: serve.Hidden, Init: p.initLimits},
		serve.Module{Name: "storage", Visibility: serve.Hidden, Init: p.initStorage},
		serve.Module{Name: "ingester-store", Visibility: serve.Hidden, DependsOn: []string{"storage"}, Init: p.initIngester},
		serve.Module{Name: "cluster", Visibility: serve.Hidden, DependsOn: cluster, Init: p.initCluster},
		serve.Module{Name: "ingester", DependsOn: []string{"ingester-store", "cluster"}, Init: idle},
		serve.Module{Name: "distributor", DependsOn: []string{"cluster", "storage"}, Init: p.initDistributor},
		serve.Module{Name: "querier", DependsOn: []string{"cluster", "storage"}, Init: p.initQuerier},
		serve.Module{Name: "scrubber", Visibility: serve.Hidden, DependsOn: []string{"cluster", "storage"}, Init: p.initScrubber},
		serve.Module{Name: "compactor", DependsOn: []string{"cluster", "storage", "scrubber"}, Init: p.initCompactor},
		serve.Module{Name: "gateway", DependsOn: []string{"cluster"}, Init: p.initGateway},
		serve.Module{Name: "all", DependsOn: []string{"ingester", "distributor", "querier", "compactor", "gateway"}},
	)
}

func (p *Process) initLimits() (serve.Service, error) {
	provider, err := limits.NewProvider(p.cfg.Limits, p.tel.Log, p.tel.Registry)
	if err != nil {
		return nil, err
	}
	p.limits = provider
	return serve.NewService(nil, provider.Run, nil), nil
}

func (p *Process) initIngester() (serve.Service, error) {
	s := ingester.New(p.cfg.Ingester, ingester.Deps{
		Log: p.tel.Log, Reg: p.tel.Registry, DataDir: p.cfg.DataDir, HeadLimit: p.budget.head,
		Bucket: p.storage.bucket, Cache: p.storage.cache, Known: p.localKnown(), Settled: p.settled,
		Now: p.now, LogFS: p.logFS,
		ReadMemory: p.budget.queries / int64(p.cfg.Querier.MaxConcurrent),
		TableVersion: func() uint64 {
			if v := p.View(); v != nil {
				return v.Table().Digest()
			}
			return 0
		},
		HoldFactor: p.holdFactor,
	})
	p.ingester = s
	s.Register(p.server.Internal())
	p.server.AddCheck("ingester", func(context.Context) error { return s.Ready() })
	run := func(ctx context.Context) error {
		draining := p.server.Draining()
		for {
			select {
			case <-draining:
				s.EndTails() // they would hold up the end for as long as streams may
				draining = nil
			case <-ctx.Done():
				return nil
			case <-s.Failed():
				return ErrRestart
			}
		}
	}
	return serve.NewService(s.Start, run, func(error) error { return s.Close() }), nil
}

func (p *Process) initCluster() (serve.Service, error) {
	p.registerAdmin()
	p.server.AddCheck("cluster", func(context.Context) error {
		if m := p.member.Load(); m != nil {
			return (*m).Ready()
		}
		return errors.New("not a member yet")
	})
	p.addConditions()
	start := func(ctx context.Context) error {
		incarnation := ""
		if p.ingester != nil {
			incarnation = p.ingester.Incarnation()
		}
		self, err := p.cfg.self(p.server.Addr(serve.DoorGRPC), incarnation)
		if err != nil {
			return err
		}
		m, err := p.cfg.newMembership(self, gossip.Deps{Log: p.tel.Log, Reg: p.tel.Registry, Now: p.now})
		if err != nil {
			return err
		}
		if err := m.Start(ctx); err != nil {
			return err
		}
		p.clients.self.Store(&self.Name)
		p.member.Store(&m)
		if p.ingester != nil {
			p.newHealer().begin()
		}
		return nil
	}
	run := func(ctx context.Context) error {
		if p.ingester != nil {
			var healing sync.WaitGroup
			ctx, cancel := context.WithCancel(ctx)
			healing.Go(func() { p.newHealer().run(ctx) })
			healing.Go(func() { p.newFactors().run(ctx) })
			healing.Go(func() { p.tellStreams(ctx) })
			defer healing.Wait()
			defer cancel()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-(*p.member.Load()).Forgotten():
			return errors.New("the cluster has given up this data directory; start with an empty one")
		case err := <-(*p.member.Load()).Taken():
			return err
		}
	}
	stop := func(error) error {
		p.clients.close()
		return (*p.member.Load()).Stop()
	}
	return serve.NewService(start, run, stop), nil
}

func (p *Process) initDistributor() (serve.Service, error) {
	s := distributor.New(p.cfg.Distributor, distributor.Deps{
		Log: p.tel.Log, Reg: p.tel.Registry, Ring: p, Ingesters: p.clients, Limits: p.limits,
		Rates: limits.NewRateLimiter(10_000, p.now, p.tel.Registry), Deletes: p.storage.deletes, Learn: p.learn, Peers: peers{p, gossip.TopicRates}, Now: p.now,
	})
	p.distributor = s
	s.Register(p.server.Internal())
	start := func(context.Context) error {
		(*p.member.Load()).Hear(gossip.TopicStreams, s.HearStreams)
		return nil
	}
	return serve.NewService(start, s.Run, nil), nil
}

func (p *Process) initQuerier() (serve.Service, error) {
	var others querier.Workers
	if len(p.cfg.Cluster.Join) > 0 {
		others = workers{p.clients}
	}
	s := querier.New(p.cfg.Querier, querier.Deps{
		Log: p.tel.Log, Reg: p.tel.Registry, Ring: p, Ingesters: p.clients, Limits: p.limits,
		Store: p.store(), Deletes: p.storage.deletes, Peers: queriers{p}, Workers: others, Learn: p.learn, Memory: p.budget.queries, Results: p.budget.results, Tails: p.budget.tails, Now: p.now,
	})
	p.querier = s
	s.Register(p.server.PublicDirect())
	s.RegisterInternal(p.server.Internal())
	return serve.NewService(nil, func(ctx context.Context) error {
		s.Warm(ctx)
		<-ctx.Done()
		return nil
	}, nil), nil
}

func (p *Process) initGateway() (serve.Service, error) {
	local := func(name string, role ring.Role) grpc.ClientConnInterface {
		return p.clients.role(role, p.cfg.runs(name))
	}
	queries := local("querier", ring.Querier)
	cfg := p.cfg.Gateway
	if cfg.DecodeMemory == 0 {
		cfg.DecodeMemory = conf.ByteSize(p.budget.decode)
	}
	g := gateway.New(cfg, gateway.Deps{
		Log: p.tel.Log, Reg: p.tel.Registry, Limits: p.limits, Now: p.now,
		Write: ingestv1.NewWriteServiceClient(local("distributor", ring.Distributor)),
		Query: queryv1.NewQueryServiceClient(queries),
		Tail:  tailv1.NewTailServiceClient(queries),
		Admin: adminv1.NewAdminServiceClient(p.server.Conn()),
		Own:   p.server.Conn(),
		Build: gateway.BuildInfo(p.build), Operators: p.operators(),
		Proxies: !p.cfg.runs("querier"),

		Storage:        storagev1.NewStorageServiceClient(local("compactor", ring.Compactor)),
		ProxiesStorage: !p.cfg.runs("compactor"),
	})
	g.Register(p.server.Public())
	if err := g.Routes(p.server.Mux()); err != nil {
		return nil, err
	}
	return idle()
}

// idle returns a service that does nothing by itself: the module answers calls, and
// is to be seen among those that run.
func idle() (serve.Service, error) {
	return serve.NewService(nil, func(ctx context.Context) error { <-ctx.Done(); return nil }, nil), nil
}

// View returns the current view of the cluster; nil before the process has joined,
// which is before requests are let in.
func (p *Process) View() *ring.View {
	if m := p.member.Load(); m != nil {
		return (*m).View()
	}
	return nil
}
