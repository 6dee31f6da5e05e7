package engine_test

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// twin answers queries the plain way: all entries in one sorted list, one at a
// time, one step at a time.
type twin struct{ all []enginetest.Entry }

func newTwin(es []enginetest.Entry) *twin {
	t := &twin{}
	best := map[string]int{}
	for _, e := range es {
		id := fmt.Sprint(e.Labels, e.Time, e.Line, e.Metadata)
		if i, ok := best[id]; ok {
			if o := t.all[i]; e.BatchTime < o.BatchTime || (e.BatchTime == o.BatchTime && e.Position < o.Position) {
				t.all[i].BatchTime, t.all[i].Position = e.BatchTime, e.Position
			}
			continue
		}
		best[id] = len(t.all)
		t.all = append(t.all, e)
	}
	sort.SliceStable(t.all, func(i, j int) bool {
		a, b := t.all[i], t.all[j]
		if a.Time != b.Time {
			return a.Time < b.Time
		}
		if c := a.Labels.Compare(b.Labels); c != 0 {
			return c < 0
		}
		if a.BatchTime != b.BatchTime {
			return a.BatchTime < b.BatchTime
		}
		return a.Position < b.Position
	})
	return t
}

func (t *twin) selected(ms []*syntax.Matcher, start, end int64) []enginetest.Entry {
	var out []enginetest.Entry
	for _, e := range t.all {
		if e.Time >= start && e.Time < end && !slices.ContainsFunc(ms, func(m *syntax.Matcher) bool { return !m.Matches(e.Labels.Get(m.Name)) }) {
			out = append(out, e)
		}
	}
	return out
}

func metaOf(e enginetest.Entry) []model.Label {
	return model.NewLabels(append(slices.Clone(e.Metadata), e.Derived...))
}

// logs returns the entries of a log query, one text each.
func (t *twin) logs(sel *syntax.LogSelector, start, end int64, backward bool, interval int64) ([]string, error) {
	p, err := pipeline.Compile(sel.Stages, pipeline.Hints{})
	if err != nil {
		return nil, err
	}
	es := t.selected(sel.Matchers, start, end)
	if backward {
		slices.Reverse(es)
	}
	var out []string
	last := int64(math.MinInt64 / 2)
	if backward {
		last = -last
	}
	for _, e := range es {
		line, ls, ok := p.ForStream(e.Labels).Process(e.Time, []byte(e.Line), metaOf(e))
		if !ok || (interval > 0 && max(e.Time-last, last-e.Time) < interval) {
			continue
		}
		last = e.Time
		out = append(out, entryText(e.Time, string(line), model.Labels(ls.AppendStream(nil)), model.Labels(ls.AppendMetadata(nil)), model.Labels(ls.AppendParsed(nil))))
	}
	return out, nil
}

func entryText(t int64, line string, stream, meta, parsed model.Labels) string {
	return fmt.Sprintf("%d %q %s %s %s", t, line, stream, meta, parsed)
}

type vector map[string]element

type element struct {
	labels model.Labels
	v      float64
}

func (v vector) put(ls []model.Label, x float64) bool {
	k := model.Labels(ls).String()
	_, dup := v[k]
	v[k] = element{slices.Clone(model.Labels(ls)), x}
	return !dup
}

func (v vector) sorted() []element {
	var out []element
	for _, e := range v {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b element) int { return a.labels.Compare(b.labels) })
	return out
}

var errTwin = errors.New("query fails")

func grouped(ls model.Labels, g *syntax.Grouping) model.Labels {
	var out model.Labels
	for _, l := range ls {
		if g != nil && slices.Contains(g.Labels, l.Name) != g.Without {
			out = append(out, l)
		}
	}
	return out
}

func (t *twin) eval(e syntax.Expr, at int64) (vector, error) {
	switch e := e.(type) {
	case *syntax.Literal:
		return vector{"{}": {v: e.Value}}, nil
	case *syntax.Vector:
		return vector{"{}": {v: e.Value}}, nil
	case *syntax.RangeAggregation:
		return t.rangeAgg(e, e.Grouping, e.Op == syntax.OpAbsentOverTime, at)
	case *syntax.VectorAggregation:
		if agg, ok := e.Inner.(*syntax.RangeAggregation); ok && e.Op == syntax.OpSum && agg.Grouping == nil {
			switch agg.Op {
			case syntax.OpCountOverTime, syntax.OpRate, syntax.OpBytesOverTime, syntax.OpBytesRate, syntax.OpSumOverTime:
				g := e.Grouping
				if g == nil {
					g = &syntax.Grouping{}
				}
				return t.rangeAgg(agg, g, false, at)
			}
		}
		in, err := t.eval(e.Inner, at)
		if err != nil {
			return nil, err
		}
		return vectorAgg(e, in), nil
	case *syntax.LabelReplace:
		in, err := t.eval(e.Inner, at)
		if err != nil {
			return nil, err
		}
		out := vector{}
		re := regexp.MustCompile("^(?:" + e.Regex + ")$")
		for _, x := range in.sorted() {
			ls := x.labels
			if m := re.FindStringSubmatchIndex(ls.Get(e.Src)); m != nil {
				mm := ls.Map()
				mm[e.Dst] = string(re.ExpandString(nil, e.Replacement, ls.Get(e.Src), m))
				ls = nil
				for k, v := range mm {
					if k != e.Dst || v != "" {
						ls = append(ls, model.Label{Name: k, Value: v})
					}
				}
				slices.SortFunc(ls, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
			}
			if !out.put(ls, x.v) {
				return nil, errAmbiguous
			}
		}
		return out, nil
	case *syntax.BinaryExpr:
		return t.binary(e, at)
	}
	panic("?")
}

// errAmbiguous: the twin cannot hold equal series; the case is skipped.
var errAmbiguous = errors.New("equal series")

func (t *twin) rangeAgg(e *syntax.RangeAggregation, g *syntax.Grouping, none bool, at int64) (vector, error) {
	if none {
		g = &syntax.Grouping{}
	}
	hints := pipeline.Hints{}
	var pg *pipeline.Grouping
	tolerant := false
	if g != nil {
		names := slices.Clone(g.Labels)
		slices.Sort(names)
		pg = &pipeline.Grouping{Names: slices.Compact(names), Without: g.Without}
		if !g.Without {
			tolerant = slices.Contains(g.Labels, "__error__")
			for _, s := range e.Range.Selector.Stages {
				tolerant = tolerant || (strings.Contains(s.String(), "__error__") && isFilter(s))
			}
		}
	}
	ex, err := pipeline.CompileExtractor(e.Range.Selector.Stages, e.Range.Unwrap, e.Op == syntax.OpBytesOverTime || e.Op == syntax.OpBytesRate, hints)
	if err != nil {
		return nil, errTwin
	}
	end := at - int64(e.Range.Offset)
	start := end - int64(e.Range.Interval)
	type series struct {
		labels model.Labels
		ts     []int64
		vs     []float64
	}
	all := map[string]*series{}
	for _, x := range t.selected(e.Range.Selector.Matchers, start+1, end+1) {
		v, ls, ok := ex.ForStream(x.Labels).Process(x.Time, []byte(x.Line), metaOf(x))
		if !ok {
			continue
		}
		if kind, _ := ls.Err(); kind != "" && !(tolerant && (kind == "JSONParserErr" || kind == "LogfmtParserErr")) {
			return nil, errTwin
		}
		labels := pipeline.Clone(ls.AppendGroup(nil, pg))
		if !tolerant {
			labels = slices.DeleteFunc(labels, func(l model.Label) bool { return l.Name == "__error__" || l.Name == "__error_details__" })
		}
		k := labels.String()
		if all[k] == nil {
			all[k] = &series{labels: labels}
		}
		all[k].ts = append(all[k].ts, x.Time)
		all[k].vs = append(all[k].vs, v)
	}
	if none {
		if len(all) > 0 {
			return vector{}, nil
		}
		var ls []model.Label
		for _, m := range e.Range.Selector.Matchers {
			n := 0
			for _, o := range e.Range.Selector.Matchers {
				if o.Name == m.Name {
					n++
				}
			}
			if n == 1 && m.Type == syntax.Eq {
				ls = append(ls, model.Label{Name: m.Name, Value: m.Value})
			}
		}
		out := vector{}
		out.put(model.NewLabels(ls), 1)
		return out, nil
	}
	out := vector{}
	for _, s := range all {
		out.put(s.labels, overTime(e, s.ts, s.vs, start, end))
	}
	return out, nil
}

func isFilter(s syntax.Stage) bool { _, ok := s.(*syntax.LabelFilter); return ok }

func overTime(e *syntax.RangeAggregation, ts []int64, vs []float64, start, end int64) float64 {
	secs := e.Range.Interval.Seconds()
	n := float64(len(vs))
	sum, lo, hi := 0.0, math.NaN(), math.NaN()
	for _, v := range vs {
		sum += v
		if !(v >= lo) {
			lo = v
		}
		if !(v <= hi) {
			hi = v
		}
	}
	variance := 0.0
	for _, v := range vs {
		variance += (v - sum/n) * (v - sum/n) / n
	}
	switch e.Op {
	case syntax.OpCountOverTime:
		return n
	case syntax.OpRate:
		if e.Range.Unwrap == nil {
			return n / secs
		}
		return sum / secs
	case syntax.OpBytesRate:
		return sum / secs
	case syntax.OpBytesOverTime, syntax.OpSumOverTime:
		return sum
	case syntax.OpAvgOverTime:
		return sum / n
	case syntax.OpMinOverTime:
		return lo
	case syntax.OpMaxOverTime:
		return hi
	case syntax.OpStdvarOverTime:
		return variance
	case syntax.OpStddevOverTime:
		return math.Sqrt(variance)
	case syntax.OpFirstOverTime:
		return vs[0]
	case syntax.OpLastOverTime:
		return vs[len(vs)-1]
	case syntax.OpQuantileOverTime:
		if e.Param > 1 {
			return math.Inf(1)
		}
		vs = slices.Clone(vs)
		slices.Sort(vs)
		r := e.Param * (n - 1)
		a, b := math.Floor(r), math.Ceil(r)
		return vs[int(a)] + (vs[int(b)]-vs[int(a)])*(r-a)
	case syntax.OpRateCounter:
		if n < 2 || ts[len(ts)-1] == ts[0] {
			return 0
		}
		inc := vs[len(vs)-1] - vs[0]
		for i := 1; i < len(vs); i++ {
			if vs[i] < vs[i-1] {
				inc += vs[i-1]
			}
		}
		span := float64(ts[len(ts)-1]-ts[0]) / 1e9
		avg := span / (n - 1)
		before, after := float64(ts[0]-start)/1e9, float64(end-ts[len(ts)-1])/1e9
		if before >= 1.1*avg {
			before = avg / 2
		}
		if inc > 0 && vs[0] >= 0 && span*vs[0]/inc < before {
			before = span * vs[0] / inc
		}
		if after >= 1.1*avg {
			after = avg / 2
		}
		return inc * (before + span + after) / span / (float64(end-start) / 1e9)
	}
	panic(e.Op)
}

func vectorAgg(e *syntax.VectorAggregation, in vector) vector {
	type group struct {
		labels model.Labels
		es     []element
	}
	gs := map[string]*group{}
	for _, x := range in.sorted() {
		l := grouped(x.labels, e.Grouping)
		if gs[l.String()] == nil {
			gs[l.String()] = &group{labels: l}
		}
		gs[l.String()].es = append(gs[l.String()].es, x)
	}
	out := vector{}
	for _, g := range gs {
		n := float64(len(g.es))
		sum, lo, hi := 0.0, math.NaN(), math.NaN()
		for _, x := range g.es {
			sum += x.v
			if !(x.v >= lo) {
				lo = x.v
			}
			if !(x.v <= hi) {
				hi = x.v
			}
		}
		variance := 0.0
		for _, x := range g.es {
			variance += (x.v - sum/n) * (x.v - sum/n) / n
		}
		switch e.Op {
		case syntax.OpSum:
			out.put(g.labels, sum)
		case syntax.OpAvg:
			out.put(g.labels, sum/n)
		case syntax.OpCount:
			out.put(g.labels, n)
		case syntax.OpMin:
			out.put(g.labels, lo)
		case syntax.OpMax:
			out.put(g.labels, hi)
		case syntax.OpStdvar:
			out.put(g.labels, variance)
		case syntax.OpStddev:
			out.put(g.labels, math.Sqrt(variance))
		case syntax.OpTopk, syntax.OpBottomk:
			sort.SliceStable(g.es, func(i, j int) bool {
				a, b := g.es[i].v, g.es[j].v
				if math.IsNaN(a) || math.IsNaN(b) {
					return !math.IsNaN(a) && math.IsNaN(b)
				}
				if e.Op == syntax.OpTopk {
					return a > b
				}
				return a < b
			})
			for _, x := range g.es[:min(len(g.es), e.Param)] {
				out.put(x.labels, x.v)
			}
		}
	}
	if e.Op == syntax.OpSort || e.Op == syntax.OpSortDesc {
		return in
	}
	return out
}

// matrix evaluates at each step and returns the points of each series.
func (t *twin) matrix(e syntax.Expr, start, end int64, step time.Duration) (map[string]map[int64]float64, error) {
	s := int64(step)
	out := map[string]map[int64]float64{}
	var failed error
	for at := start / s * s; at <= (end+s-1)/s*s; at += s {
		v, err := t.eval(e, at)
		if errors.Is(err, errAmbiguous) {
			return nil, errAmbiguous
		}
		if err != nil {
			failed = errTwin
		}
		for k, x := range v {
			if out[k] == nil {
				out[k] = map[int64]float64{}
			}
			out[k][at] = x.v
		}
	}
	return out, failed
}
