package engine_test

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

func (t *twin) binary(e *syntax.BinaryExpr, at int64) (vector, error) {
	_, ll := e.LHS.(*syntax.Literal)
	_, rl := e.RHS.(*syntax.Literal)
	left, err := t.eval(e.LHS, at)
	right, err2 := t.eval(e.RHS, at)
	if err = errors.Join(err, err2); err != nil {
		return nil, err
	}
	m := e.Matching
	if m == nil {
		m = &syntax.Matching{}
	}
	sig := func(x element) string {
		return grouped(x.labels, &syntax.Grouping{Without: !m.On, Labels: m.Labels}).String()
	}
	out := vector{}
	if ll || rl {
		in, lit := left, right["{}"].v
		if ll {
			in, lit = right, left["{}"].v
		}
		for _, x := range in.sorted() {
			a, b := x.v, lit
			if ll {
				a, b = b, a
			}
			v, ok := arith(e.Op, a, b)
			switch {
			case e.Op.IsComparison() && e.ReturnBool:
				v = 0
				if ok {
					v = 1
				}
			case !ok:
				continue
			case e.Op.IsComparison():
				v = x.v
			}
			out.put(x.labels, v)
		}
		return out, nil
	}
	sigs := func(v vector) map[string]bool {
		s := map[string]bool{}
		for _, x := range v {
			s[sig(x)] = true
		}
		return s
	}
	if e.Op.IsSet() {
		ls, rs := sigs(left), sigs(right)
		for _, x := range left.sorted() {
			if e.Op == syntax.OpOr || rs[sig(x)] == (e.Op == syntax.OpAnd) {
				out.put(x.labels, x.v)
			}
		}
		for _, x := range right.sorted() {
			if e.Op == syntax.OpOr && !ls[sig(x)] {
				if !out.put(x.labels, x.v) {
					return nil, errAmbiguous
				}
			}
		}
		return out, nil
	}
	many, one := left, right
	if m.Card == syntax.OneToMany {
		many, one = right, left
	}
	ones := map[string]element{}
	for _, x := range one.sorted() {
		if _, dup := ones[sig(x)]; dup {
			return nil, errTwin
		}
		ones[sig(x)] = x
	}
	used := map[string]bool{}
	for _, x := range many.sorted() {
		o, ok := ones[sig(x)]
		if !ok {
			continue
		}
		if m.Card == syntax.OneToOne && used[sig(x)] {
			return nil, errTwin
		}
		used[sig(x)] = true
		a, b := x.v, o.v
		if m.Card == syntax.OneToMany {
			a, b = b, a
		}
		v, keep := arith(e.Op, a, b)
		if e.Op.IsComparison() {
			v = a
			if e.ReturnBool {
				v = 0
				if keep {
					v = 1
				}
				keep = true
			}
		}
		if !keep {
			continue
		}
		ls := x.labels
		if m.Card != syntax.OneToOne {
			mm := map[string]string{}
			for _, l := range ls {
				mm[l.Name] = l.Value
			}
			for _, n := range m.Include {
				delete(mm, n)
				if w := o.labels.Get(n); w != "" {
					mm[n] = w
				}
			}
			ls = nil
			for k, w := range mm {
				ls = append(ls, model.Label{Name: k, Value: w})
			}
			slices.SortFunc(ls, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
		} else if e.Matching != nil {
			ls = grouped(ls, &syntax.Grouping{Without: !m.On, Labels: m.Labels})
		}
		if !out.put(ls, v) {
			return nil, errTwin
		}
	}
	return out, nil
}

func arith(op syntax.BinaryOp, a, b float64) (float64, bool) {
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
	default:
		return a, a <= b
	}
}
