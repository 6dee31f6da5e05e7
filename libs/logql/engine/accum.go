package engine

import (
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// partial is what samples of one bucket or window are folded into: their number
// and, as the operator demands, sum, mean, minimum or maximum (a) and the sum of
// squared differences from the mean (b).
type partial struct {
	n    uint64
	a, b float64
}

// fold is the arithmetic of a decomposable range aggregation.
type fold uint8

const (
	foldCount fold = iota
	foldSum
	foldMin
	foldMax
	foldMean
	foldVariance
	foldValues // the distinct values; no partial holds them, see valueSet
)

// foldOf returns how the operator decomposes; ok is false if it does not.
func foldOf(e *syntax.RangeAggregation) (f fold, ok bool) {
	switch e.Op {
	case syntax.OpCountOverTime, syntax.OpAbsentOverTime:
		return foldCount, true
	case syntax.OpRate:
		if e.Range.Unwrap == nil {
			return foldCount, true
		}
		return foldSum, true
	case syntax.OpBytesOverTime, syntax.OpBytesRate, syntax.OpSumOverTime:
		return foldSum, true
	case syntax.OpMinOverTime:
		return foldMin, true
	case syntax.OpMaxOverTime:
		return foldMax, true
	case syntax.OpAvgOverTime:
		return foldMean, true
	case syntax.OpStddevOverTime, syntax.OpStdvarOverTime:
		return foldVariance, true
	}
	return 0, false
}

// additive reports whether the partials of different series of a sum add up.
func (f fold) additive() bool { return f == foldCount || f == foldSum }

// one is the partial of a single sample.
func (f fold) one(v float64) partial { return partial{n: 1, a: v} }

// add folds o into p.
func (f fold) add(p *partial, o partial) {
	switch {
	case o.n == 0:
		return
	case p.n == 0:
		*p = o
		return
	}
	switch f {
	case foldSum:
		p.a += o.a
	case foldMin:
		if o.a < p.a || math.IsNaN(p.a) {
			p.a = o.a
		}
	case foldMax:
		if o.a > p.a || math.IsNaN(p.a) {
			p.a = o.a
		}
	case foldMean:
		p.a = mean(p, o)
	case foldVariance:
		d := o.a - p.a
		n, m := float64(p.n), float64(o.n)
		p.b += o.b + d*d*n*m/(n+m)
		p.a = mean(p, o)
	}
	p.n += o.n
}

func mean(p *partial, o partial) float64 {
	if math.IsInf(p.a, 0) && (math.IsInf(o.a, 0) && (p.a > 0) == (o.a > 0) || !math.IsInf(o.a, 0) && !math.IsNaN(o.a)) {
		return p.a // else the difference of infinities would make it NaN
	}
	return p.a + (o.a-p.a)*(float64(o.n)/float64(p.n+o.n))
}

// value is the operator's value of a window with samples.
func windowValue(e *syntax.RangeAggregation, p partial) float64 {
	seconds := e.Range.Interval.Seconds()
	switch e.Op {
	case syntax.OpCountOverTime:
		return float64(p.n)
	case syntax.OpRate:
		if e.Range.Unwrap == nil {
			return float64(p.n) / seconds
		}
		return p.a / seconds
	case syntax.OpBytesRate:
		return p.a / seconds
	case syntax.OpStdvarOverTime:
		return p.b / float64(p.n)
	case syntax.OpStddevOverTime:
		return math.Sqrt(p.b / float64(p.n))
	case syntax.OpAbsentOverTime:
		return 1
	}
	return p.a
}

// cell is the partial of a numbered bucket.
type cell struct {
	bucket int
	partial
}

// cells are the non-empty buckets of a series, ascending.
type cells []cell

// at returns the partial of a bucket, making it if need be; made tells whether
// it did. Buckets mostly come in ascending order.
func (c *cells) at(bucket int) (p *partial, made bool) {
	s := *c
	n := len(s)
	if n > 0 && s[n-1].bucket == bucket {
		return &s[n-1].partial, false
	}
	i := n
	if n > 0 && s[n-1].bucket > bucket {
		var found bool
		i, found = slices.BinarySearchFunc(s, bucket, func(a cell, b int) int { return a.bucket - b })
		if found {
			return &s[i].partial, false
		}
	}
	*c = slices.Insert(s, i, cell{bucket: bucket})
	return &(*c)[i].partial, true
}

// windows folds buckets into the windows of g and appends those that have samples.
func (f fold) windows(g *grid, c cells, s *PartialSeries) {
	lo, hi := 0, 0
	n := g.steps // at most
	if len(c) == 0 || g.whole+1 < int64(n/len(c)) {
		n = len(c) * int(g.whole+1)
	}
	s.Steps, s.Counts = make([]uint32, 0, n), make([]uint64, 0, n)
	var sum partial // of s[lo:hi], for counts
	for k := 0; k < g.steps && lo < len(c); k++ {
		first, last := g.window(k)
		for hi < len(c) && c[hi].bucket <= last {
			sum.n += c[hi].n
			hi++
		}
		for lo < hi && c[lo].bucket < first {
			sum.n -= c[lo].n
			lo++
		}
		if lo == hi {
			// Go on at the first step whose window holds the next bucket.
			if lo < len(c) {
				if next := g.stepOf(c[lo].bucket); next > k+1 {
					k = next - 1
				}
			}
			continue
		}
		w := sum
		if f != foldCount {
			w = partial{}
			for i := lo; i < hi; i++ {
				f.add(&w, c[i].partial)
			}
		}
		s.append(f, uint32(k), w)
	}
}

// stepOf returns the first step whose window holds the bucket.
func (g *grid) stepOf(bucket int) int {
	if g.rest == 0 {
		return max(0, bucket-int(g.whole)+1)
	}
	return max(0, bucket/2-int(g.whole))
}

func (s *PartialSeries) append(f fold, step uint32, p partial) {
	s.Steps = append(s.Steps, step)
	s.Counts = append(s.Counts, p.n)
	if f != foldCount {
		s.Values = append(s.Values, p.a)
	}
	if f == foldVariance {
		s.Extras = append(s.Extras, p.b)
	}
}

// at returns the partial of the i-th step.
func (s *PartialSeries) at(i int) partial {
	p := partial{n: s.Counts[i]}
	if s.Values != nil {
		p.a = s.Values[i]
	}
	if s.Extras != nil {
		p.b = s.Extras[i]
	}
	return p
}

// check returns an error unless the columns fit together and the steps exist:
// what must hold before a series from outside is used.
func (s *PartialSeries) check(f fold, steps int) bool {
	n := len(s.Steps)
	if len(s.Counts) != n || (f != foldCount && len(s.Values) != n) || (f == foldVariance && len(s.Extras) != n) {
		return false
	}
	for i, k := range s.Steps {
		if int(k) >= steps || (i > 0 && s.Steps[i-1] >= k) {
			return false
		}
	}
	return true
}

// merge returns the union of partials of disjoint rows of one series.
func (f fold) merge(a, b *PartialSeries) PartialSeries {
	out := PartialSeries{Labels: a.Labels}
	i, j := 0, 0
	for i < len(a.Steps) || j < len(b.Steps) {
		switch {
		case j == len(b.Steps) || (i < len(a.Steps) && a.Steps[i] < b.Steps[j]):
			out.append(f, a.Steps[i], a.at(i))
			i++
		case i == len(a.Steps) || b.Steps[j] < a.Steps[i]:
			out.append(f, b.Steps[j], b.at(j))
			j++
		default:
			p := a.at(i)
			f.add(&p, b.at(j))
			out.append(f, a.Steps[i], p)
			i++
			j++
		}
	}
	return out
}

// interner numbers label sets.
type interner struct {
	ids  map[string]uint32
	sets []model.Labels
	key  []byte
}

// id returns the number of a set; keep makes of it what may be kept, and is
// called for new sets only.
func (in *interner) id(labels []model.Label, keep func([]model.Label) model.Labels) (id uint32, isNew bool) {
	in.key = pipeline.AppendKey(in.key[:0], labels)
	if id, isNew = in.idOf(in.key); isNew {
		in.sets = append(in.sets, keep(labels))
	}
	return id, isNew
}

// idOf returns the number of a key.
func (in *interner) idOf(key []byte) (id uint32, isNew bool) {
	if id, ok := in.ids[string(key)]; ok {
		return id, false
	}
	if in.ids == nil {
		in.ids = map[string]uint32{}
	}
	id = uint32(len(in.ids))
	in.ids[string(key)] = id
	return id, true
}
