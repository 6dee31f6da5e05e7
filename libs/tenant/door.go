package tenant

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// Authenticator tells the tenant of a request from its credentials. The header is the HTTP
// header, or the gRPC metadata with its keys in canonical form. The tenant that a caller claims in
// [Header] proves nothing: an implementation may only use it to choose among the tenants that the
// credentials allow. Errors have the reason Unauthenticated or PermissionDenied. Implementations
// are safe for concurrent use.
type Authenticator interface {
	Authenticate(ctx context.Context, header http.Header) (tenant string, err error)
}

// ByHeader is the Authenticator while authentication is off: the header chooses, [Default] without one.
type ByHeader struct{}

// Authenticate returns the tenant of header, or several, see [Join].
func (ByHeader) Authenticate(_ context.Context, header http.Header) (string, error) {
	return fromValues(header.Values(Header))
}

// fromValues returns the tenant that the values of the header or metadata key name.
func fromValues(values []string) (string, error) {
	switch {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return Default, nil
	case len(values) > 1:
		return "", errSeveral()
	case strings.Contains(values[0], separator):
		ids := strings.Split(values[0], separator)
		if len(ids) > MaxTenants {
			return "", rpcerr.New(rpcerr.InvalidTenant, "%d org IDs present, at most %d are allowed", len(ids), MaxTenants)
		}
		return Join(ids), validateAll(values[0])
	}
	return values[0], Validate(values[0])
}

// authenticate asks a and checks what it says, so that no door lets a malformed id in.
func authenticate(ctx context.Context, a Authenticator, header http.Header) (context.Context, error) {
	id, err := a.Authenticate(ctx, header)
	if err != nil {
		return nil, err
	}
	if err := validateAll(id); err != nil {
		return nil, err
	}
	return NewContext(ctx, id), nil
}

// Middleware puts the tenant of each request into its context. A request whose tenant cannot be
// told is answered with the error's status and text and goes no further.
func Middleware(a Authenticator) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, err := authenticate(r.Context(), a, r.Header)
			if err != nil {
				rpcerr.WriteHTTP(w, r, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// ServerInterceptors put the tenant of each call into its context. Doors that only services reach
// use [ByHeader], since the metadata was set by the door of the peer. Methods for which open
// returns true (health, reflection) need no tenant; open may be nil.
func ServerInterceptors(a Authenticator, open func(method string) bool) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	resolve := func(ctx context.Context, method string) (context.Context, error) {
		if open != nil && open(method) {
			return ctx, nil
		}
		md, _ := metadata.FromIncomingContext(ctx)
		header := make(http.Header, len(md))
		for k, v := range md {
			header[http.CanonicalHeaderKey(k)] = v
		}
		return authenticate(ctx, a, header)
	}
	unary := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		ctx, err := resolve(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
	stream := func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		ctx, err := resolve(ss.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		return next(srv, &serverStream{ServerStream: ss, ctx: ctx})
	}
	return unary, stream
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *serverStream) Context() context.Context { return s.ctx }

// ClientInterceptors send the tenant of the context along, in place of any that the outgoing
// metadata already names. Without a tenant in the context none is sent at all.
func ClientInterceptors() (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	unary := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(outgoing(ctx), method, req, reply, cc, opts...)
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return open(outgoing(ctx), desc, cc, method, opts...)
	}
	return unary, stream
}

func outgoing(ctx context.Context) context.Context {
	id, ok := FromContext(ctx)
	md, has := metadata.FromOutgoingContext(ctx) // a copy
	if !has {
		md = metadata.MD{}
	}
	if !ok && len(md.Get(MetadataKey)) == 0 {
		return ctx
	}
	if ok {
		md.Set(MetadataKey, id)
	} else {
		md.Delete(MetadataKey)
	}
	return metadata.NewOutgoingContext(ctx, md)
}
