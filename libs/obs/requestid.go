package obs

import (
	"context"
	"crypto/rand"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// RequestIDHeader names the request id, in HTTP and, in lower case, in gRPC metadata.
const RequestIDHeader = "X-Request-Id"

const requestIDKey = "x-request-id"

// maxRequestID is the longest id in bytes that is taken from a caller.
const maxRequestID = 128

type requestIDContext struct{}

// RequestIDFrom returns the id of the request that ctx belongs to, empty if there is none.
func RequestIDFrom(ctx context.Context) string {
	id, _ := ctx.Value(requestIDContext{}).(string)
	return id
}

// WithRequestID returns ctx with the id of a request.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDContext{}, id)
}

// requestID returns the caller's id if it is harmless in a log and a header, else a new one.
func requestID(given string) string {
	if given == "" || len(given) > maxRequestID {
		return rand.Text()
	}
	for i := range len(given) {
		c := given[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == ':' || c == '/' || c == '+' || c == '='
		if !ok {
			return rand.Text()
		}
	}
	return given
}

// RequestID is the middleware that gives every request an id: the caller's X-Request-Id, or a new
// one. The response carries it too.
func RequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := requestID(r.Header.Get(RequestIDHeader))
		w.Header().Set(RequestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(WithRequestID(r.Context(), id)))
	})
}

func requestIDServer() (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	identify := func(ctx context.Context) (context.Context, metadata.MD) {
		given := ""
		if v := metadata.ValueFromIncomingContext(ctx, requestIDKey); len(v) == 1 {
			given = v[0]
		}
		id := requestID(given)
		return WithRequestID(ctx, id), metadata.Pairs(requestIDKey, id)
	}
	unary := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		ctx, md := identify(ctx)
		_ = grpc.SetHeader(ctx, md) // fails only when the stream is dead already
		return next(ctx, req)
	}
	stream := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		ctx, md := identify(ss.Context())
		_ = ss.SetHeader(md) // as above
		return next(srv, &serverStream{ServerStream: ss, ctx: ctx})
	}
	return unary, stream
}

func requestIDClient() (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	outgoing := func(ctx context.Context) context.Context {
		id := RequestIDFrom(ctx)
		if id == "" {
			return ctx
		}
		md, ok := metadata.FromOutgoingContext(ctx) // a copy
		if !ok {
			md = metadata.MD{}
		}
		md.Set(requestIDKey, id)
		return metadata.NewOutgoingContext(ctx, md)
	}
	unary := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(outgoing(ctx), method, req, reply, cc, opts...)
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return open(outgoing(ctx), desc, cc, method, opts...)
	}
	return unary, stream
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *serverStream) Context() context.Context { return s.ctx }
