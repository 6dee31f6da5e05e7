// Package gateway is the service that users talk to: it takes pushes over gRPC, REST,
// OTLP and the Loki API, and passes queries, tails and operators' calls on. It has no
// state; it reaches the other services by their stubs alone.
package gateway

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/serve"
	"github.com/weir-logs/weir/services/gateway/decode"
	"github.com/weir-logs/weir/services/gateway/lokiapi"
)

// BuildInfo says which build answers.
type BuildInfo struct {
	Version, Revision, Branch, Date, User, GoVersion string
}

// Limits knows each tenant's limits.
type Limits interface {
	For(tenant string) limits.Limits
}

// Deps is what a gateway needs from outside.
type Deps struct {
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: count, publish nothing
	Limits Limits
	Now    func() time.Time // nil: time.Now
	Write  ingestv1.WriteServiceClient
	Query  queryv1.QueryServiceClient
	Tail   tailv1.TailServiceClient
	Admin  adminv1.AdminServiceClient
	// Storage answers deletes, retention and blocks: a compactor.
	Storage storagev1.StorageServiceClient
	// Own is a connection to this process's own services, for REST.
	Own   grpc.ClientConnInterface
	Build BuildInfo
	// Operators tells who may call what only operators may.
	Operators serve.Operators
	// Proxies says that this process has no querier, so that the gateway answers for
	// QueryService and TailService.
	Proxies bool
	// ProxiesStorage says that this process has no compactor, so that the gateway
	// answers for StorageService.
	ProxiesStorage bool
}

// Gateway is the service. It is safe for concurrent use.
type Gateway struct {
	cfg     Config
	deps    Deps
	memory  *decode.Memory
	metrics *metrics
}

type metrics struct {
	undecodable prometheus.Counter
	blocked     prometheus.Counter
	tails       prometheus.Gauge
}

// New returns a gateway of cfg, which is valid.
func New(cfg Config, d Deps) *Gateway {
	if d.Now == nil {
		d.Now = time.Now
	}
	g := &Gateway{cfg: cfg, deps: d, memory: decode.NewMemory(int64(cfg.DecodeMemory))}
	f := promauto.With(d.Reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_gateway_decode_memory_bytes", Help: "Memory held by push requests that are being decoded and stored.",
	}, func() float64 { return float64(g.memory.Used()) })
	g.metrics = &metrics{
		undecodable: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_gateway_undecodable_pushes_total", Help: "Push requests and batches that could not be decoded, or not for want of memory.",
		}),
		blocked: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_gateway_blocked_pushes_total", Help: "Push requests and batches of tenants whose ingestion is blocked.",
		}),
		tails: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_gateway_tails", Help: "Live tails over WebSocket.",
		}),
	}
	return g
}

// reserve returns the reservation of one push request: a single one cannot take all
// of the memory.
func (g *Gateway) reserve() *decode.Reservation {
	return g.memory.Reserve(int64(g.cfg.DecodeMemory) / 4 * 3)
}

// Register adds the gRPC services to a server: PushService, OpenTelemetry's
// LogsService, and with Deps.Proxies QueryService and TailService,
// with Deps.ProxiesStorage StorageService.
func (g *Gateway) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(pushDesc(), g)
	r.RegisterService(otlpDesc(), g)
	if g.deps.Proxies {
		queryv1.RegisterQueryServiceServer(r, queryProxy{to: g.deps.Query})
		tailv1.RegisterTailServiceServer(r, tailProxy{to: g.deps.Tail})
	}
	if g.deps.ProxiesStorage {
		storagev1.RegisterStorageServiceServer(r, storageProxy{to: g.deps.Storage})
	}
}

// Routes adds the HTTP handlers to a mux: REST, Loki's API, and what operators call.
func (g *Gateway) Routes(mux *http.ServeMux) error {
	if err := g.restRoutes(mux); err != nil {
		return err
	}
	g.opsRoutes(mux)
	lokiapi.New(lokiapi.Deps{
		Limits: g.deps.Limits.For, Write: g.write, Reserve: g.reserve,
		Query: g.deps.Query, Tail: g.deps.Tail, Storage: g.deps.Storage, Build: lokiapi.Build(g.deps.Build),
		MaxTails: g.cfg.MaxTails, Tails: g.metrics.tails, Compress: compress, Now: g.deps.Now,
	}).Routes(mux)
	return nil
}

// LongLived reports whether a request may last for as long as its client likes: a
// live tail, or a streamed REST call. Such requests have bounds of their own.
func LongLived(r *http.Request) bool {
	switch r.URL.Path {
	case "/loki/api/v1/tail", "/api/prom/tail", "/api/v1/tail", "/api/v1/query_stream":
		return true
	}
	return false
}
