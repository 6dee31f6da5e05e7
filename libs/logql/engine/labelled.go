package engine

import (
	"context"
	"slices"
	"strings"
	"unsafe"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// WithLabel returns a source that answers as src would if all its streams had one more
// label. Its name is src's with the label's value before it. None of src's streams may
// have a label of that name, and each must have one whose name is greater, so that one
// more label does not change their order.
//
// A query whose stages make a label of that name themselves has theirs in its place.
//
// under, if it is not nil, makes the context that src is opened under.
func WithLabel(src Source, label model.Label, under func(context.Context) context.Context) Source {
	l := labelled{src, label, under}
	if f, ok := src.(Follower); ok {
		return labelledFollower{l, f}
	}
	return l
}

type labelled struct {
	src   Source
	label model.Label
	under func(context.Context) context.Context
}

// Name implements Source.
func (l labelled) Name() string { return l.label.Value + ": " + l.src.Name() }

// Unwrap returns the source without the label.
func (l labelled) Unwrap() Source { return l.src }

// Open implements Source.
func (l labelled) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (Session, error) {
	return l.open(ctx, matchers, func(ctx context.Context, rest []*syntax.Matcher) (Session, error) {
		return l.src.Open(ctx, rest, start, end)
	})
}

func (l labelled) open(ctx context.Context, matchers []*syntax.Matcher, open func(context.Context, []*syntax.Matcher) (Session, error)) (Session, error) {
	var rest []*syntax.Matcher
	for _, m := range matchers {
		if m.Name != l.label.Name {
			rest = append(rest, m)
		} else if !m.Matches(l.label.Value) {
			return nothing{}, nil
		}
	}
	if l.under != nil {
		ctx = l.under(ctx)
	}
	inner, err := open(ctx, rest)
	if err != nil {
		return nil, err
	}
	s := &labelledSession{Session: inner, label: l.label, queries: map[syntax.Expr]*labelledQuery{}, held: holder{mem: memoryOf(ctx)}}
	err = s.list()
	if refused := s.held.mem.Err(); refused != nil {
		err = refused
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// labelledFollower is labelled of a Follower.
type labelledFollower struct {
	labelled
	follower Follower
}

// OpenAfter implements Follower: of the others it sees those that have the same label.
func (l labelledFollower) OpenAfter(ctx context.Context, others []Session, matchers []*syntax.Matcher, start, end int64) (Session, error) {
	var mine []Session
	for _, o := range others {
		if o, ok := o.(*labelledSession); ok && o.label == l.label {
			mine = append(mine, o.Session)
		}
	}
	return l.open(ctx, matchers, func(ctx context.Context, rest []*syntax.Matcher) (Session, error) {
		return l.follower.OpenAfter(ctx, mine, rest, start, end)
	})
}

// nothing is a session without streams.
type nothing struct{}

func (nothing) Streams() []Stream { return nil }
func (nothing) Gaps() []string    { return nil }
func (nothing) Close() error      { return nil }
func (nothing) Scan(context.Context, ScanRequest, func(*ScanRows) error) (ScanStats, error) {
	return ScanStats{}, nil
}
func (nothing) Aggregate(context.Context, AggregateRequest) ([]PartialSeries, ScanStats, error) {
	return nil, ScanStats{}, nil
}
func (nothing) Patterns(context.Context, PatternsRequest) ([]PatternCount, ScanStats, error) {
	return nil, ScanStats{}, nil
}

type labelledSession struct {
	Session
	label   model.Label
	streams []Stream
	queries map[syntax.Expr]*labelledQuery
	held    holder // for the list
}

// Close implements Session.
func (s *labelledSession) Close() error {
	s.held.release()
	return s.Session.Close()
}

// list makes the list of streams, which is in the order of the session's.
func (s *labelledSession) list() error {
	in := s.Session.Streams()
	s.streams = make([]Stream, len(in))
	size := int(unsafe.Sizeof(Stream{})) * len(in)
	for i, st := range in {
		if i%slabSize == 0 {
			if !s.held.claim(size) {
				return s.held.mem.Err()
			}
			size = 0
		}
		size += labelsSize(st.Labels) + int(unsafe.Sizeof(s.label))
		if _, has := st.Labels.Lookup(s.label.Name); has {
			return Errorf(ErrUser, "stream %s has a label %s of its own, which this query adds to all streams", st.Labels, s.label.Name)
		}
		if n := len(st.Labels); n == 0 || st.Labels[n-1].Name < s.label.Name {
			return Errorf(ErrUnsupported, "stream %s has no label behind %s", st.Labels, s.label.Name)
		}
		s.streams[i] = Stream{Labels: s.with(st.Labels), Runs: st.Runs}
	}
	s.held.claim(size) // whoever opens it asks whether that was refused
	return nil
}

// with returns labels and the label.
func (s *labelledSession) with(ls model.Labels) model.Labels {
	i, has := slices.BinarySearchFunc(ls, s.label.Name, func(l model.Label, name string) int { return strings.Compare(l.Name, name) })
	if has {
		return ls
	}
	out := make(model.Labels, 0, len(ls)+1)
	return append(append(append(out, ls[:i]...), s.label), ls[i:]...)
}

// Streams implements Session.
func (s *labelledSession) Streams() []Stream { return s.streams }

// labelledQuery is how a query is asked of the session within.
type labelledQuery struct {
	expr  syntax.Expr
	given bool // expr makes the label itself, where the query needs it
	adds  bool // results of the whole query, and not of a group, get it
}

func (s *labelledSession) query(e syntax.Expr) *labelledQuery {
	if q, ok := s.queries[e]; ok {
		return q
	}
	sel, unwrap := selectorOf(e)
	q := &labelledQuery{expr: e, adds: true}
	names := unwrap != nil && (strings.Contains(unwrap.Name, s.label.Name) ||
		slices.ContainsFunc(unwrap.Filters, func(f *syntax.LabelFilter) bool { return strings.Contains(f.String(), s.label.Name) }))
	group := func(g *syntax.Grouping) {
		names = names || g != nil && slices.Contains(g.Labels, s.label.Name)
		q.adds = q.adds && (g == nil || g.Without)
	}
	if agg, sum, ok := sumOver(e); ok {
		group(agg.Grouping)
		names = names || slices.Contains(agg.Labels, s.label.Name)
		if sum != nil {
			group(sum.Grouping)
			q.adds = q.adds && sum.Grouping != nil
		}
		q.adds = q.adds && agg.Op != syntax.OpAbsentOverTime
	}
	first := 0 // the first stage that is no line filter
	for i, st := range sel.Stages {
		if _, ok := st.(*syntax.LineFilter); ok && first == i {
			first++
			continue
		}
		_, keeps := st.(*syntax.Keep)
		names = names || keeps || strings.Contains(st.String(), s.label.Name)
	}
	if names {
		make := &syntax.LabelFormat{Assigns: []syntax.LabelAssign{{Name: s.label.Name, Value: s.label.Value}}}
		q.expr, q.given, q.adds = withStages(e, slices.Insert(slices.Clone(sel.Stages), first, syntax.Stage(make))), true, false
	}
	s.queries[e] = q
	return q
}

// Scan implements Session.
func (s *labelledSession) Scan(ctx context.Context, req ScanRequest, yield func(*ScanRows) error) (ScanStats, error) {
	q := s.query(req.Query)
	_, log := req.Query.(*syntax.LogSelector)
	req.Query, req.After = q.expr, s.after(req.After)
	var out ScanRows
	var labels []RowLabels
	return s.Session.Scan(ctx, req, func(rows *ScanRows) error {
		for _, l := range rows.Labels[len(labels):] {
			labels = append(labels, s.row(l, q, log))
		}
		out = *rows
		out.Labels = labels
		return yield(&out)
	})
}

// row returns the labels of rows of a scan.
func (s *labelledSession) row(l RowLabels, q *labelledQuery, log bool) RowLabels {
	switch {
	case q.given && log:
		// What a stage has made of it stays what a stage made.
		if v, ok := l.Parsed.Lookup(s.label.Name); ok && v == s.label.Value {
			l.Labels = s.with(l.Labels)
			l.Parsed = slices.DeleteFunc(slices.Clone(l.Parsed), func(p model.Label) bool { return p.Name == s.label.Name })
		}
	case q.given:
	case log:
		l.Labels = s.with(l.Labels)
	default:
		if q.adds {
			l.Labels = s.with(l.Labels)
		}
		if len(l.Parsed) > 0 { // all labels, of an error
			l.Parsed = s.with(l.Parsed)
		}
	}
	return l
}

// after returns the place among streams without the label.
func (s *labelledSession) after(a *After) *After {
	if a == nil {
		return nil
	}
	i := slices.IndexFunc(a.Stream, func(l model.Label) bool { return l.Name == s.label.Name })
	if i < 0 {
		return a // cannot be: all streams of the query have the label
	}
	out := &After{Key: a.Key}
	if a.Stream[i] == s.label {
		out.Stream = slices.Delete(slices.Clone(a.Stream), i, i+1)
		return out
	}
	// It is a place of another label: before or behind all streams with the same labels
	// in front of that.
	bound := model.Label{Name: s.label.Name}
	if a.Stream[i].Value > s.label.Value {
		bound.Name = s.greatest()
	}
	out.Stream = append(slices.Clone(a.Stream[:i]), bound)
	return out
}

// greatest returns a name that is greater than that of any label behind this one which
// is the first of those in its stream.
func (s *labelledSession) greatest() string {
	most := s.label.Name
	for _, st := range s.streams {
		i := slices.Index(st.Labels, s.label)
		most = max(most, st.Labels[i+1].Name)
	}
	return most + "_"
}

// Aggregate implements Session.
func (s *labelledSession) Aggregate(ctx context.Context, req AggregateRequest) ([]PartialSeries, ScanStats, error) {
	q := s.query(req.Query)
	req.Query = q.expr
	series, stats, err := s.Session.Aggregate(ctx, req)
	if q.adds {
		for i := range series {
			series[i].Labels = s.with(series[i].Labels)
		}
	}
	return series, stats, err
}

// Patterns implements Session.
func (s *labelledSession) Patterns(ctx context.Context, req PatternsRequest) ([]PatternCount, ScanStats, error) {
	req.Query = s.query(req.Query).expr.(*syntax.LogSelector)
	return s.Session.Patterns(ctx, req)
}
