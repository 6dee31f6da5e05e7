package compactor

import (
	"context"
	"errors"
	"fmt"
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
	err  error  // the last failure
	fail int    // how many there were
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

// over returns nil if a merge that was planned may be tried, and else why it waits.
func (w *waits) over(set uint64) error {
	s := w.sets[set]
	if s == nil {
		return nil
	}
	if s.seen = w.cycle; s.next <= w.cycle {
		return nil
	}
	return fmt.Errorf("waits after %d failures, cycles to go: %d: %w", s.fail, s.next-w.cycle, s.err)
}

// note notes how an attempt ended. That the store is away, or that the process ends, says
// nothing about the merge.
func (w *waits) note(set uint64, err error) {
	switch s := w.sets[set]; {
	case err == nil:
		delete(w.sets, set)
	case errors.Is(err, objstore.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case s == nil:
		w.sets[set] = &wait{err: err, fail: 1, next: w.cycle + 1, seen: w.cycle}
	default:
		s.err, s.fail = err, s.fail+1
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
