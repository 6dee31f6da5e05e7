package engine

import (
	"math"
	"regexp"
	"slices"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// groupLabels appends the labels of the group that a series belongs to; of nil,
// none.
func groupLabels(dst []model.Label, labels model.Labels, g *pipeline.Grouping) []model.Label {
	if g == nil {
		return dst
	}
	for _, l := range labels {
		if _, named := slices.BinarySearch(g.Names, l.Name); named != g.Without {
			dst = append(dst, l)
		}
	}
	return dst
}

// groups returns the group of each series, and the groups' labels.
func groups(series []model.Labels, g *pipeline.Grouping) (of []uint32, labels []model.Labels) {
	var in interner
	var buf []model.Label
	of = make([]uint32, len(series))
	for i, l := range series {
		buf = groupLabels(buf[:0], l, g)
		of[i], _ = in.id(buf, func(l []model.Label) model.Labels { return slices.Clone(model.Labels(l)) })
	}
	return of, in.sets
}

// vectorAggregation aggregates each step's vector.
func vectorAggregation(e *syntax.VectorAggregation, in *vectors) *vectors {
	if e.Op == syntax.OpSort || e.Op == syntax.OpSortDesc {
		return in // results are ordered at the end
	}
	in.sortSeries()
	of, labels := groups(in.series, groupingOf(e.Grouping))
	switch e.Op {
	case syntax.OpTopk, syntax.OpBottomk, syntax.OpApproxTopk: // approx_topk is exact
		return topk(e, in, of, len(labels))
	}
	out := &vectors{series: labels}
	acc := make([]groupAcc, len(labels))
	var touched []uint32
	for k := range in.ends {
		ids, values := in.at(k)
		touched = touched[:0]
		for i, id := range ids {
			a := &acc[of[id]]
			if a.n == 0 {
				touched = append(touched, of[id])
			}
			a.add(e.Op, values[i])
		}
		slices.Sort(touched)
		for _, g := range touched {
			out.add(g, acc[g].value(e.Op))
			acc[g] = groupAcc{}
		}
		out.endStep()
	}
	return out
}

// groupAcc accumulates the values of a group at one step.
type groupAcc struct {
	n           float64
	a, mean, m2 float64
}

func (g *groupAcc) add(op syntax.VectorOp, v float64) {
	g.n++
	switch op {
	case syntax.OpSum:
		g.a += v
	case syntax.OpMin:
		if g.n == 1 || v < g.a || math.IsNaN(g.a) {
			g.a = v
		}
	case syntax.OpMax:
		if g.n == 1 || v > g.a || math.IsNaN(g.a) {
			g.a = v
		}
	case syntax.OpAvg:
		p := partial{n: uint64(g.n - 1), a: g.mean}
		if g.n == 1 {
			g.mean = v
			break
		}
		g.mean = mean(&p, partial{n: 1, a: v})
	case syntax.OpStddev, syntax.OpStdvar:
		d := v - g.mean
		g.mean += d / g.n
		g.m2 += d * (v - g.mean)
	}
}

func (g *groupAcc) value(op syntax.VectorOp) float64 {
	switch op {
	case syntax.OpCount:
		return g.n
	case syntax.OpAvg:
		return g.mean
	case syntax.OpStdvar:
		return g.m2 / g.n
	case syntax.OpStddev:
		return math.Sqrt(g.m2 / g.n)
	}
	return g.a
}

// topk keeps the k largest or smallest samples of each group at each step. NaN
// is the lowest; of equal values the series that come first by labels stay.
func topk(e *syntax.VectorAggregation, in *vectors, of []uint32, n int) *vectors {
	out := &vectors{series: in.series}
	type sample struct {
		id uint32
		v  float64
	}
	members := make([][]sample, n)
	for k := range in.ends {
		ids, values := in.at(k)
		for i, id := range ids {
			members[of[id]] = append(members[of[id]], sample{id, values[i]})
		}
		from := len(out.ids)
		for g := range members {
			all := members[g]
			slices.SortStableFunc(all, func(a, b sample) int {
				if math.IsNaN(a.v) || math.IsNaN(b.v) {
					return compareNaNLast(a.v, b.v)
				}
				if e.Op == syntax.OpBottomk {
					return compareValues(a.v, b.v)
				}
				return compareValues(b.v, a.v)
			})
			for _, s := range all[:min(len(all), e.Param)] {
				out.add(s.id, s.v)
			}
			members[g] = all[:0]
		}
		sortStep(out.ids[from:], out.values[from:])
		out.endStep()
	}
	return out
}

func compareNaNLast(a, b float64) int {
	an, bn := math.IsNaN(a), math.IsNaN(b)
	switch {
	case an == bn:
		return 0
	case an:
		return 1
	}
	return -1
}

// labelReplace sets a label of each series to what a regex finds in another.
func labelReplace(e *syntax.LabelReplace, in *vectors) (*vectors, error) {
	re, err := regexp.Compile("^(?:" + e.Regex + ")$")
	if err != nil {
		return nil, Errorf(ErrUser, "invalid regex in label_replace: %s", e.Regex)
	}
	out := *in
	out.series = make([]model.Labels, len(in.series))
	for i, l := range in.series {
		out.series[i] = l
		value := l.Get(e.Src)
		match := re.FindStringSubmatchIndex(value)
		if match == nil {
			continue
		}
		replaced := string(re.ExpandString(nil, e.Replacement, value, match))
		out.series[i] = withLabel(l, e.Dst, replaced)
	}
	return &out, nil
}

// withLabel returns labels with one set, or, if the value is "", removed.
func withLabel(labels model.Labels, name, value string) model.Labels {
	out := make(model.Labels, 0, len(labels)+1)
	done := value == ""
	for _, l := range labels {
		if l.Name == name {
			continue
		}
		if !done && l.Name > name {
			out, done = append(out, model.Label{Name: name, Value: value}), true
		}
		out = append(out, l)
	}
	if !done {
		out = append(out, model.Label{Name: name, Value: value})
	}
	return out
}
