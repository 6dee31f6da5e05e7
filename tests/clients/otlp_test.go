package clients

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
)

// OpenTelemetry's own exporters of logs, over HTTP and gRPC, plain and compressed.
func TestOTLPExporters(t *testing.T) {
	grpcAddr, httpAddr := startServer(t)
	c, err := client.Dial(grpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	overHTTP := func(opts ...otlploghttp.Option) (sdklog.Exporter, error) {
		return otlploghttp.New(ctx, append(opts, otlploghttp.WithEndpoint(httpAddr), otlploghttp.WithInsecure(), otlploghttp.WithURLPath("/otlp/v1/logs"))...)
	}
	overGRPC := func(opts ...otlploggrpc.Option) (sdklog.Exporter, error) {
		return otlploggrpc.New(ctx, append(opts, otlploggrpc.WithEndpoint(grpcAddr), otlploggrpc.WithInsecure())...)
	}
	for name, start := range map[string]func() (sdklog.Exporter, error){
		"http": func() (sdklog.Exporter, error) { return overHTTP() },
		"http-gzip": func() (sdklog.Exporter, error) {
			return overHTTP(otlploghttp.WithCompression(otlploghttp.GzipCompression))
		},
		"grpc":      func() (sdklog.Exporter, error) { return overGRPC() },
		"grpc-gzip": func() (sdklog.Exporter, error) { return overGRPC(otlploggrpc.WithCompressor("gzip")) },
	} {
		t.Run(name, func(t *testing.T) {
			exporter, err := start()
			if err != nil {
				t.Fatal(err)
			}
			provider := sdklog.NewLoggerProvider(
				sdklog.WithProcessor(sdklog.NewSimpleProcessor(exporter)),
				sdklog.WithResource(resource.NewSchemaless(attribute.String("service.name", name), attribute.String("host.name", "h1"))),
			)
			logger := provider.Logger("shop/checkout", log.WithInstrumentationVersion("1.2.3"))
			at := time.Now()
			for i := range 3 {
				var r log.Record
				r.SetTimestamp(at.Add(time.Duration(i)))
				r.SetSeverity(log.SeverityWarn)
				r.SetBody(attribute.StringValue(fmt.Sprintf("order %d", i)))
				r.AddAttributes(attribute.Int("order.id", i), attribute.Map("user", attribute.String("name", "erin")))
				logger.Emit(ctx, r)
			}
			if err := provider.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			i := 0
			answer, err := c.QueryRange(ctx, &queryv1.QueryRangeRequest{
				Query: fmt.Sprintf(`{service_name=%q}`, name), Start: timestamppb.New(at.Add(-time.Minute)), End: timestamppb.New(at.Add(time.Minute)),
				Direction: queryv1.Direction_DIRECTION_FORWARD,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range client.Merged(answer.GetStreams().GetStreams(), queryv1.Direction_DIRECTION_FORWARD) {
				m, line := e.GetStructuredMetadata(), string(client.Line(e))
				if line != fmt.Sprintf("order %d", i) || m["order_id"] != fmt.Sprint(i) || m["user_name"] != "erin" || m["detected_level"] != "warn" ||
					m["scope_name"] != "shop/checkout" || m["scope_version"] != "1.2.3" || m["host_name"] != "h1" || m["severity_number"] != "13" {
					t.Errorf("%q %v", line, m)
				}
				i++
			}
			if i != 3 {
				t.Errorf("%d entries were stored of 3", i)
			}
		})
	}
}
