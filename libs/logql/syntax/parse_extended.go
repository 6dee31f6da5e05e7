package syntax

import (
	"strconv"
	"strings"
)

// labelName parses the name of a label: a word, or any text in quotes.
func (p *parser) labelName(legal ...string) string {
	if p.tok.kind != tString {
		return p.expect(tIdent, legal...).text
	}
	if p.tok.text == "" {
		panic(&ParseError{Pos: p.tok.pos, Msg: "a label name cannot be empty"})
	}
	return p.advance().text
}

// newName parses the name of a label that json, logfmt or label_format makes. Quotes are
// for names that need them, as Loki refuses the others there.
func (p *parser) newName() string {
	if p.quotedName() {
		return p.advance().text
	}
	return p.expect(tIdent, "IDENTIFIER").text
}

func (p *parser) quotedName() bool {
	return p.tok.kind == tString && p.tok.text != "" && !IsPlainName(p.tok.text)
}

// named reports whether the look-ahead is the name of a label.
func (p *parser) named() bool { return p.tok.kind == tIdent || p.tok.kind == tString }

// word reports whether the look-ahead is a name that reads so.
func (p *parser) word(text string) bool {
	return p.tok.kind == tIdent && strings.EqualFold(p.tok.text, text)
}

// extendedStage parses a stage that Loki does not have, or returns nil. Its word is a
// label's name if an operator follows, or `in`.
func (p *parser) extendedStage(at Pos) Stage {
	if p.tok.kind != tIdent {
		return nil
	}
	word := strings.ToLower(p.tok.text)
	switch word {
	case "distinct", "dedup", "sort", "top", "limit", "sample", "unroll":
	default:
		return nil
	}
	lex, tok := p.lex, p.tok
	p.advance()
	_, operator := compareOps[p.tok.kind]
	if operator || p.tok.kind == tRe || p.tok.kind == tNre || p.atIn() {
		p.lex, p.tok = lex, tok
		return nil
	}
	switch word {
	case "distinct":
		return &Distinct{Labels: p.stageLabels(), At: at}
	case "dedup":
		return &Dedup{Labels: p.stageLabels(), At: at}
	case "sort":
		s := &Sort{Label: p.labelName("IDENTIFIER", "STRING"), At: at}
		switch {
		case p.word("desc"):
			s.Desc = true
			p.advance()
		case p.word("asc"):
			p.advance()
		}
		return s
	case "top":
		n := p.count("top")
		return &Top{N: n, Label: p.labelName("IDENTIFIER", "STRING"), At: at}
	case "limit":
		return &Limit{N: p.count("limit"), At: at}
	case "sample":
		text := p.expect(tNumber, "NUMBER").text
		v := p.float(text)
		if !(v > 0 && v <= 1) {
			p.fail("invalid share of sample (must be greater than 0 and at most 1): %s", text)
		}
		return &Sample{Share: v, At: at}
	default:
		return &Unroll{Label: p.labelName("IDENTIFIER", "STRING"), At: at}
	}
}

// stageLabels parses a, b; there is one at least.
func (p *parser) stageLabels() []string {
	var names []string
	for {
		names = append(names, p.labelName("IDENTIFIER", "STRING"))
		if !p.accept(tComma) {
			return names
		}
	}
}

func (p *parser) count(stage string) int {
	text := p.expect(tNumber, "NUMBER").text
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxCount {
		p.fail("invalid number of %s (must be a whole number from 1 to %d): %s", stage, maxCount, text)
	}
	return n
}

// atIn reports whether the look-ahead is `in (` or `not in`.
func (p *parser) atIn() bool {
	lex := p.lex
	next := lex.next()
	switch {
	case p.word("in"):
		return next.kind == tOpenParen
	case p.word("not"):
		return next.kind == tIdent && strings.EqualFold(next.text, "in")
	}
	return false
}

// in parses what follows the name in `a in ("b", "c")` and `a not in ({d="e"} | json)`.
func (p *parser) in(name string) Condition {
	c := &InCond{Name: name}
	if p.word("not") {
		c.Negated = true
		p.advance()
	}
	p.advance()
	p.expect(tOpenParen, "(")
	if p.tok.kind == tOpenBrace {
		p.enter()
		defer p.leave()
		c.Query = p.selector()
		c.Query.Stages, _ = p.pipeline(false)
		p.expect(tCloseParen, ")", "|")
		return c
	}
	size := 0
	for {
		text := p.expect(tString, "STRING", "{").text
		c.Values = append(c.Values, text)
		size += len(strconv.Quote(text)) + 1
		if len(c.Values) > MaxInValues || size > MaxInBytes {
			p.fail("too many values for label '%s' (limit: %d values, %d bytes)", name, MaxInValues, MaxInBytes)
		}
		if !p.accept(tComma) {
			p.expect(tCloseParen, ")", ",")
			return c
		}
	}
}

// bare parses a search without a selector: its stages.
func (p *parser) bare(unwrap bool) (*LogSelector, *Unwrap) {
	s := &LogSelector{Bare: true, At: p.tok.pos}
	var u *Unwrap
	s.Stages, u = p.pipeline(unwrap)
	if len(s.Stages) == 0 {
		p.fail("a search without a selector needs a filter")
	}
	return s, u
}

// beginsStage reports whether the look-ahead begins a stage.
func (p *parser) beginsStage() bool {
	switch p.tok.kind {
	case tPipeEq, tNeq, tPipeRe, tNre, tPipePat, tNotPat, tPipe:
		return true
	}
	return false
}

// rangeParams parses the labels or bounds in front of a range's selector, and returns
// the number of the one that Loki knows, as text.
func (p *parser) rangeParams(e *RangeAggregation) (param string, legal []string) {
	legal = []string{"NUMBER", "{", "("}
	if e.Op == OpCountDistinctOverTime {
		for p.named() {
			e.Labels = append(e.Labels, p.labelName())
			p.expect(tComma, ",")
		}
		if len(e.Labels) == 0 && p.tok.kind != tEOF {
			p.fail("parameter required for operation %s: the label whose values are counted", e.Op)
		}
		return "", []string{"IDENTIFIER", "{", "("}
	}
	if e.Op == OpHistogramOverTime {
		for p.tok.kind == tNumber || p.tok.kind == tSub || p.tok.kind == tAdd {
			v := p.signed()
			if n := len(e.Bounds); n > 0 && e.Bounds[n-1] >= v {
				p.fail("the bounds of %s must ascend", e.Op)
			}
			e.Bounds = append(e.Bounds, v)
			if len(e.Bounds) > MaxBounds {
				p.fail("too many bounds of %s (limit: %d)", e.Op, MaxBounds)
			}
			p.expect(tComma, ",")
		}
		if len(e.Bounds) == 0 && p.tok.kind != tEOF {
			p.fail("parameter required for operation %s: the upper bounds of its buckets", e.Op)
		}
		return "", legal
	}
	if p.tok.kind == tNumber {
		param = p.advance().text
		p.expect(tComma, ",")
		legal = legal[1:]
	}
	return param, legal
}

// signed parses a number with or without a sign.
func (p *parser) signed() float64 {
	negative := p.tok.kind == tSub
	if negative || p.tok.kind == tAdd {
		p.advance()
	}
	v := p.float(p.expect(tNumber, "NUMBER").text)
	if negative {
		v = -v
	}
	return v
}

func (p *parser) function() Expr {
	t := p.advance()
	e := &Function{Name: FunctionName(t.text), At: t.pos}
	p.expect(tOpenParen, "(")
	e.Inner = p.metric()
	if IsScalar(e.Inner) {
		p.fail("%s needs a vector, not a number: %s", e.Name, e.Inner)
	}
	for p.accept(tComma) {
		e.Params = append(e.Params, p.signed())
	}
	p.expect(tCloseParen, ")", ",")
	if least, most := e.Name.params(); len(e.Params) < least || len(e.Params) > most {
		p.fail("wrong number of arguments of %s: %d", e.Name, len(e.Params)+1)
	}
	if e.Name == FuncRound && len(e.Params) == 1 && e.Params[0] == 0 {
		p.fail("round cannot round to multiples of 0")
	}
	return e
}

// checkExtended refuses stages that make no sense where a metric is computed.
func (p *parser) checkExtended(e *RangeAggregation) {
	for _, s := range e.Range.Selector.Stages {
		if Extended(s) && !ofEntries(s) {
			name, _, _ := strings.Cut(strings.TrimPrefix(s.String(), "| "), " ")
			hint := ""
			if name == "distinct" || name == "dedup" {
				hint = "; count_distinct_over_time counts values"
			}
			p.fail("%s is a stage of log queries and has no meaning in %s%s", name, e.Op, hint)
		}
	}
}

// stage of the printer, for what Loki does not have.
func (p *printer) extended(s Stage) {
	switch s := s.(type) {
	case *Distinct:
		p.WriteString("| distinct ")
		p.names(s.Labels, ",")
	case *Dedup:
		p.WriteString("| dedup ")
		p.names(s.Labels, ",")
	case *Sort:
		p.WriteString("| sort ")
		p.name(s.Label)
		if s.Desc {
			p.WriteString(" desc")
		}
	case *Top:
		p.WriteString("| top ")
		p.int(s.N)
		p.WriteByte(' ')
		p.name(s.Label)
	case *Limit:
		p.WriteString("| limit ")
		p.int(s.N)
	case *Sample:
		p.add("| sample ", formatFloat(s.Share))
	case *Unroll:
		p.WriteString("| unroll ")
		p.name(s.Label)
	}
}

// name writes the name of a label.
func (p *printer) name(name string) {
	if IsPlainName(name) {
		p.WriteString(name)
	} else {
		p.quote(name)
	}
}

func (p *printer) names(names []string, sep string) {
	for i, n := range names {
		if i > 0 {
			p.WriteString(sep)
		}
		p.name(n)
	}
}

func (p *printer) in(c *InCond) {
	p.name(c.Name)
	if c.Negated {
		p.WriteString(" not")
	}
	p.WriteString(" in (")
	if c.Query != nil {
		p.expr(c.Query)
	}
	for i, v := range c.Values {
		if i > 0 {
			p.WriteByte(',')
		}
		p.quote(v)
	}
	p.WriteByte(')')
}

// rangeParam writes what stands in front of a range.
func (p *printer) rangeParam(e *RangeAggregation, sep string) {
	if e.Op == OpQuantileOverTime {
		p.add(formatFloat(e.Param), sep)
	}
	for _, n := range e.Labels {
		p.name(n)
		p.WriteString(sep)
	}
	for _, v := range e.Bounds {
		p.add(formatFloat(v), sep)
	}
}

func (p *printer) params(params []float64) {
	for _, v := range params {
		p.add(",", formatFloat(v))
	}
}
