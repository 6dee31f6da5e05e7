package querier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// asked is the members as one query knows them, and what it has learnt of them.
type asked struct {
	view    *ring.View
	without map[string]bool // not asked

	mu   sync.Mutex
	gaps map[string]bool // members that told of gaps of which the table does not know
}

// complete judges an answer without the members called missing.
func (a *asked) complete(missing []string) error {
	gone := map[string]bool{}
	for name := range a.without {
		gone[name] = true
	}
	for _, name := range missing {
		gone[name] = true
	}
	a.mu.Lock()
	for name := range a.gaps {
		gone[name] = true
	}
	a.mu.Unlock()
	ok, lost := a.view.Complete(func(m *ring.Member) bool { return !gone[m.Name] })
	if ok {
		return nil
	}
	names := make([]string, len(lost))
	for i, m := range lost {
		if names[i] = m.Name; !gone[m.Name] {
			names[i] += " (has lost entries)"
		}
	}
	return rpcerr.New(rpcerr.Incomplete, "the answer would not be complete: no answer from %v", names).WithRetry(time.Second)
}

// hasGap notes that a member misses something, and judges anew.
func (a *asked) hasGap(name string) error {
	a.mu.Lock()
	a.gaps[name] = true
	a.mu.Unlock()
	return a.complete(nil)
}

// ingesters returns every ingester that may hold entries, and the judge of whether an
// answer without some of them is complete. Those that the members hold for dead are
// left out, and not waited for, where an answer without them is complete.
func (s *Service) ingesters() ([]engine.Source, func(missing []string) error) {
	view := s.deps.Ring.View()
	a := &asked{view: view, without: map[string]bool{}, gaps: map[string]bool{}}
	var out []engine.Source
	enough, _ := view.Complete(func(m *ring.Member) bool { return view.Healthy(m.Name) })
	for _, m := range view.Ingesters() {
		if enough && !view.Healthy(m.Name) {
			a.without[m.Name] = true
			continue
		}
		c, err := s.deps.Ingesters.Ingester(m)
		if err != nil {
			out = append(out, unreachable{m.Name, err})
			continue
		}
		out = append(out, holder{remote.NewSource(m.Name, c), m.Incarnation, a})
	}
	if err := a.complete(nil); err != nil { // too few members are known to answer at all
		out = append(out, unreachable{"the others", err})
	}
	return out, a.complete
}

// holder is a member with the data directory that it is known to have. One that
// answers from another has lost what that held, and has not answered for it.
type holder struct {
	engine.Source
	incarnation string
	asked       *asked // nil: gaps are not looked at
}

// Open implements engine.Source.
func (h holder) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	s, err := h.Source.Open(ctx, matchers, start, end)
	if err != nil {
		return nil, err
	}
	o, ok := s.(interface{ Opened() *ingestv1.Opened })
	if !ok {
		return s, nil
	}
	opened := o.Opened()
	if opened.GetIncarnation() != h.incarnation {
		return nil, errors.Join(rpcerr.New(rpcerr.Unavailable, "it has the data directory %s, and not %s as the members know", opened.GetIncarnation(), h.incarnation), s.Close())
	}
	if h.asked == nil || len(opened.GetGaps()) == 0 || h.asked.view.HasGap(h.Name()) {
		return s, nil
	}
	if err := h.asked.hasGap(h.Name()); err != nil {
		return nil, errors.Join(rpcerr.Wrap(err, rpcerr.Incomplete, "it has lost entries: %v: %v", opened.GetGaps(), err).WithRetry(time.Second), s.Close())
	}
	return s, nil
}

// losses is a source without rows that tells of what is lost for good, or nil if
// nothing is. What was lost at some time may have been entries up to then, and a little
// beyond.
func losses(view *ring.View, future time.Duration) engine.Source {
	var all lossStore
	for _, m := range view.Losses() {
		all = append(all, loss{
			until: m.Changed().Add(future).UnixNano(),
			text: fmt.Sprintf("entries that ingester %s stored before %s may be lost (%s); an operator acknowledges that with: weirctl ring acknowledge %s",
				m.Name, m.Changed().UTC().Format(time.RFC3339), m.Incarnation, m.Name),
		})
	}
	if all == nil {
		return nil
	}
	return engine.Local(all, "recorded losses")
}

type loss struct {
	until int64
	text  string
}

type lossStore []loss

// Open implements engine.Store.
func (l lossStore) Open(_ context.Context, _ []*syntax.Matcher, start, _ int64) (engine.Snapshot, error) {
	var texts lossSnapshot
	for _, x := range l {
		if start <= x.until {
			texts = append(texts, x.text)
		}
	}
	return texts, nil
}

type lossSnapshot []string

func (s lossSnapshot) Gaps() []string                              { return s }
func (lossSnapshot) Streams() []engine.Stream                      { return nil }
func (lossSnapshot) Close()                                        {}
func (lossSnapshot) Rows(int, int64, int64, bool) engine.RowReader { return nil } // there are no streams
