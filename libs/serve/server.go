package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// Door is a way into the process.
type Door int

// The doors.
const (
	DoorHTTP   Door = iota // gRPC and everything else on the HTTP port
	DoorGRPC               // the gRPC port
	DoorMemory             // Server.Conn
)

// Options are what a Server is made of besides its configuration.
type Options struct {
	// Telemetry is required.
	Telemetry *obs.Telemetry
	// Errors maps the errors of all services, both ways.
	Errors rpcerr.Table
	// Tenants tells the tenant of requests on the HTTP and the gRPC port; nil means
	// tenant.ByHeader, that is, authentication is off. The memory door always trusts its callers.
	Tenants tenant.Authenticator
	// NoReflection turns gRPC reflection off, as it should be with authentication.
	NoReflection bool
	// InFlightExempt says which HTTP requests the bound on requests at once leaves alone.
	InFlightExempt func(*http.Request) bool
	// Alone says that there are no other members: internal services are for this process only.
	Alone bool
	// Middlewares and Interceptors come after all others, the first outermost.
	Middlewares  []Middleware
	Interceptors func(Door) []Interceptor
}

// phase is how far the process is.
type phase int32

const (
	phaseStarting phase = iota
	phaseReady
	phaseStopping
)

// Server is the doors of a process. Register everything before Start. All methods are safe for
// concurrent use after that.
type Server struct {
	cfg  Config
	opts Options
	log  *slog.Logger

	mux, ops *http.ServeMux
	http     *http.Server
	debug    *http.Server
	doors    [3]*grpc.Server // by Door
	health   *health.Server
	memory   *bufconn.Listener
	direct   *direct
	conn     *grpc.ClientConn
	certs    *certificates
	internal map[string]bool // names of services for members; not changed any more once Start was called

	phase  atomic.Int32
	checks []check
	// conditions are what may be wrong with a process that is ready.
	conditions []condition
	drained    chan struct{} // closed when draining begins
	begin      sync.Once     // closes drained
	streams    context.Context
	// endStreams cancels the contexts of all streams, grace after draining began.
	endStreams context.CancelCauseFunc
	grace      time.Duration // streamGrace, less in tests

	mu        sync.Mutex // guards listeners
	listeners map[Door]net.Listener
	failed    chan error     // what ended a door that should be open; buffered for all
	serving   sync.WaitGroup // the goroutines that serve doors
}

type check struct {
	name string
	run  func(context.Context) error
}

type condition struct {
	name     string
	degraded func() string
}

// New returns a Server of cfg, which is valid. It reads the certificate and opens nothing.
func New(cfg Config, o Options) (*Server, error) {
	s := &Server{
		cfg: cfg, opts: o, log: o.Telemetry.Log,
		mux: http.NewServeMux(), ops: http.NewServeMux(),
		health:    health.NewServer(),
		memory:    bufconn.Listen(1 << 20),
		drained:   make(chan struct{}),
		listeners: map[Door]net.Listener{}, internal: map[string]bool{},
		failed: make(chan error, 4),
		grace:  streamGrace,
	}
	s.streams, s.endStreams = context.WithCancelCause(context.Background())
	if o.Tenants == nil {
		s.opts.Tenants = tenant.ByHeader{}
	}
	if cfg.TLSCertFile != "" {
		var err error
		if s.certs, err = loadCertificates(cfg); err != nil {
			return nil, err
		}
	}
	s.direct = newDirect(&peer.Peer{Addr: s.memory.Addr()})
	inFlight := obs.NewInFlight(cfg.MaxInFlight)
	for _, d := range []Door{DoorHTTP, DoorGRPC, DoorMemory} {
		s.doors[d] = s.newDoor(d, inFlight)
		healthpb.RegisterHealthServer(s.doors[d], s.health)
	}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	s.http = s.newHTTP(inFlight)
	s.debug = newDebug()

	conn, err := grpc.NewClient("passthrough:///memory", append(s.clientOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.memory.DialContext(ctx) }),
		grpc.WithChainUnaryInterceptor(s.direct.intercept),
		grpc.WithChainStreamInterceptor(s.direct.interceptStream),
	)...)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	return s, nil
}

func (s *Server) newDoor(d Door, inFlight *obs.InFlight) *grpc.Server {
	unary, stream := s.opts.Telemetry.ServerInterceptors(s.opts.Errors)
	add := func(i Interceptor) {
		if i.Unary != nil {
			unary = append(unary, i.Unary)
		}
		if i.Stream != nil {
			stream = append(stream, i.Stream)
		}
	}
	add(s.lifetime(d))
	if d == DoorGRPC && s.cfg.TLSClientCAFile != "" {
		add(s.membersOnly())
	}
	authenticator := s.opts.Tenants
	if d == DoorMemory {
		authenticator = tenant.ByHeader{}
	} else {
		add(NewInterceptor(inFlight.ServerInterceptors()))
	}
	add(NewInterceptor(tenant.ServerInterceptors(authenticator, withoutTenant)))
	if s.opts.Interceptors != nil {
		for _, i := range s.opts.Interceptors(d) {
			add(i)
		}
	}
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
		grpc.StatsHandler(s.opts.Telemetry.StatsHandler()),
		grpc.MaxRecvMsgSize(int(s.cfg.MaxMessageSize)),
		grpc.MaxConcurrentStreams(maxConcurrentStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(readHeaderTimeout),
		grpc.WaitForHandlers(true),
	}
	if d == DoorMemory {
		s.direct.chain, s.direct.streamChain = unary, stream
		// One connection carries everything that services say to each other. It is not kept alive by
		// pings: its ends live and die together, and a process that is short of CPU, or was stopped
		// for a while, would take its own silence for the other's and end all calls.
		options = append(options, grpc.MaxConcurrentStreams(100_000),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: math.MaxInt64}))
	} else {
		options = append(options,
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}))
	}
	if d == DoorGRPC && s.certs != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.certs.members("h2"))))
	}
	return grpc.NewServer(options...)
}

func (s *Server) clientOptions() []grpc.DialOption {
	tenantUnary, tenantStream := tenant.ClientInterceptors()
	errorUnary, errorStream := rpcerr.ClientInterceptors(s.opts.Errors)
	return append(s.opts.Telemetry.DialOptions(),
		grpc.WithChainUnaryInterceptor(errorUnary, tenantUnary),
		grpc.WithChainStreamInterceptor(errorStream, tenantStream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(int(s.cfg.MaxMessageSize)), grpc.MaxCallSendMsgSize(int(s.cfg.MaxMessageSize))),
	)
}

// DialOptions are for connections to the gRPC ports of other members: tenant, request id and trace
// travel along, errors come back as those of Options.Errors, TLS is used if this process has it, with its certificate
// shown to them where TLSClientCAFile is set.
func (s *Server) DialOptions() []grpc.DialOption {
	creds := insecure.NewCredentials()
	if s.certs != nil {
		creds = credentials.NewTLS(s.certs.client())
	}
	return append(s.clientOptions(),
		grpc.WithTransportCredentials(creds),
		// Members restart; one that is back must not wait for those that call it.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
	)
}

// Conn is the connection to this process's own services, through the memory door. It may be used
// from Start until Close. The caller does not close it. Calls of internal services, but for their streams
// of answers to one request, and those of PublicDirect are made directly: each side gets messages of its own whose fields refer to what the
// other's do, and a handler goes on with them when the caller's context ends. The caller changes
// nothing that a request refers to; what an answer refers to is the caller's.
func (s *Server) Conn() *grpc.ClientConn { return s.conn }

// Mux is where HTTP handlers are registered. They run behind the whole chain of middlewares, with
// a tenant, and only while the process is ready.
func (s *Server) Mux() *http.ServeMux { return s.mux }

// Ops is where handlers for operators are registered. They need no tenant and are served from
// Start to Close, however busy the process is.
func (s *Server) Ops() *http.ServeMux { return s.ops }

// Public registers services on all doors.
func (s *Server) Public() grpc.ServiceRegistrar {
	return registrar{s.doors[DoorHTTP], s.doors[DoorGRPC], s.doors[DoorMemory]}
}

// PublicDirect registers services on all doors whose calls over Conn are made directly, streams with
// one request included. Their handlers take generated messages, and do not touch again what they
// have sent.
func (s *Server) PublicDirect() grpc.ServiceRegistrar {
	return publicRegistrar{registrar{s.doors[DoorHTTP], s.doors[DoorGRPC], s.doors[DoorMemory]}, s.direct}
}

type publicRegistrar struct {
	registrar
	direct *direct
}

func (r publicRegistrar) RegisterService(d *grpc.ServiceDesc, impl any) {
	r.direct.register(d, impl)
	r.direct.registerStreams(d, impl)
	r.registrar.RegisterService(d, impl)
}

type registrar []*grpc.Server

func (r registrar) RegisterService(d *grpc.ServiceDesc, impl any) {
	for _, s := range r {
		s.RegisterService(d, impl)
	}
}

// AddCheck adds a condition of readiness; f returns nil when it is met. Call it before Start.
func (s *Server) AddCheck(name string, f func(context.Context) error) {
	s.checks = append(s.checks, check{name, f})
}

// AddCondition adds something that may be wrong while requests are served all the same, and that
// /ready and the metric weir_degraded tell of: f returns what is wrong, or "". It must be quick, and
// may be called at any time after Start. Call AddCondition before that.
func (s *Server) AddCondition(name string, f func() string) {
	s.conditions = append(s.conditions, condition{name, f})
	promauto.With(s.opts.Telemetry.Registry).NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "weir_degraded",
		Help:        "1 while something is wrong with a process that serves requests all the same, by what it is; /ready tells more.",
		ConstLabels: prometheus.Labels{"condition": name},
	}, func() float64 {
		if f() != "" {
			return 1
		}
		return 0
	})
}

// Addr returns the address of an open port, nil for the memory door.
func (s *Server) Addr(d Door) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.listeners[d]; l != nil {
		return l.Addr()
	}
	return nil
}

// Failures delivers what ended a door that should be open.
func (s *Server) Failures() <-chan error { return s.failed }

// Draining is closed when the process begins to stop: handlers that would go on for long end then.
func (s *Server) Draining() <-chan struct{} { return s.drained }

// Start opens the doors. Operators' handlers and the memory door work at once; requests from
// outside are answered 503 (Unavailable, NOT_READY) until SetReady. On error nothing stays open.
func (s *Server) Start() error {
	if !s.opts.NoReflection {
		reflection.Register(s.doors[DoorHTTP])
		reflection.Register(s.doors[DoorGRPC])
	}
	s.registerOps()
	open := func(address string) (net.Listener, error) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		return netutil.LimitListener(l, s.cfg.MaxConnections), nil
	}
	httpListener, err := open(s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("HTTP port: %w", err)
	}
	grpcListener, err := open(s.cfg.GRPCListen)
	if err != nil {
		return errors.Join(fmt.Errorf("gRPC port: %w", err), httpListener.Close())
	}
	if s.cfg.DebugListen != "" {
		debugListener, err := open(s.cfg.DebugListen)
		if err != nil {
			return errors.Join(fmt.Errorf("debug port: %w", err), httpListener.Close(), grpcListener.Close())
		}
		s.log.Info("profiling port open", "address", debugListener.Addr().String())
		s.serve("debug port", func() error { return s.debug.Serve(debugListener) })
	}
	s.mu.Lock()
	s.listeners[DoorHTTP], s.listeners[DoorGRPC] = httpListener, grpcListener
	s.mu.Unlock()
	s.serve("HTTP port", func() error {
		if s.certs != nil {
			return s.http.ServeTLS(httpListener, "", "")
		}
		return s.http.Serve(httpListener)
	})
	s.serve("gRPC port", func() error { return s.doors[DoorGRPC].Serve(grpcListener) })
	s.serve("memory door", func() error { return s.doors[DoorMemory].Serve(s.memory) })
	s.log.Info("ports open", "http", httpListener.Addr().String(), "grpc", grpcListener.Addr().String(), "tls", s.certs != nil)
	return nil
}

func (s *Server) serve(name string, f func() error) {
	s.serving.Go(func() {
		err := f()
		if phase(s.phase.Load()) == phaseStopping || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
			return
		}
		s.failed <- fmt.Errorf("%s: %w", name, err)
	})
}

// SetReady lets requests in.
func (s *Server) SetReady() {
	if s.phase.CompareAndSwap(int32(phaseStarting), int32(phaseReady)) {
		s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	}
}

// Drain lets no more requests in and returns when those that are being served are done. Streams
// are ended after five seconds. When ctx is done the rest is cut and the error says so. The memory
// door stays open, since modules that are still to stop may need each other.
func (s *Server) Drain(ctx context.Context) error {
	s.phase.Store(int32(phaseStopping))
	s.health.Shutdown()
	s.begin.Do(func() { close(s.drained) })
	timer := time.AfterFunc(s.grace, func() {
		s.endStreams(rpcerr.New(rpcerr.NotReady, "the server is stopping").WithRetry(time.Second))
	})
	defer timer.Stop()

	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.doors[DoorGRPC].GracefulStop()
	}()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(errors.New("requests on the HTTP port were cut"), s.http.Close())
	}
	select {
	case <-graceful:
	case <-ctx.Done():
		s.cut(DoorGRPC)
		<-graceful
		err = errors.Join(err, errors.New("requests on the gRPC port were cut"))
	}
	s.cut(DoorHTTP)
	return err
}

// cut ends a door with all its calls.
func (s *Server) cut(d Door) {
	s.endStreams(rpcerr.New(rpcerr.NotReady, "the server is stopping").WithRetry(time.Second))
	s.doors[d].Stop()
}

// Close closes what is still open: after Drain, the memory door and the debug port. It returns
// when nothing of the Server runs any more, except for handlers of hijacked connections.
func (s *Server) Close() error {
	s.phase.Store(int32(phaseStopping))
	s.begin.Do(func() { close(s.drained) })
	s.health.Shutdown()
	err := errors.Join(s.http.Close(), s.conn.Close(), s.debug.Close())
	for _, d := range []Door{DoorHTTP, DoorGRPC, DoorMemory} {
		s.cut(d)
	}
	s.direct.close()
	err = errors.Join(err, s.memory.Close())
	s.serving.Wait()
	return err
}
