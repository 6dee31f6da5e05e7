package engine

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// What the first of the stages that the engine runs says of the rows that it needs goes
// down to the sources: it only saves work, the stage sees to it itself.

// pushed fills in what the sources of a scan are told of the stages behind it. counted
// tells that the entries of a top stage are counted elsewhere.
func (s *scanSpec) pushed(stages []syntax.Stage, counted bool) {
	switch first := stages[0].(type) {
	case *syntax.Limit:
		s.limit = first.N
	case *syntax.Distinct:
		s.distinct = first.Labels
	case *syntax.Top:
		if counted {
			s.distinct = []string{first.Label} // the first row of each value is wanted
		}
	}
}

// topCounts returns, for a top stage, the values that it keeps and how many entries have
// them, as an aggregation finds them where the entries are. nil: they are to be counted.
func (q *query) topCounts(ctx context.Context, o *opened, head *syntax.LogSelector, stage syntax.Stage, start, end int64) (map[string]uint64, error) {
	by, ok := stage.(*syntax.Top)
	if !ok || start >= end || isStaged(head) || strings.HasPrefix(by.Label, "__error") {
		return nil, nil
	}
	sel := *head
	if slices.ContainsFunc(sel.Stages, func(s syntax.Stage) bool { _, plain := s.(*syntax.LineFilter); return !plain }) {
		// Entries in error count like others.
		sel.Stages = append(slices.Clone(sel.Stages), &syntax.Drop{Labels: []syntax.LabelRef{{Name: errorLabel}, {Name: errorDetailsLabel}}})
	}
	// All rows are in one window. It may be longer than the range, beyond which no source
	// has rows here.
	interval := (time.Duration(end-start) + time.Second - 1).Truncate(time.Second)
	agg := &syntax.RangeAggregation{Op: syntax.OpCountOverTime, Range: syntax.Range{Selector: &sel, Interval: interval}}
	sum := &syntax.VectorAggregation{Op: syntax.OpSum, Grouping: &syntax.Grouping{Labels: []string{by.Label}}, Inner: agg}
	prog, err := compile(sum)
	if err != nil {
		return nil, err
	}
	fold, ok := foldOf(agg)
	if !ok {
		return nil, nil
	}
	g := newGrid(end-1, end-1, 0, int64(interval))
	series, err := o.aggregate(ctx, sum, prog, fold, &g, 0)
	if err != nil {
		return nil, err
	}
	type count struct {
		value string
		n     uint64
	}
	all := make([]count, 0, len(series))
	for i := range series {
		if value := series[i].Labels.Get(by.Label); value != "" {
			all = append(all, count{value, series[i].Counts[0]})
		}
	}
	slices.SortFunc(all, func(a, b count) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.value, b.value)) })
	counts := map[string]uint64{}
	for _, c := range all[:min(len(all), by.N)] {
		counts[c.value] = c.n
	}
	return counts, nil
}
