package engine

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// ValueSeries is the values of the samples of a series, by the buckets of windows: as
// in AggregateRequest, the buckets are the intervals between edges of windows.
type ValueSeries struct {
	Labels  model.Labels
	Buckets []ValueBucket // ascending
}

// ValueBucket is the distinct values of a bucket, ascending, NaN first, and how many
// samples have each.
type ValueBucket struct {
	Bucket int
	Values []float64
	Counts []uint64
}

// Collector is a Session that may be able to collect values of samples without giving
// them out one by one.
type Collector interface {
	Session
	// Collect answers for all rows of the session: the request has no Streams. Query is
	// a *syntax.RangeAggregation of which the distinct values suffice, such as a
	// quantile. ok is false if the samples have to be scanned.
	Collect(ctx context.Context, req AggregateRequest) (_ []ValueSeries, _ ScanStats, ok bool, _ error)
}

// collects reports whether the distinct values of samples suffice for an operator.
func collects(agg *syntax.RangeAggregation) bool { return agg.Op == syntax.OpQuantileOverTime }

// Collect implements Collector.
func (s *localSession) Collect(ctx context.Context, req AggregateRequest) (_ []ValueSeries, stats ScanStats, ok bool, _ error) {
	plan, err := planOf(ctx, req.Query)
	if err != nil {
		return nil, stats, false, err
	}
	if prog := plan.prog; prog.agg == nil || !collects(prog.agg) || req.Streams != nil {
		return nil, stats, false, nil
	}
	c := s.fieldCounterOf(ctx, plan)
	if c == nil {
		return nil, stats, false, nil
	}
	g := newGrid(req.Start, req.End, req.Step, int64(plan.prog.agg.Range.Interval))
	var all valueTable
	stats, err = s.counted(ctx, c, plan.fields, s.selection(plan, false), foldValues, &req, &g, func(aggs []*aggregator) error {
		for _, a := range aggs {
			for id, sets := range a.sets {
				to := all.seriesOf(a.series.sets[id])
				for i := range sets {
					for _, v := range sets[i].list {
						all.add(to, sets[i].bucket, v.value, v.n)
					}
				}
			}
		}
		return nil
	})
	if errors.Is(err, ErrFields) {
		return nil, ScanStats{}, false, nil
	}
	if err != nil {
		return nil, stats, false, err
	}
	return all.series(), stats, true, nil
}

// Collect implements Collector.
func (s *unionSession) Collect(ctx context.Context, req AggregateRequest) (_ []ValueSeries, stats ScanStats, ok bool, _ error) {
	if s.ready(); s.chain == nil || req.Streams != nil || slices.Contains(s.failed, true) {
		return nil, stats, false, nil
	}
	type answer struct {
		series []ValueSeries
		stats  ScanStats
		ok     bool
		err    error
	}
	answers := make([]answer, len(s.chain))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	spread(len(answers), func(i int) {
		a := &answers[i]
		session := s.sessions[s.chain[i].session]
		if ctx.Err() != nil {
			return
		}
		if c, is := session.(Collector); is {
			a.series, a.stats, a.ok, a.err = c.Collect(ctx, req)
		}
		if _, overlaps := session.(*unionSession); !a.ok && a.err == nil && overlaps {
			a.series, a.stats, a.err = scanValues(ctx, session, &req)
			a.ok = a.err == nil
		}
		if a.err != nil && ctx.Err() != nil {
			a.err = ctx.Err() // whatever a session makes of that
		}
		if !a.ok {
			cancel() // all of it has to be scanned
		}
	})
	var all valueTable
	ok = true
	for i := range answers {
		a := &answers[i]
		if a.err != nil && s.spare != nil && !s.lasting && !IsQueryError(a.err) {
			return nil, ScanStats{}, false, nil // copies may be elsewhere
		}
		if a.err != nil && !errors.Is(a.err, context.Canceled) {
			return nil, stats, false, nameError(s.names[s.chain[i].session], a.err)
		}
		stats.Add(a.stats)
		ok = ok && a.ok
		all.addSeries(a.series)
	}
	if !ok {
		return nil, ScanStats{}, false, nil
	}
	return all.series(), stats, true, nil
}

// scanValues collects the values of a session's samples by scanning them.
func scanValues(ctx context.Context, s Session, req *AggregateRequest) ([]ValueSeries, ScanStats, error) {
	agg := req.Query.(*syntax.RangeAggregation)
	g := newGrid(req.Start, req.End, req.Step, int64(agg.Range.Interval))
	var all valueTable
	var ids []uint32 // by label set, plus 1
	mem := memoryOf(ctx)
	held := 0
	defer func() { mem.Release(held) }()
	stats, err := s.Scan(ctx, ScanRequest{Query: agg, Start: g.from(), End: g.to()}, func(rows *ScanRows) error {
		for len(ids) < len(rows.Labels) {
			ids = append(ids, 0)
		}
		for i, t := range rows.Times {
			bucket, _ := g.bucket(t)
			if bucket < 0 {
				continue
			}
			id := &ids[rows.Sets[i]]
			if *id == 0 {
				l := &rows.Labels[rows.Sets[i]]
				if len(l.Parsed) > 0 {
					return errPipeline(l.Parsed)
				}
				*id = all.seriesOf(l.Labels) + 1
			}
			if grown := all.add(*id-1, bucket, rows.Values[i], 1); grown > 0 {
				if err := mem.Reserve(grown); err != nil {
					return err
				}
				held += grown
			}
		}
		return nil
	})
	return all.series(), stats, err
}

// weighted is a value and how many samples have it.
type weighted struct {
	value float64
	n     uint64
}

// valueSet is the distinct values of a bucket, in no order.
type valueSet struct {
	bucket int
	list   []weighted
	at     map[uint64]int32 // the places of values in list, if there are many
}

// fewValues is how many values are looked for one by one.
const fewValues = 8

// key tells values apart: zeros are equal, and so are all NaN.
func valueKey(v float64) uint64 {
	if v != v {
		return math.Float64bits(math.NaN())
	}
	return math.Float64bits(v + 0) // -0 becomes 0
}

// add adds samples that have a value; grown tells by how many bytes the set grew.
func (s *valueSet) add(v float64, n uint64) (grown int) {
	k := valueKey(v)
	if s.at == nil {
		for i := range s.list {
			if valueKey(s.list[i].value) == k {
				s.list[i].n += n
				return 0
			}
		}
	} else if i, ok := s.at[k]; ok {
		s.list[i].n += n
		return 0
	}
	s.list = append(s.list, weighted{v, n})
	switch {
	case s.at != nil:
		s.at[k] = int32(len(s.list) - 1)
	case len(s.list) > fewValues:
		s.at = make(map[uint64]int32, 4*fewValues)
		for i := range s.list {
			s.at[valueKey(s.list[i].value)] = int32(i)
		}
	}
	return 48
}

// valueSets are the sets of a series, ascending by bucket.
type valueSets []valueSet

// set returns the set of a bucket, which it makes if need be. Buckets mostly come in
// ascending order.
func (s *valueSets) set(bucket int) *valueSet {
	n := len(*s)
	if n > 0 && (*s)[n-1].bucket == bucket {
		return &(*s)[n-1]
	}
	i := n
	if n > 0 && (*s)[n-1].bucket > bucket {
		var found bool
		if i, found = slices.BinarySearchFunc(*s, bucket, func(a valueSet, b int) int { return a.bucket - b }); found {
			return &(*s)[i]
		}
	}
	*s = slices.Insert(*s, i, valueSet{bucket: bucket})
	return &(*s)[i]
}

// addValue adds samples of a series and a bucket that have a value.
func (a *aggregator) addValue(series uint32, bucket int, v float64, n uint64) error {
	for len(a.sets) <= int(series) {
		a.sets = append(a.sets, nil)
	}
	if grown := a.sets[series].set(bucket).add(v, n); grown > 0 {
		return a.reserve(grown)
	}
	return nil
}

// valueTable is values by series and bucket.
type valueTable struct {
	in   interner
	sets []valueSets
}

func (t *valueTable) seriesOf(labels model.Labels) uint32 {
	id, isNew := t.in.id(labels, func([]model.Label) model.Labels { return labels })
	if isNew {
		t.sets = append(t.sets, nil)
	}
	return id
}

func (t *valueTable) add(series uint32, bucket int, v float64, n uint64) (grown int) {
	return t.sets[series].set(bucket).add(v, n)
}

func (t *valueTable) addSeries(all []ValueSeries) {
	for i := range all {
		id := t.seriesOf(all[i].Labels)
		for k := range all[i].Buckets {
			b := &all[i].Buckets[k]
			for j, v := range b.Values {
				t.add(id, b.Bucket, v, b.Counts[j])
			}
		}
	}
}

func compareWeighted(a, b weighted) int { return cmp.Compare(a.value, b.value) }

func (t *valueTable) series() []ValueSeries {
	out := make([]ValueSeries, len(t.sets))
	for i, sets := range t.sets {
		out[i] = ValueSeries{Labels: t.in.sets[i], Buckets: make([]ValueBucket, len(sets))}
		for k := range sets {
			b := &out[i].Buckets[k]
			*b = ValueBucket{Bucket: sets[k].bucket, Values: make([]float64, len(sets[k].list)), Counts: make([]uint64, len(sets[k].list))}
			slices.SortFunc(sets[k].list, compareWeighted)
			for j, v := range sets[k].list {
				b.Values[j], b.Counts[j] = v.value, v.n
			}
		}
	}
	return out
}

// quantiles evaluates quantile_over_time: of sessions that collect values these are
// taken, of the others the samples.
func (o *opened) quantiles(ctx context.Context, prog *program, agg *syntax.RangeAggregation, g *grid) (*vectors, error) {
	held := 0
	defer func() { o.q.mem.Release(held) }()
	reserve := func(n int) error {
		err := o.q.mem.Reserve(n)
		if err == nil {
			held += n
		}
		return err
	}
	var all valueTable
	skip := make([]bool, len(o.sessions)) // those that have answered
	cut := o.spare != nil
	if o.chain != nil && prog.group != nil && !prog.group.Without {
		for _, l := range o.chain {
			session := l.session
			c, is := o.sessions[session].(Collector)
			if !is || o.failed[session] {
				continue
			}
			series, stats, ok, err := c.Collect(ctx, AggregateRequest{Query: agg, Start: g.start, End: g.end(), Step: o.q.gridStep()})
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil {
				if IsQueryError(err) {
					return nil, err
				}
				if err := o.fail(session, err); err != nil {
					return nil, err
				}
				if cut {
					return o.quantiles(ctx, prog, agg, g)
				}
				continue
			}
			if !ok {
				continue
			}
			o.q.addStats(stats)
			skip[session] = true
			size := 0
			for k := range series {
				size += 256
				for j := range series[k].Buckets {
					size += 48 + 64*len(series[k].Buckets[j].Values)
				}
			}
			if err := reserve(size); err != nil {
				return nil, err
			}
			all.addSeries(series)
		}
	}
	scanned := map[setKey]uint32{}
	var rows valueTable
	spec := scanSpec{query: agg, which: single | tangled, start: g.from(), end: g.to()}
	spec.skip = func(session int) bool { return skip != nil && skip[session] }
	spec.reset = func() {
		rows = valueTable{}
		clear(scanned)
		if cut && o.spare == nil { // those that have answered come again
			skip, all = nil, valueTable{}
		}
	}
	err := o.scan(ctx, spec, func(r *row) error {
		bucket, _ := g.bucket(r.key.Time)
		if bucket < 0 {
			return nil
		}
		k := setKey{r.feed, r.set}
		id, ok := scanned[k]
		if !ok {
			if len(r.labels.Parsed) > 0 {
				return errPipeline(r.labels.Parsed)
			}
			before := len(rows.sets)
			if id = rows.seriesOf(r.labels.Labels); len(rows.sets) > before {
				if err := reserve(256 + len(rows.in.key)); err != nil {
					return err
				}
			}
			scanned[k] = id
		}
		if grown := rows.add(id, bucket, r.value, 1); grown > 0 {
			return reserve(grown)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(all.sets) == 0 {
		all = rows
	} else {
		all.addSeries(rows.series())
	}
	return all.quantiles(agg.Param, g, reserve)
}

// quantiles returns the quantile of each window of each series.
func (t *valueTable) quantiles(phi float64, g *grid, reserve func(int) error) (*vectors, error) {
	steps := make([][]uint32, len(t.sets))
	values := make([][]float64, len(t.sets))
	var scratch []weighted
	for i, sets := range t.sets {
		for k := range sets {
			slices.SortFunc(sets[k].list, compareWeighted)
		}
		lo, hi := 0, 0
		for k := range g.steps {
			first, last := g.window(k)
			for hi < len(sets) && sets[hi].bucket <= last {
				hi++
			}
			for lo < hi && sets[lo].bucket < first {
				lo++
			}
			if lo == hi {
				continue
			}
			list := sets[lo].list
			if hi > lo+1 {
				scratch = scratch[:0]
				for j := lo; j < hi; j++ {
					scratch = append(scratch, sets[j].list...)
				}
				slices.SortFunc(scratch, compareWeighted)
				list = scratch
			}
			steps[i] = append(steps[i], uint32(k))
			values[i] = append(values[i], quantileOf(phi, list))
		}
		if err := reserve(12 * len(steps[i])); err != nil {
			return nil, err
		}
	}
	return fromSeries(g.steps, t.in.sets, func(s int) ([]uint32, func(int) float64) {
		return steps[s], func(i int) float64 { return values[s][i] }
	}), nil
}

// quantileOf is the quantile of values that ascend, NaN first.
func quantileOf(phi float64, list []weighted) float64 {
	switch {
	case math.IsNaN(phi):
		return math.NaN()
	case phi < 0:
		return math.Inf(-1)
	case phi > 1:
		return math.Inf(1)
	}
	n := uint64(0)
	for _, w := range list {
		n += w.n
	}
	rank := phi * float64(n-1)
	lo := uint64(rank)
	hi := min(lo+1, n-1)
	at := func(k uint64) float64 {
		for _, w := range list {
			if k < w.n {
				return w.value
			}
			k -= w.n
		}
		return list[len(list)-1].value
	}
	w := rank - float64(lo)
	return at(lo)*(1-w) + at(hi)*w
}
