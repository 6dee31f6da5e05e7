package syntax

func (*LogSelector) expr()       {}
func (*RangeAggregation) expr()  {}
func (*VectorAggregation) expr() {}
func (*BinaryExpr) expr()        {}
func (*Literal) expr()           {}
func (*Vector) expr()            {}
func (*LabelReplace) expr()      {}

func (*Function) expr() {}
func (*Time) expr()     {}

func (*LineFilter) stage()  {}
func (*JSON) stage()        {}
func (*Logfmt) stage()      {}
func (*Regexp) stage()      {}
func (*Pattern) stage()     {}
func (*Unpack) stage()      {}
func (*LabelFilter) stage() {}
func (*LineFormat) stage()  {}
func (*LabelFormat) stage() {}
func (*Decolorize) stage()  {}
func (*Drop) stage()        {}
func (*Keep) stage()        {}

func (*LogicalCond) condition()  {}
func (*StringCond) condition()   {}
func (*NumberCond) condition()   {}
func (*DurationCond) condition() {}
func (*BytesCond) condition()    {}
func (*IPCond) condition()       {}

// Position returns where the node starts.
func (e *LogSelector) Position() Pos { return e.At }

// Position returns where the node starts.
func (e *RangeAggregation) Position() Pos { return e.At }

// Position returns where the node starts.
func (e *VectorAggregation) Position() Pos { return e.At }

// Position returns where the operator stands.
func (e *BinaryExpr) Position() Pos { return e.At }

// Position returns where the node starts.
func (e *Literal) Position() Pos { return e.At }

// Position returns where the node starts.
func (e *Vector) Position() Pos { return e.At }

// Position returns where the node starts.
func (e *LabelReplace) Position() Pos { return e.At }

// Position returns where the stage starts.
func (s *LineFilter) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *JSON) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Logfmt) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Regexp) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Pattern) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Unpack) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *LabelFilter) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *LineFormat) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *LabelFormat) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Decolorize) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Drop) Position() Pos { return s.At }

// Position returns where the stage starts.
func (s *Keep) Position() Pos { return s.At }

// IsMetric reports whether the expression yields samples rather than log entries.
func IsMetric(e Expr) bool {
	_, log := e.(*LogSelector)
	return !log
}

// Walk calls f for e and, depth first from left to right, for every expression
// below it, the selectors of ranges included. It stops descending where f
// returns false.
func Walk(e Expr, f func(Expr) bool) {
	if !f(e) {
		return
	}
	switch e := e.(type) {
	case *RangeAggregation:
		Walk(e.Range.Selector, f)
	case *VectorAggregation:
		Walk(e.Inner, f)
	case *BinaryExpr:
		Walk(e.LHS, f)
		Walk(e.RHS, f)
	case *LabelReplace:
		Walk(e.Inner, f)
	case *Function:
		Walk(e.Inner, f)
	}
}

// Selectors returns every log selector in e, from left to right.
func Selectors(e Expr) []*LogSelector {
	var out []*LogSelector
	Walk(e, func(e Expr) bool {
		if s, ok := e.(*LogSelector); ok {
			out = append(out, s)
		}
		return true
	})
	return out
}
