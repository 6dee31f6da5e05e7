package gateway

import (
	"context"
	"io"
	"net/http"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const welcome = `Weir, a log database.

Push logs            POST /api/v1/push            (or gRPC: weir.push.v1.PushService)
                     POST /loki/api/v1/push       (Loki's API)
                     POST /otlp/v1/logs           (OpenTelemetry; gRPC, too)
Query logs           GET  /api/v1/query_range     (or gRPC: weir.query.v1.QueryService)
                     GET  /loki/api/v1/query_range
Follow logs          GET  /api/v1/tail            (or gRPC: weir.tail.v1.TailService)
                     GET  /loki/api/v1/tail       (WebSocket)

The whole REST API   GET  /api/v1/openapi.json
Health               GET  /ready
Metrics              GET  /metrics
Services             GET  /services
`

// opsRoutes adds the page at / and what operators call.
func (g *Gateway) opsRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, welcome) // the client is gone
	})
	operate := func(call func(context.Context) error) http.Handler {
		return g.deps.Operators.Only(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := call(r.Context()); err != nil {
				rpcerr.WriteHTTP(w, r, err)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}))
	}
	mux.Handle("POST /flush", operate(func(ctx context.Context) error {
		_, err := g.deps.Admin.Flush(ctx, &adminv1.FlushRequest{})
		return err
	}))
	mux.Handle("POST /compact", operate(func(ctx context.Context) error {
		_, err := g.deps.Admin.Compact(ctx, &adminv1.CompactRequest{})
		return err
	}))
}
