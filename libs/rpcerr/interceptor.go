package rpcerr

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"google.golang.org/grpc"
)

// ServerInterceptors turn what handlers return into statuses by t. The cause of an Internal error
// is logged at Error, because callers do not get it; log may be nil.
func ServerInterceptors(t Table, log *slog.Logger) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	convert := func(ctx context.Context, method string, err error) error {
		if err == nil {
			return nil
		}
		e := t.ToError(err)
		if e.reason() == Internal && e.cause != nil && log != nil {
			log.ErrorContext(ctx, "request failed for an internal reason", "method", method, "err", err, "cause", e.cause)
		}
		return e.GRPCStatus().Err()
	}
	unary := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		resp, err := next(ctx, req)
		return resp, convert(ctx, info.FullMethod, err)
	}
	stream := func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		return convert(ss.Context(), info.FullMethod, next(srv, ss))
	}
	return unary, stream
}

// ClientInterceptors turn the statuses that calls return back into domain errors by t. io.EOF of
// a stream stays io.EOF.
func ClientInterceptors(t Table) (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	unary := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return t.FromStatus(invoke(ctx, method, req, reply, cc, opts...))
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		cs, err := open(ctx, desc, cc, method, opts...)
		if err != nil {
			return nil, t.FromStatus(err)
		}
		return &clientStream{ClientStream: cs, table: t}, nil
	}
	return unary, stream
}

type clientStream struct {
	grpc.ClientStream
	table Table
}

func (s *clientStream) SendMsg(m any) error { return s.convert(s.ClientStream.SendMsg(m)) }
func (s *clientStream) RecvMsg(m any) error { return s.convert(s.ClientStream.RecvMsg(m)) }

func (s *clientStream) convert(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	return s.table.FromStatus(err)
}
