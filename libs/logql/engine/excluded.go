package engine

import (
	"context"
	"math"
	"slices"
	"sync"
	"unsafe"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Excluded is what no answer may hold though it is still stored: deletes that are not
// carried out yet, and what retention has ended. It is immutable. All sources of a
// query apply the same set, so that copies stay copies.
type Excluded struct {
	// Version names the set; answers name it.
	Version    string
	Tombstones []Tombstone
	// Retention: of these the first that concerns a row decides.
	Retention []Cutoff
}

// Tombstone is a delete of the rows with Start <= time < End that its selector
// yields: all of the streams, or those that pass the stages, which may be any.
type Tombstone struct {
	// ID names the delete to sources that it was carried out of, see Applied; "": it is
	// applied to all.
	ID         string
	Selector   *syntax.LogSelector
	Start, End int64
}

// Cutoff ends rows before a time: all of the streams that match, or those that pass
// the stages, which may be any.
type Cutoff struct {
	Matchers []*syntax.Matcher
	Stages   []syntax.Stage
	Before   int64
}

// Applied is a Snapshot that knows of deletes that none of its rows is of: each was
// carried out of all of them before they were written (R 24).
type Applied interface {
	// Applied returns the ids of these deletes, and maybe others. The caller does not
	// change them.
	Applied() []string
}

// due returns for each tombstone whether it concerns a snapshot; nil: all do.
func (x *Excluded) due(snap Snapshot) []bool {
	a, is := snap.(Applied)
	if !is || len(x.Tombstones) == 0 {
		return nil
	}
	applied := a.Applied()
	if len(applied) == 0 {
		return nil
	}
	known := make(map[string]bool, len(applied))
	for _, id := range applied {
		known[id] = true
	}
	due := make([]bool, len(x.Tombstones))
	for i, t := range x.Tombstones {
		due[i] = t.ID == "" || !known[t.ID]
	}
	return due
}

// WithExcluded makes sources that are opened under ctx leave rows out.
func WithExcluded(ctx context.Context, x *Excluded) context.Context {
	if x == nil {
		return ctx
	}
	return context.WithValue(ctx, excludedKey{}, &exclusions{x: x})
}

type excludedKey struct{}

// ExcludedOf returns what rows are left out under ctx, or nil.
func ExcludedOf(ctx context.Context) *Excluded {
	if e := exclusionsOf(ctx); e != nil {
		return e.x
	}
	return nil
}

func exclusionsOf(ctx context.Context) *exclusions {
	e, _ := ctx.Value(excludedKey{}).(*exclusions)
	return e
}

// exclusion is what is left out of one stream.
type exclusion struct {
	dead  []TimeRange // all rows
	parts []excludedPart
}

// excludedPart leaves out rows of a range: of its rules the first that keeps a row
// decides, and leaves it out if it is from before its end.
type excludedPart struct {
	TimeRange
	rules []excludedRule
}

type excludedRule struct {
	pipe   *pipeline.Pipeline // nil: it keeps all
	before int64
}

// exclusions is a set that is compiled when the first source asks for it.
type exclusions struct {
	x     *Excluded
	once  sync.Once
	pipes []*pipeline.Pipeline // of each tombstone, and then of each cutoff; nil: all rows
	err   error
}

func (e *exclusions) compile() error {
	e.once.Do(func() {
		var all [][]syntax.Stage
		for _, t := range e.x.Tombstones {
			all = append(all, t.Selector.Stages)
		}
		for _, c := range e.x.Retention {
			all = append(all, c.Stages)
		}
		e.pipes = make([]*pipeline.Pipeline, len(all))
		for i, stages := range all {
			if len(stages) == 0 {
				continue
			}
			if e.pipes[i], e.err = pipeline.Compile(stages, pipeline.Hints{}); e.err != nil {
				return
			}
		}
	})
	return e.err
}

func matchAll(ms []*syntax.Matcher, labels model.Labels) bool {
	return !slices.ContainsFunc(ms, func(m *syntax.Matcher) bool { return !m.Matches(labels.Get(m.Name)) })
}

// of returns what is left out of a stream within start <= t < end, by tombstones as far
// as they are due; nil: nothing.
func (e *exclusions) of(labels model.Labels, start, end int64, due []bool) *exclusion {
	var out exclusion
	var rules []excludedRule
	least, most := int64(math.MaxInt64), int64(math.MinInt64) // ends of rules
	for i, c := range e.x.Retention {
		if !matchAll(c.Matchers, labels) {
			continue
		}
		rules = append(rules, excludedRule{e.pipes[len(e.x.Tombstones)+i], c.Before})
		least, most = min(least, c.Before), max(most, c.Before)
		if len(c.Stages) == 0 {
			break
		}
	}
	if n := len(rules); n > 0 && rules[n-1].pipe != nil {
		least = math.MinInt64 // what no rule keeps stays
	}
	if len(rules) > 0 && least > start {
		out.dead = append(out.dead, TimeRange{math.MinInt64, least})
	}
	if len(rules) > 0 && most > max(least, start) {
		out.parts = append(out.parts, excludedPart{TimeRange{least, most}, rules})
	}
	for i, t := range e.x.Tombstones {
		switch {
		case due != nil && !due[i]:
		case t.Start >= t.End || t.End <= start || t.Start >= end || !matchAll(t.Selector.Matchers, labels):
		case e.pipes[i] == nil:
			out.dead = append(out.dead, TimeRange{t.Start, t.End})
		default:
			out.parts = append(out.parts, excludedPart{TimeRange{t.Start, t.End}, []excludedRule{{e.pipes[i], t.End}}})
		}
	}
	if out.dead == nil && out.parts == nil {
		return nil
	}
	return &out
}

// left returns what of ranges, which ascend, is not dead.
func (x *exclusion) left(ranges []TimeRange) []TimeRange {
	if x == nil {
		return ranges
	}
	for _, d := range x.dead {
		var out []TimeRange
		for _, r := range ranges {
			if head := (TimeRange{r.Start, min(r.End, d.Start)}); head.Start < head.End {
				out = append(out, head)
			}
			if tail := (TimeRange{max(r.Start, d.End), r.End}); tail.Start < tail.End {
				out = append(out, tail)
			}
		}
		ranges = out
	}
	return ranges
}

// whole reports whether nothing is left out of a run.
func (x *exclusion) whole(r Run) bool {
	if x == nil {
		return true
	}
	touches := func(t TimeRange) bool { return t.Start <= r.MaxTime && r.MinTime < t.End }
	return !slices.ContainsFunc(x.dead, touches) && !slices.ContainsFunc(x.parts, func(p excludedPart) bool { return touches(p.TimeRange) })
}

// spared reports whether a set, of which tombstones are due, is certain to leave out
// nothing of the session.
func (s *localSession) spared(x *Excluded, due []bool) bool {
	if s.indexed == nil {
		return false
	}
	e := s.indexed.Extent()
	from, to := max(s.start, e.MinTime), min(s.end-1, e.MaxTime)
	return e.Streams == 0 || !slices.ContainsFunc(x.Retention, func(c Cutoff) bool { return c.Before > from }) &&
		!concerned(x.Tombstones, due, from, to)
}

// concerned reports whether a tombstone that is due is about from <= time <= to.
func concerned(list []Tombstone, due []bool, from, to int64) bool {
	for i, t := range list {
		if t.Start <= to && t.End > from && (due == nil || due[i]) {
			return true
		}
	}
	return false
}

// exclude takes streams out of which nothing is left, and narrows runs. Rows of a run
// are those at most that are left then; its digest still tells copies, as all
// sources leave out the same.
func (s *localSession) exclude(set *exclusions, due []bool) error {
	if err := set.compile(); err != nil {
		return err
	}
	var streams []Stream
	for i, st := range s.streams {
		ex := set.of(st.Labels, s.start, s.end, due)
		if ex != nil {
			if len(ex.left([]TimeRange{{s.start, s.end}})) == 0 {
				continue
			}
			var runs []Run
			for _, r := range st.Runs {
				if len(ex.left([]TimeRange{{r.MinTime, r.MaxTime + 1}})) > 0 {
					runs = append(runs, r)
				}
			}
			if len(runs) == 0 && len(st.Runs) > 0 {
				continue
			}
			st.Runs = runs
		}
		streams = append(streams, st)
		s.numbers = append(s.numbers, i)
		s.excluded = append(s.excluded, ex)
	}
	s.streams = streams
	s.held.claim((16 + int(unsafe.Sizeof(Stream{}))) * len(streams))
	return s.held.mem.Err()
}

// exclusionOf returns what is left out of a stream; nil: nothing.
func (s *localSession) exclusionOf(stream int) *exclusion {
	if s.excluded == nil {
		return nil
	}
	return s.excluded[stream]
}

// excluder finds the rows of a stream that are left out. It is used by one goroutine.
type excluder struct {
	parts   []excludedPart
	streams [][]*pipeline.Stream // of each part's rules
	meta    metaReader
}

func newExcluder(x *exclusion, labels model.Labels) *excluder {
	if x == nil || len(x.parts) == 0 {
		return nil
	}
	e := &excluder{parts: x.parts}
	for _, p := range x.parts {
		of := make([]*pipeline.Stream, len(p.rules))
		for i, r := range p.rules {
			if r.pipe != nil {
				of[i] = r.pipe.ForStream(labels)
			}
		}
		e.streams = append(e.streams, of)
	}
	return e
}

func (e *excluder) out(rows *model.Rows, row int) bool {
	t := rows.Times[row]
	for i := range e.parts {
		p := &e.parts[i]
		if t < p.Start || t >= p.End {
			continue
		}
		for k, r := range p.rules {
			if r.pipe != nil && !e.keeps(r.pipe, e.streams[i][k], rows, row) {
				continue
			}
			if t < r.before {
				return true
			}
			break
		}
	}
	return false
}

func (e *excluder) keeps(p *pipeline.Pipeline, s *pipeline.Stream, rows *model.Rows, row int) bool {
	line := rows.Lines.At(row)
	if !p.Filter().Match(line) {
		return false
	}
	meta, _ := e.meta.at(rows, row)
	_, _, ok := s.ProcessFiltered(rows.Times[row], line, meta)
	return ok
}

// next returns the first rows of [from, to), or, backward, the last, that are not
// left out, and where what it did not look at is.
func (e *excluder) next(rows *model.Rows, from, to int, backward bool) (a, b, restFrom, restTo int) {
	if backward {
		for from < to && e.out(rows, to-1) {
			to--
		}
		a = to
		for a > from && !e.out(rows, a-1) {
			a--
		}
		return a, to, from, a
	}
	for from < to && e.out(rows, from) {
		from++
	}
	b = from
	for b < to && !e.out(rows, b) {
		b++
	}
	return from, b, b, to
}
