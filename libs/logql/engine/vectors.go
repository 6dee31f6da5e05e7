package engine

import (
	"slices"

	"github.com/weir-logs/weir/libs/model"
)

// vectors is the value of a metric expression: for each step a vector of samples
// with their series, ascending by series number.
type vectors struct {
	series []model.Labels
	ends   []int // where each step's samples end
	ids    []uint32
	values []float64
}

// at returns the samples of a step.
func (v *vectors) at(step int) (ids []uint32, values []float64) {
	from := 0
	if step > 0 {
		from = v.ends[step-1]
	}
	return v.ids[from:v.ends[step]], v.values[from:v.ends[step]]
}

// add adds a sample to the step that is being built.
func (v *vectors) add(id uint32, value float64) {
	v.ids = append(v.ids, id)
	v.values = append(v.values, value)
}

// endStep ends the step that is being built.
func (v *vectors) endStep() { v.ends = append(v.ends, len(v.ids)) }

// size is roughly the memory held.
func (v *vectors) size() int {
	return 12*cap(v.ids) + 8*cap(v.ends) + 64*len(v.series)
}

// sortSeries makes series ascend by labels, and drops those without samples.
func (v *vectors) sortSeries() {
	used := make([]bool, len(v.series))
	for _, id := range v.ids {
		used[id] = true
	}
	var order []uint32
	for id := range v.series {
		if used[id] {
			order = append(order, uint32(id))
		}
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return v.series[a].Compare(v.series[b]) })
	place := make([]uint32, len(v.series))
	series := make([]model.Labels, len(order))
	for i, id := range order {
		place[id] = uint32(i)
		series[i] = v.series[id]
	}
	v.series = series
	sorted := true
	for i := range v.ids {
		v.ids[i] = place[v.ids[i]]
		sorted = sorted && (i == 0 || v.ids[i-1] < v.ids[i])
	}
	if sorted {
		return
	}
	from := 0
	for _, end := range v.ends {
		sortStep(v.ids[from:end], v.values[from:end])
		from = end
	}
}

// sortStep sorts samples by series.
func sortStep(ids []uint32, values []float64) {
	if slices.IsSorted(ids) {
		return
	}
	type sample struct {
		id uint32
		v  float64
	}
	all := make([]sample, len(ids))
	for i := range ids {
		all[i] = sample{ids[i], values[i]}
	}
	slices.SortStableFunc(all, func(a, b sample) int { return int(a.id) - int(b.id) })
	for i, s := range all {
		ids[i], values[i] = s.id, s.v
	}
}

// fromSeries turns series of samples per step, ascending by labels, into vectors.
func fromSeries(steps int, labels []model.Labels, at func(series int) (steps []uint32, value func(int) float64)) *vectors {
	v := &vectors{series: labels, ends: make([]int, steps)}
	total := 0
	for s := range labels {
		ks, _ := at(s)
		total += len(ks)
		for _, k := range ks {
			v.ends[k]++
		}
	}
	next := make([]int, steps)
	sum := 0
	for k := range v.ends {
		next[k] = sum
		sum += v.ends[k]
		v.ends[k] = sum
	}
	v.ids, v.values = make([]uint32, total), make([]float64, total)
	for s := range labels {
		ks, value := at(s)
		for i, k := range ks {
			v.ids[next[k]] = uint32(s)
			v.values[next[k]] = value(i)
			next[k]++
		}
	}
	return v
}
