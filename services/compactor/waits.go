package compactor

import (
	"context"
	"errors"
	"maps"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/objstore"
)

// maxWait is the most cycles that a merge which fails is left out of between two attempts:
// some hours.
const maxWait = 63

// waits are the merges that failed last time, by their sources. One that fails again and
// again, as its rows meet a bug or the disk is too small for it, reads all of them each
// time: it is tried in the next cycle, then left out of 1, 3, 7 and so on.
type waits struct {
	cycle uint64
	sets  map[uint64]*wait
}

type wait struct {
	skip uint64 // cycles, after the failure before
	next uint64 // cycle of the next attempt
	seen uint64 // cycle that planned the merge last
}

// setOf names the sources of a merge.
func setOf(t compact.Task) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, b := range t.Sources {
		_, _ = d.WriteString(string(b.ID) + "\n")
	}
	return d.Sum64()
}

// begin begins a cycle.
func (w *waits) begin() { w.cycle++ }

// over reports whether a merge that was planned may be tried.
func (w *waits) over(set uint64) bool {
	s := w.sets[set]
	if s == nil {
		return true
	}
	s.seen = w.cycle
	return s.next <= w.cycle
}

// note notes how an attempt ended. That the store is away, or that the process ends, says
// nothing about the merge.
func (w *waits) note(set uint64, err error) {
	switch s := w.sets[set]; {
	case err == nil:
		delete(w.sets, set)
	case errors.Is(err, objstore.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case s == nil:
		w.sets[set] = &wait{next: w.cycle + 1, seen: w.cycle}
	default:
		s.skip = min(2*s.skip+1, maxWait)
		s.next = w.cycle + 1 + s.skip
	}
}

// end ends a cycle: merges that it did not plan are forgotten, so that there are never more
// than it planned. It returns how many are left out of the next one.
func (w *waits) end() (waiting int) {
	maps.DeleteFunc(w.sets, func(_ uint64, s *wait) bool { return s.seen < w.cycle })
	for _, s := range w.sets {
		if s.next > w.cycle+1 {
			waiting++
		}
	}
	return waiting
}
