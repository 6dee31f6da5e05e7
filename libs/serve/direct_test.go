package serve

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// writes is a WriteService that hands out what it gets.
type writes struct {
	ingestv1.UnimplementedWriteServiceServer
	do func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error)
}

func (w writes) Write(ctx context.Context, req *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
	return w.do(ctx, req)
}

func directServer(t *testing.T, do func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error)) (*Server, ingestv1.WriteServiceClient) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.GRPCListen = "127.0.0.1:0", "127.0.0.1:0"
	tel, err := obs.Start(t.Context(), obs.DefaultConfig(), obs.BuildInfo{Program: "test"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.WithoutCancel(t.Context())) })
	s, err := New(cfg, Options{Telemetry: tel})
	if err != nil {
		t.Fatal(err)
	}
	ingestv1.RegisterWriteServiceServer(s.Internal(), writes{do: do})
	t.Cleanup(func() { _ = s.Close() })
	return s, ingestv1.NewWriteServiceClient(s.Conn())
}

// TestDirectCall: what a handler sees is what it sees over a connection, but that nothing
// was copied.
func TestDirectCall(t *testing.T) {
	slab := []byte("line")
	_, client := directServer(t, func(ctx context.Context, req *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		if id, err := tenant.Require(ctx); err != nil || id != "a" {
			t.Errorf("tenant %q, %v", id, err)
		}
		if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md) > 0 {
			t.Errorf("metadata of the caller goes on: %v", md)
		}
		if p, ok := peer.FromContext(ctx); !ok || p.Addr.Network() != "bufconn" {
			t.Errorf("peer %v", p)
		}
		if obs.RequestIDFrom(ctx) != "r-1" {
			t.Errorf("request id %q", obs.RequestIDFrom(ctx))
		}
		if &req.GetStreams()[0].GetSlab()[0] != &slab[0] {
			t.Error("lines were copied")
		}
		req.Door = "other" // the handler's own field
		return &ingestv1.WriteResponse{AcceptedEntries: 7, Rejections: []*ingestv1.Rejection{{Message: "no"}}}, nil
	})
	ctx := obs.WithRequestID(tenant.NewContext(t.Context(), "a"), "r-1")
	req := &ingestv1.WriteRequest{Door: "loki", Streams: []*ingestv1.StreamBlock{{Labels: `{a="b"}`, Slab: slab}}}
	resp, err := client.Write(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetAcceptedEntries() != 7 || resp.GetRejections()[0].GetMessage() != "no" || req.GetDoor() != "loki" {
		t.Errorf("%v, %v", resp, req)
	}
	// Asked for what a transport tells, there is one.
	s, client := directServer(t, func(context.Context, *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		return &ingestv1.WriteResponse{AcceptedEntries: 1}, nil
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	var header metadata.MD
	if _, err := client.Write(ctx, req, grpc.Header(&header)); err != nil || len(header) == 0 {
		t.Errorf("header %v, %v", header, err)
	}
}

func TestDirectErrors(t *testing.T) {
	s, client := directServer(t, func(_ context.Context, req *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		if req.GetDoor() == "panic" {
			panic("at once")
		}
		return nil, rpcerr.New(rpcerr.RateLimited, "too much").WithRetry(3 * time.Second)
	})
	ctx := tenant.NewContext(t.Context(), "a")
	_, err := client.Write(ctx, &ingestv1.WriteRequest{})
	if !rpcerr.Is(err, rpcerr.RateLimited) || rpcerr.RetryAfter(err) != 3*time.Second {
		t.Errorf("%v", err)
	}
	if _, err := client.Write(ctx, &ingestv1.WriteRequest{Door: "panic"}); !rpcerr.Is(err, rpcerr.Internal) {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(ctx, &ingestv1.WriteRequest{}); err == nil {
		t.Error("a closed server answers")
	}
}

// TestDirectEnds: a caller does not wait for a handler longer than its context lasts; Close
// waits for handlers, whose contexts it ends.
func TestDirectEnds(t *testing.T) {
	begun, ended := make(chan struct{}, 1), make(chan struct{})
	release := make(chan struct{})
	s, client := directServer(t, func(ctx context.Context, _ *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
		begun <- struct{}{}
		<-release
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(tenant.NewContext(t.Context(), "a"))
	got := make(chan error)
	go func() {
		_, err := client.Write(ctx, &ingestv1.WriteRequest{})
		got <- err
	}()
	<-begun
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := client.Write(ctx, &ingestv1.WriteRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("called when it was over: %v", err)
	}
	close(release)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("Close did not wait for the handler")
	}
}
