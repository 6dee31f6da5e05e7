package engine

import (
	"slices"
	"unsafe"
)

// united is open sessions and the plan of how their streams unite.
type united struct {
	sessions []Session // nil: it could not be opened
	names    []string
	streams  [][]Stream
	failed   []bool
	causes   []error // of sessions that failed once they were open
	union    []unionStream
	of       [][]int32 // the number in union of each session's streams
	// chain, if it is not nil, stands for union and of, see disjoint.
	chain []link
	// mixed: links may have rows of the same times, but then of different streams.
	mixed bool
	held  holder // for the plan
}

func newUnited(n int, mem *Memory) united {
	return united{
		held:     holder{mem: mem},
		sessions: make([]Session, n), names: make([]string, n), streams: make([][]Stream, n),
		failed: make([]bool, n), causes: make([]error, n),
	}
}

// plan decides how the sessions unite. As with all that plans, there is nothing in the plan,
// or not all, once the query's memory has refused a claim: then the query is to end.
func (u *united) plan(start, end int64) {
	if chain, ok := u.disjoint(); ok {
		u.chain = chain
		return
	}
	u.planStreams(start, end)
}

// planStreams decides how the streams of the sessions unite.
func (u *united) planStreams(start, end int64) {
	u.chain, u.mixed, u.union, u.of = nil, false, nil, nil
	u.held.release()
	lists := make([]listing, len(u.sessions))
	for i := range lists {
		if lists[i] = u.listingOf(i); u.held.mem.Err() != nil {
			return
		}
	}
	u.union, u.of = unite(u.names, lists, start, end, &u.held)
}

// close closes all sessions.
func (u *united) close() error {
	u.held.release()
	var first error
	for i, s := range u.sessions {
		if s != nil {
			if err := s.Close(); err != nil && first == nil {
				first = err
			}
			u.sessions[i] = nil
		}
	}
	return first
}

// all are the tasks that ask for everything.
func (u *united) all(start, end int64) []task {
	if u.chain != nil {
		return nil
	}
	return allTasks(len(u.union), start, end)
}

// lost returns a session that failed and whose rows of the tasks nobody else has,
// or -1.
func (u *united) lost(tasks []task) int {
	if !slices.Contains(u.failed, true) {
		return -1
	}
	for i := range u.chain {
		if s := u.chain[i].session; u.failed[s] {
			return s
		}
	}
	var from []reading
	for _, t := range tasks {
		for j := range u.union[t.stream].pieces {
			p := &u.union[t.stream].pieces[j]
			if len(clip(t.ranges, p.start, p.end)) == 0 {
				continue
			}
			var lost int
			if from, lost = p.from(from[:0], u.failed); lost >= 0 {
				return lost
			}
		}
	}
	return -1
}

// share is what is read from one session.
type share struct {
	session int
	part
	link     *link // all that the session has; nil: part says what
	identity bool
}

// sharesSize is the bytes that shares take.
func sharesSize(all []share) int {
	n := int(unsafe.Sizeof(share{})) * len(all)
	for i := range all {
		n += 8*cap(all[i].streams) + int(unsafe.Sizeof(TimeRange{}))*cap(all[i].ranges)
	}
	return n
}

type part struct {
	streams []int
	ranges  []TimeRange
}

func (p *part) add(stream int, r TimeRange, joins bool) {
	if n := len(p.streams); joins && n > 0 && p.streams[n-1] == stream {
		p.ranges[n-1].End = r.End
		return
	}
	p.streams = append(p.streams, stream)
	p.ranges = append(p.ranges, r)
}

// Which pieces shares returns.
type which uint8

const (
	single  which = 1 << iota // those that one session holds
	tangled                   // those of several, which are united row by row
)

// shares returns what is to be read from each session for tasks, those that need
// nothing left out.
func (u *united) shares(w which, tasks []task) []share {
	if u.chain != nil {
		if w&single == 0 {
			return nil
		}
		return u.wholeShares()
	}
	all := make([]share, len(u.sessions))
	// The piece, and the range of the task, that each session read last.
	type mark struct{ task, piece, at int }
	last := make([]mark, len(u.sessions))
	for i := range last {
		all[i].session, last[i].task = i, -1
	}
	var from []reading
	for n, t := range tasks {
		pieces := u.union[t.stream].pieces
		next := 0
		for j := range pieces {
			p := &pieces[j]
			if (len(p.classes) > 1 && w&tangled == 0) || (len(p.classes) == 1 && w&single == 0) {
				continue
			}
			for next < len(t.ranges) && t.ranges[next].End <= p.start {
				next++
			}
			if next == len(t.ranges) || t.ranges[next].Start >= p.end {
				continue
			}
			from, _ = p.from(from[:0], u.failed)
			for at := next; at < len(t.ranges) && t.ranges[at].Start < p.end; at++ {
				for _, pl := range from {
					r := TimeRange{max(pl.Start, t.ranges[at].Start), min(pl.End, t.ranges[at].End)}
					if r.Start >= r.End {
						continue
					}
					// Between pieces there are no rows.
					m := mark{n, j, at}
					all[pl.session].add(int(pl.stream), r, last[pl.session] == mark{n, j - 1, at})
					last[pl.session] = m
					if len(p.classes) > 1 {
						all[pl.session].identity = true
					}
				}
			}
		}
	}
	return slices.DeleteFunc(all, func(s share) bool { return len(s.streams) == 0 })
}
