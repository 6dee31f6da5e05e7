package engine

import (
	"slices"
	"strconv"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// valueAt is a value that occurs in a bucket.
type valueAt struct {
	bucket int
	value  uint32
}

// countDistinct evaluates count_distinct_over_time: how many values, other than "", the
// labels have in each window. Of each value and bucket one note is kept.
func countDistinct(agg *syntax.RangeAggregation, g *grid, in sampling, h *holder) (*vectors, error) {
	type seriesValue struct{ series, value uint32 }
	type what struct {
		series, value uint32
		counts        bool
	}
	var (
		index  seriesIndex
		all    [][]valueAt
		values map[string]uint32
		last   map[seriesValue]int // bucket
		known  map[setKey]what
		key    []byte
	)
	reset := func() {
		index, all = seriesIndex{}, nil
		values, last, known = map[string]uint32{}, map[seriesValue]int{}, map[setKey]what{}
		h.release()
	}
	reset()
	// Labels that are counted leave the series, but for those that by names.
	counted := agg.Labels
	if by := agg.Grouping; by != nil && !by.Without {
		counted = slices.DeleteFunc(slices.Clone(counted), func(n string) bool { return slices.Contains(by.Labels, n) })
	}
	series := func(l model.Labels) model.Labels {
		for _, n := range counted {
			l = withoutLabel(l, n)
		}
		return l
	}
	err := in(reset, func(set setKey, labels model.Labels, t int64, _ float64) error {
		w, ok := known[set]
		if !ok {
			id, isNew, err := index.of(set, labels, h, series)
			if err != nil {
				return err
			}
			if isNew {
				all = append(all, nil)
			}
			key, w.counts = (&RowLabels{Labels: labels}).appendValues(key[:0], agg.Labels)
			v, ok := values[string(key)]
			if !ok && w.counts {
				v = uint32(len(values))
				values[string(key)] = v
				if err := h.reserve(len(key) + 64); err != nil {
					return err
				}
			}
			w.series, w.value = id, v
			if err := h.reserve(48); err != nil {
				return err
			}
			known[set] = w
		}
		if !w.counts {
			return nil
		}
		bucket, _ := g.bucket(t)
		at, ok := last[seriesValue{w.series, w.value}]
		if ok && at == bucket {
			return nil
		}
		size := 16
		if !ok {
			size += 48
		}
		last[seriesValue{w.series, w.value}] = bucket
		all[w.series] = append(all[w.series], valueAt{bucket, w.value})
		return h.reserve(size)
	})
	if err != nil {
		return nil, err
	}
	steps, counts := make([][]uint32, len(all)), make([][]float64, len(all))
	within := map[uint32]int{}
	for i, notes := range all {
		clear(within)
		lo, hi := 0, 0
		for k := range g.steps {
			first, end := g.window(k)
			for ; hi < len(notes) && notes[hi].bucket <= end; hi++ {
				within[notes[hi].value]++
			}
			for ; lo < hi && notes[lo].bucket < first; lo++ {
				v := notes[lo].value
				if within[v]--; within[v] == 0 {
					delete(within, v)
				}
			}
			if len(within) > 0 {
				steps[i], counts[i] = append(steps[i], uint32(k)), append(counts[i], float64(len(within)))
			}
		}
		if err := h.reserve(12 * len(steps[i])); err != nil {
			return nil, err
		}
	}
	return fromSeries(g.steps, index.in.sets, func(s int) ([]uint32, func(int) float64) {
		return steps[s], func(i int) float64 { return counts[s][i] }
	}), nil
}

// boundLabel is the label that tells the bound of a series of a histogram.
const boundLabel = "le"

// countsAt is how many values of a bucket of time are in each bucket of a histogram.
type countsAt struct {
	bucket int
	counts []uint64
}

// histogram evaluates histogram_over_time: for each bound, and for +Inf, a series that
// says how many values of the window are at most as large.
func histogram(agg *syntax.RangeAggregation, g *grid, in sampling, h *holder) (*vectors, error) {
	var index seriesIndex
	var all [][]countsAt
	n := len(agg.Bounds) + 1
	base := func(l model.Labels) model.Labels { return withoutLabel(l, boundLabel) }
	err := in(func() { index, all = seriesIndex{}, nil; h.release() }, func(set setKey, labels model.Labels, t int64, v float64) error {
		id, isNew, err := index.of(set, labels, h, base)
		if err != nil {
			return err
		}
		if isNew {
			all = append(all, nil)
		}
		bucket, _ := g.bucket(t)
		s := all[id]
		if len(s) == 0 || s[len(s)-1].bucket != bucket {
			if err := h.reserve(40 + 8*n); err != nil {
				return err
			}
			s = append(s, countsAt{bucket, make([]uint64, n)})
			all[id] = s
		}
		// The first bound that is not below the value; of NaN, +Inf.
		at := n - 1
		for i, b := range agg.Bounds {
			if v <= b {
				at = i
				break
			}
		}
		s[len(s)-1].counts[at]++
		return nil
	})
	if err != nil {
		return nil, err
	}
	labels := make([]model.Labels, 0, len(all)*n)
	steps, values := make([][]uint32, 0, len(all)*n), make([][]float64, 0, len(all)*n)
	for i, notes := range all {
		from := len(labels)
		for b := range n {
			le := "+Inf"
			if b < len(agg.Bounds) {
				le = strconv.FormatFloat(agg.Bounds[b], 'g', -1, 64)
			}
			labels = append(labels, withLabel(index.in.sets[i], boundLabel, le))
			steps, values = append(steps, nil), append(values, nil)
		}
		sums := make([]uint64, n)
		lo, hi := 0, 0
		for k := range g.steps {
			first, last := g.window(k)
			for ; hi < len(notes) && notes[hi].bucket <= last; hi++ {
				for b, c := range notes[hi].counts {
					sums[b] += c
				}
			}
			for ; lo < hi && notes[lo].bucket < first; lo++ {
				for b, c := range notes[lo].counts {
					sums[b] -= c
				}
			}
			if lo == hi {
				continue
			}
			total := uint64(0)
			for b, c := range sums {
				total += c
				steps[from+b] = append(steps[from+b], uint32(k))
				values[from+b] = append(values[from+b], float64(total))
			}
		}
		if err := h.reserve(n * (128 + 12*len(steps[from]))); err != nil {
			return nil, err
		}
	}
	return fromSeries(g.steps, labels, func(s int) ([]uint32, func(int) float64) {
		return steps[s], func(i int) float64 { return values[s][i] }
	}), nil
}
