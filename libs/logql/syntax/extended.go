package syntax

import (
	"slices"
	"strings"
)

// What Loki's language does not have. None of its queries means anything else for
// it: the names of stages are words only where Loki allows no label filter, those of
// functions only in front of a parenthesis.

// Distinct is `| distinct a, b`: of entries whose labels have the same values, the
// first. A missing label has the value "".
type Distinct struct {
	Labels []string
	At     Pos
}

// Dedup is `| dedup a, b`: of entries that follow each other and whose labels have
// the same values, the first.
type Dedup struct {
	Labels []string
	At     Pos
}

// Sort is `| sort a desc`: entries by the value of a label.
type Sort struct {
	Label string
	Desc  bool
	At    Pos
}

// Top is `| top 5 a`: an entry for each of the N most frequent values of a label.
type Top struct {
	N     int // positive
	Label string
	At    Pos
}

// Limit is `| limit 5`: the first N entries.
type Limit struct {
	N  int // positive
	At Pos
}

// Sample is `| sample 0.1`: that share of the entries, always the same ones.
type Sample struct {
	Share float64 // 0 < Share <= 1
	At    Pos
}

// Unroll is `| unroll a`: an entry for each element of the JSON array in a label.
type Unroll struct {
	Label string
	At    Pos
}

func (*Distinct) stage() {}
func (*Dedup) stage()    {}
func (*Sort) stage()     {}
func (*Top) stage()      {}
func (*Limit) stage()    {}
func (*Sample) stage()   {}
func (*Unroll) stage()   {}

// Position returns where the stage starts.
func (s *Distinct) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Dedup) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Sort) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Top) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Limit) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Sample) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Unroll) Position() Pos { return s.At }

// String returns the canonical text.
func (s *Distinct) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Dedup) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Sort) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Top) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Limit) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Sample) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Unroll) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// Extended reports whether a stage is one that package pipeline does not run: it is
// about more than one entry, or about which entry it is.
func Extended(s Stage) bool {
	switch s.(type) {
	case *Distinct, *Dedup, *Sort, *Top, *Limit, *Sample, *Unroll:
		return true
	}
	return false
}

// ofEntries reports whether an extended stage looks at one entry at a time.
func ofEntries(s Stage) bool {
	switch s.(type) {
	case *Sample, *Unroll:
		return true
	}
	return false
}

// More range aggregations.
const (
	// OpCountDistinctOverTime is how many values labels have, as in
	// count_distinct_over_time(user, {app="web"} | json [5m]).
	OpCountDistinctOverTime RangeOp = "count_distinct_over_time"
	// OpHistogramOverTime is how many values are at most as large as each bound, as in
	// histogram_over_time(0.1, 1, {app="web"} | json | unwrap took [5m]).
	OpHistogramOverTime RangeOp = "histogram_over_time"
)

// MaxBounds is how many bounds histogram_over_time can have.
const MaxBounds = 100

// FunctionName is a function of vectors, by its name in queries.
type FunctionName string

// Functions of vectors.
const (
	FuncAbs      FunctionName = "abs"
	FuncCeil     FunctionName = "ceil"
	FuncFloor    FunctionName = "floor"
	FuncRound    FunctionName = "round"     // round(v), round(v, to)
	FuncClamp    FunctionName = "clamp"     // clamp(v, min, max)
	FuncClampMin FunctionName = "clamp_min" // clamp_min(v, min)
	FuncClampMax FunctionName = "clamp_max" // clamp_max(v, max)
	FuncExp      FunctionName = "exp"
	FuncLn       FunctionName = "ln"
	FuncSqrt     FunctionName = "sqrt"
)

// params returns how many numbers the function takes behind the vector.
func (f FunctionName) params() (least, most int) {
	switch f {
	case FuncRound:
		return 0, 1
	case FuncClamp:
		return 2, 2
	case FuncClampMin, FuncClampMax:
		return 1, 1
	}
	return 0, 0
}

// Function is a function of each value of a vector. Labels stay.
type Function struct {
	Name   FunctionName
	Inner  Expr      // a metric expression, no scalar
	Params []float64 // finite, as many as the function takes
	At     Pos
}

// Time is time(): the scalar that the evaluation's time is, in seconds.
type Time struct {
	At Pos
}

// Position returns where the node starts.
func (e *Function) Position() Pos { return e.At }

// Position returns where the node starts.
func (e *Time) Position() Pos { return e.At }

// String returns the canonical text.
func (e *Function) String() string { return canonical(func(p *printer) { p.expr(e) }) }

// String returns the canonical text.
func (e *Time) String() string { return "time()" }

// IsScalar reports whether an expression has a number, rather than a vector, at each
// time: *Literal, *Time and their binary operations.
func IsScalar(e Expr) bool {
	switch e := e.(type) {
	case *Literal, *Time:
		return true
	case *BinaryExpr:
		return IsScalar(e.LHS) && IsScalar(e.RHS)
	}
	return false
}

// InCond tests whether the label has one of some values.
type InCond struct {
	Name    string
	Negated bool     // not in
	Values  []string // one at least, if Query is nil
	// Query, if set, has the values: those that the label Name has in its entries.
	Query *LogSelector
}

func (*InCond) condition() {}

// String returns the canonical text.
func (c *InCond) String() string { return canonical(func(p *printer) { p.condition(c) }) }

// Conditions calls f with every condition but logical ones of a condition.
func Conditions(c Condition, f func(Condition)) {
	if l, ok := c.(*LogicalCond); ok {
		Conditions(l.Left, f)
		Conditions(l.Right, f)
		return
	}
	f(c)
}

// subqueries calls f with the subqueries of stages.
func subqueries(stages []Stage, f func(*InCond)) {
	for _, s := range stages {
		if l, ok := s.(*LabelFilter); ok {
			Conditions(l.Cond, func(c Condition) {
				if in, ok := c.(*InCond); ok && in.Query != nil {
					f(in)
				}
			})
		}
	}
}

// Subqueries calls f with every condition of e that has a subquery, those within
// subqueries included.
func Subqueries(e Expr, f func(*InCond)) {
	var within func(*InCond)
	within = func(c *InCond) {
		f(c)
		subqueries(c.Query.Stages, within)
	}
	Walk(e, func(e Expr) bool {
		switch e := e.(type) {
		case *LogSelector:
			subqueries(e.Stages, within)
		case *RangeAggregation:
			if u := e.Range.Unwrap; u != nil {
				for _, l := range u.Filters {
					subqueries([]Stage{l}, within)
				}
			}
		}
		return true
	})
}

// resolveCond returns c with values in place of subqueries.
func resolveCond(c Condition, values func(*InCond) ([]string, error)) (Condition, error) {
	switch c := c.(type) {
	case *LogicalCond:
		l, err := resolveCond(c.Left, values)
		if err != nil {
			return nil, err
		}
		r, err := resolveCond(c.Right, values)
		if err != nil {
			return nil, err
		}
		return &LogicalCond{Or: c.Or, Left: l, Right: r}, nil
	case *InCond:
		if c.Query == nil {
			return c, nil
		}
		vs, err := values(c)
		if err != nil {
			return nil, err
		}
		if len(vs) == 0 {
			vs = []string{""} // which is no value, and in no list
		}
		return &InCond{Name: c.Name, Negated: c.Negated, Values: vs}, nil
	}
	return c, nil
}

// Resolve returns a copy of e in which the subqueries of its stages and filters have
// been replaced by what values returns for them. e is a *LogSelector or a
// *RangeAggregation.
func Resolve(e Expr, values func(*InCond) ([]string, error)) (Expr, error) {
	switch e := e.(type) {
	case *LogSelector:
		out := *e
		out.Stages = slices.Clone(e.Stages)
		for i, s := range out.Stages {
			if l, ok := s.(*LabelFilter); ok {
				c, err := resolveCond(l.Cond, values)
				if err != nil {
					return nil, err
				}
				out.Stages[i] = &LabelFilter{Cond: c, At: l.At}
			}
		}
		return &out, nil
	case *RangeAggregation:
		out := *e
		sel, err := Resolve(e.Range.Selector, values)
		if err != nil {
			return nil, err
		}
		out.Range.Selector = sel.(*LogSelector)
		if u := e.Range.Unwrap; u != nil {
			copied := *u
			copied.Filters = nil
			for _, f := range u.Filters {
				c, err := resolveCond(f.Cond, values)
				if err != nil {
					return nil, err
				}
				copied.Filters = append(copied.Filters, &LabelFilter{Cond: c, At: f.At})
			}
			out.Range.Unwrap = &copied
		}
		return &out, nil
	}
	return e, nil
}

// Limits of what Loki does not have.
const (
	// MaxInValues is how many values a condition lists.
	MaxInValues = 10_000
	// MaxInBytes is how many bytes they have, as printed.
	MaxInBytes = 512 << 10
	// MaxResolvedBytes is how many bytes, as printed, the lists of an expression may have
	// that were put in for subqueries, all together.
	MaxResolvedBytes = 4 << 20
	// maxCount bounds the numbers of limit and top.
	maxCount = 1 << 30
)

// IsPlainName reports whether a label name can stand in a query without quotes.
func IsPlainName(name string) bool {
	if !IsLabelName(name) {
		return false
	}
	_, reserved := keywords[strings.ToLower(name)]
	return !reserved
}
