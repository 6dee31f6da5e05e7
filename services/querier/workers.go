package querier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

const (
	// workerShare is the part of the memory for queries that serves other queriers, where
	// there are any.
	workerShare = 0.25
	// workerRest is how long a querier that failed is asked nothing.
	workerRest = 5 * time.Second
	// maxWorkerBlocks is the most blocks that one call names.
	maxWorkerBlocks = 10_000
	// workerOpenAfter is how long a querier may say nothing while it opens blocks before
	// others do that; one that is at work says something every second.
	workerOpenAfter = 2500 * time.Millisecond
)

// Workers finds the other queriers, each of which reads some of a query's blocks.
type Workers interface {
	// Self is the name of this member.
	Self() string
	// Worker returns the client of another querier.
	Worker(m *ring.Member) (ingestv1.BlockServiceClient, error)
}

// workers spreads the blocks of queries over all queriers: a block is always read by the
// same one, in whose cache it is.
type workers struct {
	ring    Ring
	clients Workers
	now     func() time.Time
	slots   chan struct{} // one per call that this querier serves others
	memory  int64         // bytes for each of these

	asked   prometheus.Counter
	failed  prometheus.Counter
	served  prometheus.Counter
	refused prometheus.Counter

	mu   sync.Mutex           // guards rest
	rest map[string]time.Time // queriers that failed, and until when they are left alone
}

// newWorkers returns nil where there are no other queriers.
func newWorkers(d Deps, slots int, memory int64) *workers {
	if d.Workers == nil {
		return nil
	}
	f := promauto.With(d.Reg)
	return &workers{
		ring: d.Ring, clients: d.Workers, now: d.Now, slots: make(chan struct{}, slots), memory: memory / int64(slots), rest: map[string]time.Time{},
		asked: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_remote_blocks_total", Help: "Blocks that another querier was asked to read for a query."}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_failed_workers_total", Help: "Times that another querier failed, and its blocks were read by the others."}),
		served: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_served_reads_total", Help: "Calls in which this querier read blocks for another one."}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_refused_reads_total", Help: "Such calls that were refused since too many were running."}),
	}
}

// shun leaves a querier alone for a while.
func (w *workers) shun(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest[name] = w.now().Add(workerRest)
}

// candidates returns the queriers that may be asked, this one included.
func (w *workers) candidates(without map[string]bool) []*ring.Member {
	list := w.ring.View().With(ring.Querier)
	self, now := w.clients.Self(), w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(list), func(m *ring.Member) bool {
		return m.Name != self && (without[m.Name] || w.rest[m.Name].After(now))
	})
}

// reader returns which of the members reads a block: the one that it has the highest rank
// with, so that one that comes or goes changes nothing but its own share.
func reader(members []*ring.Member, id catalog.ID) *ring.Member {
	var best *ring.Member
	var rank uint64
	for _, m := range members {
		if h := xxhash.Sum64String(string(id) + " " + m.Name); best == nil || h > rank {
			best, rank = m, h
		}
	}
	return best
}

// spread returns which blocks this querier reads by itself, and sources for the others.
func (s *stored) spread(live []catalog.Block) (own []catalog.Block, away []engine.Source) {
	w := s.blocks.workers
	if w == nil || len(live) == 0 {
		return live, nil
	}
	s.mu.Lock()
	members := w.candidates(s.shunned)
	s.mu.Unlock()
	self := w.clients.Self()
	groups := map[string]*group{}
	var order []*group
	for _, b := range live {
		m := reader(members, b.ID)
		if m == nil || m.Name == self {
			own = append(own, b)
			continue
		}
		g := groups[m.Name]
		if g == nil || len(g.keys) == maxWorkerBlocks {
			g = &group{stored: s, member: m, part: len(order)}
			groups[m.Name] = g
			order = append(order, g)
		}
		g.keys = append(g.keys, catalog.Key(b))
	}
	for _, g := range order {
		away = append(away, g)
	}
	return own, away
}

// workerError is why another querier did not read its blocks.
type workerError struct {
	name string
	err  error
}

func (e *workerError) Error() string {
	return "querier " + e.name + ": " + rpcerr.Table(nil).ToError(e.err).Error()
}
func (e *workerError) Unwrap() error { return e.err }

func isWorkerError(err error) bool {
	_, is := errors.AsType[*workerError](err)
	return is
}

// shun notes that a query goes on without a querier that failed, and reports whether
// err is that.
func (s *stored) shun(err error) bool {
	e, ok := errors.AsType[*workerError](err)
	if !ok {
		return false
	}
	s.blocks.workers.failed.Inc()
	// A panic over what this query asks, or over a block, is no reason for others to do
	// without the querier: any other one would be shunned next.
	if status.Code(e.err) != codes.Internal {
		s.blocks.workers.shun(e.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shunned == nil {
		s.shunned = map[string]bool{}
	}
	s.shunned[e.name] = true
	return true
}

// group is blocks that another querier reads. It is a source.
type group struct {
	stored *stored
	member *ring.Member
	part   int
	keys   []string
}

// Name implements engine.Source.
func (g *group) Name() string { return fmt.Sprintf("querier %s (%d)", g.member.Name, g.part) }

// Open implements engine.Source.
func (g *group) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	w := g.stored.blocks.workers
	c, err := w.clients.Worker(g.member)
	if err != nil {
		return nil, &workerError{g.member.Name, err}
	}
	w.asked.Add(float64(len(g.keys)))
	ctx = remote.WithHedge(tenant.NewContext(ctx, g.stored.tenant), impatient{})
	s, err := remote.NewSource(g.Name(), readBlocks{BlockServiceClient: c, keys: g.keys}).Open(ctx, matchers, start, end)
	if errors.Is(err, engine.ErrUnsupported) {
		return nil, &workerError{g.member.Name, err} // it is of a version that cannot do this
	}
	if err != nil {
		return nil, g.of(ctx, err)
	}
	return groupSession{s, g}, nil
}

// of returns an error that is the other querier's, unless it is the query's.
func (g *group) of(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || engine.IsQueryError(err) {
		return err
	}
	return &workerError{g.member.Name, err}
}

// impatient gives up queriers that are silent: their blocks can be read by others.
type impatient struct{}

func (impatient) After(bool) time.Duration { return workerOpenAfter }
func (impatient) Give(bool) bool           { return true }

type groupSession struct {
	engine.Session
	group *group
}

// Unwrap returns the session that answers.
func (s groupSession) Unwrap() engine.Session { return s.Session }

// Scan implements engine.Session. An error of who takes the rows is passed on as it is.
func (s groupSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	var given error
	stats, err := s.Session.Scan(ctx, req, func(rows *engine.ScanRows) error {
		given = yield(rows)
		return given
	})
	if given != nil {
		return stats, err
	}
	return stats, s.group.of(ctx, err)
}

// Aggregate implements engine.Session.
func (s groupSession) Aggregate(ctx context.Context, req engine.AggregateRequest) ([]engine.PartialSeries, engine.ScanStats, error) {
	series, stats, err := s.Session.Aggregate(ctx, req)
	return series, stats, s.group.of(ctx, err)
}

// Patterns implements engine.Session.
func (s groupSession) Patterns(ctx context.Context, req engine.PatternsRequest) ([]engine.PatternCount, engine.ScanStats, error) {
	found, stats, err := s.Session.Patterns(ctx, req)
	return found, stats, s.group.of(ctx, err)
}

// readBlocks makes a querier's ReadBlocks the Read that remote.NewSource calls.
type readBlocks struct {
	ingestv1.IngestServiceClient // nil: nothing else is called
	ingestv1.BlockServiceClient
	keys []string
}

// Read implements ingestv1.IngestServiceClient.
func (r readBlocks) Read(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[ingestv1.ReadRequest, ingestv1.ReadResponse], error) {
	call, err := r.ReadBlocks(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return &clientCall{call, call, r.keys}, nil
}

type clientCall struct {
	grpc.ClientStream
	call ingestv1.BlockService_ReadBlocksClient
	keys []string // to be sent with the first message
}

func (c *clientCall) Send(m *ingestv1.ReadRequest) error {
	req := &ingestv1.ReadBlocksRequest{Read: m, Blocks: c.keys}
	c.keys = nil
	return c.call.Send(req)
}

func (c *clientCall) Recv() (*ingestv1.ReadResponse, error) {
	m, err := c.call.Recv()
	return m.GetRead(), err
}

// ReadBlocks implements ingestv1.BlockServiceServer.
func (s *Service) ReadBlocks(stream ingestv1.BlockService_ReadBlocksServer) error {
	id, err := tenant.Require(stream.Context())
	if err != nil {
		return err
	}
	if s.blocks == nil || s.blocks.workers == nil {
		return rpcerr.New(rpcerr.Unavailable, "this querier reads no blocks for others")
	}
	w := s.blocks.workers
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	default:
		w.refused.Inc()
		return rpcerr.New(rpcerr.Overloaded, "this querier reads for %d other queries, its limit", cap(w.slots)).WithRetry(time.Second)
	}
	w.served.Inc()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if n := len(first.GetBlocks()); n == 0 || n > maxWorkerBlocks {
		return rpcerr.New(rpcerr.InvalidArgument, "%d blocks are asked for, must be from 1 to %d", n, maxWorkerBlocks)
	}
	list := make([]catalog.Block, len(first.GetBlocks()))
	for i, key := range first.GetBlocks() {
		b, err := catalog.ParseKey(key)
		if err != nil || b.Tenant != id {
			return rpcerr.New(rpcerr.InvalidArgument, "%q is no block of tenant %q", key, id)
		}
		list[i] = b
	}
	return remote.Serve(&serverCall{stream, stream, first.GetRead()}, some{s.blocks, list}, remote.Options{Memory: w.memory, Refused: s.noMemory.Inc})
}

type serverCall struct {
	grpc.ServerStream
	call  ingestv1.BlockService_ReadBlocksServer
	first *ingestv1.ReadRequest // was received
}

func (c *serverCall) Send(m *ingestv1.ReadResponse) error {
	return c.call.Send(&ingestv1.ReadBlocksResponse{Read: m})
}

func (c *serverCall) Recv() (*ingestv1.ReadRequest, error) {
	if m := c.first; m != nil {
		c.first = nil
		return m, nil
	}
	m, err := c.call.Recv()
	return m.GetRead(), err
}

// some is some blocks as a source.
type some struct {
	blocks *blocks
	list   []catalog.Block
}

// Name implements engine.Source.
func (some) Name() string { return storeName }

// Open implements engine.Source.
func (b some) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	open, errs := b.blocks.acquireAll(ctx, b.list)
	release := func() {
		for _, o := range open {
			if o != nil {
				b.blocks.release(o)
			}
		}
		open = nil
	}
	kept := false
	defer func() {
		if !kept {
			release() // also if it panics
		}
	}()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	sources := make([]engine.Source, len(open))
	for i, o := range open {
		sources[i] = o.source
	}
	s, err := engine.Union(storeName, sources...).Open(ctx, matchers, start, end)
	if err != nil {
		return nil, err
	}
	kept = true
	return &held{s, release}, nil
}

// held is a session over blocks that are held open for it.
type held struct {
	engine.Session
	release func()
}

// Unwrap returns the session that answers.
func (s *held) Unwrap() engine.Session { return s.Session }

// Close implements engine.Session.
func (s *held) Close() error {
	err := s.Session.Close()
	if s.release != nil {
		s.release()
		s.release = nil
	}
	return err
}
