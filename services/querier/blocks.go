package querier

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// Store is where the blocks are that ingesters have uploaded.
type Store struct {
	Bucket objstore.Bucket
	// Loader knows which blocks there are; somebody else refreshes it.
	Loader *catalog.Loader
	// Cache is shared by all who read blocks.
	Cache *blockstore.Cache
	// Memory is the most bytes that the indexes of blocks may take that no query uses.
	Memory int64
	// Near tells that the bucket is a disk: of row groups only those parts are read that a
	// query needs.
	Near bool
}

// blocks holds blocks open: their footers and indexes of streams. Those that queries
// use stay, of the others those used last.
type blocks struct {
	store  Store
	logger *slog.Logger
	// workers are the other queriers; nil: there are none.
	workers *workers

	mu    sync.Mutex // guards what follows, and the fields of all openBlocks
	open  map[catalog.ID]*openBlock
	idle  *list.List // of *openBlock that nobody uses, the one used last in front
	bytes int64      // of those
	// damaged are blocks that were found damaged by queries, each told of once. They are not read
	// again where what they were merged from is there.
	damaged map[catalog.ID]bool

	opened  prometheus.Counter
	failed  prometheus.Counter
	evicted prometheus.Counter
	found   prometheus.Counter // damaged ones
	panics  prometheus.Counter
}

// maxDamaged is how many damaged blocks are kept in mind; of more, some are told of again.
const maxDamaged = 10_000

// openBlock is a block that is open, or being opened.
type openBlock struct {
	catalog.Block
	ready  chan struct{}
	reader *block.Reader
	source engine.Source
	err    error
	size   int64
	users  int
	place  *list.Element // among the idle ones
}

func newBlocks(store Store, logger *slog.Logger, reg prometheus.Registerer) *blocks {
	f := promauto.With(reg)
	b := &blocks{
		store: store, logger: logger, open: map[catalog.ID]*openBlock{}, idle: list.New(), damaged: map[catalog.ID]bool{},
		opened: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_opened_blocks_total", Help: "Blocks whose footer and index of streams were read for queries."}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_block_failures_total", Help: "Blocks that could not be opened for a query."}),
		evicted: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_closed_blocks_total", Help: "Blocks that were closed to make room for others."}),
		found: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_damaged_blocks_total", Help: "Blocks that queries found damaged, each counted once while the process runs."}),
		panics: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_block_panics_total", Help: "Panics while blocks were opened or read for queries: bugs, not damage. The queries failed with the block's name, and the log has the stack."}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_querier_open_blocks", Help: "Blocks that are open."}, func() float64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return float64(len(b.open))
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_querier_idle_block_bytes", Help: "Memory of the indexes of blocks that no query uses."}, func() float64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return float64(b.bytes)
	})
	return b
}

// object reads an object of the bucket.
type object struct {
	bucket objstore.Bucket
	key    string
	near   bool
}

// Near implements block.NearReader.
func (o object) Near() bool { return o.near }

// ReadRange implements block.RangeReader.
func (o object) ReadRange(ctx context.Context, off int64, n int) ([]byte, error) {
	return o.bucket.Get(ctx, o.key, off, n)
}

// acquire opens a block, or waits until somebody else has. It is to be released.
func (b *blocks) acquire(ctx context.Context, meta catalog.Block) (*openBlock, error) {
	for {
		b.mu.Lock()
		o := b.open[meta.ID]
		if o == nil {
			o = &openBlock{Block: meta, ready: make(chan struct{}), users: 1}
			b.open[meta.ID] = o
			b.mu.Unlock()
			b.load(ctx, o)
			return o, o.err
		}
		o.users++
		if o.place != nil {
			b.idle.Remove(o.place)
			b.bytes -= o.size
			o.place = nil
		}
		b.mu.Unlock()
		select {
		case <-o.ready:
		case <-ctx.Done():
			b.release(o)
			return nil, context.Cause(ctx)
		}
		if o.err == nil {
			return o, nil
		}
		b.release(o)
		// That another query ended is no reason for this one to fail.
		if ctx.Err() != nil || !errors.Is(o.err, context.Canceled) && !errors.Is(o.err, context.DeadlineExceeded) {
			return nil, o.err
		}
	}
}

// load opens a block. One that failed is forgotten, so that the next who asks tries
// again.
func (b *blocks) load(ctx context.Context, o *openBlock) {
	defer blockSource{block: o.Block, in: b}.caught()
	var r *block.Reader
	err := error(internal(o.Block)) // unless it is opened, or fails
	defer func() { b.loaded(o, r, err) }()
	r, err = block.Open(ctx, object{b.store.Bucket, catalog.Key(o.Block), b.store.Near}, o.Size)
	if err == nil && (r.Info().ID != o.ID || r.Info().Tenant != o.Tenant) {
		err = fmt.Errorf("it is block %s of tenant %q", r.Info().ID, r.Info().Tenant)
	}
}

func (b *blocks) loaded(o *openBlock, r *block.Reader, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer close(o.ready)
	if err != nil {
		b.failed.Inc()
		delete(b.open, o.ID)
		if _, bug := errors.AsType[*rpcerr.Error](err); bug {
			o.err = err // caught tells of it: the block may be as it should
			return
		}
		e := &blockError{o.Block, err}
		b.tell(e)
		o.err = e
		return
	}
	b.opened.Inc()
	o.reader, o.size = r, int64(r.MemorySize())
	o.source = blockSource{engine.Local(blockstore.NewStore(r, b.store.Cache), "block "+string(o.ID)), o.Block, b}
}

// tell logs and counts a block that is damaged: an equal copy may make up for it, so that
// no query fails and nobody else learns of it. Call with mu held.
func (b *blocks) tell(e *blockError) {
	if passing(e) || b.damaged[e.block.ID] {
		return
	}
	if len(b.damaged) >= maxDamaged {
		clear(b.damaged)
	}
	b.damaged[e.block.ID] = true
	b.found.Inc()
	b.logger.Error("a query found a block of the object store damaged", "block", catalog.Key(e.block), "err", e.err)
}

// known returns the blocks that were found damaged, mostly none.
func (b *blocks) known() map[catalog.ID]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.damaged)
}

// blockSource is a block as a source whose errors tell that they are of it.
type blockSource struct {
	engine.Source
	block catalog.Block
	in    *blocks
}

// Open implements engine.Source.
func (b blockSource) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	defer b.caught()
	s, err := b.Source.Open(ctx, matchers, start, end)
	if err != nil {
		return nil, b.of(err)
	}
	return blockSession{s, b}, nil
}

// of returns an error that names the block's object, if it is about it.
func (b blockSource) of(err error) error {
	if errors.Is(err, blockstore.ErrPanic) {
		return internal(b.block) // in somebody else, who tells of it
	}
	_, about := errors.AsType[*block.Error](err)
	if !about || engine.IsQueryError(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &blockError{b.block, err}
	b.in.mu.Lock()
	defer b.in.mu.Unlock()
	b.in.tell(e)
	return e
}

// caught names the block in a panic of those who read it, with others if they read them, too.
func (b blockSource) caught(with ...catalog.Block) {
	if value := recover(); value != nil {
		p := engine.Recovered(value)
		if p.Told == nil {
			b.in.panics.Inc()
			b.in.logger.Error("a bug: reading blocks ended in a panic, which says nothing about them", "block", keysOf(b.block, with...), "panic", p.Value, "stack", string(p.Stack))
			p = &engine.Panic{Value: p.Value, Stack: p.Stack, Told: internal(b.block, with...)}
		}
		panic(p)
	}
}

// internal is what is said of a bug that a block was read with, or several together.
func internal(b catalog.Block, with ...catalog.Block) *rpcerr.Error {
	return rpcerr.New(rpcerr.Internal, "block %s: internal error", keysOf(b, with...))
}

func keysOf(b catalog.Block, with ...catalog.Block) string {
	keys := catalog.Key(b)
	for _, w := range with {
		keys += " or " + catalog.Key(w)
	}
	return keys
}

type blockSession struct {
	engine.Session
	of blockSource
}

// Unwrap returns the session that answers.
func (s blockSession) Unwrap() engine.Session { return s.Session }

// Scan implements engine.Session.
func (s blockSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	defer s.of.caught()
	stats, err := s.Session.Scan(ctx, req, yield)
	return stats, s.of.of(err)
}

// Aggregate implements engine.Session.
func (s blockSession) Aggregate(ctx context.Context, req engine.AggregateRequest) ([]engine.PartialSeries, engine.ScanStats, error) {
	defer s.of.caught()
	series, stats, err := s.Session.Aggregate(ctx, req)
	return series, stats, s.of.of(err)
}

// Collect implements engine.Collector.
func (s blockSession) Collect(ctx context.Context, req engine.AggregateRequest) ([]engine.ValueSeries, engine.ScanStats, bool, error) {
	defer s.of.caught()
	c, is := s.Session.(engine.Collector)
	if !is {
		return nil, engine.ScanStats{}, false, nil
	}
	values, stats, ok, err := c.Collect(ctx, req)
	return values, stats, ok, s.of.of(err)
}

// release gives back what acquire returned.
func (b *blocks) release(o *openBlock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o.users--; o.users > 0 || o.reader == nil {
		return
	}
	o.place = b.idle.PushFront(o)
	b.bytes += o.size
	for b.bytes > b.store.Memory {
		b.drop(b.idle.Back().Value.(*openBlock))
		b.evicted.Inc()
	}
}

// drop closes an idle block. Call with mu held.
func (b *blocks) drop(o *openBlock) {
	b.idle.Remove(o.place)
	b.bytes -= o.size
	delete(b.open, o.ID)
	b.store.Cache.Forget(o.reader)
}

// inUse reports whether a query reads a block; one that is idle is closed.
func (b *blocks) inUse(id catalog.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.open[id]
	if o == nil {
		return false
	}
	if o.users > 0 {
		return true
	}
	b.drop(o)
	return false
}

// acquireAll opens blocks, some at a time.
func (b *blocks) acquireAll(ctx context.Context, metas []catalog.Block) (out []*openBlock, errs []error) {
	out = make([]*openBlock, len(metas))
	errs = make([]error, len(metas))
	done := false
	defer func() {
		for i, o := range out {
			if !done && o != nil && errs[i] == nil {
				b.release(o) // another one's panic goes on
			}
		}
	}()
	var group engine.Group
	slots := make(chan struct{}, openAtOnce)
	for i := range metas {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			out[i], errs[i] = b.acquire(ctx, metas[i])
		})
	}
	group.Wait()
	done = true
	for i, err := range errs {
		if err != nil {
			out[i] = nil
		}
	}
	return out, errs
}

// openAtOnce is how many blocks a query opens at a time: mostly that waits for I/O.
const openAtOnce = 16

// Patterns implements engine.Session.
func (s blockSession) Patterns(ctx context.Context, req engine.PatternsRequest) ([]engine.PatternCount, engine.ScanStats, error) {
	defer s.of.caught()
	found, stats, err := s.Session.Patterns(ctx, req)
	return found, stats, s.of.of(err)
}
