package remote_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// inProcess is a client of a source without a transport: the server's context is the caller's.
type inProcess struct {
	ingestv1.IngestServiceClient
	src engine.Source
}

func (c inProcess) Read(ctx context.Context, _ ...grpc.CallOption) (ingestv1.IngestService_ReadClient, error) {
	p := &pipe{ctx: ctx, requests: make(chan *ingestv1.ReadRequest, 1), answers: make(chan *ingestv1.ReadResponse, 1), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = remote.Serve(serverEnd{pipe: p}, c.src, remote.Options{})
	}()
	return clientEnd{pipe: p}, nil
}

type pipe struct {
	ctx      context.Context
	requests chan *ingestv1.ReadRequest
	answers  chan *ingestv1.ReadResponse
	ended    chan struct{}
	err      error // once ended
}

func (p *pipe) Context() context.Context { return p.ctx }

type clientEnd struct {
	grpc.ClientStream
	*pipe
}

func (c clientEnd) Context() context.Context { return c.ctx }

func (c clientEnd) Send(m *ingestv1.ReadRequest) error {
	c.requests <- m
	return nil
}

func (c clientEnd) Recv() (*ingestv1.ReadResponse, error) {
	select {
	case m := <-c.answers:
		return m, nil
	case <-c.ended:
		if c.err == nil {
			return nil, io.EOF
		}
		return nil, c.err
	}
}

type serverEnd struct {
	grpc.ServerStream
	*pipe
}

func (s serverEnd) Context() context.Context { return s.ctx }

func (s serverEnd) Send(m *ingestv1.ReadResponse) error {
	select {
	case s.answers <- m:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s serverEnd) Recv() (*ingestv1.ReadRequest, error) {
	select {
	case m := <-s.requests:
		return m, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// told is a source whose scans end when progress was told.
type told struct {
	engine.Source
	entries *atomic.Uint64
	least   uint64
}

func (s told) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	ses, err := s.Source.Open(ctx, m, start, end)
	return toldSession{ses, s}, err
}

type toldSession struct {
	engine.Session
	told told
}

func (s toldSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	stats, err := s.Session.Scan(ctx, req, yield)
	for err == nil && s.told.entries.Load() < s.told.least {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return stats, ctx.Err()
		}
	}
	return stats, err
}

// What a server in the caller's process reads counts once.
func TestProgressInProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	src := remote.NewSource("a", inProcess{src: engine.Local(store("one", "two", "three"), "a")})
	expr, err := syntax.ParseExpr(`{a="b"}`)
	if err != nil {
		t.Fatal(err)
	}
	var entries atomic.Uint64
	_, err = engine.New(engine.Options{}).Range(ctx, engine.RangeQuery{
		Query: engine.Query{
			Expr: expr, Sources: []engine.Source{told{src, &entries, 3}},
			Progress: func(p engine.Progress) { entries.Store(p.EntriesRead) },
		}, End: 1000 * sec, Limit: 100,
	})
	if err != nil || entries.Load() != 3 {
		t.Errorf("%d entries, %v", entries.Load(), err)
	}
}

// panics is a source whose sessions panic.
type panics struct{ engine.Source }

func (p panics) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	ses, err := p.Source.Open(ctx, m, start, end)
	return panicSession{ses}, err
}

type panicSession struct{ engine.Session }

func (panicSession) Scan(context.Context, engine.ScanRequest, func(*engine.ScanRows) error) (engine.ScanStats, error) {
	panic("in a scan")
}

// A server that panics says nothing any more, and leaves no goroutine.
func TestPanicEndsHeartbeats(t *testing.T) {
	p := &pipe{ctx: t.Context(), requests: make(chan *ingestv1.ReadRequest, 2), answers: make(chan *ingestv1.ReadResponse, 10)}
	p.requests <- &ingestv1.ReadRequest{Step: &ingestv1.ReadRequest_Open{Open: &ingestv1.Open{Selector: `{a="b"}`, End: 1000 * sec}}}
	p.requests <- &ingestv1.ReadRequest{Step: &ingestv1.ReadRequest_Scan{Scan: &ingestv1.Scan{Query: `{a="b"}`, End: 1000 * sec}}}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	defer func() {
		if p := recover(); p != "in a scan" {
			t.Errorf("%v", p)
		}
	}()
	t.Error(remote.Serve(serverEnd{pipe: p}, panics{engine.Local(store("one"), "a")}, remote.Options{}))
}
