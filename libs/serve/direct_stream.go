package serve

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// streamAhead is how many messages a handler is ahead of its caller at most.
const streamAhead = 4

// interceptStream is the innermost interceptor of the streams of Server.Conn. Streams with one
// request and any number of answers are called directly, as unary calls are.
func (d *direct) interceptStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	m, ok := d.streams[method]
	if !ok || desc.ClientStreams || asksTransport(opts) {
		return open(ctx, desc, cc, method, opts...)
	}
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return &directStream{direct: d, ctx: ctx, name: method, method: m}, nil
}

// directStream is the caller's side of a stream. The handler begins when it is sent its request,
// and ends with the caller's context, as gRPC asks of callers that stop receiving.
type directStream struct {
	direct *direct
	ctx    context.Context
	name   string
	method directStreamMethod

	answers chan proto.Message // closed when the handler has ended, after err was set; nil before it began
	err     error
	over    error // what RecvMsg has ended with
}

// Header implements grpc.ClientStream: there is none.
func (s *directStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }

// Trailer implements grpc.ClientStream: there is none.
func (s *directStream) Trailer() metadata.MD { return nil }

// CloseSend implements grpc.ClientStream.
func (s *directStream) CloseSend() error { return nil }

// Context implements grpc.ClientStream.
func (s *directStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ClientStream.
func (s *directStream) SendMsg(m any) error {
	req, ok := m.(proto.Message)
	if !ok || s.answers != nil {
		return status.Error(codes.Internal, "a stream of answers takes one request")
	}
	if !s.direct.enter() {
		return status.Error(codes.Canceled, "the server is closed")
	}
	s.answers = make(chan proto.Message, streamAhead)
	go func() {
		defer s.direct.calls.Done()
		defer close(s.answers)
		s.err = s.handle(req)
	}()
	return nil
}

// handle runs the handler with all interceptors of the memory door.
func (s *directStream) handle(req proto.Message) error {
	d := s.direct
	ctx, end := d.incoming(s.ctx, s.name)
	defer end()
	info := &grpc.StreamServerInfo{FullMethod: s.name, IsServerStream: true}
	next := s.method.Handler
	for i := len(d.streamChain) - 1; i >= 0; i-- {
		f, inner := d.streamChain[i], next
		next = func(srv any, ss grpc.ServerStream) error { return f(srv, ss, info, inner) }
	}
	return next(s.method.impl, &directServerStream{noTransport: noTransport(s.name), ctx: ctx, req: req, answers: s.answers})
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
	ctx     context.Context
	req     proto.Message // nil once it was received
	answers chan<- proto.Message
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
	if s.req == nil {
		return io.EOF
	}
	share(m.(proto.Message), s.req)
	s.req = nil
	return nil
}
