package gateway

import (
	"bytes"
	"context"
	"fmt"

	logsv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // exporters compress with it

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/services/gateway/decode"
)

const exportMethod = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

// otlpDesc is the generated description of OpenTelemetry's LogsService with a handler
// that decodes straight into columns, as pushDesc.
func otlpDesc() *grpc.ServiceDesc {
	desc := logsv1.LogsService_ServiceDesc
	desc.HandlerType = (*any)(nil)
	desc.Methods = []grpc.MethodDesc{{MethodName: "Export", Handler: handleExport}}
	return &desc
}

// unmarshalExport keeps the message as it is: how it is decoded is its tenant's to say,
// who is not known yet.
func unmarshalExport(m *wireMessage, data []byte) {
	if m.err = m.memory.Grow(len(data)); m.err == nil {
		m.data = bytes.Clone(data)
	}
}

func handleExport(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	g := srv.(*Gateway)
	m := g.newMessage(&logsv1.ExportLogsServiceRequest{}, unmarshalExport)
	defer m.memory.Release()
	if err := dec(m); err != nil {
		return nil, err
	}
	export := func(ctx context.Context, _ any) (any, error) { return g.export(ctx, m) }
	if interceptor == nil {
		return export(ctx, m)
	}
	return interceptor(ctx, m, &grpc.UnaryServerInfo{Server: srv, FullMethod: exportMethod}, export)
}

// export stores a request. Records that are refused for good are told as partial
// success, which makes exporters drop them and go on.
func (g *Gateway) export(ctx context.Context, m *wireMessage) (*logsv1.ExportLogsServiceResponse, error) {
	if m.err == nil {
		id, _ := tenant.FromContext(ctx)
		lim := g.deps.Limits.For(id)
		m.req, m.err = decode.OTLP(m.data, lim.OTLP(), m.memory)
		m.memory.Shrink(len(m.data))
		m.data = nil
	}
	if m.err == nil && len(m.req.GetStreams()) == 0 {
		return &logsv1.ExportLogsServiceResponse{}, nil
	}
	resp, err := g.write(ctx, m.req, m.err)
	if err != nil {
		return nil, err
	}
	m.memory.Reuse()
	out := &logsv1.ExportLogsServiceResponse{}
	if n := resp.GetRejectedEntries(); n > 0 {
		text := rejections(resp)
		if resp.GetAcceptedEntries() == 0 && onlyStreamLimit(resp) {
			return nil, rpcerr.New(rpcerr.LimitExceeded, "%s", text)
		}
		out.PartialSuccess = &logsv1.ExportLogsPartialSuccess{RejectedLogRecords: int64(n), ErrorMessage: text}
	}
	return out, nil
}

// onlyStreamLimit reports whether all that was refused was so for want of streams,
// which may change.
func onlyStreamLimit(resp *ingestv1.WriteResponse) bool {
	for _, rej := range resp.GetRejections() {
		if pushv1.RejectReason(rej.GetReason()) != pushv1.RejectReason_REJECT_REASON_STREAM_LIMIT {
			return false
		}
	}
	return true
}

// rejections says why entries were refused: the first reason, and how many there are.
func rejections(resp *ingestv1.WriteResponse) string {
	list := resp.GetRejections()
	switch len(list) {
	case 0:
		return fmt.Sprintf("%d log records were refused", resp.GetRejectedEntries())
	case 1:
		return list[0].GetMessage()
	}
	return fmt.Sprintf("%s; and %d more reasons, %d log records refused in all", list[0].GetMessage(), len(list)-1, resp.GetRejectedEntries())
}
