package engine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// partSteps is how many steps a part of an answer has. Parts begin at multiples of as
// many steps since the epoch, so that queries whose ranges move find them again.
const partSteps = 32

// cacheable reports whether an aggregation depends on the rows alone, and not on the
// order of those of equal time, which their digests leave out, or on the present.
func cacheable(agg *syntax.RangeAggregation) bool {
	switch agg.Op {
	case syntax.OpFirstOverTime, syntax.OpLastOverTime, syntax.OpRateCounter:
		return false
	}
	return !slices.ContainsFunc(agg.Range.Selector.Stages, func(s syntax.Stage) bool {
		switch s := s.(type) {
		case *syntax.LineFormat:
			return asksTime(s.Template)
		case *syntax.LabelFormat:
			return slices.ContainsFunc(s.Assigns, func(a syntax.LabelAssign) bool { return !a.Rename && asksTime(a.Value) })
		}
		return false
	})
}

// asksTime reports whether a template may call a function that knows the present.
func asksTime(template string) bool {
	return strings.Contains(template, "now") || strings.Contains(template, "date")
}

// cached evaluates a range aggregation on the steps of a grid, with what the cache
// remembers. text names the aggregation; eval computes steps anew, from o.
func (q *query) cached(ctx context.Context, o *opened, text string, agg *syntax.RangeAggregation, g *grid, eval func(*grid) (*vectors, error)) (*vectors, error) {
	begin := g.start + int64(agg.Range.Offset) // of the query's steps
	first, n := q.parts(begin, g.steps)
	if q.Cache == nil || n == 0 || !cacheable(agg) {
		return eval(g)
	}
	at := func(part int) *grid {
		sub := newGrid(g.start+int64(first+part*partSteps)*g.step, g.start+int64(first+(part+1)*partSteps-1)*g.step, g.step, g.interval)
		return &sub
	}
	sums, ok := o.sums(ctx, n, at)
	if err := q.mem.Err(); err != nil {
		return nil, err
	}
	if !ok {
		return eval(g)
	}
	keys := make([]partKey, n)
	pieces := []stretch{} // of the answer, in order, without gaps
	var stats CacheStats
	missing := stretch{to: first}
	for i, sum := range sums {
		from := first + i*partSteps
		missing.to = from + partSteps
		if sum == ([2]uint64{}) {
			continue
		}
		keys[i] = partKey{q.CacheOwner, text, q.step, begin + int64(from)*q.step, sum}
		stats.Requested++
		p := q.Cache.get(keys[i])
		if p == nil {
			continue
		}
		stats.Found++
		stats.BytesFound += uint64(p.bytes)
		stats.Length += time.Duration(partSteps * q.step)
		if missing.to = from; missing.from < from {
			pieces = append(pieces, missing)
		}
		pieces = append(pieces, stretch{from, from + partSteps, p.value})
		missing.from = from + partSteps
	}
	if missing.to = g.steps; missing.from < missing.to {
		pieces = append(pieces, missing)
	}
	pieces = joined(pieces, g)
	defer func() { o.tasks = o.all(g.from(), g.to()) }()
	for i := range pieces {
		p := &pieces[i]
		if p.value != nil {
			continue
		}
		sub := newGrid(g.start+int64(p.from)*g.step, g.start+int64(p.to-1)*g.step, g.step, g.interval)
		o.tasks = o.all(sub.from(), sub.to())
		var err error
		if p.value, err = eval(&sub); err != nil {
			return nil, err
		}
		p.value.sortSeries()
		if len(pieces) > 1 {
			size := p.value.size()
			if err := q.mem.Reserve(size); err != nil {
				return nil, err
			}
			defer q.mem.Release(size)
		}
		if slices.Contains(o.failed, true) {
			continue // what there is may be less than what was asked
		}
		for k := range keys {
			from := first + k*partSteps
			if keys[k].step == 0 || from < p.from || from+partSteps > p.to {
				continue
			}
			part := &cachedPart{key: keys[k], value: p.value.slice(from-p.from, from-p.from+partSteps, keptLabels)}
			if q.Cache.put(part) {
				stats.Stored++
				stats.BytesStored += uint64(part.bytes)
			}
		}
	}
	q.mu.Lock()
	q.cacheStats.add(stats)
	q.mu.Unlock()
	if len(pieces) == 1 {
		return pieces[0].value.slice(0, g.steps, func(l model.Labels) model.Labels { return l }), nil
	}
	return concat(pieces), nil
}

func (s *CacheStats) add(o CacheStats) {
	s.Requested += o.Requested
	s.Found += o.Found
	s.Stored += o.Stored
	s.BytesFound += o.BytesFound
	s.BytesStored += o.BytesStored
	s.Length += o.Length
}

// parts returns the first step of the first whole part among the steps from begin, and
// how many whole parts there are.
func (q *query) parts(begin int64, steps int) (first, n int) {
	if q.gridStep() == 0 {
		return 0, 0
	}
	if r := int((begin / q.step) % partSteps); r != 0 {
		first = (partSteps - r) % partSteps
		if r < 0 {
			first = -r
		}
	}
	return first, max(0, steps-first) / partSteps
}

// stretch is steps [from, to) of an answer; value nil: to be computed.
type stretch struct {
	from, to int
	value    *vectors
}

// joined joins pieces that are to be computed where what lies between them is shorter
// than a window: its rows are read anyway.
func joined(in []stretch, g *grid) []stretch {
	var out []stretch
	for i := 0; i < len(in); i++ {
		p := in[i]
		if p.value == nil {
			for j := i + 1; j < len(in); j++ {
				if in[j].value != nil {
					continue
				}
				if int64(in[j].from-p.to)*g.step > g.interval {
					break
				}
				p.to, i = in[j].to, j
			}
		}
		out = append(out, p)
	}
	return out
}

// slice returns steps [from, to), with series that ascend if those of v do. keep makes
// of labels what is kept.
func (v *vectors) slice(from, to int, keep func(model.Labels) model.Labels) *vectors {
	begin := 0
	if from > 0 {
		begin = v.ends[from-1]
	}
	end := begin
	if to > from {
		end = v.ends[to-1]
	}
	out := &vectors{ids: slices.Clone(v.ids[begin:end]), values: slices.Clone(v.values[begin:end]), ends: make([]int, to-from)}
	for k := range out.ends {
		out.ends[k] = v.ends[from+k] - begin
	}
	place := make([]int, len(v.series))
	for _, id := range out.ids {
		place[id] = 1
	}
	for id, used := range place {
		if used == 1 {
			place[id] = len(out.series)
			out.series = append(out.series, keep(v.series[id]))
		}
	}
	for i, id := range out.ids {
		out.ids[i] = uint32(place[id])
	}
	return out
}

// keptLabels returns a copy that holds on to nothing else.
func keptLabels(l model.Labels) model.Labels {
	out := make(model.Labels, len(l))
	for i, p := range l {
		out[i] = model.Label{Name: strings.Clone(p.Name), Value: strings.Clone(p.Value)}
	}
	return out
}

// concat returns pieces, whose series ascend, one after the other.
func concat(pieces []stretch) *vectors {
	out := &vectors{}
	for _, p := range pieces {
		out.series = append(out.series, p.value.series...)
	}
	slices.SortFunc(out.series, model.Labels.Compare)
	out.series = slices.CompactFunc(out.series, model.Labels.Equal)
	for _, p := range pieces {
		place, at := make([]uint32, len(p.value.series)), 0
		for i, l := range p.value.series {
			for !out.series[at].Equal(l) {
				at++
			}
			place[i] = uint32(at)
		}
		before := len(out.ids)
		for _, id := range p.value.ids {
			out.ids = append(out.ids, place[id])
		}
		out.values = append(out.values, p.value.values...)
		for _, e := range p.value.ends {
			out.ends = append(out.ends, before+e)
		}
	}
	return out
}
