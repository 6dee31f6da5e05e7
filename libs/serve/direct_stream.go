package serve

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-logs/weir/libs/stack"
)

// streamAhead is how many messages a handler is ahead of its caller at most.
const streamAhead = 4

// interceptStream is the innermost interceptor of the streams of Server.Conn. Streams of answers,
// to one request or to any number of them, are called directly, as unary calls are.
func (d *direct) interceptStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	m, ok := d.streams[method]
	if !ok || asksTransport(opts) {
		return open(ctx, desc, cc, method, opts...)
	}
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	s := &directStream{direct: d, ctx: ctx, name: method, method: m}
	if desc.ClientStreams {
		s.many = true
		return s, s.begin()
	}
	return s, nil
}

// directStream is the caller's side of a stream. The handler begins when it is sent its request,
// or at once where it takes many, and ends with the caller's context, as gRPC asks of callers that
// stop receiving.
type directStream struct {
	direct *direct
	ctx    context.Context
	name   string
	method directStreamMethod

	many     bool
	requests chan proto.Message // closed when there are no more
	ended    chan struct{}      // closed when the handler has
	closed   bool               // requests is

	answers chan proto.Message // closed when the handler has ended, after err was set; nil before it began
	err     error
	over    error // what RecvMsg has ended with
}

// Header implements grpc.ClientStream: there is none.
func (s *directStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }

// Trailer implements grpc.ClientStream: there is none.
func (s *directStream) Trailer() metadata.MD { return nil }

// CloseSend implements grpc.ClientStream.
func (s *directStream) CloseSend() error {
	if s.many && !s.closed {
		s.closed = true
		close(s.requests)
	}
	return nil
}

// Context implements grpc.ClientStream.
func (s *directStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ClientStream: what m refers to is the handler's from now on.
func (s *directStream) SendMsg(m any) error {
	req, ok := m.(proto.Message)
	if !ok || s.closed || !s.many && s.answers != nil {
		return status.Error(codes.Internal, "a request too many, or none")
	}
	if !s.many {
		if err := s.begin(); err != nil {
			return err
		}
		s.requests <- req
		close(s.requests)
		return nil
	}
	select {
	case s.requests <- req:
		return nil
	case <-s.ended: // RecvMsg says why
		return io.EOF
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

// begin starts the handler.
func (s *directStream) begin() error {
	if !s.direct.enter() {
		return status.Error(codes.Canceled, "the server is closed")
	}
	s.answers, s.requests, s.ended = make(chan proto.Message, streamAhead), make(chan proto.Message, 1), make(chan struct{})
	go func() {
		defer s.direct.calls.Done()
		defer close(s.answers)
		defer close(s.ended)
		stack.Grow()
		s.err = s.handle()
	}()
	return nil
}

// handle runs the handler with all interceptors of the memory door.
func (s *directStream) handle() error {
	d := s.direct
	ctx, end := d.incoming(s.ctx, s.name)
	defer end()
	info := &grpc.StreamServerInfo{FullMethod: s.name, IsClientStream: s.many, IsServerStream: true}
	next := s.method.Handler
	for i := len(d.streamChain) - 1; i >= 0; i-- {
		f, inner := d.streamChain[i], next
		next = func(srv any, ss grpc.ServerStream) error { return f(srv, ss, info, inner) }
	}
	return next(s.method.impl, &directServerStream{noTransport: noTransport(s.name), ctx: ctx, requests: s.requests, answers: s.answers})
}

// RecvMsg implements grpc.ClientStream.
func (s *directStream) RecvMsg(m any) error {
	if s.over != nil {
		return s.over
	}
	select {
	case a, more := <-s.answers:
		switch {
		case more:
			share(m.(proto.Message), a)
		case s.err != nil:
			s.over = status.Convert(s.err).Err()
		default:
			s.over = io.EOF
		}
	case <-s.ctx.Done(): // whatever the handler is at, as over a connection
		s.over = status.FromContextError(s.ctx.Err()).Err()
	}
	return s.over
}

// directServerStream is the handler's side.
type directServerStream struct {
	noTransport
	ctx      context.Context
	requests <-chan proto.Message
	answers  chan<- proto.Message
}

// SetTrailer implements grpc.ServerStream.
func (s *directServerStream) SetTrailer(metadata.MD) {}

// Context implements grpc.ServerStream.
func (s *directServerStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ServerStream: m is the caller's from now on.
func (s *directServerStream) SendMsg(m any) error {
	if err := s.ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	select {
	case s.answers <- m.(proto.Message):
		return nil
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

// RecvMsg implements grpc.ServerStream.
func (s *directServerStream) RecvMsg(m any) error {
	select {
	case req, more := <-s.requests:
		if !more {
			return io.EOF
		}
		share(m.(proto.Message), req)
		return nil
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}
