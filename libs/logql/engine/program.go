package engine

import (
	"bytes"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Times before and behind all others (1896 and 2116), and the longest time between
// the ends of a query: far enough from the ends of int64 that arithmetic with ranges,
// offsets and steps does not overflow. Grafana's health query asks for 2096.
const (
	minTime = math.MinInt64 / 4
	maxTime = math.MaxInt64 / 2
	maxSpan = math.MaxInt64 / 2
)

// program is the compiled lower part of a query: what sources do. It is safe for
// concurrent use.
type program struct {
	log     *pipeline.Pipeline // of a log query
	extract *pipeline.Extractor
	matcher *pipeline.LineMatcher
	needle  []byte // is in every line that matches; nil: unknown

	agg   *syntax.RangeAggregation // nil: a log query
	group *pipeline.Grouping       // labels of series
	// tolerant: parser errors are ordinary labels.
	tolerant bool
	// selected: rows that do not match line filters are left out before.
	selected bool
	share    float64 // of the entries, that a log query is about; 0: all
}

// compile compiles a *syntax.LogSelector, a *syntax.RangeAggregation, or a sum of
// one. The error is for users.
func compile(e syntax.Expr) (*program, error) {
	hints := pipeline.Hints{Now: time.Now}
	if sel, ok := e.(*syntax.LogSelector); ok {
		stages, share := withoutSamples(sel.Stages)
		p, err := pipeline.Compile(stages, hints)
		if err != nil {
			return nil, err
		}
		return &program{log: p, matcher: p.Filter(), needle: needleOf(p.Filter()), share: share}, nil
	}
	agg, sum, ok := sumOver(e)
	if !ok {
		return nil, Errorf(ErrUnsupported, "sources do not execute %s", e)
	}
	p := &program{agg: agg, group: groupingOf(agg.Grouping)}
	if sum != nil {
		if f, ok := foldOf(agg); !ok || !f.additive() || agg.Grouping != nil {
			return nil, Errorf(ErrUnsupported, "sources do not execute %s", e)
		}
		p.group = groupingOf(sum.Grouping)
		if sum.Grouping == nil {
			p.group = &pipeline.Grouping{}
		}
	}
	switch agg.Op {
	case syntax.OpAbsentOverTime:
		p.group = &pipeline.Grouping{}
	case syntax.OpCountDistinctOverTime:
		p.group = distinctGroup(p.group, agg.Labels)
	}
	if p.group != nil && !p.group.Without {
		hints.Needed = append([]string{}, p.group.Names...)
		p.tolerant = slices.Contains(p.group.Names, errorLabel) || filtersErrors(agg.Range.Selector.Stages)
	}
	ex, err := pipeline.CompileExtractor(agg.Range.Selector.Stages, agg.Range.Unwrap, p.bytes(), hints)
	if err != nil {
		return nil, err
	}
	p.extract, p.matcher, p.needle = ex, ex.Filter(), needleOf(ex.Filter())
	return p, nil
}

// needleOf returns the longest string that every matching line contains.
func needleOf(m *pipeline.LineMatcher) []byte {
	best := ""
	for _, any := range m.Needles() {
		if len(any) == 1 && len(any[0]) > len(best) {
			best = any[0]
		}
	}
	return []byte(best)
}

// candidates appends the rows of [from, to) whose lines hold the program's needle,
// or all if it has none. It searches the slab, not line by line.
func (p *program) candidates(sel []int32, rows *model.Rows, from, to int) []int32 {
	if len(p.needle) == 0 {
		for i := from; i < to; i++ {
			sel = append(sel, int32(i))
		}
		return sel
	}
	ends := rows.Lines.Ends
	at := 0 // begin of row from
	if from > 0 {
		at = int(ends[from-1])
	}
	slab := rows.Lines.Slab
	for from < to {
		i := bytes.Index(slab[at:ends[to-1]], p.needle)
		if i < 0 {
			return sel
		}
		i += at
		// The row that holds the first byte; it is mostly near.
		step := 1
		for from+step < to && int(ends[from+step-1]) <= i {
			step *= 2
		}
		lo := from + step/2
		hi := min(from+step, to)
		row := lo + sort.Search(hi-lo, func(k int) bool { return int(ends[lo+k]) > i })
		if i+len(p.needle) > int(ends[row]) {
			from, at = row, i+1 // it lies across two lines
			continue
		}
		sel = append(sel, int32(row))
		from, at = row+1, int(ends[row])
	}
	return sel
}

// groupingOf sorts the labels of a grouping; nil stands for all labels.
func groupingOf(g *syntax.Grouping) *pipeline.Grouping {
	if g == nil {
		return nil
	}
	names := slices.Clone(g.Labels)
	slices.Sort(names)
	return &pipeline.Grouping{Names: slices.Compact(names), Without: g.Without}
}

func filtersErrors(stages []syntax.Stage) bool {
	var names func(c syntax.Condition) bool
	names = func(c syntax.Condition) bool {
		switch c := c.(type) {
		case *syntax.LogicalCond:
			return names(c.Left) || names(c.Right)
		case *syntax.StringCond:
			return c.Name == errorLabel
		}
		return false
	}
	return slices.ContainsFunc(stages, func(s syntax.Stage) bool {
		f, ok := s.(*syntax.LabelFilter)
		return ok && names(f.Cond)
	})
}

func (p *program) metric() bool { return p.agg != nil }

func (p *program) fold() (fold, bool) {
	if p.agg == nil {
		return 0, false
	}
	return foldOf(p.agg)
}

// bytes reports whether samples are lengths of lines.
func (p *program) bytes() bool {
	return p.agg != nil && (p.agg.Op == syntax.OpBytesOverTime || p.agg.Op == syntax.OpBytesRate)
}

// plain reports whether the pipeline is nothing but line filters.
func (p *program) plain() bool {
	if p.log != nil {
		return p.log.Pure()
	}
	return p.extract.Pure()
}

// groupStream appends the labels of the series of all rows of a stream that have
// no metadata that matters.
func (p *program) groupStream(dst []model.Label, labels model.Labels) []model.Label {
	if p.group == nil {
		return append(dst, labels...)
	}
	for _, l := range labels {
		if slices.Contains(p.group.Names, l.Name) != p.group.Without {
			dst = append(dst, l)
		}
	}
	return dst
}

// sameSeries reports whether the rows, of a plain pipeline, are known to be of
// the series that groupStream returns, whatever their metadata.
func (p *program) sameSeries(labels model.Labels, rows *model.Rows) bool {
	if p.group == nil || p.group.Without {
		return len(rows.Metadata) == 0 && len(rows.Derived) == 0
	}
	for _, n := range p.group.Names {
		if _, ok := labels.Lookup(n); ok {
			continue
		}
		// The name may be that of metadata, or that which metadata gets when the
		// stream has a label of its name.
		for _, set := range [][]model.Column{rows.Metadata, rows.Derived} {
			for i := range set {
				if len(n) >= len(set[i].Name) && n[:len(set[i].Name)] == set[i].Name {
					return false
				}
			}
		}
	}
	return true
}

// counts reports whether a sample is nothing but its row, so that rows need not be
// seen to be counted.
func (p *program) counts() bool {
	return p.plain() && p.matcher.Empty() && !p.selected
}

// forStream binds the program to a stream.
func (p *program) forStream(labels model.Labels) *processor {
	return &processor{prog: p, labels: labels}
}

// processor runs a program on the rows of one stream. It is used by one goroutine.
type processor struct {
	prog    *program
	labels  model.Labels
	bound   bool // lines or samples is bound to labels
	lines   *pipeline.Stream
	samples *pipeline.SampleStream
	set     *pipeline.LabelSet // of the row that was processed last
}

// rebind binds the processor to another stream.
func (p *processor) rebind(labels model.Labels) { p.labels, p.bound = labels, false }

// bind is put off until a row passes the line filters.
func (p *processor) bind() {
	p.bound = true
	switch {
	case p.samples != nil:
		p.samples.Rebind(p.labels)
	case p.lines != nil:
		p.lines.Rebind(p.labels)
	case p.prog.metric():
		p.samples = p.prog.extract.ForStream(p.labels)
	default:
		p.lines = p.prog.log.ForStream(p.labels)
	}
}

// matches applies the leading line filters.
func (p *processor) matches(line []byte) bool { return p.prog.matcher.Match(line) }

// process runs the rest of the pipeline on a line that matches. What it returns
// is valid until the next call.
func (p *processor) process(t int64, line []byte, meta []model.Label) (out []byte, value float64, ok bool) {
	if !p.bound {
		p.bind()
	}
	if p.samples != nil {
		value, p.set, ok = p.samples.ProcessFiltered(t, line, meta)
		return nil, value, ok
	}
	out, p.set, ok = p.lines.ProcessFiltered(t, line, meta)
	return out, 0, ok
}

// failed returns all labels of the sample if it has an error that makes the
// query fail.
func (p *processor) failed() model.Labels {
	kind, _ := p.set.Err()
	if kind == "" || (p.prog.tolerant && (kind == pipeline.ErrJSONParser || kind == pipeline.ErrLogfmtParser)) {
		return nil
	}
	return pipeline.NewPipelineError(p.set).Series
}

// appendSeries appends the labels of the sample's series.
func (p *processor) appendSeries(dst []model.Label) []model.Label {
	from := len(dst)
	dst = p.set.AppendGroup(dst, p.prog.group)
	if p.prog.tolerant {
		return dst
	}
	return append(dst[:from], slices.DeleteFunc(dst[from:], func(l model.Label) bool {
		return l.Name == errorLabel || l.Name == errorDetailsLabel
	})...)
}

// appendLabels appends the labels of the row that was processed last: those of
// RowLabels, one category behind the other, which end at a, at b and at the end.
func (p *processor) appendLabels(dst []model.Label) (labels []model.Label, a, b int) {
	if p.lines != nil {
		dst = p.set.AppendStream(dst)
		a = len(dst)
		dst = p.set.AppendMetadata(dst)
		b = len(dst)
		return p.set.AppendParsed(dst), a, b
	}
	dst = p.appendSeries(dst)
	a = len(dst)
	return append(dst, p.failed()...), a, a
}

func cloneLabels(labels []model.Label) model.Labels { return pipeline.Clone(labels) }
