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
	// Memory meters what the question holds, with ErrMemory as the error if that is too much:
	// lists of streams, what is found of them, and the answer, which stays claimed. nil: there
	// is no limit.
	Memory *Memory
}

// StreamStats is how much streams hold. Copies count once as far as digests tell.
type StreamStats struct {
	Streams, Runs, Entries, Bytes uint64
}

// over calls f while the sources are open, once for each selector.
func (e *Engine) over(ctx context.Context, in MetaQuery, f func(*opened) error) (warnings []string, err error) {
	if in.Start < minTime || in.End > maxTime {
		return nil, Errorf(ErrUser, "start or end are too far from the present")
	}
	selectors := in.Selectors
	if len(selectors) == 0 {
		selectors = [][]*syntax.Matcher{nil}
	}
	q := &query{Query: Query{Sources: in.Sources, Complete: in.Complete, Partial: in.Partial}, engine: e, mem: in.Memory, live: &live{}}
	ctx = WithExcluded(WithMemory(ctx, in.Memory), in.Excluded)
	for _, s := range selectors {
		err := q.during(ctx, s, in, f)
		if refused := in.Memory.Err(); refused != nil {
			err = refused // lists may not be whole
		}
		if err != nil {
			return nil, err
		}
	}
	return q.warnings, nil
}

// during calls f while the sources are open, and closes them, also if it panics.
func (q *query) during(ctx context.Context, matchers []*syntax.Matcher, in MetaQuery, f func(*opened) error) error {
	o, err := q.openSessions(ctx, matchers, in.Start, in.End)
	if err != nil {
		return err
	}
	defer o.close()
	return f(o)
}

// each calls one of two functions with each session, once for each selector: listed
// with the streams of a session, or indexed. Streams that several sessions have come
// several times.
func (e *Engine) each(ctx context.Context, in MetaQuery, indexed func(Indexed) error, listed func([]Stream) error) (warnings []string, err error) {
	return e.over(WithSpans(ctx), in, func(o *opened) (err error) {
		for _, s := range o.sessions {
			leaves(s, func(s Session) {
				if err != nil {
					return
				}
				if l, ok := wholeOf(s).(*localSession); ok && l.indexed != nil {
					err = indexed(l.indexed)
				} else {
					err = listed(s.Streams())
				}
			})
		}
		return err
	})
}

// eachLabels calls f with the labels of each stream of each session, which are valid during
// the call; their texts stay.
func (e *Engine) eachLabels(ctx context.Context, in MetaQuery, f func(model.Labels) error) (warnings []string, err error) {
	var buf model.Labels
	return e.each(ctx, in, func(x Indexed) error {
		for i := range x.Extent().Streams {
			buf = x.AppendLabels(buf[:0], i)
			if err := f(buf); err != nil {
				return err
			}
		}
		return nil
	}, func(streams []Stream) error {
		for i := range streams {
			if err := f(streams[i].Labels); err != nil {
				return err
			}
		}
		return nil
	})
}

// entrySize is about what a map takes for a string, in bytes, besides its text.
const entrySize = 48

// Labels returns the names of labels, sorted.
func (e *Engine) Labels(ctx context.Context, in MetaQuery) (names, warnings []string, err error) {
	seen := map[string]bool{}
	warnings, err = e.eachLabels(ctx, in, func(ls model.Labels) error {
		for _, l := range ls {
			if !seen[l.Name] {
				if !in.Memory.Claim(entrySize + len(l.Name)) {
					return in.Memory.Err()
				}
				seen[l.Name] = true
			}
		}
		return nil
	})
	return sortedKeys(seen), warnings, err
}

// LabelValues returns the values of a label, sorted.
func (e *Engine) LabelValues(ctx context.Context, in MetaQuery, name string) (values, warnings []string, err error) {
	g := gathered[string]{mem: in.Memory, compare: strings.Compare, size: func(v string) int { return stringSize + len(v) }}
	warnings, err = e.each(ctx, in, func(x Indexed) error {
		all, at := x.Values(name)
		used := make([]bool, len(all)+1)
		for i := range x.Extent().Streams {
			if n := at(i); n > 0 && !used[n] {
				used[n] = true
				if err := g.add(all[n-1]); err != nil {
					return err
				}
			}
		}
		return g.merge()
	}, func(streams []Stream) error {
		for i := range streams {
			v, ok := streams[i].Labels.Lookup(name)
			if ok && (len(g.more) == 0 || g.more[len(g.more)-1] != v) {
				if err := g.add(v); err != nil {
					return err
				}
			}
		}
		return g.merge()
	})
	return g.all, warnings, err
}

// Series returns the streams, ascending by labels.
func (e *Engine) Series(ctx context.Context, in MetaQuery) (series []model.Labels, warnings []string, err error) {
	g := gathered[model.Labels]{mem: in.Memory, compare: model.Labels.Compare, size: SeriesSize}
	warnings, err = e.each(ctx, in, func(x Indexed) error {
		for i := range x.Extent().Streams {
			if err := g.add(x.Labels(i)); err != nil {
				return err
			}
		}
		return g.merge()
	}, func(streams []Stream) error {
		for i := range streams {
			if err := g.add(streams[i].Labels); err != nil {
				return err
			}
		}
		return g.merge()
	})
	return g.all, warnings, err
}

// Cardinality returns the names of labels with the values of each.
func (e *Engine) Cardinality(ctx context.Context, in MetaQuery) (values map[string]map[string]struct{}, warnings []string, err error) {
	values = map[string]map[string]struct{}{}
	warnings, err = e.eachLabels(ctx, in, func(ls model.Labels) error {
		for _, l := range ls {
			of := values[l.Name]
			if _, known := of[l.Value]; known {
				continue
			}
			if !in.Memory.Claim(entrySize + len(l.Value)) {
				return in.Memory.Err()
			}
			if of == nil {
				of = map[string]struct{}{}
				values[l.Name] = of
			}
			of[l.Value] = struct{}{}
		}
		return nil
	})
	return values, warnings, err
}

// Stats returns how much the streams hold. A stream that several selectors match
// counts once.
func (e *Engine) Stats(ctx context.Context, in MetaQuery) (stats StreamStats, warnings []string, err error) {
	seen := map[string]bool{}
	warnings, err = e.over(ctx, in, func(o *opened) error {
		o.planStreams(in.Start, in.End)
		for i := range o.union {
			u := &o.union[i]
			if len(in.Selectors) > 1 {
				k := u.labels.String()
				if seen[k] {
					continue
				}
				if !in.Memory.Claim(entrySize + len(k)) {
					return in.Memory.Err()
				}
				seen[k] = true
			}
			stats.Streams++
			stats.Runs += uint64(u.runs)
			stats.Entries += u.rows
			stats.Bytes += u.bytes
		}
		return nil
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
