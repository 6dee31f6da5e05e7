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
	anywhere bool              // streams are not only where the ring has them
	names    map[string]string // incarnations of those that are asked, by name
	without  map[string]bool   // not asked
	hedger   *hedger           // nil: slow ones are waited for
	giving   sync.Mutex        // held while it is decided to wait for one no longer; before mu

	mu      sync.Mutex
	views   []*ring.View    // the one that was asked by, and the newest
	gaps    map[string]bool // members that told of gaps of which the table does not know
	opening map[string]int  // members that are being opened, and how often
	failed  map[string]bool // members that could not be opened
	slow    map[string]bool // members that are not waited for any longer
}

func newAsked(view *ring.View, anywhere bool) *asked {
	return &asked{
		anywhere: anywhere, views: []*ring.View{view}, names: map[string]string{}, without: map[string]bool{}, gaps: map[string]bool{},
		opening: map[string]int{}, failed: map[string]bool{}, slow: map[string]bool{},
	}
}

// complete judges an answer without the members called missing. It must be complete by
// all that is known of the members: what was written before a change, and after it.
func (a *asked) complete(missing []string) error {
	gone := map[string]bool{}
	for name := range a.without {
		gone[name] = true
	}
	for _, name := range missing {
		gone[name] = true
	}
	a.mu.Lock()
	views := a.views
	for name := range a.gaps {
		gone[name] = true
	}
	a.mu.Unlock()
	for i, v := range views {
		ok, lost := a.judge(v, func(m *ring.Member) bool {
			return !gone[m.Name] && (i == 0 || a.names[m.Name] == m.Incarnation)
		})
		if ok {
			continue
		}
		names := make([]string, len(lost))
		for i, m := range lost {
			if names[i] = m.Name; v.HasGap(m.Name) {
				names[i] += " (has lost entries)"
			}
		}
		return rpcerr.New(rpcerr.Incomplete, "the answer would not be complete: no answer from %v", names).WithRetry(time.Second)
	}
	return nil
}

func (a *asked) judge(v *ring.View, answered func(*ring.Member) bool) (bool, []*ring.Member) {
	if a.anywhere {
		return v.CompleteAnywhere(answered)
	}
	return v.Complete(answered)
}

// learnt takes in a newer view, and judges anew.
func (a *asked) learnt(v *ring.View) error {
	a.mu.Lock()
	same := a.views[len(a.views)-1].Table().Digest() == v.Table().Digest()
	if !same {
		a.views = []*ring.View{a.views[0], v}
	}
	a.mu.Unlock()
	if same {
		return nil
	}
	return a.complete(nil)
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
func (s *Service) ingesters(sc scope) ([]engine.Source, func(missing []string) error) {
	view := s.deps.Ring.View()
	a := newAsked(view, sc.limits.IngestionShardSize > 0)
	a.hedger = s.hedger
	var out []engine.Source
	enough, _ := a.judge(view, func(m *ring.Member) bool { return view.Healthy(m.Name) })
	for _, m := range view.Ingesters() {
		if enough && !view.Healthy(m.Name) {
			a.without[m.Name] = true
			continue
		}
		a.names[m.Name] = m.Incarnation
		c, err := s.deps.Ingesters.Ingester(m)
		if err != nil {
			out = append(out, unreachable{m.Name, err})
			continue
		}
		out = append(out, holder{remote.NewSource(m.Name, c), m.Incarnation, a, s.learn})
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
	asked       *asked
	// learn returns the view after the table of that version of the member was merged.
	learn func(ctx context.Context, member string, version uint64) *ring.View
}

// learn has the table of a member merged into the own one, if it has another.
func (s *Service) learn(ctx context.Context, member string, version uint64) *ring.View {
	if s.deps.Learn != nil && version != s.deps.Ring.View().Table().Digest() {
		ctx, cancel := context.WithTimeout(ctx, learnWait)
		defer cancel()
		s.deps.Learn(ctx, member, version)
	}
	return s.deps.Ring.View()
}

// learnWait is how long an answer waits for the table of the member that it is from.
const learnWait = 3 * time.Second

// Open implements engine.Source.
func (h holder) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	ctx, done, ok := h.asked.begin(ctx, h.Name())
	if !ok {
		return nil, rpcerr.New(rpcerr.Unavailable, "it was slow, and is not waited for").WithRetry(time.Second)
	}
	s, err := h.open(ctx, matchers, start, end)
	done(err)
	return s, err
}

func (h holder) open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	s, err := h.Source.Open(ctx, matchers, start, end)
	if err != nil {
		return nil, err
	}
	o, ok := s.(interface{ Opened() *ingestv1.Opened })
	if !ok {
		return s, nil
	}
	opened := o.Opened()
	view := h.learn(ctx, h.Name(), opened.GetTableVersion())
	if opened.GetIncarnation() != h.incarnation {
		return nil, errors.Join(rpcerr.New(rpcerr.Unavailable, "it has the data directory %s, and not %s as the members know", opened.GetIncarnation(), h.incarnation), s.Close())
	}
	if err := h.asked.learnt(view); err != nil {
		return nil, errors.Join(rpcerr.Wrap(err, rpcerr.Incomplete, "the members have changed: %v", err).WithRetry(time.Second), s.Close())
	}
	if len(opened.GetGaps()) == 0 || view.HasGap(h.Name()) {
		return s, nil
	}
	if err := h.asked.hasGap(h.Name()); err != nil {
		return nil, errors.Join(rpcerr.Wrap(err, rpcerr.Incomplete, "it has lost entries: %v: %v", opened.GetGaps(), err).WithRetry(time.Second), s.Close())
	}
	return s, nil
}

// behind is how far the clock of whoever recorded a loss may have been behind.
const behind = 2 * time.Hour

// losses is a source without rows that tells of what is lost for good, or nil if
// nothing is. What was lost at some time may have been entries up to then, and a little
// beyond.
func losses(view *ring.View, future time.Duration) engine.Source {
	var all lossStore
	for _, m := range view.Losses() {
		all = append(all, loss{
			until: m.Changed().Add(future + behind).UnixNano(),
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
