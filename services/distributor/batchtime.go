package distributor

import (
	"encoding/binary"
	"sync"

	"github.com/cespare/xxhash/v2"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
)

// maxBatchTimes is how many failed requests are remembered, in each of two generations.
const maxBatchTimes = 4096

// batchTimes remembers the batch times given to requests that were not acknowledged. A
// producer that fixes none sends such a request again; with the same batch time all
// replicas have its entries in one place of the order, those that stored the first
// attempt and those that did not.
type batchTimes struct {
	mu       sync.Mutex // guards what follows
	new, old map[uint64]int64
}

func newBatchTimes() *batchTimes { return &batchTimes{new: map[uint64]int64{}} }

// of returns the batch time of a request that failed, or 0.
func (b *batchTimes) of(content uint64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t, ok := b.new[content]; ok {
		return t
	}
	return b.old[content]
}

// keep remembers the batch time of a request that failed.
func (b *batchTimes) keep(content uint64, batchTime int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.new) >= maxBatchTimes {
		b.new, b.old = map[uint64]int64{}, b.new
	}
	b.new[content] = batchTime
}

// contentOf tells requests apart by what they store. It is never 0.
func contentOf(tenant string, req *ingestv1.WriteRequest) uint64 {
	h := xxhash.New()
	gathered := make([]byte, 0, 4<<10) // not hashed yet
	number := func(n uint64) {
		if len(gathered)+8 > cap(gathered) {
			_, _ = h.Write(gathered) // never fails
			gathered = gathered[:0]
		}
		gathered = binary.LittleEndian.AppendUint64(gathered, n)
	}
	// What fits is gathered: to hash many small pieces takes longer than to copy them.
	fits := func(n int) bool {
		number(uint64(n))
		if len(gathered)+n > cap(gathered) {
			_, _ = h.Write(gathered)
			gathered = gathered[:0]
		}
		return n <= cap(gathered)
	}
	text := func(s []byte) {
		if fits(len(s)) {
			gathered = append(gathered, s...)
		} else {
			_, _ = h.Write(s)
		}
	}
	name := func(s string) {
		if fits(len(s)) {
			gathered = append(gathered, s...)
		} else {
			_, _ = h.WriteString(s)
		}
	}
	name(tenant)
	for _, s := range req.GetStreams() {
		name(s.GetLabels())
		number(uint64(len(s.GetTimes())))
		for _, t := range s.GetTimes() {
			number(uint64(t))
		}
		for _, e := range s.GetLineEnds() {
			number(uint64(e))
		}
		text(s.GetSlab())
		for _, c := range s.GetMetadata() {
			name(c.GetName())
			for _, r := range c.GetRows() {
				number(uint64(r))
			}
			for _, e := range c.GetEnds() {
				number(uint64(e))
			}
			text(c.GetSlab())
		}
	}
	_, _ = h.Write(gathered)
	return max(h.Sum64(), 1)
}
