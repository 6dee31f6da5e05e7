package ingester

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/model/rowspb"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/services/ingester/head"
)

// recordIngest is the type of a write-ahead log record whose payload is an
// encoded IngestRequest.
const recordIngest byte = 1

// Ingest implements ingestv1.IngestServiceServer. It answers when the rows are on
// disk and visible.
func (s *Service) Ingest(ctx context.Context, req *ingestv1.IngestRequest) (*ingestv1.IngestResponse, error) {
	if s.state.Load() != accepting {
		return nil, rpcerr.New(rpcerr.NotReady, "ingester is not taking writes").WithRetry(time.Second)
	}
	done, err := s.beginWrite()
	if err != nil {
		return nil, err
	}
	defer done()
	var late func() bool
	if d := req.GetDeadline(); d != nil {
		left, err := s.until(d)
		if err != nil {
			return nil, err
		}
		at := time.Now().Add(left)
		late = func() bool { return !time.Now().Before(at) }
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, at)
		defer cancel()
	}
	memory := s.memories.take()
	blocks, err := s.rows(req, memory)
	if err != nil {
		return nil, rpcerr.Wrap(err, rpcerr.InvalidArgument, "%v", err)
	}
	rf := int(req.GetReplicationFactor())
	// These are between sender and receiver, not part of what is stored.
	req.Deadline, req.TableVersion, req.ReplicationFactor = nil, 0, 0
	size := int64(rowspb.RequestSize(req))
	reserved, ok := s.room.take(ctx, s.room.patience(s.cfg.FullWait, len(req.GetStreams())), func() (int64, bool) {
		n := size + s.gens.newest().MaxCost(req.GetTenant(), blocks)
		return n, s.reserve(n)
	})
	if !ok {
		s.metrics.refused.Inc()
		return nil, rpcerr.New(rpcerr.Overloaded, "the ingester's memory for recent entries is full (%d bytes)", s.deps.HeadLimit).WithRetry(5 * time.Second)
	}
	defer s.release(reserved)
	if rf > 0 && s.deps.HoldFactor != nil {
		held, err := s.deps.HoldFactor(rf)
		if err != nil {
			return nil, rpcerr.Wrap(err, rpcerr.ReadOnly, "the ingester cannot note by which replication factor entries are placed: %v", err).WithRetry(5 * time.Second)
		}
		defer held()
	}
	payload, err := rowspb.AppendRequest(s.payloads.take(int(size)), req)
	if err != nil {
		return nil, fmt.Errorf("encode write-ahead log record: %w", err)
	}
	p, err := s.sequence.begin(ctx, s.log, late, recordIngest, payload)
	if err != nil {
		return nil, s.refused(err)
	}
	p.tenant, p.blocks, p.batchTime = req.GetTenant(), blocks, req.GetBatchTimeUnixNano()
	// The client may go; the record will be written all the same, and must then
	// be applied.
	<-p.ticket.Done()
	s.payloads.give(payload)
	err = p.ticket.Wait(context.Background())
	s.sequence.finish(p, err, s.apply)
	if errors.Is(err, wal.ErrLate) {
		return nil, s.late()
	}
	if err != nil {
		return nil, s.refused(err)
	}
	<-p.applied
	if p.broken != nil {
		s.logger.Error("a durable record could not be taken into memory", "err", p.broken)
		return nil, rpcerr.Wrap(p.broken, rpcerr.Internal, "internal error")
	}
	s.noteStreams(req, blocks)
	s.memories.give(memory)
	return &ingestv1.IngestResponse{Added: uint64(p.added), TableVersion: s.deps.TableVersion(), Clock: s.tell()}, nil
}

// payloads keeps the memory of records that are written: each is as large as a request,
// and needed for a moment only. It may be used by several goroutines.
type payloads struct{ pool sync.Pool }

// maxPayload is the largest that is kept.
const maxPayload = 4 << 20

// take returns an empty slice with room for size bytes.
func (p *payloads) take(size int) []byte {
	if b, ok := p.pool.Get().(*[]byte); ok && cap(*b) >= size {
		return (*b)[:0]
	}
	return make([]byte, 0, size+size/8) // the next may be a little larger
}

func (p *payloads) give(b []byte) {
	if cap(b) <= maxPayload {
		p.pool.Put(&b)
	}
}

// memory is what a request's rows are in but for those of their columns that are the
// request's own. Where there are very many streams it is as large as the request.
type memory struct {
	blocks    []head.Block
	rows      rowspb.Reader
	positions []uint32
	hashes    []uint64
}

// maxMemory is the most streams, columns and rows of a request whose memory is kept.
const maxMemory = 1 << 14

// make makes room for a request.
func (m *memory) make(req *ingestv1.IngestRequest) {
	rows := 0
	for _, b := range req.GetStreams() {
		rows += len(b.GetTimes())
	}
	m.blocks = slices.Grow(m.blocks[:0], len(req.GetStreams()))
	m.positions, m.hashes = slices.Grow(m.positions[:0], rows), slices.Grow(m.hashes[:0], rows)
	m.rows.Begin(req.GetStreams())
}

// cut appends n values to a slice and returns them.
func cut[T any](s *[]T, n int) []T {
	*s = (*s)[:len(*s)+n]
	return (*s)[len(*s)-n : len(*s) : len(*s)]
}

// memories keeps memory of requests that are done with. It may be used by several
// goroutines.
type memories struct{ pool sync.Pool }

func (p *memories) take() *memory {
	if m, ok := p.pool.Get().(*memory); ok {
		return m
	}
	return &memory{}
}

// give takes memory of which nothing is referred to any more.
func (p *memories) give(m *memory) {
	if max(cap(m.blocks), cap(m.hashes), m.rows.Cap()) > maxMemory {
		return
	}
	clear(m.blocks)
	m.rows.Clear()
	p.pool.Put(m)
}

func rowCount(blocks []head.Block) int64 {
	n := 0
	for i := range blocks {
		n += blocks[i].Rows.Len()
	}
	return int64(n)
}

// reserve takes bytes of the head's share until the rows are in it. What cannot be taken is not
// counted meanwhile: others would find no room where there is some, and nobody would wake them.
func (s *Service) reserve(n int64) bool {
	s.reserving.Lock()
	defer s.reserving.Unlock()
	want := s.reserved.Load() + n // before the size: rows that go from one to the other count twice
	all, passed := s.gens.size()
	if over := want + all - s.deps.HeadLimit; over > 0 && passed > 0 {
		s.gens.forget(s.now(), max(0, passed-over))
		all, _ = s.gens.size()
	}
	if want+all > s.deps.HeadLimit {
		if n <= s.deps.HeadLimit {
			s.squeezed.Store(true)
			s.wakeFlusher()
		}
		return false
	}
	s.reserved.Add(n)
	return true
}

// release gives back what was reserved for a request: its rows are in the head, where they take
// less, or it failed.
func (s *Service) release(n int64) {
	want := s.reserved.Add(-n)
	all, passed := s.gens.size() // what passed gives way
	s.room.free(s.deps.HeadLimit - want - all + passed)
}

func (s *Service) apply(p *pending) {
	p.added = s.gens.append(p.tenant, p.blocks, p.batchTime, p.ticket.LSN(), s.now())
	if s.full() {
		s.wakeFlusher()
	}
	s.metrics.rows.Add(float64(rowCount(p.blocks)))
	s.metrics.duplicates.Add(float64(rowCount(p.blocks) - int64(p.added)))
	p.blocks = nil
}

// refused is walError; where the disk is full it makes what room there is.
func (s *Service) refused(err error) error {
	if errors.Is(err, wal.ErrDiskFull) {
		s.yieldLog()
	}
	return walError(err)
}

// walError says what a failed append means to the distributor.
func walError(err error) error {
	switch {
	case errors.Is(err, wal.ErrDiskFull):
		return rpcerr.Wrap(err, rpcerr.DiskFull, "the ingester's disk is full").WithRetry(30 * time.Second)
	case errors.Is(err, wal.ErrReadOnly):
		return rpcerr.Wrap(err, rpcerr.ReadOnly, "the ingester cannot write to its disk").WithRetry(30 * time.Second)
	case errors.Is(err, wal.ErrOverloaded):
		return rpcerr.Wrap(err, rpcerr.Overloaded, "the ingester's disk does not keep up").WithRetry(time.Second)
	case errors.Is(err, wal.ErrTooLarge):
		return rpcerr.Wrap(err, rpcerr.TooLarge, "%v", err)
	case errors.Is(err, wal.ErrFailed), errors.Is(err, wal.ErrClosed):
		return rpcerr.Wrap(err, rpcerr.NotReady, "the ingester is restarting").WithRetry(time.Second)
	}
	return err
}

// rows checks a request and returns its rows with positions and hashes, in memory.
func (s *Service) rows(req *ingestv1.IngestRequest, memory *memory) ([]head.Block, error) {
	if err := tenant.Validate(req.GetTenant()); err != nil {
		return nil, err
	}
	memory.make(req)
	for i, b := range req.GetStreams() {
		rows, err := memory.rows.FromBlock(b)
		if err != nil {
			return nil, fmt.Errorf("stream %d: %w", i, err)
		}
		n := rows.Len()
		if rows.Positions == nil {
			rows.Positions = cut(&memory.positions, n)
			for k := range rows.Positions {
				rows.Positions[k] = b.GetPosition() + uint32(k)
			}
		}
		rows.Hashes = cut(&memory.hashes, n)
		for k := range rows.Hashes {
			rows.Hashes[k] = rows.Hash(k)
		}
		memory.blocks = append(memory.blocks, head.Block{Text: b.GetLabels(), Rows: rows})
	}
	blocks := memory.blocks
	s.gens.find(req.GetTenant(), blocks)
	for i := range blocks {
		if b := &blocks[i]; b.Labels == nil {
			var err error
			if b.Labels, err = canonicalLabels(b.Text); err != nil {
				return nil, fmt.Errorf("stream %d: %w", i, err)
			}
		}
	}
	return blocks, nil
}

// canonicalLabels parses the text that a distributor made.
func canonicalLabels(text string) (model.Labels, error) {
	if ls, ok := model.PlainLabels(text); ok {
		return ls, nil
	}
	pairs, err := syntax.ParseAnyLabels(text)
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	ls := make([]model.Label, len(pairs))
	for i, p := range pairs {
		ls[i] = model.Label{Name: p.Name, Value: p.Value}
	}
	set := model.NewLabels(ls)
	if set.String() != text {
		return nil, fmt.Errorf("labels %s are not canonical", text)
	}
	return set, nil
}
