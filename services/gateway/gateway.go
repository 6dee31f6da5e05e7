// Package gateway is the service that users talk to: it takes pushes over gRPC, REST
// and the Loki API, and passes queries, tails and operators' calls on. It has no
// state; it reaches the other services by their stubs alone.
package gateway

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/limits"
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
	Write  ingestv1.WriteServiceClient
	Query  queryv1.QueryServiceClient
	Tail   tailv1.TailServiceClient
	Admin  adminv1.AdminServiceClient
	// Own is a connection to this process's own services, for REST.
	Own   grpc.ClientConnInterface
	Build BuildInfo
	// Proxies says that this process has no querier, so that the gateway answers for
	// QueryService and TailService.
	Proxies bool
}

// Gateway is the service. It is safe for concurrent use.
type Gateway struct {
	cfg  Config
	deps Deps
}

// New returns a gateway of cfg, which is valid.
func New(cfg Config, d Deps) *Gateway {
	return &Gateway{cfg: cfg, deps: d}
}

// Register adds the gRPC services to a server: PushService, and with Deps.Proxies
// QueryService and TailService.
func (g *Gateway) Register(r grpc.ServiceRegistrar) {}

// Routes adds the HTTP handlers to a mux.
func (g *Gateway) Routes(mux *http.ServeMux) error { return nil }

// LongLived reports whether a request may last for as long as its client likes: a
// live tail, or a streamed REST call. Such requests have bounds of their own.
func LongLived(r *http.Request) bool {
	switch r.URL.Path {
	case "/loki/api/v1/tail", "/api/prom/tail", "/api/v1/tail", "/api/v1/query_stream":
		return true
	}
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}
