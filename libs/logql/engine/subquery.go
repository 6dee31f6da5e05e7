package engine

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// hasSubqueries reports whether stages have conditions with a subquery.
func hasSubqueries(e syntax.Expr) bool {
	found := false
	syntax.Subqueries(e, func(*syntax.InCond) { found = true })
	return found
}

// resolved returns an expression with the values that its subqueries have, over the time
// that the expression itself reads.
func resolved[E syntax.Expr](ctx context.Context, q *query, e E, start, end int64) (E, error) {
	if !hasSubqueries(e) {
		return e, nil
	}
	known := map[string][]string{} // by label and text, as equal ones are mostly several
	total := 0
	out, err := syntax.Resolve(e, func(c *syntax.InCond) ([]string, error) {
		key := strconv.Quote(c.Name) + c.Query.String()
		vs, ok := known[key]
		if !ok {
			var err error
			if vs, err = q.values(ctx, c, start, end); err != nil {
				return nil, err
			}
			known[key] = vs
		}
		for _, v := range vs {
			total += len(strconv.Quote(v)) + 1
		}
		if total > syntax.MaxResolvedBytes {
			return nil, Errorf(ErrLimit, "the subqueries of a query have too many values together (limit: %d bytes); narrow them, such as that of label '%s': %s", syntax.MaxResolvedBytes, c.Name, c.Query)
		}
		return vs, nil
	})
	if err != nil {
		return e, err
	}
	return out.(E), nil
}

// values runs the subquery of a condition.
func (q *query) values(ctx context.Context, c *syntax.InCond, start, end int64) ([]string, error) {
	sel, err := resolved(ctx, q, c.Query, start, end)
	if err != nil {
		return nil, err
	}
	if err := checkStages(sel.Stages); err != nil {
		return nil, err
	}
	o, err := q.open(ctx, sel.Matchers, start, end)
	if err != nil {
		return nil, err
	}
	defer o.close()
	v := &labelValues{q: q, cond: c}
	v.reset()
	if isStaged(sel) {
		for {
			chain, err := newChain(sel.Stages[headEnd(sel.Stages):], q.mem, 0, v)
			if err != nil {
				return nil, err
			}
			failed, err := q.runChain(ctx, o, chain, scanSpec{query: headOf(sel), start: start, end: end})
			if err != nil {
				return nil, err
			}
			if failed < 0 {
				return v.sorted(), nil
			}
			v.reset()
		}
	}
	// As samples, rows need no lines.
	query := &syntax.RangeAggregation{
		Op: syntax.OpCountDistinctOverTime, Labels: []string{c.Name}, Grouping: &syntax.Grouping{},
		Range: syntax.Range{Selector: forSources(sel), Interval: time.Hour},
	}
	spec := scanSpec{query: query, which: single | tangled, start: start, end: end, reset: v.reset}
	if err := o.scan(ctx, spec, v.take); err != nil {
		return nil, err
	}
	return v.sorted(), nil
}

// labelValues is a step that collects the values of a label.
type labelValues struct {
	q     *query
	cond  *syntax.InCond
	all   map[string]struct{}
	known map[setKey]struct{}
	size  int
}

func (v *labelValues) reset() {
	v.all, v.known, v.size = map[string]struct{}{}, map[setKey]struct{}{}, 0
}

func (v *labelValues) take(r *row) error {
	key := setKey{r.feed, r.set}
	if _, ok := v.known[key]; ok {
		return nil
	}
	if len(v.known) < maxChainSets {
		v.known[key] = struct{}{}
	}
	value, _ := r.labels.lookup(v.cond.Name)
	if _, ok := v.all[value]; ok || value == "" {
		return nil
	}
	if err := v.q.mem.Reserve(2*len(value) + 64); err != nil {
		return err
	}
	v.size += len(strconv.Quote(value)) + 1
	if len(v.all) == syntax.MaxInValues || v.size > syntax.MaxInBytes {
		return Errorf(ErrLimit, "the subquery of label '%s' has too many values (limit: %d values, %d bytes); narrow it: %s",
			v.cond.Name, syntax.MaxInValues, syntax.MaxInBytes, v.cond.Query)
	}
	v.all[string([]byte(value))] = struct{}{}
	return nil
}

func (v *labelValues) end() error { return nil }

func (v *labelValues) sorted() []string { return slices.Sorted(maps.Keys(v.all)) }

// withoutSubqueries is resolved without running them, for plans.
func withoutSubqueries[E syntax.Expr](e E) E {
	if !hasSubqueries(e) {
		return e
	}
	out, err := syntax.Resolve(e, func(*syntax.InCond) ([]string, error) { return nil, nil })
	if err != nil {
		return e
	}
	return out.(E)
}

// planned returns what sources would run of an expression with a selector, without its
// subqueries, and notes on what they do not.
func planned(e syntax.Expr, sel *syntax.LogSelector) (_ syntax.Expr, notes []string) {
	syntax.Subqueries(sel, func(c *syntax.InCond) {
		notes = append(notes, "runs the subquery "+c.Query.String()+" before, for the values of "+c.Name)
	})
	if isStaged(sel) {
		for _, s := range sel.Stages[headEnd(sel.Stages):] {
			notes = append(notes, "behind the merge: "+s.String())
		}
		return withoutSubqueries(headOf(sel)), notes
	}
	switch x := e.(type) {
	case *syntax.LogSelector:
		e = withoutSubqueries(x)
	case *syntax.RangeAggregation:
		e = withoutSubqueries(x)
	case *syntax.VectorAggregation: // a sum
		if agg, ok := x.Inner.(*syntax.RangeAggregation); ok {
			sum := *x
			sum.Inner = withoutSubqueries(agg)
			e = &sum
		}
	}
	return e, notes
}

// checkBare refuses a search without a selector that would read more than its budget.
func (q *query) checkBare(matchers []*syntax.Matcher, bytes uint64) error {
	if limit := q.Limits.MaxBareBytes; len(matchers) == 0 && limit > 0 && bytes > uint64(limit) {
		return Errorf(ErrLimit, "a search without a stream selector would read up to %d bytes of lines, and the budget of such searches (max_unselective_query_bytes) is %d; add a selector such as {app=\"…\"} or shorten the time range", bytes, limit)
	}
	return nil
}
