package block

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/block/lazy"
)

// finder finds a value among many that nearly all differ. It is made when it is asked a
// second time, since most blocks are opened for one question. Safe for concurrent use.
type finder struct {
	asked  atomic.Bool
	once   lazy.Once
	seed   maphash.Seed
	table  []uint32 // by hash: 0 none, otherwise one more than the value's number; nil: some are equal
	size   int      // of table
	spans  []span   // by value's number
	values int
}

// span is the first and the last stream that has a value, counted from 1. Streams ascend by labels, so that
// those of a value are few or lie together.
type span struct{ first, last uint32 }

// fewValues is up to how many values are looked through.
const fewValues = 256

// newFinder returns a finder for n values; nil: it is not worth it.
func newFinder(n int) *finder {
	if n <= fewValues {
		return nil
	}
	return &finder{values: n, size: 1 << bits.Len(uint(n)+uint(n)/2)} // filled by two thirds at most
}

// memorySize returns what a finder takes at most.
func (f *finder) memorySize() int {
	if f == nil {
		return 0
	}
	return 96 + 4*f.size + 8*f.values
}

// find returns one more than the number of the value that equals v, 0 if there is none. of is
// which value each stream has. If ok is false it is better to look through all values, which
// may hold it several times.
func (f *finder) find(values []string, of []uint32, v string) (at uint32, ok bool) {
	if !f.asked.Swap(true) {
		return 0, false
	}
	f.once.Do(func() { f.make(values, of) })
	if f.table == nil {
		return 0, false
	}
	return f.table[f.place(values, v)], true
}

// place returns where in the table a value is, or would be.
func (f *finder) place(values []string, v string) uint64 {
	mask := uint64(len(f.table) - 1)
	h := maphash.String(f.seed, v) & mask
	for f.table[h] != 0 && values[f.table[h]-1] != v {
		h = (h + 1) & mask
	}
	return h
}

func (f *finder) make(values []string, of []uint32) {
	f.seed, f.table = maphash.MakeSeed(), make([]uint32, f.size)
	for i, v := range values {
		h := f.place(values, v)
		if f.table[h] != 0 {
			f.table = nil
			return
		}
		f.table[h] = uint32(i + 1)
	}
	f.spans = make([]span, len(values))
	for i, at := range of {
		if at == 0 {
			continue
		}
		s := &f.spans[at-1]
		if s.last = uint32(i + 1); s.first == 0 {
			s.first = uint32(i + 1)
		}
	}
}

// narrowTo returns those of streams, or of all, whose value is at, as find returned it.
func (f *finder) narrowTo(streams []uint32, all bool, of []uint32, at uint32) []uint32 {
	if at == 0 {
		return nil
	}
	if all {
		for i := f.spans[at-1].first; i > 0 && i <= f.spans[at-1].last; i++ {
			if of[i-1] == at {
				streams = append(streams, i-1)
			}
		}
		return streams
	}
	n := 0
	for _, s := range streams {
		if of[s] == at {
			streams[n] = s
			n++
		}
	}
	return streams[:n]
}
