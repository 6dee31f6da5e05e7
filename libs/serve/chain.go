package serve

import (
	"context"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// Middleware wraps a handler.
type Middleware = func(http.Handler) http.Handler

// Chain wraps h in middlewares, the first outermost.
func Chain(h http.Handler, middlewares ...Middleware) http.Handler {
	for i := len(middlewares) - 1; i >= 0; i-- {
		h = middlewares[i](h)
	}
	return h
}

// Interceptor wraps the calls of both kinds, as a Middleware wraps a handler. Either may be nil.
type Interceptor struct {
	Unary  grpc.UnaryServerInterceptor
	Stream grpc.StreamServerInterceptor
}

// NewInterceptor pairs what functions like tenant.ServerInterceptors return.
func NewInterceptor(u grpc.UnaryServerInterceptor, s grpc.StreamServerInterceptor) Interceptor {
	return Interceptor{Unary: u, Stream: s}
}

// withoutTenant reports whether a method belongs to gRPC itself (health, reflection): it needs no
// tenant, and answers before the process is ready.
func withoutTenant(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// admit returns nil while the process takes requests.
func (s *Server) admit() error {
	switch phase(s.phase.Load()) {
	case phaseReady:
		return nil
	case phaseStopping:
		return rpcerr.New(rpcerr.NotReady, "the server is stopping").WithRetry(time.Second)
	default:
		return rpcerr.New(rpcerr.NotReady, "the server is starting").WithRetry(time.Second)
	}
}

// lifetime refuses calls from outside unless the process is ready, and ends streams when it stops.
func (s *Server) lifetime(d Door) Interceptor {
	admit := func(method string) error {
		if d == DoorMemory || withoutTenant(method) {
			return nil
		}
		return s.admit()
	}
	return Interceptor{
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := admit(info.FullMethod); err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		Stream: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := admit(info.FullMethod); err != nil {
				return err
			}
			ctx, cancel := context.WithCancelCause(ss.Context())
			defer cancel(nil)
			defer context.AfterFunc(s.streams, func() { cancel(context.Cause(s.streams)) })()
			err := next(srv, &serverStream{ServerStream: ss, ctx: ctx, waits: info.IsClientStream})
			if err != nil && ss.Context().Err() == nil && ctx.Err() != nil {
				return context.Cause(ctx) // what ended it is that we stop, whatever the handler made of that
			}
			return err
		},
	}
}

type serverStream struct {
	grpc.ServerStream
	ctx   context.Context
	waits bool // the client may keep the stream open without sending
}

func (s *serverStream) Context() context.Context { return s.ctx }

// RecvMsg ends with the stream's context, so that a handler which waits for its client does not
// keep the process from stopping. The transport's own call cannot be interrupted: it ends when the
// handler has returned, and what it received is lost with the stream.
func (s *serverStream) RecvMsg(m any) error {
	if !s.waits {
		return s.ServerStream.RecvMsg(m)
	}
	received := make(chan error, 1)
	go func() { received <- s.ServerStream.RecvMsg(m) }()
	select {
	case err := <-received:
		return err
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}
