package engine

import (
	"context"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// operate computes a op b. keep is false if a comparison does not hold.
func operate(op syntax.BinaryOp, a, b float64) (value float64, keep bool) {
	switch op {
	case syntax.OpAdd:
		return a + b, true
	case syntax.OpSub:
		return a - b, true
	case syntax.OpMul:
		return a * b, true
	case syntax.OpDiv:
		if b == 0 {
			return math.NaN(), true
		}
		return a / b, true
	case syntax.OpMod:
		if b == 0 {
			return math.NaN(), true
		}
		return math.Mod(a, b), true
	case syntax.OpPow:
		return math.Pow(a, b), true
	case syntax.OpEqual:
		return a, a == b
	case syntax.OpNotEqual:
		return a, a != b
	case syntax.OpGreater:
		return a, a > b
	case syntax.OpGreaterEqual:
		return a, a >= b
	case syntax.OpLess:
		return a, a < b
	case syntax.OpLessEqual:
		return a, a <= b
	}
	panic("no binary operator " + string(op))
}

// combine is operate under the expression's bool modifier. vector is the value
// that a comparison keeps.
func combine(e *syntax.BinaryExpr, a, b, vector float64) (float64, bool) {
	v, keep := operate(e.Op, a, b)
	if !e.Op.IsComparison() {
		return v, true
	}
	if e.ReturnBool {
		if keep {
			return 1, true
		}
		return 0, true
	}
	return vector, keep
}

// binary evaluates both operands and joins them.
func (q *query) binary(ctx context.Context, e *syntax.BinaryExpr) (*vectors, error) {
	if at, ok := q.scalar(e); ok {
		return q.scalarVector(at), nil
	}
	if at, ok := q.scalar(e.LHS); ok {
		in, err := q.eval(ctx, e.RHS, true)
		if err != nil {
			return nil, err
		}
		defer q.mem.Release(in.size())
		return withScalars(in, at, func(v, scalar float64) (float64, bool) { return combine(e, scalar, v, v) }), nil
	}
	if at, ok := q.scalar(e.RHS); ok {
		left, err := q.eval(ctx, e.LHS, true)
		if err != nil {
			return nil, err
		}
		defer q.mem.Release(left.size())
		return withScalars(left, at, func(v, scalar float64) (float64, bool) { return combine(e, v, scalar, v) }), nil
	}
	left, right, err := q.operands(ctx, e)
	if err != nil {
		return nil, err
	}
	defer q.mem.Release(left.size() + right.size())
	left.sortSeries()
	right.sortSeries()
	m := newMatch(e, left.series, right.series)
	if e.Op.IsSet() {
		return m.set(left, right), nil
	}
	return m.join(left, right)
}

// operands evaluates both sides, at once if not too many are under way.
func (q *query) operands(ctx context.Context, e *syntax.BinaryExpr) (left, right *vectors, err error) {
	select {
	case q.legs <- struct{}{}:
	default:
		if left, err = q.eval(ctx, e.LHS, true); err != nil {
			return nil, nil, err
		}
		right, err = q.eval(ctx, e.RHS, true)
		return left, right, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var g Group
	var lerr error
	g.Go(func() {
		defer func() { <-q.legs }()
		if left, lerr = q.eval(ctx, e.LHS, true); lerr != nil {
			cancel(lerr) // of several errors the first counts
		}
	})
	g.Do(func() {
		if right, err = q.eval(ctx, e.RHS, true); err != nil {
			cancel(err)
		}
	})
	if g.Wait(); lerr != nil || err != nil {
		return nil, nil, context.Cause(ctx)
	}
	return left, right, nil
}

func withScalar(in *vectors, f func(float64) (float64, bool)) *vectors {
	out := &vectors{series: in.series}
	for k := range in.ends {
		ids, values := in.at(k)
		for i, id := range ids {
			if v, keep := f(values[i]); keep {
				out.add(id, v)
			}
		}
		out.endStep()
	}
	return out
}

// match says which series of both sides belong together.
type match struct {
	e           *syntax.BinaryExpr
	matching    syntax.Matching
	group       *pipeline.Grouping // of the signature
	left, right []uint32           // signature of each series
	n           int                // signatures
}

func newMatch(e *syntax.BinaryExpr, left, right []model.Labels) *match {
	m := &match{e: e}
	if e.Matching != nil {
		m.matching = *e.Matching
	}
	m.group = groupingOf(&syntax.Grouping{Without: !m.matching.On, Labels: m.matching.Labels})
	all := slices.Concat(left, right)
	of, labels := groups(all, m.group)
	m.left, m.right, m.n = of[:len(left)], of[len(left):], len(labels)
	return m
}

// set computes and, or, unless.
func (m *match) set(left, right *vectors) *vectors {
	out := &vectors{series: slices.Concat(left.series, right.series)}
	shift := uint32(len(left.series))
	seen := make([]int, m.n) // step+1 at which the other side has the signature
	for k := range left.ends {
		lids, lvals := left.at(k)
		rids, rvals := right.at(k)
		if m.e.Op == syntax.OpOr {
			for i, id := range lids {
				seen[m.left[id]] = k + 1
				out.add(id, lvals[i])
			}
			for i, id := range rids {
				if seen[m.right[id]] != k+1 {
					out.add(id+shift, rvals[i])
				}
			}
		} else {
			for _, id := range rids {
				seen[m.right[id]] = k + 1
			}
			for i, id := range lids {
				if (seen[m.left[id]] == k+1) == (m.e.Op == syntax.OpAnd) {
					out.add(id, lvals[i])
				}
			}
		}
		out.endStep()
	}
	if m.e.Op == syntax.OpOr {
		out.unify()
	}
	return out
}

// unify gives series of equal labels one number. At a step there is one sample of
// each at most, or else all are kept.
func (v *vectors) unify() {
	var in interner
	place := make([]uint32, len(v.series))
	for i, l := range v.series {
		place[i], _ = in.id(l, func([]model.Label) model.Labels { return l })
	}
	v.series = in.sets
	for i := range v.ids {
		v.ids[i] = place[v.ids[i]]
	}
	from := 0
	for _, end := range v.ends {
		sortStep(v.ids[from:end], v.values[from:end])
		from = end
	}
}

const manySides = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"

// join computes arithmetic and comparisons between vectors.
func (m *match) join(left, right *vectors) (*vectors, error) {
	many, one, manyOf, oneOf := left, right, m.left, m.right
	swapped := m.matching.Card == syntax.OneToMany
	side := "right"
	if swapped {
		many, one, manyOf, oneOf = right, left, m.right, m.left
		side = "left"
	}
	type sample struct {
		step int // +1
		id   uint32
		v    float64
	}
	ones := make([]sample, m.n)
	matched := make([]int, m.n) // step+1 at which a one-to-one match was made
	var in interner
	results := map[[2]uint32]uint32{} // of a pair of series
	out := &vectors{}
	emitted := map[uint32]int{}
	for k := range many.ends {
		ids, values := one.at(k)
		for i, id := range ids {
			s := oneOf[id]
			if ones[s].step == k+1 {
				return nil, Errorf(ErrUser, "found duplicate series on the %s hand-side;many-to-many matching not allowed: matching labels must be unique on one side", side)
			}
			ones[s] = sample{k + 1, id, values[i]}
		}
		ids, values = many.at(k)
		for i, id := range ids {
			s := manyOf[id]
			o := &ones[s]
			if o.step != k+1 {
				continue
			}
			l, r := values[i], o.v
			if swapped {
				l, r = r, l
			}
			v, keep := combine(m.e, l, r, l)
			if m.matching.Card == syntax.OneToOne {
				if matched[s] == k+1 {
					return nil, Errorf(ErrUser, manySides)
				}
				matched[s] = k + 1
			}
			if !keep {
				continue
			}
			pair := [2]uint32{id, o.id}
			result, ok := results[pair]
			if !ok {
				labels := m.resultLabels(many.series[id], one.series[o.id])
				result, _ = in.id(labels, func([]model.Label) model.Labels { return labels })
				results[pair] = result
			}
			if m.matching.Card != syntax.OneToOne {
				if emitted[result] == k+1 {
					return nil, Errorf(ErrUser, "multiple matches for labels: grouping labels must ensure unique matches")
				}
				emitted[result] = k + 1
			}
			out.add(result, v)
		}
		from := 0
		if k > 0 {
			from = out.ends[k-1]
		}
		sortStep(out.ids[from:], out.values[from:])
		out.endStep()
	}
	out.series = in.sets
	return out, nil
}

// resultLabels are the labels of a joined sample.
func (m *match) resultLabels(many, one model.Labels) model.Labels {
	if m.matching.Card == syntax.OneToOne {
		if m.e.Matching == nil {
			return many
		}
		return groupLabels(nil, many, m.group)
	}
	out := many
	for _, n := range m.matching.Include {
		out = withLabel(out, n, one.Get(n))
	}
	return out
}
