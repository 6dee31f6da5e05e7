package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// PlanNode is one operator of a plan.
type PlanNode struct {
	Operator   string // what it does
	Expression string // the part of the query that it carries out
	Notes      []string
	Inputs     []*PlanNode
}

// Plan is how a query would be run, and what it would read at most.
type Plan struct {
	Root                    *PlanNode
	Streams, Entries, Bytes uint64
	Sources                 int
	Warnings                []string
}

// Explain plans a range query without running it.
func (e *Engine) Explain(ctx context.Context, in RangeQuery) (*Plan, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	q := &query{Query: in.Query, engine: e, mem: NewMemory(in.Limits.MaxMemory), live: &live{}}
	q.start, q.end = in.Start, in.End
	if syntax.IsMetric(in.Expr) {
		q.start, q.end, q.step = alignSteps(in.Start, in.End, int64(in.Step))
		if err := q.prepare(in.Expr); err != nil {
			return nil, err
		}
	}
	p := &Plan{Sources: len(in.Sources)}
	var err error
	p.Root, err = q.plan(WithExcluded(WithMemory(ctx, q.mem), in.Excluded), in.Expr, p)
	if refused := q.mem.Err(); refused != nil {
		err = refused
	}
	p.Warnings = q.warnings
	return p, err
}

func (q *query) plan(ctx context.Context, e syntax.Expr, p *Plan) (*PlanNode, error) {
	n := &PlanNode{Expression: e.String()}
	input := func(e syntax.Expr) error {
		in, err := q.plan(ctx, e, p)
		n.Inputs = append(n.Inputs, in)
		return err
	}
	switch e := e.(type) {
	case *syntax.LogSelector:
		n.Operator = "merge"
		n.Notes = []string{"by time, stops at the limit"}
		if parts := logParts(q.start, q.end, int64(q.Split), true); len(parts) > 1 && q.splits(e) && headEnd(e.Stages) == len(e.Stages) {
			n.Notes = append(n.Notes, splitText(len(parts), q.Split)+", one after the other, as far as it takes")
		}
		scan, err := q.planScan(ctx, e, e, q.start, q.end, p)
		n.Inputs = append(n.Inputs, scan)
		return n, err
	case *syntax.RangeAggregation:
		n.Operator = "range aggregation"
		return n, q.planRange(ctx, e, e, n, p)
	case *syntax.VectorAggregation:
		n.Operator = "vector aggregation"
		if agg, ok := pushesDown(e); ok {
			n.Notes = append(n.Notes, "pushed down to the sources")
			return n, q.planRange(ctx, e, agg, n, p)
		}
		return n, input(e.Inner)
	case *syntax.LabelReplace:
		n.Operator = "label replace"
		return n, input(e.Inner)
	case *syntax.Function:
		n.Operator = "function"
		return n, input(e.Inner)
	case *syntax.BinaryExpr:
		n.Operator = "binary operation"
		if err := input(e.LHS); err != nil {
			return n, err
		}
		return n, input(e.RHS)
	default:
		n.Operator = "constant"
		return n, nil
	}
}

func (q *query) planRange(ctx context.Context, e syntax.Expr, agg *syntax.RangeAggregation, n *PlanNode, p *Plan) error {
	g := newGrid(q.start-int64(agg.Range.Offset), q.end-int64(agg.Range.Offset), q.gridStep(), int64(agg.Range.Interval))
	n.Notes = append(n.Notes, fmt.Sprintf("%d windows of %s", g.steps, agg.Range.Interval))
	if parts := gridParts(q.start, &g, int64(q.Split)); len(parts) > 1 && q.splits(agg.Range.Selector) {
		long := max(parts[0].to, parts[1].to-parts[1].from) // one of both is whole, if there are others
		n.Notes = append(n.Notes, splitText(len(parts), time.Duration(int64(long)*g.step))+", some at once")
	}
	if _, ok := foldOf(agg); ok {
		n.Notes = append(n.Notes, "sources send partial aggregates")
	} else {
		n.Notes = append(n.Notes, "sources send samples")
	}
	scan, err := q.planScan(ctx, e, agg.Range.Selector, g.from(), g.to(), p)
	n.Inputs = append(n.Inputs, scan)
	return err
}

func (q *query) planScan(ctx context.Context, e syntax.Expr, sel *syntax.LogSelector, start, end int64, p *Plan) (*PlanNode, error) {
	e, notes := planned(e, sel)
	plan, err := newPlan(e)
	if err != nil {
		return nil, err
	}
	prog := plan.prog
	o, err := q.open(ctx, sel.Matchers, start, end)
	if err != nil {
		return nil, err
	}
	defer o.close()
	o.planStreams(start, end)
	if err := q.mem.Err(); err != nil {
		return nil, err
	}
	n := &PlanNode{Operator: "scan", Expression: sel.String(), Notes: notes}
	var entries, bytes uint64
	runs, several := 0, 0
	for i := range o.union {
		u := &o.union[i]
		entries += u.rows
		bytes += u.bytes
		runs += u.runs
		for j := range u.pieces {
			if len(u.pieces[j].classes) > 1 {
				several++
			}
		}
	}
	p.Streams += uint64(len(o.union))
	p.Entries += entries
	p.Bytes += bytes
	n.Notes = append(n.Notes, fmt.Sprintf("%d streams, %d runs, %d entries, %d bytes of lines", len(o.union), runs, entries, bytes))
	if several > 0 {
		n.Notes = append(n.Notes, fmt.Sprintf("%d intervals are united entry by entry, as sources differ there", several))
	}
	switch {
	case !plan.lines && len(plan.filters) == 0:
		n.Notes = append(n.Notes, "reads no lines")
	case len(plan.filters) > 0:
		n.Notes = append(n.Notes, "line filters are left to the stores that can apply them")
	}
	for _, m := range plan.metadata {
		n.Notes = append(n.Notes, fmt.Sprintf("metadata has %s=%q", m.Name, m.Value))
	}
	skips, err := o.skips(ctx, plan)
	if err != nil {
		return nil, err
	}
	n.Notes = append(n.Notes, skips...)
	if needles := prog.matcher.Needles(); len(needles) > 0 {
		var all []string
		for _, any := range needles {
			quoted := make([]string, len(any))
			for i, s := range any {
				quoted[i] = fmt.Sprintf("%q", s)
			}
			all = append(all, strings.Join(quoted, " or "))
		}
		n.Notes = append(n.Notes, "lines contain "+strings.Join(all, " and "))
	}
	if prog.metric() && prog.group != nil && !prog.group.Without {
		n.Notes = append(n.Notes, "labels needed: "+strings.Join(prog.group.Names, ", "))
	}
	return n, nil
}
