package ingester

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/ingester/head"
)

// tailMemory is how long rows stay readable by position after they left the head, if
// there is room for them.
const tailMemory = 15 * time.Minute

// generation is a head and the records of the write-ahead log that it holds: those from
// first to last that no earlier generation has. It takes appends until it is frozen.
type generation struct {
	head        *head.Head
	first, last uint64    // last is first-1 while there is none
	born        time.Time // of the first append
	left        time.Time // when its rows were in a block
	// plain are tenants of whose rows no block could be written for a panic: their lines are
	// kept whole, which takes none of the code that looks at lines. It is the flusher's.
	plain map[string]bool
}

func (g *generation) empty() bool { return g.last < g.first }

// generations are the heads of an ingester. Appends and freeze are called one after
// the other, everything else at any time.
type generations struct {
	mu     sync.RWMutex  // guards everything below; the heads guard themselves
	active *generation   // takes appends
	frozen []*generation // to be written to blocks, oldest first
	passed []*generation // in blocks; kept for tails, oldest first
	known  uint64        // positions before it are not to be read from, whatever the heads hold
}

func newGenerations() *generations {
	return &generations{active: &generation{head: head.New(), first: 1, plain: map[string]bool{}}}
}

// begin says which record comes first, and behind which one all are there.
func (gs *generations) begin(first, known uint64) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.active.first, gs.active.last, gs.known = first, first-1, known-1
}

// ready ends the replay. next is the record that comes next.
func (gs *generations) ready(next uint64) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if g := gs.active; g.empty() && len(gs.frozen) == 0 && len(gs.passed) == 0 {
		g.first, g.last, gs.known = next, next-1, next-1
	}
	gs.active.head.Advance(next - 1)
}

func (gs *generations) append(tenant string, blocks []head.Block, batchTime int64, lsn uint64, now time.Time) int {
	g := gs.active // changes between appends only
	if g.head.Stats().Rows == 0 {
		gs.mu.Lock()
		g.born = now
		gs.mu.Unlock()
	}
	added := g.head.Append(tenant, blocks, batchTime, lsn)
	gs.mu.Lock()
	g.last = max(g.last, lsn)
	gs.mu.Unlock()
	return added
}

// freeze ends the active generation, and returns it, or nil if there was no record.
func (gs *generations) freeze() *generation {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.active
	if g.empty() {
		return nil
	}
	gs.frozen = append(gs.frozen, g)
	gs.active = &generation{head: g.head.Next(), first: g.last + 1, last: g.last, plain: map[string]bool{}}
	return g
}

// next returns the oldest frozen generation, or nil.
func (gs *generations) next() *generation {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	if len(gs.frozen) == 0 {
		return nil
	}
	return gs.frozen[0]
}

// pass notes that the oldest frozen generation is in a block. It is called with the
// lock of what is published in its place held.
func (gs *generations) pass(g *generation, now time.Time) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.frozen = slices.DeleteFunc(gs.frozen, func(o *generation) bool { return o == g })
	g.left = now
	gs.passed = append(gs.passed, g)
}

// live returns the heads whose rows are in no block.
func (gs *generations) live() []*head.Head {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	out := []*head.Head{gs.active.head}
	for _, g := range gs.frozen {
		out = append(out, g.head)
	}
	return out
}

// ages returns when the active generation began and how large it is, and of that what rows
// take; zero if it is empty.
func (gs *generations) ages() (born time.Time, size, rows int64, empty bool) {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	return gs.active.born, gs.active.head.Size(), gs.active.head.RowsSize(), gs.active.empty()
}

// size returns the bytes of all generations, and of those that are kept for tails only.
func (gs *generations) size() (all, passed int64) {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	all = gs.active.head.Size()
	for _, g := range gs.frozen {
		all += g.head.Size()
	}
	for _, g := range gs.passed {
		passed += g.head.Size()
	}
	return all + passed, passed
}

// forget gives up generations that are kept for tails: those older than tailMemory,
// and more until they take at most keep bytes.
func (gs *generations) forget(now time.Time, keep int64) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	size := int64(0)
	for _, g := range gs.passed {
		size += g.head.Size()
	}
	for len(gs.passed) > 0 && (size > keep || now.Sub(gs.passed[0].left) > tailMemory) {
		size -= gs.passed[0].head.Size()
		gs.passed = slices.Delete(gs.passed, 0, 1)
	}
}

// newest returns the newest head. It is the one to wait on: all share their count.
func (gs *generations) newest() *head.Head {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	return gs.active.head
}

// oldest returns the oldest position behind which everything can still be read.
func (gs *generations) oldest() uint64 {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	return max(gs.all()[0].first-1, gs.known)
}

// all is called with mu held.
func (gs *generations) all() []*generation {
	return slices.Concat(gs.passed, gs.frozen, []*generation{gs.active})
}

// since is head.Since over all generations. ok is false if rows behind after are no
// longer there.
func (gs *generations) since(tenant string, after, upto uint64, match func(model.Labels) bool) (out []head.Appended, ok bool) {
	gs.mu.RLock()
	all, known := gs.all(), gs.known
	gs.mu.RUnlock()
	if max(all[0].first-1, known) > after {
		return nil, false
	}
	for _, g := range all {
		// Frozen ones do not change; of the active one all up to upto is visible.
		out = append(out, g.head.Since(tenant, after, upto, match)...)
	}
	return out, true
}

// find gives blocks the labels of streams with their text that are in a head, the newest
// first.
func (gs *generations) find(tenant string, blocks []head.Block) {
	gs.mu.RLock()
	all := gs.all()
	gs.mu.RUnlock()
	for _, g := range slices.Backward(all) {
		if g.head.Find(tenant, blocks) == 0 {
			return
		}
	}
}

// wait is head.Wait.
func (gs *generations) wait(ctx context.Context, after uint64) (uint64, error) {
	return gs.newest().Wait(ctx, after)
}

// stats adds up what live heads hold. A stream in several counts several times.
func (gs *generations) stats() (total head.Stats) {
	for _, h := range gs.live() {
		st := h.Stats()
		total.Bytes += st.Bytes
		total.Streams += st.Streams
		total.Rows += st.Rows
		total.Duplicates += st.Duplicates
	}
	return total
}

// unwritten returns the first record that may not be in a block.
func (gs *generations) unwritten() uint64 {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	if len(gs.frozen) > 0 {
		return gs.frozen[0].first
	}
	return gs.active.first
}
