package distributor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model/rowspb"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// maxIngestBytes is the largest request to an ingester.
const maxIngestBytes = 8 << 20

// replicate sends blocks to their ingesters and returns nil as soon as each block
// is on disk at a quorum of its replicas. The other replicas' requests go on until
// their own deadline; as long they use the space that the blocks are in.
func (s *Service) replicate(ctx context.Context, tenantID string, batchTime int64, shard int, blocks []*ingestv1.StreamBlock, in *space) error {
	if len(blocks) == 0 {
		return nil
	}
	view := s.ring.View().Shard(tenantID, shard)
	quorum := view.Quorum()
	tokens := make([]uint64, len(blocks))
	for i, b := range blocks {
		tokens[i] = b.GetToken()
	}
	var split ring.Split
	view.Split(tokens, &split)
	for _, n := range split.Copies {
		if int(n) < quorum {
			s.metrics.noQuorum.Inc()
			return rpcerr.New(rpcerr.NoQuorum, "%d ingesters are needed to store a stream, %d are healthy", quorum, n).WithRetry(time.Second)
		}
	}
	if s.hopeless(view, &split, quorum) {
		s.metrics.noQuorum.Inc()
		return rpcerr.New(rpcerr.NoQuorum, "too few ingesters are heard of or have answered lately").WithRetry(breakFor)
	}
	blocked := s.blocked(&split, quorum)
	w := newWait(quorum, split.Copies)
	deadline := time.Now().Add(s.cfg.ReplicaTimeout)
	version := view.Table().Digest()
	for _, t := range split.Targets {
		for _, part := range parts(blocks, t.Index) {
			req := &ingestv1.IngestRequest{Tenant: tenantID, BatchTimeUnixNano: batchTime, TableVersion: version, ReplicationFactor: uint32(view.Config().ReplicationFactor)}
			req.Streams = make([]*ingestv1.StreamBlock, len(part.index))
			for k, i := range part.index {
				req.Streams[k] = blocks[i]
			}
			size := int64(part.size)
			in.users.Add(1)
			write := func() {
				if !s.take(t.Member.Name, size) {
					s.spaces.leave(in)
					s.breakers.failed(t.Member.Name, time.Now())
					w.done(part.index, rpcerr.New(rpcerr.Overloaded, "too many requests in flight to ingester %s", t.Member.Name).WithRetry(time.Second))
					return
				}
				s.writes.Go(func() {
					defer s.give(t.Member.Name, size)
					err := s.send(ctx, t.Member, req, deadline)
					if err == nil { // else the ingester may still be at it, in this process too
						s.spaces.leave(in)
					}
					w.done(part.index, err)
				})
			}
			if blocked[t.Member.Name] == nil {
				write()
				continue
			}
			// It is tried all the same where another has failed: it may be back.
			s.writes.Go(func() {
				select {
				case <-w.failed:
					write()
				case <-w.decided:
					s.spaces.leave(in)
				}
			})
		}
	}
	select {
	case <-w.decided:
		return w.result()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hopeless reports whether a stream is left without a quorum by members of which gossip
// hears nothing and which have not answered lately: then there is no use in waiting for
// them. Once in a while a request tries.
func (s *Service) hopeless(view *ring.View, split *ring.Split, quorum int) bool {
	var left []uint8
	for _, t := range split.Targets {
		if view.Healthy(t.Member.Name) || !s.breakers.refuses(t.Member.Name, time.Now()) {
			continue
		}
		if left == nil {
			left = slices.Clone(split.Copies)
		}
		for _, i := range t.Index {
			if left[i]--; int(left[i]) < quorum {
				return true
			}
		}
	}
	return false
}

// blocked returns the members that are not to be written to, and why. There are none
// where a stream could then not be stored: it is better to try.
func (s *Service) blocked(split *ring.Split, quorum int) map[string]error {
	var out map[string]error
	var left []uint8
	for _, t := range split.Targets {
		err := s.breakers.allow(t.Member.Name, time.Now())
		if err == nil {
			continue
		}
		if out == nil {
			out, left = map[string]error{}, slices.Clone(split.Copies)
		}
		out[t.Member.Name] = err
		for _, i := range t.Index {
			if left[i]--; int(left[i]) < quorum {
				return nil
			}
		}
	}
	return out
}

// send makes one ingest call, with a request of its own. It outlives the caller's
// context, up to the deadline.
func (s *Service) send(ctx context.Context, m *ring.Member, req *ingestv1.IngestRequest, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	began := time.Now()
	slow := s.breakers.watch(m.Name, time.Now)
	var resp *ingestv1.IngestResponse
	c, err := s.ingesters.Ingester(m)
	for again := false; err == nil; again = true {
		if req.Deadline, err = s.deadline(ctx, m, c, deadline); err != nil {
			break
		}
		if resp, err = c.Ingest(ctx, req); err == nil {
			s.clocks.learn(m.Name, resp.GetClock())
			break
		}
		s.clocks.forget(m.Name)
		if again || !rpcerr.Is(err, rpcerr.Conflict) {
			break
		}
		err = nil // it has restarted, and has another clock
	}
	slow.Stop()
	if err != nil && unreachable(err) {
		s.breakers.failed(m.Name, time.Now())
	} else {
		s.breakers.worked(m.Name)
	}
	s.metrics.replica(err, time.Since(began))
	if err == nil && s.learn != nil && resp.GetTableVersion() != req.GetTableVersion() {
		s.learn(ctx, m.Name, resp.GetTableVersion())
	}
	if err != nil {
		return fmt.Errorf("ingester %s: %w", m.Name, err)
	}
	return nil
}

// group is blocks that go to an ingester together.
type group struct {
	index []uint32 // of the blocks
	size  int      // of the request, about
}

// parts cuts the indexes of blocks into groups that fit one request each.
func parts(blocks []*ingestv1.StreamBlock, index []uint32) []group {
	var out []group
	size, from := 0, 0
	for k, i := range index {
		n := rowspb.StreamSize(blocks[i])
		if size > 0 && size+n > maxIngestBytes {
			out = append(out, group{append([]uint32(nil), index[from:k]...), size})
			size, from = 0, k
		}
		size += n
	}
	// A copy: index belongs to the caller's Split, the parts to goroutines.
	return append(out, group{append([]uint32(nil), index[from:]...), size})
}

// maxInFlightBytes bounds the requests in flight to one ingester, which stay in
// memory until it has answered or their time is over.
const maxInFlightBytes = 128 << 20

// load is what is in flight to an ingester.
type load struct {
	requests int
	bytes    int64
}

// take reserves room for a request to an ingester.
func (s *Service) take(member string, size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.inFlight[member]
	if l.requests >= s.cfg.MaxInFlight || l.requests > 0 && l.bytes+size > maxInFlightBytes {
		return false
	}
	s.inFlight[member] = load{l.requests + 1, l.bytes + size}
	return true
}

func (s *Service) give(member string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.inFlight[member]
	if l = (load{l.requests - 1, l.bytes - size}); l.requests == 0 {
		delete(s.inFlight, member)
		return
	}
	s.inFlight[member] = l
}

// wait counts acknowledgements per block until all have a quorum or one cannot
// get it any more.
type wait struct {
	decided chan struct{}
	failed  chan struct{} // closed by the first failure

	mu      sync.Mutex // guards everything below
	need    []int16    // acknowledgements missing, per block
	spare   []int16    // failures that a block can still take
	open    int        // blocks without a quorum
	ended   bool
	err     error
	lasting error // an error that says that a retry will not help
}

func newWait(quorum int, copies []uint8) *wait {
	w := &wait{decided: make(chan struct{}), failed: make(chan struct{}), open: len(copies)}
	w.need, w.spare = make([]int16, len(copies)), make([]int16, len(copies))
	for i, n := range copies {
		w.need[i], w.spare[i] = int16(quorum), int16(n)-int16(quorum)
	}
	return w
}

func (w *wait) done(part []uint32, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && rpcerr.Is(err, rpcerr.InvalidArgument) {
		w.lasting = err
	}
	failed := false
	for _, i := range part {
		if err != nil {
			w.spare[i]--
			failed = failed || w.spare[i] < 0
		} else if w.need[i]--; w.need[i] == 0 {
			w.open--
		}
	}
	if err != nil {
		if w.err == nil {
			close(w.failed)
		}
		w.err = errors.Join(w.err, err)
	}
	if !w.ended && (failed || w.open == 0) {
		w.ended = true
		close(w.decided)
	}
}

// result is to be asked after decided is closed.
func (w *wait) result() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == 0 {
		return nil
	}
	if w.lasting != nil {
		return w.lasting
	}
	return quorumError(w.err)
}

// quorumError keeps the reason of the ingesters' answers where there is a telling
// one, so that a client learns why, and when to come back.
func quorumError(err error) error {
	for _, reason := range []rpcerr.Reason{rpcerr.DiskFull, rpcerr.Overloaded, rpcerr.ReadOnly} {
		if e := withReason(err, reason); e != nil {
			return e
		}
	}
	return rpcerr.Wrap(err, rpcerr.NoQuorum, "too few ingesters have stored the entries: %v", err).WithRetry(time.Second)
}

func withReason(err error, reason rpcerr.Reason) error {
	if multi, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range multi.Unwrap() {
			if found := withReason(e, reason); found != nil {
				return found
			}
		}
		return nil
	}
	if rpcerr.Is(err, reason) {
		return rpcerr.Wrap(err, reason, "%v", err).WithRetry(rpcerr.RetryAfter(err))
	}
	return nil
}
