// Package obs is how a Weir process is observed: logs, metrics, traces, and the middlewares and
// interceptors that apply them to every request.
//
// Nothing here is global. [Start] makes one [Telemetry] for the process, whose HTTP method and
// interceptors are the outer part of the chain on every door:
//
//	request id → tracing → metrics and access log → errors to statuses → recovery → …
//
// Every error below that point, and every panic, is therefore counted, logged with the id of its
// request, and answered without a word about the server's insides.
package obs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// Config is the configuration of a process's telemetry, as two sections.
type Config struct {
	Log     LogConfig
	Tracing TracingConfig
}

// DefaultConfig logs text at info and traces nothing.
func DefaultConfig() Config {
	return Config{Log: DefaultLogConfig(), Tracing: DefaultTracingConfig()}
}

// BuildInfo says which program runs.
type BuildInfo struct {
	Program  string // "weir"
	Version  string // "0.1.0"
	Revision string // commit
}

// Telemetry is the telemetry of a process. Its fields are read only; all of it is safe for
// concurrent use.
type Telemetry struct {
	Log      *slog.Logger
	Level    *slog.LevelVar // of Log; set it to change the level at once
	Registry *prometheus.Registry
	Tracing  trace.TracerProvider

	requests *RequestMetrics
	access   *accessLog
	shutdown func(context.Context) error
}

// Propagator carries traces between processes: W3C trace context and baggage.
func Propagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// Start makes the telemetry of a process that logs to w. cfg is valid. Call Shutdown at the end:
// it sends the spans that are still held.
func Start(ctx context.Context, cfg Config, info BuildInfo, w io.Writer) (*Telemetry, error) {
	log, level := NewLogger(w, cfg.Log)
	tracing, shutdown, err := NewTracing(ctx, cfg.Tracing, info, log)
	if err != nil {
		return nil, err
	}
	reg := NewRegistry(info)
	return &Telemetry{
		Log: log, Level: level, Registry: reg, Tracing: tracing,
		requests: NewRequestMetrics(reg),
		access:   newAccessLog(log, cfg.Log.SlowRequest),
		shutdown: shutdown,
	}, nil
}

// Shutdown sends what is held back and ends background work.
func (t *Telemetry) Shutdown(ctx context.Context) error { return t.shutdown(ctx) }

// HTTP is the outer part of the chain of middlewares.
func (t *Telemetry) HTTP(next http.Handler) http.Handler {
	h := t.requests.recoverHTTP(t.Log, next)
	h = t.requests.observeHTTP(t.access, h)
	h = traceHTTP(t.Tracing, h)
	return RequestID(h)
}

// ServerInterceptors are the outer part of the chain of interceptors, in order: add those for
// tenants and limits after them. table maps the errors of what is served.
func (t *Telemetry) ServerInterceptors(table rpcerr.Table) ([]grpc.UnaryServerInterceptor, []grpc.StreamServerInterceptor) {
	var unary []grpc.UnaryServerInterceptor
	var stream []grpc.StreamServerInterceptor
	add := func(u grpc.UnaryServerInterceptor, s grpc.StreamServerInterceptor) {
		unary, stream = append(unary, u), append(stream, s)
	}
	add(requestIDServer())
	add(t.requests.observeServer(t.access))
	add(rpcerr.ServerInterceptors(table, t.Log))
	add(t.requests.recoverServer(t.Log))
	return unary, stream
}

// StatsHandler traces the calls of a grpc.Server.
func (t *Telemetry) StatsHandler() stats.Handler {
	return otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.Tracing), otelgrpc.WithPropagators(Propagator()),
		otelgrpc.WithMeterProvider(noMeter),
	)
}

// DialOptions trace the calls of a client and send the request id along.
func (t *Telemetry) DialOptions() []grpc.DialOption {
	unary, stream := requestIDClient()
	return []grpc.DialOption{
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(t.Tracing), otelgrpc.WithPropagators(Propagator()),
			otelgrpc.WithMeterProvider(noMeter),
		)),
		grpc.WithChainUnaryInterceptor(unary),
		grpc.WithChainStreamInterceptor(stream),
	}
}

// Validate returns all problems of both sections.
func (c Config) Validate() error { return errors.Join(c.Log.Validate(), c.Tracing.Validate()) }
