package weir

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// clients connects this process to the other members. To itself it speaks over the
// in-memory door.
type clients struct {
	self atomic.Pointer[string] // this member's name, once it has joined
	own  *grpc.ClientConn
	dial []grpc.DialOption
	view func() *ring.View

	mu     sync.Mutex // guards everything below
	conns  map[string]*grpc.ClientConn
	closed bool
	turn   atomic.Uint64 // for taking turns between members
}

// Ingester returns the client of an ingester.
func (c *clients) Ingester(m *ring.Member) (ingestv1.IngestServiceClient, error) {
	conn, err := c.conn(m)
	if err != nil {
		return nil, err
	}
	return ingestv1.NewIngestServiceClient(conn), nil
}

func (c *clients) conn(m *ring.Member) (grpc.ClientConnInterface, error) {
	if self := c.self.Load(); self != nil && m.Name == *self {
		return c.own, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("the process is stopping")
	}
	if conn := c.conns[m.GRPCAddr]; conn != nil {
		return conn, nil
	}
	// Addresses of members that are gone are given up here, so that containers
	// that come back under new ones do not add up.
	known := map[string]bool{}
	for o := range c.view().Table().All() {
		known[o.GRPCAddr] = true
	}
	for addr, conn := range c.conns {
		if !known[addr] {
			_ = conn.Close() // it is of no use any more
			delete(c.conns, addr)
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+m.GRPCAddr, c.dial...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s at %s: %w", m.Name, m.GRPCAddr, err)
	}
	c.conns[m.GRPCAddr] = conn
	return conn, nil
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.conns {
		_ = conn.Close() // nothing is lost
	}
	c.conns = nil
}

// workers are the other queriers.
type workers struct{ *clients }

// Self implements querier.Workers.
func (w workers) Self() string {
	if self := w.self.Load(); self != nil {
		return *self
	}
	return ""
}

// Worker implements querier.Workers.
func (w workers) Worker(m *ring.Member) (ingestv1.BlockServiceClient, error) {
	conn, err := w.conn(m)
	if err != nil {
		return nil, err
	}
	return ingestv1.NewBlockServiceClient(conn), nil
}

// role returns a connection to any healthy member with a role, this process first
// if it has it. Calls that could not reach their member go to the next.
func (c *clients) role(r ring.Role, local bool) grpc.ClientConnInterface {
	if local {
		return c.own
	}
	return &roleConn{clients: c, role: r}
}

type roleConn struct {
	clients *clients
	role    ring.Role
}

// members returns the healthy members with the role, each call beginning with
// another one.
func (r *roleConn) members() []*ring.Member {
	healthy := r.clients.view().With(r.role)
	if n := uint64(len(healthy)); n > 1 {
		k := r.clients.turn.Add(1) % n
		healthy = append(healthy[k:], healthy[:k]...)
	}
	return healthy
}

// try calls f with one member after the other until one could be reached.
func (r *roleConn) try(f func(grpc.ClientConnInterface) error) error {
	var last error
	for _, m := range r.members() {
		conn, err := r.clients.conn(m)
		if err == nil {
			err = f(conn)
		}
		if err == nil || !rpcerr.Is(err, rpcerr.Unavailable) && !rpcerr.Is(err, rpcerr.NotReady) {
			return err
		}
		last = err
	}
	if last != nil {
		return last
	}
	return rpcerr.New(rpcerr.Unavailable, "no %s is healthy", r.role).WithRetry(time.Second)
}

// Invoke implements grpc.ClientConnInterface. All calls between services may be
// repeated.
func (r *roleConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return r.try(func(c grpc.ClientConnInterface) error { return c.Invoke(ctx, method, args, reply, opts...) })
}

// NewStream implements grpc.ClientConnInterface.
func (r *roleConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (stream grpc.ClientStream, err error) {
	err = r.try(func(c grpc.ClientConnInterface) (err error) {
		stream, err = c.NewStream(ctx, desc, method, opts...)
		return err
	})
	return stream, err
}
