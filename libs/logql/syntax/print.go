package syntax

import (
	"math"
	"strconv"
	"strings"
)

// printer writes a node on one line. Two modes: canonical text (String), which
// parses back to an equal tree, and the text of format_query, which follows
// Loki even where that loses digits.
type printer struct {
	strings.Builder
	format bool
}

func canonical(write func(*printer)) string {
	var p printer
	write(&p)
	return p.String()
}

// String returns the canonical text.
func (e *LogSelector) String() string { return canonical(func(p *printer) { p.expr(e) }) }

// String returns the canonical text.
func (e *RangeAggregation) String() string { return canonical(func(p *printer) { p.expr(e) }) }

// String returns the canonical text.
func (e *VectorAggregation) String() string { return canonical(func(p *printer) { p.expr(e) }) }

// String returns the canonical text.
func (e *BinaryExpr) String() string { return canonical(func(p *printer) { p.expr(e) }) }

// String returns the canonical text.
func (e *Literal) String() string { return canonical(func(p *printer) { p.expr(e) }) }

// String returns the canonical text.
func (e *Vector) String() string { return canonical(func(p *printer) { p.expr(e) }) }

// String returns the canonical text.
func (e *LabelReplace) String() string { return canonical(func(p *printer) { p.expr(e) }) }

// String returns the canonical text.
func (s *LineFilter) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *JSON) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Logfmt) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Regexp) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Pattern) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Unpack) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *LabelFilter) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *LineFormat) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *LabelFormat) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Decolorize) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Drop) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (s *Keep) String() string { return canonical(func(p *printer) { p.stage(s) }) }

// String returns the canonical text.
func (c *LogicalCond) String() string { return canonical(func(p *printer) { p.condition(c) }) }

// String returns the canonical text.
func (c *StringCond) String() string { return canonical(func(p *printer) { p.condition(c) }) }

// String returns the canonical text.
func (c *NumberCond) String() string { return canonical(func(p *printer) { p.condition(c) }) }

// String returns the canonical text.
func (c *DurationCond) String() string { return canonical(func(p *printer) { p.condition(c) }) }

// String returns the canonical text.
func (c *BytesCond) String() string { return canonical(func(p *printer) { p.condition(c) }) }

// String returns the canonical text.
func (c *IPCond) String() string { return canonical(func(p *printer) { p.condition(c) }) }

// String returns the unwrap with its filters: `| unwrap bytes(x) | y=="z"`.
func (u *Unwrap) String() string { return canonical(func(p *printer) { p.unwrap(u) }) }

// String returns the range as it stands between the parentheses of an aggregation.
func (r Range) String() string { return canonical(func(p *printer) { p.rng(r) }) }

// String returns the operator as written in queries.
func (o LineOp) String() string { return lineOpText[o] }

var lineOpText = [...]string{
	LineContains: "|=", LineNotContains: "!=",
	LineRegexp: "|~", LineNotRegexp: "!~",
	LinePattern: "|>", LineNotPattern: "!>",
}

// String returns the operator as written in queries.
func (o CompareOp) String() string { return compareOpText[o] }

var compareOpText = [...]string{
	CompareEqual: "==", CompareNotEqual: "!=",
	CompareGreater: ">", CompareGreaterEqual: ">=",
	CompareLess: "<", CompareLessEqual: "<=",
}

func (p *printer) add(parts ...string) {
	for _, s := range parts {
		p.WriteString(s)
	}
}

func (p *printer) quote(s string) { p.WriteString(strconv.Quote(s)) }

func (p *printer) int(n int) { p.WriteString(strconv.Itoa(n)) }

func (p *printer) expr(e Expr) {
	switch e := e.(type) {
	case *LogSelector:
		if !e.Bare {
			p.matchers(e.Matchers)
		}
		for i, s := range e.Stages {
			if i > 0 || !e.Bare {
				p.WriteByte(' ')
			}
			p.stage(s)
		}
	case *RangeAggregation:
		p.add(string(e.Op), "(")
		p.rangeParam(e, ",")
		p.rng(e.Range)
		p.WriteByte(')')
		if e.Grouping != nil {
			p.WriteByte(' ')
			p.grouping(e.Grouping, ",")
		}
	case *VectorAggregation:
		p.add(string(e.Op))
		if g := e.Grouping; g != nil && (g.Without || len(g.Labels) > 0) {
			p.WriteByte(' ')
			p.grouping(g, ",")
		}
		p.WriteByte('(')
		if e.Op.hasParam() {
			p.int(e.Param)
			p.WriteByte(',')
		}
		p.expr(e.Inner)
		p.WriteByte(')')
	case *BinaryExpr:
		p.WriteByte('(')
		p.expr(e.LHS)
		p.WriteByte(' ')
		p.binaryOp(e)
		p.WriteByte(' ')
		p.expr(e.RHS)
		p.WriteByte(')')
	case *Literal:
		p.literal(e.Value)
	case *Vector:
		v := formatFloat(e.Value)
		if p.format {
			v = strconv.FormatFloat(e.Value, 'f', 6, 64)
		}
		p.add("vector(", v, ")")
	case *LabelReplace:
		p.WriteString("label_replace(")
		p.expr(e.Inner)
		for _, s := range []string{e.Dst, e.Replacement, e.Src, e.Regex} {
			p.WriteByte(',')
			p.quote(s)
		}
		p.WriteByte(')')
	case *Function:
		p.add(string(e.Name), "(")
		p.expr(e.Inner)
		p.params(e.Params)
		p.WriteByte(')')
	case *Time:
		p.WriteString("time()")
	}
}

func (p *printer) matchers(ms []*Matcher) {
	p.WriteByte('{')
	for i, m := range ms {
		if i > 0 {
			p.WriteString(", ")
		}
		p.matcher(m)
	}
	p.WriteByte('}')
}

func (p *printer) matcher(m *Matcher) {
	p.name(m.Name)
	p.WriteString(m.Type.String())
	p.quote(m.Value)
}

// literal writes a number. NaN and the infinities have no notation, so that the
// canonical text is an operation which folds to them.
func (p *printer) literal(v float64) {
	switch {
	case p.format:
		p.WriteString(formatFloat(v))
	case math.IsNaN(v):
		p.WriteString("(0 / 0)")
	case math.IsInf(v, 1):
		p.WriteString("(1e308 * 10)")
	case math.IsInf(v, -1):
		p.WriteString("(-1e308 * 10)")
	default:
		p.WriteString(formatFloat(v))
	}
}

func formatFloat(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// formatPlain avoids exponents as long as that needs few digits.
func formatPlain(v float64) string {
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		return formatFloat(v)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// binaryOp writes the operator with its modifiers. One that matches without
// group_left or group_right ends in a blank, as in Loki.
func (p *printer) binaryOp(e *BinaryExpr) {
	p.WriteString(string(e.Op))
	if e.ReturnBool {
		p.WriteString(" bool")
	}
	m := e.Matching
	if m == nil {
		return
	}
	if m.On {
		p.WriteString(" on (")
	} else {
		p.WriteString(" ignoring (")
	}
	p.names(m.Labels, ",")
	p.WriteString(") ")
	switch m.Card {
	case ManyToOne:
		p.WriteString("group_left")
	case OneToMany:
		p.WriteString("group_right")
	}
	if m.Card != OneToOne {
		p.WriteString(" (")
		p.names(m.Include, ",")
		p.WriteByte(')')
	}
}

func (p *printer) grouping(g *Grouping, sep string) {
	if g.Without {
		p.WriteString("without (")
	} else {
		p.WriteString("by (")
	}
	p.names(g.Labels, sep)
	p.WriteByte(')')
}

func (p *printer) rng(r Range) {
	p.expr(r.Selector)
	if r.Unwrap != nil {
		p.WriteByte(' ')
		p.unwrap(r.Unwrap)
	}
	p.add("[", formatPromDuration(r.Interval), "]")
	if r.Offset != 0 {
		p.add(" offset ", r.Offset.String())
	}
}

func (p *printer) unwrap(u *Unwrap) {
	p.unwrapHead(u)
	for _, f := range u.Filters {
		p.WriteString(" | ")
		p.condition(f.Cond)
	}
}

func (p *printer) unwrapHead(u *Unwrap) {
	p.WriteString("| unwrap ")
	if u.Conversion == ConvertNone {
		p.name(u.Name)
		return
	}
	p.add(string(u.Conversion), "(")
	p.name(u.Name)
	p.WriteByte(')')
}

func (p *printer) stage(s Stage) {
	switch s := s.(type) {
	case *LineFilter:
		p.add(s.Op.String(), " ")
		for i, a := range s.Alternatives {
			if i > 0 {
				p.WriteString(" or ")
			}
			p.lineMatch(a)
		}
	case *JSON:
		p.WriteString("| json")
		p.extractions(s.Extractions)
	case *Logfmt:
		p.WriteString("| logfmt")
		if s.Strict {
			p.WriteString(" --strict")
		}
		if s.KeepEmpty {
			p.WriteString(" --keep-empty")
		}
		p.extractions(s.Extractions)
	case *Regexp:
		p.WriteString("| regexp ")
		p.quote(s.Text)
	case *Pattern:
		p.WriteString("| pattern ")
		p.quote(s.Text)
	case *Unpack:
		p.WriteString("| unpack")
	case *LabelFilter:
		p.WriteString("| ")
		p.condition(s.Cond)
	case *LineFormat:
		p.WriteString("| line_format ")
		p.quote(s.Template)
	case *LabelFormat:
		p.WriteString("| label_format ")
		for i, a := range s.Assigns {
			if i > 0 {
				p.WriteByte(',')
			}
			p.name(a.Name)
			p.WriteByte('=')
			if a.Rename {
				p.WriteString(a.Value)
			} else {
				p.quote(a.Value)
			}
		}
	case *Decolorize:
		p.WriteString("| decolorize")
	case *Drop:
		p.WriteString("| drop ")
		p.labelRefs(s.Labels)
	case *Keep:
		p.WriteString("| keep ")
		p.labelRefs(s.Labels)
	default:
		p.extended(s)
	}
}

func (p *printer) lineMatch(m LineMatch) {
	if m.IP {
		p.WriteString("ip(")
		p.quote(m.Text)
		p.WriteByte(')')
		return
	}
	p.quote(m.Text)
}

func (p *printer) extractions(xs []Extraction) {
	for i, x := range xs {
		if i == 0 {
			p.WriteByte(' ')
		} else {
			p.WriteByte(',')
		}
		p.name(x.Name)
		p.WriteByte('=')
		p.quote(x.Path)
	}
}

func (p *printer) labelRefs(refs []LabelRef) {
	for i, r := range refs {
		if i > 0 {
			p.WriteByte(',')
		}
		if r.Matcher == nil {
			p.name(r.Name)
		} else {
			p.matcher(r.Matcher)
		}
	}
}

func (p *printer) condition(c Condition) {
	switch c := c.(type) {
	case *LogicalCond:
		sep := " , "
		if c.Or {
			sep = " or "
		}
		p.WriteString("( ")
		p.condition(c.Left)
		p.WriteString(sep)
		p.condition(c.Right)
		p.WriteString(" )")
	case *StringCond:
		if p.format && (c.Type == Re || c.Type == Nre) && !simplifies(c.Value) && !strings.Contains(c.Value, "`") {
			p.name(c.Name)
			p.add(c.Type.String(), "`", c.Value, "`")
			return
		}
		p.matcher(c.Matcher)
	case *NumberCond:
		p.name(c.Name)
		p.add(c.Op.String(), formatPlain(c.Value))
	case *DurationCond:
		p.name(c.Name)
		p.add(c.Op.String(), c.Value.String())
	case *BytesCond:
		p.name(c.Name)
		p.add(c.Op.String(), p.bytes(c.Value))
	case *IPCond:
		op := "="
		if c.Negated {
			op = "!="
		}
		p.name(c.Name)
		p.add(op, "ip(")
		p.quote(c.Pattern)
		p.WriteByte(')')
	case *InCond:
		p.in(c)
	}
}

func (p *printer) bytes(v uint64) string {
	text, rounded := roundBytes(v)
	if p.format || rounded == v && v < 1e18 { // EB is no unit of the language
		return text
	}
	return strconv.FormatUint(v, 10) + "B"
}
