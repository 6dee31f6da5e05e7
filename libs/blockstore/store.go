package blockstore

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

const (
	firstBatch = 128 // rows; a query may want no more
	maxBatch   = 4096
	// recentGroups is how many row groups a snapshot holds on to, whatever becomes of
	// the cache: many streams may lie in one.
	recentGroups = 4
)

// NewStore returns a block as a store for the query engine. Everything that is read
// goes through the cache.
func NewStore(r *block.Reader, c *Cache) engine.Store { return &store{r, c} }

type store struct {
	block *block.Reader
	cache *Cache
}

// Open implements engine.Store. No row is read for it, so a stream may be listed for a
// run that reaches into the range or spans it, and runs are given whole.
func (s *store) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sn := &snapshot{ctx: ctx, store: s, start: start, end: end}
	sn.numbers = s.block.Match(matchers, start, end)
	sn.streams = make([]engine.Stream, len(sn.numbers))
	known := s.block.Info().HashVersion == model.HashVersion
	for i, n := range sn.numbers {
		runs := s.block.Runs(int(n), start, end)
		out := make([]engine.Run, len(runs))
		for k, r := range runs {
			out[k] = engine.Run(r)
			if !known {
				out[k].Digest = 0
			}
		}
		sn.streams[i] = engine.Stream{Labels: s.block.Labels(int(n)), Runs: out}
	}
	return sn, nil
}

func (s *store) section(ctx context.Context, n int) (*block.Section, error) {
	p, err := s.cache.get(ctx, key{s.block, kindSection, n}, func() (part, error) { return s.block.ReadSection(ctx, n) })
	if err != nil {
		return nil, err
	}
	return p.(*block.Section), nil
}

func (s *store) body(ctx context.Context, group int) (*lines.Body, error) {
	p, err := s.cache.get(ctx, key{s.block, kindBody, group}, func() (part, error) {
		sec, err := s.section(ctx, s.block.SectionOf(group))
		if err != nil {
			return nil, err
		}
		return s.block.ReadBody(ctx, sec, group)
	})
	if err != nil {
		return nil, err
	}
	return p.(*lines.Body), nil
}

func (s *store) order(ctx context.Context, body *lines.Body, group int) (*block.Order, error) {
	p, err := s.cache.get(ctx, key{s.block, kindOrder, group}, func() (part, error) { return s.block.ReadOrder(ctx, body, group) })
	if err != nil {
		return nil, err
	}
	return p.(*block.Order), nil
}

func (s *store) metadata(ctx context.Context, body *lines.Body, group int) (*block.Metadata, error) {
	p, err := s.cache.get(ctx, key{s.block, kindMetadata, group}, func() (part, error) { return s.block.ReadMetadata(ctx, body, group) })
	if err != nil {
		return nil, err
	}
	return p.(*block.Metadata), nil
}

// snapshot is the streams of a block that a query asked for. The block never changes.
type snapshot struct {
	ctx        context.Context // of the query
	store      *store
	start, end int64
	streams    []engine.Stream
	numbers    []uint32 // in the block

	mu     sync.Mutex
	recent []*block.RowGroup // the one used last at the end
}

func (sn *snapshot) Streams() []engine.Stream { return sn.streams }

// Close implements engine.Snapshot.
func (sn *snapshot) Close() {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	for _, g := range sn.recent {
		sn.left(g)
	}
	sn.recent = nil
}

// left lets the cache know what a row group takes, now that it was used.
func (sn *snapshot) left(g *block.RowGroup) {
	sn.store.cache.measure(key{sn.store.block, kindBody, g.Number})
	sn.store.cache.measure(key{sn.store.block, kindMetadata, g.Number})
}

// group returns a row group with its metadata, if that is wanted.
func (sn *snapshot) group(n int, metadata bool) (*block.RowGroup, error) {
	sn.mu.Lock()
	for _, g := range sn.recent {
		if g.Number == n && (!metadata || g.Metadata != nil) {
			sn.mu.Unlock()
			return g, nil
		}
	}
	sn.mu.Unlock()
	g := &block.RowGroup{Number: n}
	var err error
	if g.Body, err = sn.store.body(sn.ctx, n); err != nil {
		return nil, err
	}
	if g.Order, err = sn.store.order(sn.ctx, g.Body, n); err != nil {
		return nil, err
	}
	if metadata {
		if g.Metadata, err = sn.store.metadata(sn.ctx, g.Body, n); err != nil {
			return nil, err
		}
	}
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.recent = slices.DeleteFunc(sn.recent, func(o *block.RowGroup) bool { return o.Number == n })
	if len(sn.recent) == recentGroups {
		sn.left(sn.recent[0])
		sn.recent = slices.Delete(sn.recent, 0, 1)
	}
	sn.recent = append(sn.recent, g)
	return g, nil
}

// Rows implements engine.Snapshot.
func (sn *snapshot) Rows(stream int, start, end int64, backward bool) engine.RowReader {
	start, end = max(start, sn.start), min(end, sn.end)
	n := int(sn.numbers[stream])
	r := &rowReader{sn: sn, stream: n, start: start, end: end, backward: backward, batch: firstBatch}
	if start < end {
		r.spans = sn.store.block.Spans(n, start, end)
	}
	return r
}

// rowReader reads rows of a stream, batch by batch.
type rowReader struct {
	sn         *snapshot
	stream     int // in the block
	start, end int64
	backward   bool
	spans      []block.Span // those not begun
	now        block.Span   // what is left of the one begun
	group      *block.RowGroup
	batch      int
}

// Next implements engine.RowReader.
func (r *rowReader) Next() (*model.Rows, int, int, error) {
	for r.now.From >= r.now.To {
		if len(r.spans) == 0 {
			return nil, 0, 0, io.EOF
		}
		if err := r.sn.ctx.Err(); err != nil {
			return nil, 0, 0, err
		}
		i := 0
		if r.backward {
			i = len(r.spans) - 1
		}
		s := r.spans[i]
		if r.backward {
			r.spans = r.spans[:i]
		} else {
			r.spans = r.spans[1:]
		}
		var err error
		if r.group, err = r.sn.group(s.Group, true); err != nil {
			return nil, 0, 0, err
		}
		if r.now, err = r.sn.store.block.Times(r.group.Body, s, r.start, r.end); err != nil {
			return nil, 0, 0, err
		}
	}
	s := r.now
	n := min(r.batch, s.To-s.From)
	r.batch = min(2*r.batch, maxBatch)
	if r.backward {
		s.From = s.To - n
		r.now.To = s.From
	} else {
		s.To = s.From + n
		r.now.From = s.To
	}
	rows := &model.Rows{}
	if err := r.sn.store.block.Append(rows, r.group, r.stream, s.From, s.To, true, true); err != nil {
		return nil, 0, 0, err
	}
	return rows, 0, n, nil
}
