package gateway

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoiface"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/services/gateway/decode"
)

// maxBatches is how many batches of one PushStream call are in work at a time.
const maxBatches = 16

// pushDesc is the generated description of PushService with handlers that decode
// straight into columns. Interceptors, reflection and REST see no difference.
func pushDesc() *grpc.ServiceDesc {
	desc := pushv1.PushService_ServiceDesc
	desc.HandlerType = (*any)(nil)
	desc.Methods = []grpc.MethodDesc{{MethodName: "Push", Handler: handlePush}}
	desc.Streams = []grpc.StreamDesc{{
		StreamName: "PushStream", Handler: handlePushStream, ServerStreams: true, ClientStreams: true,
	}}
	return &desc
}

// wireMessage stands for a message of a generated type that is decoded by a function
// of ours. To the protobuf runtime it is an empty message with a fast path for
// decoding, as generated messages have.
type wireMessage struct {
	protoreflect.Message // of the type that it stands for, empty
	methods              protoiface.Methods

	memory   *decode.Reservation
	data     []byte // not decoded yet
	sequence uint64
	req      *ingestv1.WriteRequest
	err      error // of decoding
}

func (g *Gateway) newMessage(of proto.Message, unmarshal func(*wireMessage, []byte)) *wireMessage {
	m := &wireMessage{Message: of.ProtoReflect(), memory: g.reserve()}
	m.methods = protoiface.Methods{
		Flags: protoiface.SupportUnmarshalDiscardUnknown,
		Unmarshal: func(in protoiface.UnmarshalInput) (protoiface.UnmarshalOutput, error) {
			// An error from here would reach the client as Internal.
			unmarshal(m, in.Buf)
			return protoiface.UnmarshalOutput{Flags: protoiface.UnmarshalInitialized}, nil
		},
	}
	return m
}

func (m *wireMessage) ProtoReflect() protoreflect.Message   { return m }
func (m *wireMessage) Interface() protoreflect.ProtoMessage { return m }
func (m *wireMessage) ProtoMethods() *protoiface.Methods    { return &m.methods }
func (m *wireMessage) Reset()                               { m.data, m.sequence, m.req, m.err = nil, 0, nil, nil }
func unmarshalPush(m *wireMessage, data []byte)             { m.req, m.err = decode.Push(data, m.memory) }
func unmarshalBatch(m *wireMessage, data []byte) {
	m.sequence, m.req, m.err = decode.PushStream(data, m.memory)
}

func handlePush(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	g := srv.(*Gateway)
	m := g.newMessage(&pushv1.PushRequest{}, unmarshalPush)
	defer m.memory.Release()
	if err := dec(m); err != nil {
		return nil, err
	}
	push := func(ctx context.Context, _ any) (any, error) { return g.push(ctx, m) }
	if interceptor == nil {
		return push(ctx, m)
	}
	return interceptor(ctx, m, &grpc.UnaryServerInfo{Server: srv, FullMethod: pushv1.PushService_Push_FullMethodName}, push)
}

func (g *Gateway) push(ctx context.Context, m *wireMessage) (*pushv1.PushResponse, error) {
	resp, err := g.write(ctx, m.req, m.err)
	if err != nil {
		return nil, err
	}
	m.memory.Reuse()
	return pushResponse(resp), nil
}

func handlePushStream(srv any, ss grpc.ServerStream) error {
	g := srv.(*Gateway)
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		send  sync.Mutex
		slots = make(chan struct{}, maxBatches)
		clock int64
	)
	defer wg.Wait() // nothing may be sent once the handler has returned
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		m := g.newMessage(&pushv1.PushStreamRequest{}, unmarshalBatch)
		if err := ss.RecvMsg(m); err != nil {
			m.memory.Release()
			if !errors.Is(err, io.EOF) {
				return err
			}
			wg.Wait()
			if ctx.Err() != nil {
				return context.Cause(ctx) // an acknowledgement could not be sent
			}
			return nil
		}
		if m.req != nil && m.req.BatchTimeUnixNano == 0 {
			// Batches are written side by side; their order is that of their arrival.
			clock = max(g.deps.Now().UnixNano(), clock+1)
			m.req.BatchTimeUnixNano = clock
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer m.memory.Release()
			out := &pushv1.PushStreamResponse{Sequence: m.sequence}
			if resp, err := g.push(ctx, m); err != nil {
				out.Outcome = &pushv1.PushStreamResponse_Error{Error: g.pushError(ctx, err)}
			} else {
				out.Outcome = &pushv1.PushStreamResponse_Response{Response: resp}
			}
			send.Lock()
			defer send.Unlock()
			if err := ss.SendMsg(out); err != nil {
				cancel(err)
			}
		})
	}
}

// pushError is the failure of a batch as its acknowledgement tells it.
func (g *Gateway) pushError(ctx context.Context, err error) *pushv1.PushError {
	e := rpcerr.Table(nil).ToError(err)
	if rpcerr.Is(e, rpcerr.Internal) {
		g.deps.Log.ErrorContext(ctx, "a batch failed for an internal reason", "err", err)
	}
	return &pushv1.PushError{
		Code: int32(e.GRPCStatus().Code()), Reason: string(rpcerr.ReasonOf(e)), Message: e.Error(),
		RetryAfterMillis: uint32(min(e.RetryAfter.Milliseconds(), 3_600_000)),
	}
}
