// Package client talks to a Weir server over gRPC: it pushes log entries,
// queries them and follows them live.
//
// [Dial] gives a [Client]. Its methods take and give the generated messages of
// weir.push.v1, weir.query.v1, weir.tail.v1 and weir.admin.v1 and add what
// every caller needs: the tenant, deadlines, errors with a reason ([Error]).
// On top of them stand
//
//   - [Pusher], which sends a batch until it is stored: it splits, retries and
//     isolates refused entries; [Batch] collects entries for it;
//   - [PushStream], many batches over one call;
//   - [Client.Pages] and [Client.QueryStream], iterators over long answers;
//   - [Client.Tail], which goes on by its cursor when the connection breaks.
//
// The package depends on gRPC and the generated code only. All its types are
// safe for concurrent use unless they say otherwise.
package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

// TenantKey is the metadata key that names the tenant where the server does not
// authenticate.
const TenantKey = "x-scope-orgid"

// DefaultTimeout is the deadline of a unary call whose context has none.
const DefaultTimeout = 2 * time.Minute

// DefaultMaxReceiveBytes is the largest message that is accepted from a server.
const DefaultMaxReceiveBytes = 64 << 20

type options struct {
	tenant    string
	tls       *tls.Config
	insecure  bool
	timeout   time.Duration
	userAgent string
	keepalive keepalive.ClientParameters
	maxRecv   int
	backoff   Backoff
	dial      []grpc.DialOption
}

// Option changes how a Client connects or calls.
type Option func(*options)

// WithTenant sends every call for this tenant. Default: none is sent and the
// server's default applies.
func WithTenant(tenant string) Option { return func(o *options) { o.tenant = tenant } }

// WithTLS connects by TLS with this configuration (nil: the system's roots).
func WithTLS(c *tls.Config) Option {
	return func(o *options) {
		if c == nil {
			c = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		o.tls, o.insecure = c, false
	}
}

// WithInsecure connects without TLS. It is the default for loopback addresses
// and unix sockets only.
func WithInsecure() Option { return func(o *options) { o.tls, o.insecure = nil, true } }

// WithTimeout sets the deadline of unary calls whose context has none; 0: no
// deadline. Default: DefaultTimeout.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithUserAgent puts a program's name and version before gRPC's in the
// user-agent of each call.
func WithUserAgent(s string) Option { return func(o *options) { o.userAgent = s } }

// WithKeepalive pings an idle connection after every, and gives it up when
// there is no answer within timeout. Default: 5 minutes, which every gRPC
// server permits, and 20 s.
func WithKeepalive(every, timeout time.Duration) Option {
	return func(o *options) {
		o.keepalive = keepalive.ClientParameters{Time: every, Timeout: timeout}
	}
}

// WithMaxReceiveBytes sets the largest message accepted from the server.
// Default: DefaultMaxReceiveBytes.
func WithMaxReceiveBytes(n int) Option { return func(o *options) { o.maxRecv = n } }

// WithBackoff sets the waits between reconnections of Tail and the default ones
// of a Pusher.
func WithBackoff(b Backoff) Option { return func(o *options) { o.backoff = b } }

// WithDialOptions passes options to gRPC, after the Client's own.
func WithDialOptions(d ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, d...) }
}

func collect(opts []Option) options {
	o := options{
		timeout:   DefaultTimeout,
		userAgent: "weir-client",
		keepalive: keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: 20 * time.Second},
		maxRecv:   DefaultMaxReceiveBytes,
	}
	for _, opt := range opts {
		opt(&o)
	}
	o.backoff = o.backoff.withDefaults()
	return o
}

// ContextWithTenant makes calls with the returned context go to this tenant, over
// the Client's own.
func ContextWithTenant(ctx context.Context, tenant string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, TenantKey, tenant)
}

// Client is a connection to a Weir server. The zero value is not usable.
type Client struct {
	conn    *conn
	push    pushv1.PushServiceClient
	query   queryv1.QueryServiceClient
	tail    tailv1.TailServiceClient
	admin   adminv1.AdminServiceClient
	storage storagev1.StorageServiceClient
	backoff Backoff
	close   func() error
}

// Dial makes a Client for the server at addr: host:port, unix:PATH, or any
// other target gRPC knows. It does not wait for the connection, which is made
// by the first call and made again whenever it breaks. Close it.
//
// Without WithTLS or WithInsecure, TLS is used unless addr is on the loopback
// interface or a unix socket.
func Dial(addr string, opts ...Option) (*Client, error) {
	o := collect(opts)
	var creds credentials.TransportCredentials
	switch {
	case o.tls != nil:
		creds = credentials.NewTLS(o.tls)
	case o.insecure || isLocal(addr):
		creds = insecure.NewCredentials()
	default:
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent(o.userAgent),
		grpc.WithKeepaliveParams(o.keepalive),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(o.maxRecv)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  o.backoff.Min,
				Multiplier: 1.6,
				Jitter:     0.2,
				MaxDelay:   min(o.backoff.Max, 5*time.Second),
			},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	cc, err := grpc.NewClient(addr, append(dial, o.dial...)...)
	if err != nil {
		return nil, fmt.Errorf("client: address %q: %w", addr, err)
	}
	c := newClient(cc, o)
	c.close = cc.Close
	return c, nil
}

// New makes a Client over a connection that the caller keeps and closes, such
// as one to a listener in memory. Options about connecting have no effect.
func New(cc grpc.ClientConnInterface, opts ...Option) *Client {
	return newClient(cc, collect(opts))
}

func newClient(cc grpc.ClientConnInterface, o options) *Client {
	w := &conn{cc: cc, tenant: o.tenant, timeout: o.timeout}
	return &Client{
		conn:    w,
		push:    pushv1.NewPushServiceClient(w),
		query:   queryv1.NewQueryServiceClient(w),
		tail:    tailv1.NewTailServiceClient(w),
		admin:   adminv1.NewAdminServiceClient(w),
		storage: storagev1.NewStorageServiceClient(w),
		backoff: o.backoff,
		close:   func() error { return nil },
	}
}

// Close ends the connection and all calls on it. It does nothing to a
// connection that was given to New.
func (c *Client) Close() error { return c.close() }

// Admin gives the calls that show and steer the server process.
func (c *Client) Admin() adminv1.AdminServiceClient { return c.admin }

// Storage gives the calls that show and delete what a tenant has stored.
func (c *Client) Storage() storagev1.StorageServiceClient { return c.storage }

// isLocal says whether a target stays on this machine whatever a resolver says.
func isLocal(addr string) bool {
	if strings.HasPrefix(addr, "unix:") || strings.HasPrefix(addr, "unix-abstract:") {
		return true
	}
	for _, scheme := range []string{"dns:///", "passthrough:///"} {
		addr = strings.TrimPrefix(addr, scheme)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// conn adds to each call what all calls of a Client share.
type conn struct {
	cc      grpc.ClientConnInterface
	tenant  string
	timeout time.Duration
}

func (w *conn) withTenant(ctx context.Context) context.Context {
	if w.tenant == "" {
		return ctx
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md.Get(TenantKey)) > 0 {
		return ctx // ContextWithTenant
	}
	return metadata.AppendToOutgoingContext(ctx, TenantKey, w.tenant)
}

func (w *conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok && w.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.timeout)
		defer cancel()
	}
	return wrap(w.cc.Invoke(w.withTenant(ctx), method, args, reply, opts...))
}

func (w *conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := w.cc.NewStream(w.withTenant(ctx), desc, method, opts...)
	if err != nil {
		return nil, wrap(err)
	}
	return stream{s}, nil
}

// stream gives the errors of a stream their reasons.
type stream struct{ grpc.ClientStream }

func (s stream) RecvMsg(m any) error { return wrap(s.ClientStream.RecvMsg(m)) }
func (s stream) SendMsg(m any) error { return wrap(s.ClientStream.SendMsg(m)) }
