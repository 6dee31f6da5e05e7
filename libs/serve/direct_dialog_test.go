package serve

import (
	"context"
	"errors"
	"io"
	"testing"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// reads is an IngestService whose Read is made by do.
type reads struct {
	ingestv1.UnimplementedIngestServiceServer
	do func(ingestv1.IngestService_ReadServer) error
}

func (r reads) Read(s ingestv1.IngestService_ReadServer) error { return r.do(s) }

func directReads(t *testing.T, do func(ingestv1.IngestService_ReadServer) error) (*Server, ingestv1.IngestServiceClient) {
	t.Helper()
	s, _ := directServer(t, nil)
	ingestv1.RegisterIngestServiceServer(s.Internal(), reads{do: do})
	return s, ingestv1.NewIngestServiceClient(s.Conn())
}

func openFor(selector string) *ingestv1.ReadRequest {
	return &ingestv1.ReadRequest{Step: &ingestv1.ReadRequest_Open{Open: &ingestv1.Open{Selector: selector}}}
}

func openedBy(incarnation string) *ingestv1.ReadResponse {
	return &ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Opened{Opened: &ingestv1.Opened{Incarnation: incarnation}}}
}

// TestDirectDialog: each request gets its answers, in order, until no more come.
func TestDirectDialog(t *testing.T) {
	const answers = 3 * streamAhead
	_, client := directReads(t, func(s ingestv1.IngestService_ReadServer) error {
		if id, err := tenant.Require(s.Context()); err != nil || id != "a" {
			t.Errorf("tenant %q, %v", id, err)
		}
		for {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return rpcerr.New(rpcerr.RateLimited, "that is all")
			}
			if err != nil {
				return err
			}
			for range answers {
				if err := s.Send(openedBy(m.GetOpen().GetSelector())); err != nil {
					return err
				}
			}
		}
	})
	call, err := client.Read(tenant.NewContext(t.Context(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, selector := range []string{"x", "y", "z"} {
		if err := call.Send(openFor(selector)); err != nil {
			t.Fatal(err)
		}
		for range answers {
			if m, err := call.Recv(); err != nil || m.GetOpened().GetIncarnation() != selector {
				t.Fatalf("%v, %v", m, err)
			}
		}
	}
	for range 2 {
		if err := call.CloseSend(); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if _, err := call.Recv(); !rpcerr.Is(err, rpcerr.RateLimited) {
			t.Errorf("%v", err)
		}
	}
	if err := call.Send(openFor("more")); err == nil {
		t.Error("a closed stream takes more")
	}
}

// TestDirectDialogEnds: because the handler ends it, with requests on the way, or the caller
// does, or the server.
func TestDirectDialogEnds(t *testing.T) {
	ended := make(chan error, 1)
	s, client := directReads(t, func(s ingestv1.IngestService_ReadServer) error {
		m, err := s.Recv()
		if err == nil && m.GetOpen().GetSelector() == "no" {
			return rpcerr.New(rpcerr.RateLimited, "no")
		}
		if err == nil {
			_, err = s.Recv()
		}
		ended <- err
		return err
	})
	start := func(ctx context.Context, selector string) ingestv1.IngestService_ReadClient {
		t.Helper()
		call, err := client.Read(tenant.NewContext(ctx, "a"))
		if err != nil {
			t.Fatal(err)
		}
		if err := call.Send(openFor(selector)); err != nil {
			t.Fatal(err)
		}
		return call
	}
	call := start(t.Context(), "no")
	for { // until it is known that nobody receives
		if err := call.Send(openFor("more")); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := call.Recv(); !rpcerr.Is(err, rpcerr.RateLimited) {
		t.Errorf("%v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	call = start(ctx, "yes")
	cancel()
	if _, err := call.Recv(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the handler was not told")
	}

	call = start(t.Context(), "yes")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the handler was not told")
	}
	if _, err := call.Recv(); err == nil {
		t.Error("no error of a closed server")
	}
	if _, err := client.Read(tenant.NewContext(t.Context(), "a")); err == nil {
		t.Error("a closed server answers")
	}
}
