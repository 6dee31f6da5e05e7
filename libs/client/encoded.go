package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

// encoded is a message that is in its wire form already.
type encoded []byte

// encodedCodec is gRPC's codec for protobuf, which sends encoded as it is.
type encodedCodec struct{ encoding.CodecV2 }

func (c encodedCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// PushEncoded is Push for a request that is encoded already, which saves decoding
// it unless it has to be split: body is a weir.push.v1.PushRequest with a batch
// time. decoded is the request if it had to be decoded, which happens where the
// response has rejections, too.
//
// body must not change while the call runs, nor after it if it fails.
func (p *Pusher) PushEncoded(ctx context.Context, body []byte) (resp *pushv1.PushResponse, decoded *pushv1.PushRequest, err error) {
	slow := len(body) > p.o.MaxBytes
	for attempt := 0; !slow; attempt++ {
		resp, err := p.attemptEncoded(ctx, body)
		if err == nil {
			if resp.GetRejectedEntries() > 0 {
				decoded, err = decode(body)
			}
			return resp, decoded, err
		}
		e := AsError(err)
		if ctx.Err() != nil {
			return &pushv1.PushResponse{}, nil, e
		}
		switch e.verdict() {
		case fail:
			return &pushv1.PushResponse{}, nil, e
		case isolate:
			slow = true
			continue
		}
		if !p.pause(ctx, attempt, e) {
			return &pushv1.PushResponse{}, nil, e
		}
	}
	if decoded, err = decode(body); err != nil {
		return &pushv1.PushResponse{}, nil, err
	}
	resp, err = p.Push(ctx, decoded)
	return resp, decoded, err
}

func decode(body []byte) (*pushv1.PushRequest, error) {
	req := &pushv1.PushRequest{}
	if err := proto.Unmarshal(body, req); err != nil {
		return nil, fmt.Errorf("client: not an encoded PushRequest: %w", err)
	}
	return req, nil
}

func (p *Pusher) attemptEncoded(ctx context.Context, body []byte) (*pushv1.PushResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	resp := &pushv1.PushResponse{}
	codec := encodedCodec{encoding.GetCodecV2("proto")}
	err := p.conn.Invoke(ctx, pushv1.PushService_Push_FullMethodName, encoded(body), resp, grpc.ForceCodecV2(codec))
	return resp, err
}
