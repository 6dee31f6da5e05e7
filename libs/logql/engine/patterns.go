package engine

import (
	"context"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/patterns"
)

// Labels by which patterns are told apart.
const (
	levelName   = "detected_level" // of structured metadata
	serviceName = "service_name"   // of streams
)

// PatternsQuery asks what the lines of a log query with Start <= t < End have in common,
// and how many lines of each pattern there are in each interval of Width nanoseconds.
// Expr is a *syntax.LogSelector.
type PatternsQuery struct {
	Query
	Start, End, Width int64
}

// PatternsRequest asks a session for patterns.
type PatternsRequest struct {
	Query      *syntax.LogSelector // its matchers play no part: the session has selected
	Streams    []int               // as in ScanRequest
	Ranges     []TimeRange         // as in ScanRequest
	Start, End int64
	Width      int64 // of the buckets of time
}

// PatternCount is lines that have a pattern in common. Counts of sources whose rows are
// disjoint add up.
type PatternCount struct {
	Service, Text, Level string
	Buckets              []int64 // time / width, rounded down; in any order
	Lines                []uint64
}

// TemplateCounter is a Snapshot that knows what its lines have in common without anybody
// reading them.
type TemplateCounter interface {
	Snapshot
	// Templates calls yield with counts of the rows of streams with start <= t < end.
	// A template, in which <_> is what varies, may come several times.
	Templates(ctx context.Context, streams []int, start, end, width int64, yield func(TemplateCount) error) error
}

// TemplateCount is rows whose lines have a template, or one row whose line has none.
type TemplateCount struct {
	Service string // of the streams, or of most; only a hint
	Pattern string
	Line    []byte // if not nil: it is one row's. Valid during the call only
	Level   string // "": not known
	Bucket  int64  // time / width, rounded down
	Rows    uint64
}

// Patterns finds the patterns of a log query's lines, those of most lines first. What
// several sources hold counts once. Where sources have templates, lines are not read,
// unless the query or a delete has filters.
func (e *Engine) Patterns(ctx context.Context, in PatternsQuery) (*Result, error) {
	sel, ok := in.Expr.(*syntax.LogSelector)
	switch {
	case !ok:
		return nil, Errorf(ErrUser, "only log queries have patterns")
	case in.Start < minTime || in.End > maxTime || in.End < in.Start || in.End-in.Start > maxSpan:
		return nil, Errorf(ErrUser, "start or end are too far from the present or from each other, or in the wrong order")
	case in.Width <= 0:
		return nil, Errorf(ErrUser, "zero or negative query resolution step widths are not accepted. Try a positive integer")
	case in.Limits.MaxPoints > 0 && (in.End-in.Start)/in.Width > int64(in.Limits.MaxPoints):
		return nil, Errorf(ErrLimit, "exceeded maximum resolution of %s points per time series. Try increasing the value of the step parameter", thousands(in.Limits.MaxPoints))
	}
	return e.run(ctx, in.Query, func(ctx context.Context, q *query) (*Result, error) {
		plan, err := newPlan(sel)
		if err != nil {
			return nil, err
		}
		ctx = withPlan(ctx, plan)
		o, err := q.open(ctx, sel.Matchers, in.Start, in.End)
		if err != nil {
			return nil, err
		}
		defer o.close()
		spec := patternSpec{PatternsRequest{Query: sel, Start: in.Start, End: in.End, Width: in.Width}, o.tasks, all}
		for {
			set, failed, stats, err := o.patternsOnce(ctx, &spec)
			q.addStats(stats)
			if failed < 0 {
				if err != nil {
					return nil, err
				}
				return &Result{Type: TypePatterns, Patterns: set.Patterns(1, maxPatterns)}, nil
			}
			if err := o.fail(failed, err); err != nil {
				return nil, err
			}
		}
	})
}

// maxPatterns is how many patterns an answer has at most.
const maxPatterns = 3000

// patternSpec is patterns of a union.
type patternSpec struct {
	PatternsRequest
	tasks []task
	each  func(n int, f func(int)) // as in aggSpec
}

// patternsOnce has the sessions find the patterns of what one of them holds alone, does
// the same with what several hold, and unites them. If a session fails, it returns which.
func (u *united) patternsOnce(ctx context.Context, spec *patternSpec) (_ *patterns.Set, failed int, stats ScanStats, _ error) {
	shares := u.shares(single, spec.tasks)
	held := holder{mem: memoryOf(ctx)}
	defer held.release()
	if err := held.reserve(sharesSize(shares)); err != nil {
		return nil, -1, stats, err
	}
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	set := patterns.New(spec.Width)
	results := make([][]PatternCount, len(shares))
	var mu sync.Mutex
	failed = -1
	var failure error
	spec.each(len(shares), func(i int) {
		if ctx.Err() != nil {
			return
		}
		req := spec.PatternsRequest
		req.Streams, req.Ranges = shares[i].streams, shares[i].ranges
		found, st, err := u.sessions[shares[i].session].Patterns(ctx, req)
		mu.Lock()
		defer mu.Unlock()
		stats.Add(st)
		if results[i] = found; err == nil {
			err = held.reserve(patternsSize(found))
		}
		if err == nil || failure != nil {
			return
		}
		if failure = err; !IsQueryError(err) {
			failed = shares[i].session
		}
		cancel()
	})
	if parent.Err() != nil {
		return nil, -1, stats, context.Cause(parent)
	}
	if failure != nil {
		return nil, failed, stats, failure
	}
	// In the order of the sessions, so that the answer is the same each time.
	for _, found := range results {
		for _, c := range found {
			if len(c.Buckets) != len(c.Lines) {
				return nil, -1, stats, Errorf(ErrIncomplete, "a source sent malformed patterns")
			}
			for k, at := range c.Buckets {
				set.AddPattern(c.Service, c.Level, at, c.Text, c.Lines[k])
			}
		}
	}
	if len(u.shares(tangled, spec.tasks)) == 0 {
		return set, -1, stats, nil
	}
	failed, more, err := u.scanOnce(ctx, scanSpec{
		query: spec.Query, tasks: spec.tasks, which: tangled, start: spec.Start, end: spec.End, lazy: true,
	}, func(r *row) error {
		set.Add(r.labels.Labels.Get(serviceName), model.Labels(r.labels.Metadata).Get(levelName), r.key.Time, string(r.line))
		return nil
	})
	stats.Add(more)
	return set, failed, stats, err
}

// patternsSize is about the bytes that patterns take.
func patternsSize(found []PatternCount) (n int) {
	for i := range found {
		n += 128 + len(found[i].Text) + 16*len(found[i].Buckets)
	}
	return n
}

// countsOf returns what a set has found, in a fixed order.
func countsOf(ctx context.Context, set *patterns.Set) ([]PatternCount, error) {
	var out []PatternCount
	set.Each(func(service string, p patterns.Pattern) {
		c := PatternCount{Service: service, Text: p.Text, Level: p.Level}
		for at, n := range p.Samples {
			c.Buckets, c.Lines = append(c.Buckets, at), append(c.Lines, n)
		}
		out = append(out, c)
	})
	// Whoever unites it holds it: here it is asked only whether there is room.
	mem, size := memoryOf(ctx), patternsSize(out)
	if err := mem.Reserve(size); err != nil {
		return nil, err
	}
	mem.Release(size)
	slices.SortFunc(out, func(a, b PatternCount) int {
		return model.Labels{{Name: a.Level, Value: a.Text}, {Name: a.Service}}.Compare(model.Labels{{Name: b.Level, Value: b.Text}, {Name: b.Service}})
	})
	return out, nil
}

// Patterns implements Session.
func (s *unionSession) Patterns(ctx context.Context, req PatternsRequest) ([]PatternCount, ScanStats, error) {
	var stats ScanStats
	plan, err := planOf(ctx, req.Query)
	if err != nil {
		return nil, stats, err
	}
	ctx = withPlan(ctx, plan)
	s.off = true
	spec := patternSpec{PatternsRequest: req, each: spread}
	if spec.tasks, err = s.tasks(req.Streams, req.Ranges, req.Start, req.End); err != nil {
		return nil, stats, err
	}
	for {
		if err := s.failure(spec.tasks); err != nil {
			return nil, stats, err
		}
		set, failed, more, err := s.patternsOnce(ctx, &spec)
		stats.Add(more)
		if failed < 0 {
			if err != nil {
				return nil, stats, err
			}
			out, err := countsOf(ctx, set)
			return out, stats, err
		}
		s.failed[failed], s.causes[failed] = true, err
	}
}

// Patterns implements Session: by templates where the store has them and nothing but
// streams and times selects, else line by line.
func (s *localSession) Patterns(ctx context.Context, req PatternsRequest) ([]PatternCount, ScanStats, error) {
	var stats ScanStats
	if req.Width <= 0 {
		return nil, stats, Errorf(ErrUser, "the width of buckets must be positive")
	}
	tasks, err := s.tasks(req.Streams, req.Ranges, req.Start, req.End)
	if err != nil {
		return nil, stats, err
	}
	set := patterns.New(req.Width)
	counter, ok := s.snap.(TemplateCounter)
	scan := ScanRequest{Query: req.Query, Streams: []int{}, Start: req.Start, End: req.End}
	by := map[TimeRange][]int{} // streams to count
	for _, t := range tasks {
		x := s.exclusionOf(t.stream)
		if ok && len(req.Query.Stages) == 0 && (x == nil || len(x.parts) == 0) {
			s.countable(t, req.Start, req.End, by)
			continue
		}
		for _, r := range t.ranges {
			scan.Streams, scan.Ranges = append(scan.Streams, t.stream), append(scan.Ranges, r)
		}
	}
	ranges := make([]TimeRange, 0, len(by))
	for r := range by {
		ranges = append(ranges, r)
	}
	slices.SortFunc(ranges, func(a, b TimeRange) int { return slices.Compare([]int64{a.Start, a.End}, []int64{b.Start, b.End}) })
	for _, r := range ranges {
		err := counter.Templates(ctx, by[r], r.Start, r.End, req.Width, func(c TemplateCount) error {
			stats.RowsRead += c.Rows
			if c.Line != nil {
				stats.BytesRead += uint64(len(c.Line))
				set.Add(c.Service, c.Level, c.Bucket*req.Width, string(c.Line))
				return nil
			}
			set.AddPattern(c.Service, c.Level, c.Bucket, c.Pattern, c.Rows)
			return nil
		})
		if err != nil {
			return nil, stats, err
		}
	}
	if len(scan.Streams) > 0 {
		more, err := s.Scan(ctx, scan, func(r *ScanRows) error {
			for i, t := range r.Times {
				l := &r.Labels[r.Sets[i]]
				set.Add(l.Labels.Get(serviceName), l.Metadata.Get(levelName), t, string(r.Lines.At(i)))
			}
			return nil
		})
		stats.Add(more)
		if err != nil {
			return nil, stats, err
		}
	}
	out, err := countsOf(ctx, set)
	return out, stats, err
}

// countable adds a task to those that are counted by templates: with the others if all
// rows of its stream within start <= t < end are wanted.
func (s *localSession) countable(t task, start, end int64, by map[TimeRange][]int) {
	stream := t.stream
	if s.numbers != nil {
		stream = s.numbers[t.stream]
	}
	start, end = max(start, s.start), min(end, s.end)
	var buf []Run
	whole := !slices.ContainsFunc(s.runsOf(&buf, t.stream), func(r Run) bool {
		from, to := max(r.MinTime, start), min(r.MaxTime+1, end)
		return from < to && !slices.ContainsFunc(t.ranges, func(w TimeRange) bool { return w.Start <= from && to <= w.End })
	})
	// What is left out has no run that is listed.
	if x := s.exclusionOf(t.stream); whole && (x == nil || len(x.dead) == 0) {
		all := TimeRange{start, end}
		by[all] = append(by[all], stream)
		return
	}
	for _, r := range t.ranges {
		by[r] = append(by[r], stream)
	}
}
