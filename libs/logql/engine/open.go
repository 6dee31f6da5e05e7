package engine

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// opened is the sessions of all sources for one selector, and the plan of how
// their streams unite.
type opened struct {
	q        *query
	sessions []Session // nil: the source could not be opened
	names    []string
	streams  [][]Stream
	failed   []bool
	causes   []error // of sessions that failed once they were open
	union    []unionStream
}

// open opens all sources at once and waits for each.
func (q *query) open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (*opened, error) {
	n := len(q.Sources)
	o := &opened{
		q: q, sessions: make([]Session, n), names: make([]string, n),
		streams: make([][]Stream, n), failed: make([]bool, n), causes: make([]error, n),
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i, src := range q.Sources {
		o.names[i] = src.Name()
		wg.Go(func() { o.sessions[i], errs[i] = src.Open(ctx, matchers, start, end) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		o.close()
		return nil, context.Cause(ctx)
	}
	for _, err := range errs {
		if err != nil && isQueryError(err) {
			o.close()
			return nil, err
		}
	}
	for i, err := range errs {
		if err == nil {
			o.streams[i] = o.sessions[i].Streams()
			for _, g := range o.sessions[i].Gaps() {
				q.warn(o.names[i] + ": " + g)
			}
			continue
		}
		o.failed[i] = true
		if err := q.missing(o.names[i], err); err != nil {
			o.close()
			return nil, err
		}
	}
	o.union = unite(o.names, o.streams, start, end)
	q.count(o)
	return o, nil
}

// close closes all sessions.
func (o *opened) close() {
	for i, s := range o.sessions {
		if s != nil {
			s.Close()
			o.sessions[i] = nil
		}
	}
}

// missing decides whether the query can go on without a source that failed.
func (q *query) missing(name string, cause error) error {
	q.lostMu.Lock()
	defer q.lostMu.Unlock()
	q.lose(name, cause)
	if q.Complete != nil && q.Complete(q.lostSources) == nil {
		return nil
	}
	if q.Partial {
		// Those that did not matter by themselves do together.
		for i, lost := range q.lostSources {
			q.warn("the answer is not complete: " + lost + ": " + q.lostCauses[i].Error())
		}
		return nil
	}
	return &sourceError{name, cause}
}

// lose notes that a source failed. The caller holds lostMu.
func (q *query) lose(name string, cause error) {
	if !slices.Contains(q.lostSources, name) {
		q.lostSources = append(q.lostSources, name)
		q.lostCauses = append(q.lostCauses, cause)
	}
}

// sourceError is an ErrIncomplete with its cause.
type sourceError struct {
	name  string
	cause error
}

func (e *sourceError) Error() string {
	return "data unavailable: " + e.name + ": " + e.cause.Error()
}

func (e *sourceError) Unwrap() []error { return []error{ErrIncomplete, e.cause} }

// fail notes that a session failed. It returns nil if its part can be had from
// others, or is not needed.
func (o *opened) fail(session int, cause error) error {
	o.failed[session], o.causes[session] = true, cause
	for i := range o.union {
		for j := range o.union[i].pieces {
			if _, lost := o.union[i].pieces[j].from(nil, o.failed); lost < 0 {
				continue
			}
			// Those that failed before and were made up for are missing now too.
			o.q.lostMu.Lock()
			for s, err := range o.causes {
				if err != nil {
					o.q.lose(o.names[s], err)
				}
			}
			o.q.lostMu.Unlock()
			return o.q.missing(o.names[session], cause)
		}
	}
	return nil
}

// share is what is read from one session.
type share struct {
	session int
	part
	identity bool
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

// shares returns what is to be read from each session, those that need nothing
// left out.
func (o *opened) shares(w which) []share {
	all := make([]share, len(o.sessions))
	for i := range all {
		all[i].session = i
	}
	var from []place
	before := make([]int, len(o.sessions)) // the piece that each session read last
	for i := range o.union {
		u := &o.union[i]
		for s := range before {
			before[s] = -2
		}
		for j := range u.pieces {
			p := &u.pieces[j]
			from, _ = p.from(from[:0], o.failed)
			if (len(p.classes) > 1 && w&tangled == 0) || (len(p.classes) == 1 && w&single == 0) {
				continue
			}
			for _, pl := range from {
				// Between pieces there are no rows.
				all[pl.session].add(pl.stream, TimeRange{p.start, p.end}, before[pl.session] == j-1)
				before[pl.session] = j
				if len(p.classes) > 1 {
					all[pl.session].identity = true
				}
			}
		}
	}
	return slices.DeleteFunc(all, func(s share) bool { return len(s.streams) == 0 })
}

// unionOf returns, for each stream of a session, its number in the union.
func (o *opened) unionOf(session int) []int {
	out := make([]int, len(o.streams[session]))
	u := 0
	for i := range out {
		for u < len(o.union) && o.union[u].labels.Compare(o.streams[session][i].Labels) < 0 {
			u++
		}
		out[i] = u
	}
	return out
}

// errStop ends a scan early without being a failure.
var errStop = errors.New("stop")
