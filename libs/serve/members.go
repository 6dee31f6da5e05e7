package serve

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// membersOnly refuses calls of internal services from callers that have not shown a member's
// certificate, where members have any.
func (s *Server) membersOnly() Interceptor {
	check := func(ctx context.Context, method string) error {
		service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
		if !s.internal[service] || isMember(ctx) {
			return nil
		}
		return rpcerr.New(rpcerr.PermissionDenied, "%s is for members of the cluster only: the caller has shown no certificate by an authority of server.tls_client_ca_file", service)
	}
	return Interceptor{
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := check(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		Stream: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := check(ss.Context(), info.FullMethod); err != nil {
				return err
			}
			return next(srv, ss)
		},
	}
}

// isMember reports whether the caller's certificate was verified.
func isMember(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	return ok && len(info.State.VerifiedChains) > 0
}

// Internal registers services that only other members call. The HTTP port knows nothing of them;
// nor does the gRPC port where there are no other members. Where TLSClientCAFile is set, the gRPC
// port serves them to callers with a certificate by one of its authorities only. Calls and streams
// both ways that come over Conn are made directly: neither side touches again what it has sent.
func (s *Server) Internal() grpc.ServiceRegistrar {
	r := registrar{s.doors[DoorMemory]}
	if !s.opts.Alone {
		r = append(r, s.doors[DoorGRPC])
	}
	return internalRegistrar{r, s.internal, s.direct}
}

type internalRegistrar struct {
	registrar
	names  map[string]bool
	direct *direct
}

func (r internalRegistrar) RegisterService(d *grpc.ServiceDesc, impl any) {
	r.names[d.ServiceName] = true
	r.direct.register(d, impl)
	r.direct.registerDialogs(d, impl)
	r.registrar.RegisterService(d, impl)
}
