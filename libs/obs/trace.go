package obs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// noMeter keeps the instrumentation from metrics: those are Prometheus' here.
var noMeter = metricnoop.NewMeterProvider()

// TracingConfig is the configuration of traces.
type TracingConfig struct {
	Endpoint    string  `help:"OTLP/gRPC collector that gets the traces, http://host:4317 or https://host:4317. Empty: no tracing."`
	SampleRatio float64 `help:"Share of the traces begun here that are recorded, 0 to 1. A caller's decision is followed."`
}

// DefaultTracingConfig traces nothing, and everything once an endpoint is set.
func DefaultTracingConfig() TracingConfig { return TracingConfig{SampleRatio: 1} }

// Validate returns all problems.
func (c TracingConfig) Validate() error {
	var problems []error
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			problems = append(problems, fmt.Errorf("endpoint %q is not of the form http://host:4317", c.Endpoint))
		}
	}
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) {
		problems = append(problems, errors.New("sample_ratio must be between 0 and 1"))
	}
	return errors.Join(problems...)
}

// NewTracing returns the provider of tracers and the function that flushes and ends it. Without
// an endpoint nothing is recorded, sent or started, but a caller's trace context is still passed on.
// The collector need not be there: spans that cannot be sent are dropped, from a bounded queue.
func NewTracing(ctx context.Context, cfg TracingConfig, info BuildInfo, log *slog.Logger) (trace.TracerProvider, func(context.Context) error, error) {
	if cfg.Endpoint == "" {
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.Endpoint), otlptracegrpc.WithTimeout(5*time.Second))
	if err != nil {
		return nil, nil, fmt.Errorf("tracing: %w", err)
	}
	res, err := resource.New(ctx, resource.WithHost(), resource.WithProcessPID(), resource.WithAttributes(
		attribute.String("service.name", info.Program), attribute.String("service.version", info.Version)))
	if err != nil && res == nil {
		return nil, nil, fmt.Errorf("tracing: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))),
	)
	log.Info("traces are sent", "endpoint", cfg.Endpoint, "sample_ratio", cfg.SampleRatio)
	return provider, provider.Shutdown, nil
}

func traceHTTP(tp trace.TracerProvider, next http.Handler) http.Handler {
	return otelhttp.NewHandler(next, "http",
		otelhttp.WithTracerProvider(tp), otelhttp.WithPropagators(Propagator()), otelhttp.WithMeterProvider(noMeter),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method }),
	)
}
