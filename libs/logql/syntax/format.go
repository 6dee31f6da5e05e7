package syntax

import "strings"

// lineWidth is the longest text that Pretty leaves on one line, indentation not counted.
const lineWidth = 100

// Format parses a query and returns it as Pretty prints it.
func Format(query string) (string, error) {
	e, err := ParseExpr(query)
	if err != nil {
		return "", err
	}
	return Pretty(e), nil
}

// Pretty prints for readers: on one line what fits, else split and indented. The
// words are Loki's, so a number may have fewer digits than in the tree: vector()
// has six decimals, bytes behind an unwrap are rounded, a folded NaN is a name.
// Nothing else is lost. Text for another parser comes from String.
func Pretty(e Expr) string {
	var b strings.Builder
	pretty(&b, e, 0)
	return b.String()
}

func oneLine(write func(*printer)) string {
	p := printer{format: true}
	write(&p)
	return p.String()
}

// pretty writes e indented by level.
func pretty(b *strings.Builder, e Expr, level int) {
	indent := strings.Repeat("  ", level)
	if text := oneLine(func(p *printer) { p.expr(e) }); len(text) <= lineWidth || !splits(e) {
		b.WriteString(indent + text)
		return
	}
	switch e := e.(type) {
	case *LogSelector:
		if !e.Bare {
			b.WriteString(indent + oneLine(func(p *printer) { p.matchers(e.Matchers) }))
		}
		for i, s := range e.Stages {
			if i > 0 || !e.Bare {
				b.WriteString("\n")
			}
			b.WriteString(indent + "  " + oneLine(func(p *printer) { p.stage(s) }))
		}
	case *RangeAggregation:
		b.WriteString(indent + string(e.Op) + "(\n")
		if param := oneLine(func(p *printer) { p.rangeParam(e, ",") }); param != "" {
			b.WriteString(indent + "  " + param + "\n")
		}
		prettyRange(b, e.Range, level+1)
		b.WriteString("\n" + indent + ")")
		if e.Grouping != nil {
			b.WriteString(" " + oneLine(func(p *printer) { p.grouping(e.Grouping, ", ") }))
		}
	case *VectorAggregation:
		b.WriteString(indent + string(e.Op))
		if g := e.Grouping; g != nil {
			b.WriteString(" " + oneLine(func(p *printer) { p.grouping(g, ", ") }))
		}
		b.WriteString("(\n")
		if e.Op.hasParam() {
			b.WriteString(indent + "  " + oneLine(func(p *printer) { p.int(e.Param) }) + ",\n")
		}
		pretty(b, e.Inner, level+1)
		b.WriteString("\n" + indent + ")")
	case *BinaryExpr:
		prettyOperand(b, e.LHS, level+1)
		b.WriteString("\n" + indent + strings.TrimRight(oneLine(func(p *printer) { p.binaryOp(e) }), " ") + "\n")
		prettyOperand(b, e.RHS, level+1)
	case *LabelReplace:
		b.WriteString(indent + "label_replace(\n")
		pretty(b, e.Inner, level+1)
		for _, s := range []string{e.Dst, e.Replacement, e.Src, e.Regex} {
			b.WriteString(",\n" + indent + "  " + oneLine(func(p *printer) { p.quote(s) }))
		}
		b.WriteString("\n" + indent + ")")
	case *Function:
		b.WriteString(indent + string(e.Name) + "(\n")
		pretty(b, e.Inner, level+1)
		b.WriteString(oneLine(func(p *printer) { p.params(e.Params) }) + "\n" + indent + ")")
	}
}

// splits reports whether there is anything to split in e.
func splits(e Expr) bool {
	switch e := e.(type) {
	case *LogSelector:
		return len(e.Stages) > 0
	case *Literal, *Vector, *Time:
		return false
	}
	return true
}

// prettyOperand keeps the parentheses of an operation that does not fit on a
// line: without them precedence would change what the text means.
func prettyOperand(b *strings.Builder, e Expr, level int) {
	if _, nested := e.(*BinaryExpr); !nested || len(oneLine(func(p *printer) { p.expr(e) })) <= lineWidth {
		pretty(b, e, level)
		return
	}
	indent := strings.Repeat("  ", level)
	b.WriteString(indent + "(\n")
	pretty(b, e, level+1)
	b.WriteString("\n" + indent + ")")
}

func prettyRange(b *strings.Builder, r Range, level int) {
	pretty(b, r.Selector, level)
	if u := r.Unwrap; u != nil {
		indent := "\n" + strings.Repeat("  ", level+1)
		b.WriteString(indent + oneLine(func(p *printer) { p.unwrapHead(u) }))
		for _, f := range u.Filters {
			b.WriteString(indent + oneLine(func(p *printer) { p.stage(f) }))
		}
	}
	b.WriteString(" [" + formatPromDuration(r.Interval) + "]")
	if r.Offset != 0 {
		b.WriteString(" offset " + formatOffset(r.Offset))
	}
}
