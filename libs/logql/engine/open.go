package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// opened is the sessions of all sources for one selector, and the plan of how
// their streams unite.
type opened struct {
	q *query
	united
	uncutted
	start, end int64
	tasks      []task // all there is
}

func (o *opened) close() error {
	o.uncut(&o.united)
	return o.united.close()
}

// open opens all sources at once, but for followers, and waits for each.
func (q *query) open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (*opened, error) {
	return q.openPlanned(ctx, matchers, start, end, false, nil)
}

// openCut is open for what can begin anew without those who ask knowing: what
// overlaps is cut, see planCut.
func (q *query) openCut(ctx context.Context, matchers []*syntax.Matcher, start, end int64, cover *coverage) (*opened, error) {
	return q.openPlanned(ctx, matchers, start, end, true, cover)
}

func (q *query) openPlanned(ctx context.Context, matchers []*syntax.Matcher, start, end int64, cut bool, cover *coverage) (*opened, error) {
	o, err := q.openSessions(ctx, matchers, start, end)
	if err != nil {
		return nil, err
	}
	opened := false
	defer func() {
		if !opened {
			o.close()
		}
	}()
	if o.start, o.end = start, end; cut {
		o.uncutted = o.planCut(ctx, start, end)
	} else {
		o.plan(start, end)
	}
	if err := q.mem.Err(); err != nil {
		return nil, err
	}
	o.tasks = o.all(start, end)
	if err := q.checkBare(matchers, q.count(o, cover)); err != nil {
		return nil, err
	}
	opened = true
	return o, nil
}

// openSessions is open without the plan.
func (q *query) openSessions(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (*opened, error) {
	n := len(q.Sources)
	o := &opened{q: q, united: newUnited(n, q.mem)}
	errs := make([]error, n)
	opened := false
	defer func() {
		if !opened {
			o.close()
		}
	}()
	var g Group
	for i, src := range q.Sources {
		o.names[i] = src.Name()
		if _, follows := src.(Follower); !follows {
			g.Go(func() { o.sessions[i], errs[i] = src.Open(ctx, matchers, start, end) })
		}
	}
	g.Wait()
	for i, src := range q.Sources {
		if f, follows := src.(Follower); follows && ctx.Err() == nil {
			o.sessions[i], errs[i] = f.OpenAfter(ctx, slices.Clone(o.sessions), matchers, start, end)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for _, err := range errs {
		if err != nil && IsQueryError(err) {
			return nil, err
		}
	}
	for i, err := range errs {
		if err == nil {
			for _, g := range o.sessions[i].Gaps() {
				q.warn(o.names[i] + ": " + g)
			}
			continue
		}
		o.failed[i] = true
		if err := q.missing(o.names[i], err); err != nil {
			return nil, err
		}
	}
	opened = true
	return o, nil
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
	if o.uncut(&o.united) {
		// Copies are looked for in all that there is.
		o.planStreams(o.start, o.end)
		o.tasks = o.all(o.start, o.end)
		return o.q.mem.Err()
	}
	o.failed[session], o.causes[session] = true, cause
	if o.lost(o.tasks) < 0 {
		return nil
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

// errStop ends a scan early without being a failure.
var errStop = errors.New("stop")
