package serve

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/weir-logs/weir/libs/stack"
)

// direct calls methods of services of this process without a transport: what services send
// each other to write and to answer need not be encoded, copied through a pipe and decoded
// for somebody in the same memory. All interceptors of both sides run, as over the memory
// door.
type direct struct {
	methods     map[string]directMethod       // not changed any more once calls are made
	streams     map[string]directStreamMethod // likewise
	chain       []grpc.UnaryServerInterceptor // of the memory door
	streamChain []grpc.StreamServerInterceptor
	peer        *peer.Peer

	over context.Context // ends with end
	end  context.CancelFunc

	mu     sync.Mutex // guards closed, and calls against it
	closed bool
	calls  sync.WaitGroup
}

type directMethod struct {
	grpc.MethodDesc
	impl any
}

type directStreamMethod struct {
	grpc.StreamDesc
	impl any
}

// register adds the unary methods of a service.
func (d *direct) register(desc *grpc.ServiceDesc, impl any) {
	for _, m := range desc.Methods {
		d.methods["/"+desc.ServiceName+"/"+m.MethodName] = directMethod{m, impl}
	}
}

// registerStreams adds the methods of a service that answer one request with a stream. Its
// handlers do not touch again what they have sent.
func (d *direct) registerStreams(desc *grpc.ServiceDesc, impl any) {
	for _, m := range desc.Streams {
		if m.ServerStreams && !m.ClientStreams {
			d.streams["/"+desc.ServiceName+"/"+m.StreamName] = directStreamMethod{m, impl}
		}
	}
}

// registerDialogs adds the methods of a service that take a stream and answer with one. Neither
// side touches again what it has sent.
func (d *direct) registerDialogs(desc *grpc.ServiceDesc, impl any) {
	for _, m := range desc.Streams {
		if m.ServerStreams && m.ClientStreams {
			d.streams["/"+desc.ServiceName+"/"+m.StreamName] = directStreamMethod{m, impl}
		}
	}
}

// enter counts a call that begins; false: the server is closed. Whoever enters calls
// calls.Done.
func (d *direct) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.calls.Add(1)
	}
	return !d.closed
}

// intercept is the innermost interceptor of Server.Conn: what it calls is what goes over the
// connection otherwise.
func (d *direct) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	m, ok := d.methods[method]
	in, isMessage := req.(proto.Message)
	out, isReply := reply.(proto.Message)
	if !ok || !isMessage || !isReply || asksTransport(opts) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	if !d.enter() {
		return status.Error(codes.Canceled, "the server is closed")
	}
	type answer struct {
		resp any
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		defer d.calls.Done()
		stack.Grow()
		resp, err := d.handle(ctx, method, &m, in)
		done <- answer{resp, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return status.Convert(a.err).Err()
		}
		share(out, a.resp.(proto.Message))
		return nil
	case <-ctx.Done(): // whatever the handler is at, as over a connection
		return status.FromContextError(ctx.Err()).Err()
	}
}

// handle runs a handler with a context like that of a call which came in.
func (d *direct) handle(ctx context.Context, method string, m *directMethod, req proto.Message) (any, error) {
	ctx, end := d.incoming(ctx, method)
	defer end()
	return m.Handler(m.impl, ctx, func(in any) error {
		share(in.(proto.Message), req)
		return nil
	}, d.around)
}

// incoming returns a context like that of a call which came in. end is to be called when
// the call is over.
func (d *direct) incoming(ctx context.Context, method string) (_ context.Context, end func()) {
	md, _ := metadata.FromOutgoingContext(ctx)
	ctx = metadata.NewIncomingContext(ctx, md)
	ctx = metadata.NewOutgoingContext(ctx, metadata.MD{})
	ctx = peer.NewContext(ctx, d.peer)
	ctx = grpc.NewContextWithServerTransportStream(ctx, noTransport(method))
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.over, cancel)
	return ctx, func() { stop(); cancel() }
}

// around is all interceptors of the memory door.
func (d *direct) around(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	for i := len(d.chain) - 1; i >= 0; i-- {
		f, inner := d.chain[i], next
		next = func(ctx context.Context, req any) (any, error) { return f(ctx, req, info, inner) }
	}
	return next(ctx, req)
}

// share makes dst, which is empty, a message with the fields of src. What these refer to is
// shared.
func share(dst, src proto.Message) {
	to, from := dst.ProtoReflect(), src.ProtoReflect()
	from.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		to.Set(f, v)
		return true
	})
}

// close ends calls and waits for their handlers.
func (d *direct) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.end()
	d.calls.Wait()
}

// noTransport takes what handlers say to the transport, and drops it: nobody asks.
type noTransport string

func (t noTransport) Method() string             { return string(t) }
func (noTransport) SetHeader(metadata.MD) error  { return nil }
func (noTransport) SendHeader(metadata.MD) error { return nil }
func (noTransport) SetTrailer(metadata.MD) error { return nil }

// asksTransport reports whether options ask for what only a transport tells.
func asksTransport(opts []grpc.CallOption) bool {
	for _, o := range opts {
		switch o.(type) {
		case grpc.HeaderCallOption, grpc.TrailerCallOption, grpc.PeerCallOption, grpc.OnFinishCallOption:
			return true
		}
	}
	return false
}

// newDirect returns the direct way; the chain is added when the door is made.
func newDirect(at *peer.Peer) *direct {
	d := &direct{methods: map[string]directMethod{}, streams: map[string]directStreamMethod{}, peer: at}
	d.over, d.end = context.WithCancel(context.Background())
	return d
}
