package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// MetaQuery is a question about the streams that have entries with
// Start <= t < End. No row is read for it, so a stream may be listed for a run
// that merely reaches into the range, or for a stored piece that spans it, see
// WithSpans.
type MetaQuery struct {
	// Selectors: a stream counts if any matches it; none at all: every stream.
	Selectors  [][]*syntax.Matcher
	Start, End int64
	// As in Query.
	Sources  []Source
	Complete func(missing []string) error
	Partial  bool
	Excluded *Excluded
}

// StreamStats is how much streams hold. Copies count once as far as digests tell.
type StreamStats struct {
	Streams, Runs, Entries, Bytes uint64
}

// meta calls f with each stream, once for each selector that matches it.
func (e *Engine) meta(ctx context.Context, in MetaQuery, f func(*unionStream)) (warnings []string, err error) {
	if in.Start < minTime || in.End > maxTime {
		return nil, Errorf(ErrUser, "start or end are too far from the present")
	}
	selectors := in.Selectors
	if len(selectors) == 0 {
		selectors = [][]*syntax.Matcher{nil}
	}
	q := &query{Query: Query{Sources: in.Sources, Complete: in.Complete, Partial: in.Partial}, engine: e, live: &live{}}
	ctx = WithExcluded(ctx, in.Excluded)
	for _, s := range selectors {
		err := q.during(ctx, s, in, func(o *opened) {
			o.planStreams(in.Start, in.End)
			for i := range o.union {
				f(&o.union[i])
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return q.warnings, nil
}

// during calls f while the sources are open, and closes them, also if it panics.
func (q *query) during(ctx context.Context, matchers []*syntax.Matcher, in MetaQuery, f func(*opened)) error {
	o, err := q.openSessions(ctx, matchers, in.Start, in.End)
	if err != nil {
		return err
	}
	defer o.close()
	f(o)
	return nil
}

// each calls one of two functions with each session, once for each selector: listed
// with the streams of a session, or indexed. Streams that several sessions have come
// several times.
func (e *Engine) each(ctx context.Context, in MetaQuery, indexed func(Indexed), listed func([]Stream)) (warnings []string, err error) {
	if in.Start < minTime || in.End > maxTime {
		return nil, Errorf(ErrUser, "start or end are too far from the present")
	}
	selectors := in.Selectors
	if len(selectors) == 0 {
		selectors = [][]*syntax.Matcher{nil}
	}
	q := &query{Query: Query{Sources: in.Sources, Complete: in.Complete, Partial: in.Partial}, engine: e, live: &live{}}
	ctx = WithSpans(WithExcluded(ctx, in.Excluded))
	for _, s := range selectors {
		err := q.during(ctx, s, in, func(o *opened) {
			for _, s := range o.sessions {
				leaves(s, func(s Session) {
					if l, ok := wholeOf(s).(*localSession); ok && l.indexed != nil {
						indexed(l.indexed)
					} else {
						listed(s.Streams())
					}
				})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return q.warnings, nil
}

// Labels returns the names of labels, sorted.
func (e *Engine) Labels(ctx context.Context, in MetaQuery) (names, warnings []string, err error) {
	seen := map[string]bool{}
	warnings, err = e.meta(WithSpans(ctx), in, func(u *unionStream) {
		for _, l := range u.labels {
			seen[l.Name] = true
		}
	})
	return sortedKeys(seen), warnings, err
}

// LabelValues returns the values of a label, sorted.
func (e *Engine) LabelValues(ctx context.Context, in MetaQuery, name string) (values, warnings []string, err error) {
	add := func(of []string) {
		if !slices.IsSorted(of) { // those of streams in order mostly are
			slices.Sort(of)
		}
		values = mergeSorted(values, slices.Compact(of), strings.Compare)
	}
	warnings, err = e.each(ctx, in, func(x Indexed) {
		all, at := x.Values(name)
		used := make([]bool, len(all)+1)
		var of []string
		for i := range x.Extent().Streams {
			if n := at(i); n > 0 && !used[n] {
				used[n] = true
				of = append(of, all[n-1])
			}
		}
		add(of)
	}, func(streams []Stream) {
		var of []string
		for i := range streams {
			if v, ok := streams[i].Labels.Lookup(name); ok && (len(of) == 0 || of[len(of)-1] != v) {
				of = append(of, v)
			}
		}
		add(of)
	})
	return values, warnings, err
}

// Series returns the streams, ascending by labels.
func (e *Engine) Series(ctx context.Context, in MetaQuery) (series []model.Labels, warnings []string, err error) {
	var all []model.Labels
	add := func(n int, labels func(i int) model.Labels) {
		if n == 0 {
			return
		}
		of := make([]model.Labels, n)
		for i := range of {
			of[i] = labels(i)
		}
		if !slices.IsSortedFunc(of, model.Labels.Compare) {
			slices.SortFunc(of, model.Labels.Compare)
		}
		all = mergeSorted(all, of, model.Labels.Compare)
	}
	warnings, err = e.each(ctx, in, func(x Indexed) {
		add(x.Extent().Streams, x.Labels)
	}, func(streams []Stream) {
		add(len(streams), func(i int) model.Labels { return streams[i].Labels })
	})
	return all, warnings, err
}

// mergeSorted merges ascending lists in which nothing is twice; what is in both is there
// once. The result may be one of them.
func mergeSorted[T any](a, b []T, compare func(a, b T) int) []T {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make([]T, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		c := compare(a[0], b[0])
		if c <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
		if c == 0 {
			b = b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// Stats returns how much the streams hold. A stream that several selectors match
// counts once.
func (e *Engine) Stats(ctx context.Context, in MetaQuery) (stats StreamStats, warnings []string, err error) {
	seen := map[string]bool{}
	warnings, err = e.meta(ctx, in, func(u *unionStream) {
		if len(in.Selectors) > 1 {
			k := u.labels.String()
			if seen[k] {
				return
			}
			seen[k] = true
		}
		stats.Streams++
		stats.Runs += uint64(u.runs)
		stats.Entries += u.rows
		stats.Bytes += u.bytes
	})
	return stats, warnings, err
}

func sortedKeys(m map[string]bool) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
