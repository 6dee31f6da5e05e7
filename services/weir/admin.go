package weir

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/serve"
)

// admin serves adminv1.AdminService for this process.
type admin struct {
	adminv1.UnsafeAdminServiceServer
	p *Process
}

var _ adminv1.AdminServiceServer = (*admin)(nil)

func (p *Process) registerAdmin() {
	adminv1.RegisterAdminServiceServer(p.server.Public(), &admin{p: p})
	p.registerRing()
}

// Services implements adminv1.AdminServiceServer.
func (a *admin) Services(context.Context, *adminv1.ServicesRequest) (*adminv1.ServicesResponse, error) {
	resp := &adminv1.ServicesResponse{Degraded: a.p.server.Degraded()}
	for _, s := range a.p.modules.States() {
		out := &adminv1.Service{Name: s.Name, State: serviceStates[s.State]}
		if s.Err != nil {
			out.Error = s.Err.Error()
		}
		resp.Services = append(resp.Services, out)
	}
	return resp, nil
}

var serviceStates = map[serve.State]adminv1.ServiceState{
	serve.StateNew:        adminv1.ServiceState_SERVICE_STATE_NEW,
	serve.StateStarting:   adminv1.ServiceState_SERVICE_STATE_STARTING,
	serve.StateRunning:    adminv1.ServiceState_SERVICE_STATE_RUNNING,
	serve.StateStopping:   adminv1.ServiceState_SERVICE_STATE_STOPPING,
	serve.StateTerminated: adminv1.ServiceState_SERVICE_STATE_TERMINATED,
	serve.StateFailed:     adminv1.ServiceState_SERVICE_STATE_FAILED,
}

// Members implements adminv1.AdminServiceServer.
func (a *admin) Members(context.Context, *adminv1.MembersRequest) (*adminv1.MembersResponse, error) {
	v := a.p.View()
	resp := &adminv1.MembersResponse{ReplicationFactor: uint32(v.Config().ReplicationFactor)}
	for m := range v.Table().All() {
		var roles []string
		for _, name := range roleModules {
			if r, err := ring.ParseRole(name); err == nil && m.Roles.Has(r) {
				roles = append(roles, name)
			}
		}
		resp.Members = append(resp.Members, &adminv1.Member{
			Name: m.Name, Incarnation: m.Incarnation, Roles: roles, GrpcAddress: m.GRPCAddr, Zone: m.Zone,
			State: m.State.String(), Healthy: v.Healthy(m.Name), Changed: timestamppb.New(m.Changed()),
		})
	}
	for m := range v.Table().Past() {
		if m.Missing() {
			resp.Missing = append(resp.Missing, &adminv1.Missing{
				Name: m.Name, Incarnation: m.Incarnation, State: m.State.String(), Changed: timestamppb.New(m.Changed()),
			})
		}
	}
	return resp, nil
}

// BuildInfo implements adminv1.AdminServiceServer.
func (a *admin) BuildInfo(context.Context, *adminv1.BuildInfoRequest) (*adminv1.BuildInfoResponse, error) {
	b := a.p.build
	return &adminv1.BuildInfoResponse{
		Version: b.Version, Revision: b.Revision, Branch: b.Branch, BuildDate: b.Date, BuildUser: b.User, GoVersion: b.GoVersion,
	}, nil
}

// Flush implements adminv1.AdminServiceServer: all ingesters flush.
func (a *admin) Flush(ctx context.Context, _ *adminv1.FlushRequest) (*adminv1.FlushResponse, error) {
	err := a.everyIngester(ctx, func(c ingestv1.IngestServiceClient) error {
		_, err := c.Flush(ctx, &ingestv1.FlushRequest{})
		return err
	})
	return &adminv1.FlushResponse{}, err
}

// Compact implements adminv1.AdminServiceServer: all ingesters merge, and then the
// compactor of this process, if it runs one.
func (a *admin) Compact(ctx context.Context, _ *adminv1.CompactRequest) (*adminv1.CompactResponse, error) {
	err := a.everyIngester(ctx, func(c ingestv1.IngestServiceClient) error {
		_, err := c.Compact(ctx, &ingestv1.CompactRequest{})
		return err
	})
	if err == nil && a.p.compactor != nil {
		err = a.p.compactor.Compact(ctx)
	}
	return &adminv1.CompactResponse{}, err
}

func (a *admin) everyIngester(ctx context.Context, call func(ingestv1.IngestServiceClient) error) error {
	if err := a.operator(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	members := a.p.View().Ingesters()
	errs := make([]error, len(members))
	for i, m := range members {
		wg.Go(func() {
			c, err := a.p.clients.Ingester(m)
			if err == nil {
				err = call(c)
			}
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", m.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Leave implements adminv1.AdminServiceServer.
func (a *admin) Leave(ctx context.Context, _ *adminv1.LeaveRequest) (*adminv1.LeaveResponse, error) {
	if err := a.operator(ctx); err != nil {
		return nil, err
	}
	return &adminv1.LeaveResponse{}, a.p.leave(ctx)
}

// operator refuses callers who are no operators: see local and serve.Operators.
func (a *admin) operator(ctx context.Context) error {
	if err := local(ctx); err != nil {
		return err
	}
	if p, ok := peer.FromContext(ctx); ok && inMemory(p) {
		return nil
	}
	return a.p.operators().Check(strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), ""))
}

func (p *Process) operators() serve.Operators {
	return serve.NewOperators(p.cfg.Server.OperatorToken.Reveal())
}

// inMemory reports whether a call came by the in-memory door.
func inMemory(p *peer.Peer) bool {
	_, tcp := p.Addr.(*net.TCPAddr)
	return !tcp && p.Addr.Network() == "bufconn"
}

// local refuses callers that are not on this machine, and those behind a proxy that
// says so. The in-memory door has checked its own. On the HTTP port addresses are text, not a *net.TCPAddr.
func local(ctx context.Context) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return rpcerr.New(rpcerr.PermissionDenied, "the caller is not known")
	}
	if inMemory(p) {
		return nil
	}
	header := func(name string) string {
		return strings.Join(metadata.ValueFromIncomingContext(ctx, name), "")
	}
	from, err := netip.ParseAddrPort(p.Addr.String())
	if err == nil && !serve.Forwarded(header) && (from.Addr().Unmap().IsLoopback() || p.LocalAddr != nil && sameHost(from, p.LocalAddr.String())) {
		return nil
	}
	return rpcerr.New(rpcerr.PermissionDenied, "only callers on this machine may do this, not %s", p.Addr)
}

// sameHost reports whether a connection is from the address that it is to, which no other
// machine has.
func sameHost(from netip.AddrPort, to string) bool {
	at, err := netip.ParseAddrPort(to)
	return err == nil && !at.Addr().IsUnspecified() && from.Addr().Unmap() == at.Addr().Unmap()
}
