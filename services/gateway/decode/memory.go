package decode

import (
	"sync"
	"sync/atomic"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// Memory bounds the bytes that all requests in decoding hold together. It is safe
// for concurrent use.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory returns a bound of limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used returns the bytes held at present.
func (m *Memory) Used() int64 { return m.used.Load() }

// Reserve returns an empty reservation of one request, which may grow to most bytes.
// Its owner releases it when the request is done.
func (m *Memory) Reserve(most int64) *Reservation { return &Reservation{memory: m, most: most} }

// Reservation is what one request holds of a Memory. It belongs to one goroutine.
// Growing a nil Reservation always succeeds.
type Reservation struct {
	memory     *Memory
	most       int64
	held, used int64                              // taken from the memory; of that, counted so far
	blocks     *model.Pages[ingestv1.StreamBlock] // of the request; nil until there is one
}

// step is how much is taken from the shared counter at a time.
const step = 64 << 10

// Grow counts n more bytes. It fails with TooLarge beyond the request's own bound
// and with Overloaded when the memory is in use by others.
func (r *Reservation) Grow(n int) error {
	if r == nil {
		return nil
	}
	r.used += int64(n)
	if r.used <= r.held {
		return nil
	}
	if r.used > r.most {
		return rpcerr.New(rpcerr.TooLarge, "the request takes more than %d bytes in memory; send less at a time", r.most)
	}
	more := (r.used - r.held + step - 1) / step * step
	if r.memory.used.Add(more) > r.memory.limit {
		r.memory.used.Add(-more)
		return rpcerr.New(rpcerr.Overloaded, "too many requests are being decoded: %d bytes of memory are in use", r.memory.limit).WithRetry(time.Second)
	}
	r.held += more
	return nil
}

// Shrink gives n counted bytes back.
func (r *Reservation) Shrink(n int) {
	if r != nil {
		r.used -= int64(n)
	}
}

// pages keeps the memory of requests' blocks that are done with.
var pages sync.Pool

// maxBlocks is the most blocks of a request whose memory is kept.
const maxBlocks = 1 << 14

// take returns memory for the blocks of a request.
func (r *Reservation) take() *model.Pages[ingestv1.StreamBlock] {
	if r == nil {
		return &model.Pages[ingestv1.StreamBlock]{}
	}
	if r.blocks == nil {
		if r.blocks, _ = pages.Get().(*model.Pages[ingestv1.StreamBlock]); r.blocks == nil {
			r.blocks = &model.Pages[ingestv1.StreamBlock]{}
		}
	}
	return r.blocks
}

// Reuse gives the blocks of the request, not what they refer to, to requests to come. Nobody
// may look at them any more, also in a call that was given up.
func (r *Reservation) Reuse() {
	if r != nil && r.blocks != nil && r.blocks.Reuse() <= maxBlocks {
		pages.Put(r.blocks)
	}
	if r != nil {
		r.blocks = nil
	}
}

// Release gives everything back. It may be called again.
func (r *Reservation) Release() {
	if r != nil {
		r.memory.used.Add(-r.held)
		r.held, r.used = 0, 0
	}
}
