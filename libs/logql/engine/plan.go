package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// plan is a compiled query and what it needs of rows. It is safe for concurrent use.
type plan struct {
	query syntax.Expr
	prog  *program
	// pushed is prog for rows that a Selective snapshot gives out: without the line
	// filters that it has applied.
	pushed  *program
	filters []*syntax.LineFilter
	lines   bool // pushed looks at lines
	lengths bool // at nothing of them but how long they are
	// metadata are conditions on structured metadata where the stream has no label of
	// the name; values are strings that the line holds, in rows that have no metadata
	// of the name, where the stream has no label of it.
	metadata []MetaEquals
	values   []MetaEquals
	parsed   []FieldEquals // of each of values, if it is known; elsewhere Fields is nil
	group    []string      // labels of series; nil: any
	names    []string      // Need.Names, if lines are not hashed
	fields   *Fields       // that decide about rows that pass the line filters; nil: more does

	mu    sync.Mutex
	needs map[needKey]*Need
}

// needKey tells the needs of a plan apart.
type needKey struct {
	metadata, values uint32 // bits of those that apply
	parsed, either   uint32
	lines, lengths   bool
	meta, hashes     bool
	names            bool
}

// maxConditions is how many conditions of a kind a need can have.
const maxConditions = 32

func newPlan(e syntax.Expr) (*plan, error) {
	prog, err := compile(e)
	if err != nil {
		return nil, err
	}
	p := &plan{query: e, prog: prog, pushed: prog, needs: map[needKey]*Need{}}
	sel, unwrap := selectorOf(e)
	rest := p.push(sel.Stages)
	if len(p.filters) > 0 {
		if p.pushed, err = compile(withStages(e, rest)); err != nil {
			return nil, err
		}
		p.pushed.selected = true
	}
	p.lines = p.pushed.log != nil || p.pushed.bytes() || !p.pushed.matcher.Empty() || readsLine(rest)
	p.lengths = p.pushed.bytes() && p.pushed.matcher.Empty() && !readsLine(rest)
	if p.pushed.metric() && unwrap == nil && p.pushed.plain() && p.pushed.group != nil && !p.pushed.group.Without {
		p.group = append([]string{}, p.pushed.group.Names...)
	}
	p.names = p.namesOf(rest, unwrap)
	if p.pushed.metric() && !p.pushed.bytes() && p.pushed.group != nil && !p.pushed.group.Without {
		p.fields = fieldsOf(rest, unwrap, p.pushed.group.Names)
	}
	return p, nil
}

type planKey struct{}

// withPlan lets sources that run under ctx use a plan again.
func withPlan(ctx context.Context, p *plan) context.Context {
	return context.WithValue(ctx, planKey{}, p)
}

// planOf returns the plan of a query.
func planOf(ctx context.Context, e syntax.Expr) (*plan, error) {
	if p, ok := ctx.Value(planKey{}).(*plan); ok && p.query == e {
		return p, nil
	}
	return newPlan(e)
}

// selectorOf returns the selector of what compile accepts.
func selectorOf(e syntax.Expr) (*syntax.LogSelector, *syntax.Unwrap) {
	if sel, ok := e.(*syntax.LogSelector); ok {
		return sel, nil
	}
	agg, _, _ := sumOver(e)
	return agg.Range.Selector, agg.Range.Unwrap
}

// withStages returns e with other stages.
func withStages(e syntax.Expr, stages []syntax.Stage) syntax.Expr {
	switch e := e.(type) {
	case *syntax.LogSelector:
		sel := *e
		sel.Stages = stages
		return &sel
	case *syntax.RangeAggregation:
		agg := *e
		agg.Range.Selector = withStages(e.Range.Selector, stages).(*syntax.LogSelector)
		return &agg
	case *syntax.VectorAggregation:
		sum := *e
		sum.Inner = withStages(e.Inner, stages)
		return &sum
	}
	return e
}

// push finds what stages want of rows as they are stored. It returns the stages
// that are left when the line filters are taken out.
func (p *plan) push(stages []syntax.Stage) (rest []syntax.Stage) {
	stored := true  // the line is that which was stored
	sent := true    // labels are those of the stream and metadata
	pieces := false // labels may be pieces of the line as stored besides, and nothing else
	var parsers []syntax.Stage
	for _, s := range stages {
		switch s := s.(type) {
		case *syntax.LineFilter:
			if stored && pushable(s) {
				p.filters = append(p.filters, s)
				continue
			}
		case *syntax.LabelFilter:
			for _, c := range conjuncts(s.Cond, nil) {
				switch m := (MetaEquals{c.Name, c.Value}); {
				case c.Type != syntax.Eq || c.Value == "" || strings.HasPrefix(c.Name, "__error") || strings.HasSuffix(c.Name, "_extracted"):
				case sent:
					p.metadata = append(p.metadata, m)
				case pieces && literal(c.Value):
					p.values = append(p.values, m)
					p.parsed = append(p.parsed, parsedBy(parsers, m))
				}
			}
		case *syntax.JSON, *syntax.Logfmt, *syntax.Regexp, *syntax.Pattern:
			pieces = stored && (pieces || sent)
			sent = false
			parsers = append(parsers, s)
		case *syntax.LineFormat, *syntax.Decolorize:
			stored = false
		default:
			sent, pieces = false, false
			if _, ok := s.(*syntax.Unpack); ok {
				stored = false
			}
		}
		rest = append(rest, s)
	}
	p.metadata = p.metadata[:min(len(p.metadata), maxConditions)]
	p.values = p.values[:min(len(p.values), maxConditions)]
	return rest
}

// parsedBy returns the field that a label with a value is made of, if there is one
// parser and one such field. Fields is nil if not.
func parsedBy(parsers []syntax.Stage, m MetaEquals) (f FieldEquals) {
	if len(parsers) != 1 {
		return f
	}
	fields := &Fields{Names: []string{m.Name}}
	var extracted []syntax.Extraction
	switch s := parsers[0].(type) {
	case *syntax.JSON:
		fields.JSON, extracted = true, s.Extractions
	case *syntax.Logfmt:
		extracted = s.Extractions
	default:
		return f
	}
	name := m.Name
	if len(extracted) > 0 {
		for _, x := range extracted {
			if x.Name == m.Name {
				fields.Paths = append(fields.Paths, x.Path)
			}
		}
		if len(fields.Paths) != 1 {
			return f
		}
		name = fields.Paths[0]
	}
	if strings.ContainsAny(name, ".[") || name == "" || plainName(name) != name {
		return f
	}
	return FieldEquals{Fields: fields, Name: name, Value: m.Value, Unless: m.Name}
}

// pushable reports whether snapshots can apply a filter.
func pushable(f *syntax.LineFilter) bool {
	return f.Op <= syntax.LineNotRegexp && !slices.ContainsFunc(f.Alternatives, func(a syntax.LineMatch) bool { return a.IP })
}

// conjuncts appends the comparisons of text that must all hold.
func conjuncts(c syntax.Condition, dst []*syntax.StringCond) []*syntax.StringCond {
	switch c := c.(type) {
	case *syntax.StringCond:
		return append(dst, c)
	case *syntax.LogicalCond:
		if !c.Or {
			return conjuncts(c.Right, conjuncts(c.Left, dst))
		}
	}
	return dst
}

// literal reports whether a parser that finds the value has it from a line that
// holds it byte for byte, or that holds a backslash.
func literal(value string) bool {
	return utf8.ValidString(value) && !strings.ContainsRune(value, utf8.RuneError)
}

// readsLine reports whether a stage looks at the line.
func readsLine(stages []syntax.Stage) bool {
	return slices.ContainsFunc(stages, func(s syntax.Stage) bool {
		switch s := s.(type) {
		case *syntax.LabelFilter, *syntax.Drop, *syntax.Keep:
			return false
		case *syntax.LabelFormat:
			return slices.ContainsFunc(s.Assigns, func(a syntax.LabelAssign) bool { return !a.Rename })
		}
		return true
	})
}

// namesOf returns the names of metadata that matter if stages are label filters only;
// nil: all do.
func (p *plan) namesOf(stages []syntax.Stage, unwrap *syntax.Unwrap) []string {
	if p.pushed.group == nil || p.pushed.group.Without || unwrap != nil {
		return nil
	}
	names := slices.Clone(p.pushed.group.Names)
	for _, s := range stages {
		switch s := s.(type) {
		case *syntax.LineFilter:
		case *syntax.LabelFilter:
			var ok bool
			if names, ok = textNames(s.Cond, names); !ok {
				return nil
			}
		default:
			return nil
		}
	}
	for _, n := range names {
		// Metadata may be renamed.
		for base, more := strings.CutSuffix(n, "_extracted"); more; base, more = strings.CutSuffix(base, "_extracted") {
			names = append(names, base)
		}
	}
	slices.Sort(names)
	return append([]string{}, slices.Compact(names)...)
}

// textNames appends the names that a condition compares as text; ok is false if it
// compares otherwise, which may fail, and the error names all labels.
func textNames(c syntax.Condition, dst []string) (_ []string, ok bool) {
	switch c := c.(type) {
	case *syntax.LogicalCond:
		if dst, ok = textNames(c.Left, dst); ok {
			return textNames(c.Right, dst)
		}
	case *syntax.StringCond:
		return append(dst, c.Name), true
	}
	return dst, false
}

// need returns what the plan needs of the rows of a stream, nil if that is all there
// is. hasMetadata tells whether rows may have metadata of a name; nil: they may.
// whole tells that lines and metadata are needed anyway.
func (p *plan) need(labels model.Labels, hashes, whole bool, hasMetadata func(string) bool) *Need {
	k := needKey{hashes: hashes, lines: p.lines || whole, lengths: p.lengths && !whole && !hashes}
	for i, m := range p.metadata {
		if _, ok := labels.Lookup(m.Name); !ok {
			k.metadata |= 1 << i
		}
	}
	for i, m := range p.values {
		if _, ok := labels.Lookup(m.Name); ok {
			continue
		}
		if hasMetadata != nil && !hasMetadata(m.Name) {
			k.values |= 1 << i
		} else {
			k.either |= 1 << i
		}
		if p.parsed[i].Fields != nil {
			k.parsed |= 1 << i
		}
	}
	k.meta = p.group == nil || hashes && k.lines || whole || mayBeMetadata(p.group, labels, hasMetadata)
	k.names = p.names != nil && k.meta && !whole && !(hashes && k.lines)
	if !k.names && !k.lengths && len(p.filters) == 0 && k.metadata == 0 && k.values == 0 && k.either == 0 && k.parsed == 0 && k.meta && k.lines && len(p.pushed.matcher.Needles()) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, ok := p.needs[k]; ok {
		return n
	}
	n := &Need{Filters: p.filters, Lines: k.lines, Lengths: k.lengths, Meta: k.meta, Hashes: hashes}
	if k.names {
		n.Names = p.names
	}
	n.Any = slices.Clone(p.pushed.matcher.Needles())
	for i, m := range p.metadata {
		if k.metadata>>i&1 != 0 {
			n.Metadata = append(n.Metadata, m)
		}
	}
	for i, m := range p.values {
		if k.parsed>>i&1 != 0 {
			f := p.parsed[i]
			if f.Any = -1; k.values>>i&1 != 0 {
				f.Any = len(n.Any)
			}
			n.Parsed = append(n.Parsed, f)
		}
		if k.values>>i&1 != 0 {
			n.Any = append(n.Any, []string{m.Value, `\`})
		}
		if k.either>>i&1 != 0 {
			n.Values = append(n.Values, m)
		}
	}
	p.needs[k] = n
	return n
}

// mayBeMetadata reports whether a name that is no label of the stream may be that of
// metadata, or that which metadata gets where the stream has a label of its name.
func mayBeMetadata(names []string, labels model.Labels, hasMetadata func(string) bool) bool {
	for _, n := range names {
		if _, ok := labels.Lookup(n); ok {
			continue
		}
		for more := true; more; n, more = strings.CutSuffix(n, "_extracted") {
			if hasMetadata == nil || hasMetadata(n) {
				return true
			}
		}
	}
	return false
}

// selection is the rows of a local session that a plan needs.
type selection struct {
	session *localSession
	plan    *plan
	prog    *program // for the rows of the selection
	hashes  bool
	from    Selective // nil: the snapshot cannot select
	has     func(string) bool

	mu   sync.Mutex
	made map[*Need]Snapshot
}

func (s *localSession) selection(p *plan, hashes bool) *selection {
	sel := &selection{session: s, plan: p, prog: p.prog, hashes: hashes}
	if from, ok := s.snap.(Selective); ok {
		sel.from, sel.prog, sel.made = from, p.pushed, map[*Need]Snapshot{}
		if h, ok := s.snap.(interface{ HasMetadata(string) bool }); ok {
			sel.has = h.HasMetadata
		}
	}
	return sel
}

// rows returns a source of the rows of a task.
func (s *selection) rows(ctx context.Context, t task, ranges []TimeRange, backward bool) rowSource {
	src := rowSource{snap: s.of(ctx, t.stream), stream: t.stream, ranges: ranges, backward: backward}
	if x := s.session.exclusionOf(t.stream); x != nil {
		src.excluder = newExcluder(x, s.session.labelsOf(t.stream))
	}
	if s.session.numbers != nil {
		src.stream = s.session.numbers[t.stream]
	}
	return src
}

// of returns the snapshot to read a stream from.
func (s *selection) of(ctx context.Context, stream int) Snapshot {
	if s.from == nil {
		return s.session.snap
	}
	x := s.session.exclusionOf(stream)
	n := s.plan.need(s.session.labelsOf(stream), s.hashes, x != nil && len(x.parts) > 0, s.has)
	if n == nil {
		return s.session.snap
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, ok := s.made[n]
	if !ok {
		snap = s.from.Select(ctx, n)
		s.made[n] = snap
	}
	return snap
}
