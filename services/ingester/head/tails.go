package head

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/model"
)

// dirtyStreams is how many appends to streams are remembered for tails. A tail
// that is further behind looks at all streams instead; it loses nothing.
const dirtyStreams = 1 << 16

// clock counts appends, and wakes who waits for them. A head shares it with those
// that take over from it.
type clock struct {
	mu    sync.Mutex    // guards everything below
	seq   uint64        // all appends up to here are visible
	moved chan struct{} // closed when seq moves on
}

// tails knows which streams the latest appends went to.
type tails struct {
	mu   sync.Mutex // guards everything below
	ring []dirtyStream
	next uint64 // number of the next entry of ring
}

type dirtyStream struct {
	s   *stream
	seq uint64
}

func (t *tails) dirty(s *stream, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := dirtyStream{s, seq}
	if len(t.ring) < dirtyStreams {
		t.ring = append(t.ring, d)
	} else {
		t.ring[t.next%dirtyStreams] = d
	}
	t.next++
}

func (c *clock) advance(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq = max(c.seq, seq)
	close(c.moved)
	c.moved = make(chan struct{})
}

// since returns a tenant's streams that got rows with after < seq <= upto, or
// false if that is no longer known. A tenant is told by its arena.
func (t *tails) since(of *arena, after, upto uint64) (map[*stream]bool, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[*stream]bool{}
	n := uint64(len(t.ring))
	for k := range n {
		d := &t.ring[(t.next-1-k)%n]
		if d.seq <= after {
			return out, true
		}
		if d.s.few.arena == of && d.seq <= upto {
			out[d.s] = true
		}
	}
	// The whole ring is newer than after: older entries were overwritten, or
	// never were.
	return out, n < dirtyStreams
}

// Seq returns the number of the newest append to this head or those that share its
// count; all up to it are visible.
func (h *Head) Seq() uint64 {
	h.clock.mu.Lock()
	defer h.clock.mu.Unlock()
	return h.clock.seq
}

// Wait returns the number of the newest append once that is larger than after.
func (h *Head) Wait(ctx context.Context, after uint64) (uint64, error) {
	for {
		h.clock.mu.Lock()
		seq, moved := h.clock.seq, h.clock.moved
		h.clock.mu.Unlock()
		if seq > after {
			return seq, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Appended is rows [From, To) that one append brought to one stream. They are not
// to be changed.
type Appended struct {
	Labels   model.Labels
	Seq      uint64
	Rows     *model.Rows
	From, To int
}

// Since returns what appends with after < seq <= upto brought to the streams of a
// tenant that match wants, ascending by seq. upto must be visible.
func (h *Head) Since(tenantID string, after, upto uint64, match func(model.Labels) bool) []Appended {
	t := h.tenant(tenantID, false)
	if t == nil {
		return nil
	}
	streams, ok := h.tails.since(&t.arena, after, upto)
	if !ok {
		t.mu.RLock()
		for _, s := range t.streams {
			streams[s] = true
		}
		t.mu.RUnlock()
	}
	var out []Appended
	for s := range streams {
		if match(s.labels) {
			out = s.since(out, after, upto)
		}
	}
	slices.SortStableFunc(out, func(a, b Appended) int {
		if c := cmp.Compare(a.Seq, b.Seq); c != 0 {
			return c
		}
		if c := a.Labels.Compare(b.Labels); c != 0 {
			return c
		}
		return cmp.Compare(a.Rows.Positions[a.From], b.Rows.Positions[b.From])
	})
	return out
}

func (s *stream) since(out []Appended, after, upto uint64) []Appended {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.seq <= after {
		return out
	}
	out = s.few.since(out, s.labels, after, upto)
	if s.many == nil {
		return out
	}
	for _, chunks := range [][]*chunk{s.many.sorted, s.many.late} {
		for k := len(chunks) - 1; k >= 0; k-- {
			c := chunks[k]
			if n := len(c.seqs); n == 0 || c.seqs[n-1].seq <= after {
				break
			}
			var rows *model.Rows
			for i, run := range c.seqs {
				if run.seq <= after || run.seq > upto {
					continue
				}
				if rows == nil {
					rows = c.view()
				}
				to := rows.Len()
				if i+1 < len(c.seqs) {
					to = int(c.seqs[i+1].row)
				}
				out = append(out, Appended{s.labels, run.seq, rows, int(run.row), to})
			}
		}
	}
	return out
}
