package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Union makes one source of several that may hold copies of each other's rows: an
// entry occurs once in it. Sources need distinct names. It may have hundreds of
// them; what a query costs depends on those that have rows for it, and a scan with
// a limit begins with those that come first.
//
// The runs of its streams are those of its sources. Where sources overlap and differ
// there is one run instead, the sum of theirs: it says how many rows there are at most,
// and its digest counts a row as often as it is there.
//
// If a source fails, a copy of its rows is read from another one where there is
// one that is known to be equal. Else the error is passed on and names the source.
// One that cannot be opened has no copy that is known.
func Union(name string, sources ...Source) Source { return &unionSource{name, sources} }

type unionSource struct {
	name    string
	sources []Source
}

func (u *unionSource) Name() string { return u.name }

// maxOpens is how many sources a union opens at once: mostly that waits for I/O.
const maxOpens = 16

func (u *unionSource) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (Session, error) {
	n := len(u.sources)
	s := &unionSession{united: newUnited(n, memoryOf(ctx)), start: start, end: end}
	ctx, cancel := context.WithCancelCause(ctx)
	s.ctx, s.cancel = ctx, cancel
	var next atomic.Int64
	opened := false
	defer func() {
		if !opened {
			s.Close()
		}
	}()
	var g Group
	for range min(n, maxOpens) {
		g.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				src := u.sources[i]
				s.names[i] = src.Name()
				session, err := src.Open(ctx, matchers, start, end)
				if err != nil {
					cancel(nameError(s.names[i], err))
					return
				}
				s.sessions[i] = session
			}
		})
	}
	g.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for i, session := range s.sessions {
		for _, g := range session.Gaps() {
			s.gaps = append(s.gaps, s.names[i]+": "+g)
		}
	}
	opened = true
	return s, nil
}

// nameError says which source an error is of, unless it is the query's fault.
func nameError(name string, err error) error {
	if IsQueryError(err) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

type unionSession struct {
	united
	uncutted
	ctx        context.Context
	planned    bool
	list       []Stream // once it was asked for
	gaps       []string
	start, end int64
	cancel     context.CancelCauseFunc // of what the sessions were opened under
}

func (s *unionSession) Gaps() []string { return s.gaps }

// Streams implements Session.
func (s *unionSession) Streams() []Stream {
	if s.list == nil {
		s.uncut(&s.united)
		if s.union == nil {
			s.planStreams(s.start, s.end)
			s.planned = true
		}
		s.held.claim(int(unsafe.Sizeof(Stream{})) * len(s.union))
		s.list = make([]Stream, len(s.union))
		for i := range s.union {
			s.list[i] = Stream{Labels: s.union[i].labels, Runs: s.union[i].known}
		}
	}
	return s.list
}

// ready plans, if nobody has asked for anything so far.
func (s *unionSession) ready() {
	if s.off && !s.lasting && s.uncut(&s.united) {
		s.planned = false
	}
	if s.planned {
		return
	}
	s.planned = true
	chain, ok := s.disjoint()
	switch {
	case ok:
		s.chain = chain
	case s.cutStreams():
	case s.off:
		s.planStreams(s.start, s.end)
	default:
		s.uncutted = s.planCut(s.ctx, s.start, s.end)
	}
}

// extent implements whole.
func (s *unionSession) extent() (Extent, bool) {
	s.ready()
	e := Extent{MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	for i := range s.chain {
		l := &s.chain[i]
		e.MinTime, e.MaxTime = min(e.MinTime, l.MinTime), max(e.MaxTime, l.MaxTime)
		e.Streams += l.Streams
		e.Bytes += l.Bytes
	}
	for i := range s.union {
		known := s.union[i].known
		if len(known) == 0 {
			return e, false
		}
		e.MinTime, e.MaxTime = min(e.MinTime, known[0].MinTime), max(e.MaxTime, known[len(known)-1].MaxTime)
		e.Streams++
		e.Bytes += s.union[i].bytes
	}
	e.MinTime, e.MaxTime = max(e.MinTime, s.start), min(e.MaxTime, s.end-1)
	if e.MinTime > e.MaxTime {
		e.Streams = 0
	}
	return e, true
}

func (s *unionSession) Close() error {
	s.uncut(&s.united)
	err := s.close()
	s.cancel(nil)
	return err
}

// failure returns the error of a session of which tasks need rows that no other
// session has.
func (s *unionSession) failure(tasks []task) error {
	if err := s.held.mem.Err(); err != nil {
		return err
	}
	if i := s.lost(tasks); i >= 0 {
		return nameError(s.names[i], s.causes[i])
	}
	return nil
}

func (s *unionSession) tasks(streams []int, ranges []TimeRange, start, end int64) ([]task, error) {
	s.ready()
	if s.chain != nil {
		if streams == nil {
			return nil, nil
		}
		s.Streams()
	}
	if err := s.held.mem.Err(); err != nil {
		return nil, err
	}
	return tasksOf(len(s.union), streams, ranges, max(start, s.start), min(end, s.end))
}

// whole takes a cut back, if there is one, and sets the tasks anew, which ask for all:
// copies of the rows of a session that failed are looked for in all others.
func (s *unionSession) whole(tasks *[]task) bool {
	if s.lasting || !s.uncut(&s.united) {
		return false
	}
	s.planStreams(s.start, s.end)
	*tasks = s.all(s.start, s.end)
	return true
}

// Aggregate unites the aggregates of what one session holds alone with those of
// the rows that several hold.
func (s *unionSession) Aggregate(ctx context.Context, req AggregateRequest) ([]PartialSeries, ScanStats, error) {
	var stats ScanStats
	plan, err := planOf(ctx, req.Query)
	if err != nil {
		return nil, stats, err
	}
	ctx = withPlan(ctx, plan)
	prog := plan.prog
	f, ok := prog.fold()
	if !ok {
		return nil, stats, Errorf(ErrUnsupported, "%s cannot be computed in parts", req.Query)
	}
	g := newGrid(req.Start, req.End, req.Step, int64(prog.agg.Range.Interval))
	spec := aggSpec{query: req.Query, prog: prog, fold: f, grid: &g, step: req.Step, limit: req.MaxSeries, each: spread}
	if spec.tasks, err = s.tasks(req.Streams, req.Ranges, g.from(), g.to()); err != nil {
		return nil, stats, err
	}
	for {
		if err := s.failure(spec.tasks); err != nil {
			return nil, stats, err
		}
		out, failed, more, err := s.aggregateOnce(ctx, &spec)
		stats.Add(more)
		if failed < 0 {
			return out, stats, err
		}
		if s.whole(&spec.tasks) {
			continue
		}
		s.failed[failed], s.causes[failed] = true, err
	}
}

// Scan merges what the sessions scan.
func (s *unionSession) Scan(ctx context.Context, req ScanRequest, yield func(*ScanRows) error) (ScanStats, error) {
	var stats ScanStats
	plan, err := planOf(ctx, req.Query)
	if err != nil {
		return stats, err
	}
	ctx = withPlan(ctx, plan)
	spec := scanSpec{
		query: req.Query, which: single | tangled, start: req.Start, end: req.End, limit: req.Limit,
		backward: req.Backward, after: req.After, identity: req.Identity, distinct: req.Distinct, lazy: true,
	}
	s.uncutted.off = true // what was given out is known by numbers of streams
	if spec.tasks, err = s.tasks(req.Streams, req.Ranges, req.Start, req.End); err != nil {
		return stats, err
	}
	if !req.Identity {
		spec.drop = s.dropTo(req.After, req.Backward)
	}
	w := &unionScan{session: s, req: &req, metric: plan.prog.metric(), mem: memoryOf(ctx), yield: yield, flushed: time.Now()}
	defer w.release()
	begin := spec.drop
	for {
		if err := s.failure(spec.tasks); err != nil {
			return stats, err
		}
		w.sets = nil // each scan numbers sets anew
		failed, more, err := s.scanOnce(ctx, spec, w.add)
		stats.Add(more)
		switch {
		case failed >= 0:
			s.failed[failed], s.causes[failed] = true, err
		case w.stopped != nil:
			return stats, w.stopped
		case err != nil:
			return stats, err
		default:
			return stats, w.flush()
		}
		if w.any {
			w.before = slices.Sorted(slices.Values(w.given))
			// The group of the last row comes again, in whatever order the next session
			// has it.
			spec.identity, spec.after = true, &After{s.labelsOf(w.last.stream), w.last.key}
			spec.drop = func(r *row) bool { return w.gave(r) || begin != nil && begin(r) }
		}
	}
}

// unionScan makes batches of the rows of a scan.
type unionScan struct {
	session *unionSession
	req     *ScanRequest
	metric  bool
	mem     *Memory
	yield   func(*ScanRows) error
	stopped error // what yield returned

	out     ScanRows
	in      interner
	key     []byte
	sets    [][]uint32 // of each feed's sets, the number in out.Labels, plus 1
	counted int
	full    bool // the limit is reached
	held    int
	flushed time.Time

	any   bool
	last  row      // given out: its place and key
	given []uint64 // hashes of the rows of its group that were given out
	// before are those that were when a session failed, ascending.
	before []uint64
}

func (w *unionScan) release() { w.mem.Release(w.held) }

func (w *unionScan) reserve(n int) error {
	if err := w.mem.Reserve(n); err != nil {
		return err
	}
	w.held += n
	return nil
}

// gave reports whether a row was given out: of the group of the last one.
func (w *unionScan) gave(r *row) bool {
	if r.key.Time != w.last.key.Time || r.stream != w.last.stream {
		return false
	}
	if len(w.given) > 0 {
		_, found := slices.BinarySearch(w.before, r.key.Hash)
		return found
	}
	k := r.key
	k.Hash = w.last.key.Hash
	c := k.Compare(w.last.key)
	return c == 0 || (c < 0) != w.req.Backward
}

// add adds a row.
func (w *unionScan) add(r *row) error {
	same := w.any && r.key.Time == w.last.key.Time && r.stream == w.last.stream
	if w.full && !same {
		return errStop
	}
	set, err := w.set(r)
	if err != nil {
		return err
	}
	o := &w.out
	o.Sets = append(o.Sets, set)
	o.Times = append(o.Times, r.key.Time)
	o.BatchTimes = append(o.BatchTimes, r.key.BatchTime)
	o.Positions = append(o.Positions, r.key.Position)
	if w.metric {
		o.Values = append(o.Values, r.value)
	} else {
		o.Lines.Append(r.line)
	}
	hashed := w.req.Identity || !w.metric
	if hashed {
		o.Hashes = append(o.Hashes, r.key.Hash)
	}
	if !same {
		w.given = w.given[:0]
	}
	if hashed {
		if len(w.given) == cap(w.given) {
			n := max(16, cap(w.given))
			if err := w.reserve(8 * n); err != nil {
				return err
			}
			w.given = slices.Grow(w.given, n)
		}
		w.given = append(w.given, r.key.Hash)
	}
	w.any, w.last.stream, w.last.key = true, r.stream, r.key
	a := w.req.After
	if !w.req.Identity || a == nil || r.key.Time != a.Key.Time || !w.session.labelsOf(r.stream).Equal(a.Stream) {
		w.counted++
	}
	if w.req.Limit > 0 && w.counted >= w.req.Limit {
		if w.full = true; !w.req.Identity {
			return errStop
		}
	}
	if len(o.Times) >= scanRows || len(o.Lines.Slab) >= scanBytes || r.lastOfBatch && time.Since(w.flushed) > scanPatience {
		return w.flush()
	}
	return nil
}

// set returns the number of a row's label set in the batches that are given out.
func (w *unionScan) set(r *row) (uint32, error) {
	for len(w.sets) <= r.feed {
		w.sets = append(w.sets, nil)
	}
	known := w.sets[r.feed]
	if int(r.set) < len(known) && known[r.set] > 0 {
		return known[r.set] - 1, nil
	}
	for len(known) <= int(r.set) {
		known = append(known, 0)
	}
	w.sets[r.feed] = known
	w.key = appendSetKey(w.key[:0], r.stream, r.labels.Labels, r.labels.Metadata, r.labels.Parsed)
	id, isNew := w.in.idOf(w.key)
	if isNew {
		n := len(r.labels.Labels) + len(r.labels.Metadata) + len(r.labels.Parsed)
		if err := w.reserve(2*len(w.key) + 32*n + 128); err != nil {
			return 0, err
		}
		l := *r.labels
		l.Stream = r.stream
		w.out.Labels = append(w.out.Labels, l)
	}
	known[r.set] = id + 1
	return id, nil
}

func (w *unionScan) flush() error {
	w.flushed = time.Now()
	if len(w.out.Times) == 0 {
		return nil
	}
	if err := w.yield(&w.out); err != nil {
		w.stopped = err
		return err
	}
	w.out.reset()
	return nil
}
