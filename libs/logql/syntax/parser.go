package syntax

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits of a query.
const (
	// MaxQuerySize is the size in bytes that a query must stay below.
	MaxQuerySize = 128 << 10
	// MaxMatchers is the number of stream matchers in a query.
	MaxMatchers = 1000
	// MaxStages is the number of stages of one pipeline.
	MaxStages = 1000
	// MaxDepth bounds how deep expressions and label filters nest.
	MaxDepth = 900

	// maxCanonicalSize bounds canonical text, which escapes and parentheses
	// make longer than the query it came from.
	maxCanonicalSize = 8*MaxQuerySize + MaxResolvedBytes
	// maxRecursion bounds the parser's own nesting. A tree of depth n prints
	// with at most two levels per node, so that every tree can be read back.
	maxRecursion = 2*MaxDepth + 100
)

// ParseExpr parses a query of any kind and checks it. The error is a *ParseError.
func ParseExpr(text string) (Expr, error) {
	return parse(text, MaxQuerySize)
}

// ParseCanonical is ParseExpr for text that String produced, which may be longer
// than what users may send.
func ParseCanonical(text string) (Expr, error) {
	return parse(text, maxCanonicalSize)
}

// ParseLogQuery is ParseExpr for queries that must yield log entries and have a selector.
func ParseLogQuery(text string) (*LogSelector, error) {
	e, err := ParseExpr(text)
	if err != nil {
		return nil, err
	}
	s, ok := e.(*LogSelector)
	if !ok {
		return nil, &ParseError{Msg: "only log selector is supported"}
	}
	if s.Bare {
		return nil, CheckMatchers(nil)
	}
	return s, nil
}

// ParseSelector parses the bare selector of a metadata request. Unlike in
// queries `{}` and matchers that all match "" are legal; see CheckMatchers. The
// error is ErrNotSelector for other queries, else a *ParseError.
func ParseSelector(text string) ([]*Matcher, error) {
	e, err := parseUnchecked(text, MaxQuerySize)
	if err != nil {
		return nil, err
	}
	s, ok := e.(*LogSelector)
	if !ok || len(s.Stages) > 0 {
		return nil, ErrNotSelector
	}
	return s.Matchers, nil
}

// CheckMatchers returns a *ParseError unless one of the matchers rejects "", so
// that the selector does not mean all streams.
func CheckMatchers(ms []*Matcher) error {
	for _, m := range ms {
		if !m.Matches("") {
			return nil
		}
	}
	return &ParseError{Msg: `queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~".*" does not meet this requirement, but app=~".+" will`}
}

func parse(text string, limit int) (Expr, error) {
	e, err := parseUnchecked(text, limit)
	if err != nil {
		return nil, err
	}
	check := func(s *LogSelector) {
		if err == nil && !s.Bare {
			err = CheckMatchers(s.Matchers)
		}
	}
	for _, s := range Selectors(e) {
		check(s)
	}
	Subqueries(e, func(c *InCond) { check(c.Query) })
	if err != nil {
		return nil, err
	}
	return e, nil
}

func parseUnchecked(text string, limit int) (e Expr, err error) {
	if len(text) >= limit {
		return nil, &ParseError{Msg: fmt.Sprintf("input size too long (%d > %d)", len(text), limit)}
	}
	p := &parser{lex: newLexer(text)}
	defer func() {
		if r := recover(); r != nil {
			failure, ok := r.(*ParseError)
			if !ok {
				panic(r)
			}
			e, err = nil, failure
		}
	}()
	p.tok = p.lex.next()
	if p.tok.kind == tEOF && text == "" {
		p.tok.pos = Pos{}
	}
	e = p.expr(0)
	if p.tok.kind != tEOF {
		p.unexpected()
	}
	if depth(e) > MaxDepth {
		p.fail("query is nested too deeply (limit: %d)", MaxDepth)
	}
	return e, nil
}

// parser is a recursive-descent parser with one token of look-ahead. It gives up
// at the first error by panicking with a *ParseError.
type parser struct {
	lex      lexer
	tok      token // look-ahead
	nesting  int
	matchers int
	// regexSize sums up what the regexes so far compile to.
	regexSize int
}

// advance consumes the look-ahead and returns it.
func (p *parser) advance() token {
	t := p.tok
	p.tok = p.lex.next()
	return t
}

// accept consumes the look-ahead if it is a k.
func (p *parser) accept(k kind) bool {
	if p.tok.kind != k {
		return false
	}
	p.advance()
	return true
}

// expect consumes a k; others are what else would be legal here, for the error.
func (p *parser) expect(k kind, legal ...string) token {
	if p.tok.kind != k {
		p.unexpected(legal...)
	}
	return p.advance()
}

// unexpected fails at the look-ahead. Loki names what would be legal if that is
// no more than four tokens.
func (p *parser) unexpected(legal ...string) {
	if p.tok.kind == tError {
		panic(&ParseError{Pos: p.tok.pos, Msg: p.tok.text})
	}
	msg := "syntax error: unexpected " + p.tok.name()
	if len(legal) > 0 {
		msg += ", expecting " + strings.Join(legal, " or ")
	}
	panic(&ParseError{Pos: p.tok.pos, Msg: msg})
}

// fail reports what is wrong with the meaning, which has no place.
func (p *parser) fail(format string, args ...any) {
	panic(&ParseError{Msg: fmt.Sprintf(format, args...)})
}

func (p *parser) enter() {
	p.nesting++
	if p.nesting > maxRecursion {
		panic(&ParseError{Pos: p.tok.pos, Msg: fmt.Sprintf("query is nested too deeply (limit: %d)", MaxDepth)})
	}
}

func (p *parser) leave() { p.nesting-- }

// Precedences, low to high.
const (
	precOr = iota + 1
	precAnd
	precCompare
	precAdd
	precMul
	precPow
)

var binaryOps = map[kind]struct {
	op   BinaryOp
	prec int
}{
	tOr: {OpOr, precOr}, tAnd: {OpAnd, precAnd}, tUnless: {OpUnless, precAnd},
	tCmpEq: {OpEqual, precCompare}, tNeq: {OpNotEqual, precCompare},
	tGt: {OpGreater, precCompare}, tGte: {OpGreaterEqual, precCompare},
	tLt: {OpLess, precCompare}, tLte: {OpLessEqual, precCompare},
	tAdd: {OpAdd, precAdd}, tSub: {OpSub, precAdd},
	tMul: {OpMul, precMul}, tDiv: {OpDiv, precMul}, tMod: {OpMod, precMul},
	tPow: {OpPow, precPow},
}

// expr parses operators of at least the given precedence.
func (p *parser) expr(least int) Expr {
	left := p.operand()
	for {
		b, ok := binaryOps[p.tok.kind]
		if !ok || b.prec < least {
			return left
		}
		e := &BinaryExpr{Op: b.op, LHS: left, At: p.advance().pos}
		e.ReturnBool = p.accept(tBool)
		e.Matching = p.matching()
		if b.op == OpPow { // right-associative
			p.enter()
			e.RHS = p.expr(b.prec)
			p.leave()
		} else {
			e.RHS = p.expr(b.prec + 1)
		}
		left = p.binary(e)
	}
}

func (p *parser) matching() *Matching {
	if p.tok.kind != tOn && p.tok.kind != tIgnoring {
		return nil
	}
	m := &Matching{On: p.advance().kind == tOn}
	m.Labels = p.nameList()
	switch p.tok.kind {
	case tGroupLeft:
		m.Card = ManyToOne
	case tGroupRight:
		m.Card = OneToMany
	default:
		return m
	}
	p.advance()
	if p.tok.kind == tOpenParen {
		m.Include = p.nameList()
	}
	return m
}

// nameList parses ( a, b ), which may be empty.
func (p *parser) nameList() []string {
	p.expect(tOpenParen, "(")
	if p.accept(tCloseParen) {
		return nil
	}
	var names []string
	for {
		if len(names) == 0 {
			names = append(names, p.labelName("IDENTIFIER", ")"))
		} else {
			names = append(names, p.labelName("IDENTIFIER"))
		}
		if !p.accept(tComma) {
			p.expect(tCloseParen, ",", ")")
			return names
		}
	}
}

func (p *parser) operand() Expr {
	if p.beginsStage() {
		s, _ := p.bare(false)
		return s
	}
	switch p.tok.kind {
	case tOpenBrace:
		s := p.selector()
		s.Stages, _ = p.pipeline(false)
		return s
	case tOpenParen:
		p.enter()
		defer p.leave()
		p.advance()
		e := p.expr(0)
		p.expect(tCloseParen)
		return e
	case tNumber:
		at := p.tok.pos
		return &Literal{Value: p.float(p.advance().text), At: at}
	case tAdd, tSub:
		sign := p.advance()
		text := p.expect(tNumber, "NUMBER").text
		v := p.float(text)
		if sign.kind == tSub {
			v = -v
		}
		return &Literal{Value: v, At: sign.pos}
	case tVector:
		at := p.advance().pos
		p.expect(tOpenParen, "(")
		n := p.expect(tNumber, "NUMBER")
		p.expect(tCloseParen, ")")
		return &Vector{Value: p.float(n.text), At: at}
	case tTime:
		at := p.advance().pos
		p.expect(tOpenParen, "(")
		p.expect(tCloseParen, ")")
		return &Time{At: at}
	}
	p.enter()
	defer p.leave()
	switch p.tok.kind {
	case tRangeOp:
		return p.rangeAggregation()
	case tVectorOp:
		return p.vectorAggregation()
	case tLabelReplace:
		return p.labelReplace()
	case tFunction:
		return p.function()
	}
	p.unexpected()
	return nil
}

func (p *parser) float(text string) float64 {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		p.fail("unable to parse literal as a float: %s", err)
	}
	return v
}

// metric parses an expression and refuses a log query at the token behind it,
// which is where one could still have become an operand.
func (p *parser) metric() Expr {
	e := p.expr(0)
	if !IsMetric(e) {
		p.unexpected()
	}
	return e
}

func (p *parser) vectorAggregation() Expr {
	t := p.advance()
	e := &VectorAggregation{Op: VectorOp(t.text), At: t.pos}
	if p.tok.kind == tBy || p.tok.kind == tWithout {
		e.Grouping = p.grouping()
	}
	p.expect(tOpenParen, "(")
	param := p.vectorParam()
	e.Inner = p.metric()
	p.expect(tCloseParen)
	if e.Grouping == nil && (p.tok.kind == tBy || p.tok.kind == tWithout) {
		e.Grouping = p.grouping()
	}
	p.checkVector(e, param)
	if g := e.Grouping; g != nil && !g.Without && len(g.Labels) == 0 {
		e.Grouping = nil
	}
	return e
}

// vectorParam parses `5,` and goes back if the number turns out to be an operand.
func (p *parser) vectorParam() string {
	if p.tok.kind != tNumber {
		return ""
	}
	lex, tok := p.lex, p.tok
	p.advance()
	if p.accept(tComma) {
		return tok.text
	}
	p.lex, p.tok = lex, tok
	return ""
}

func (p *parser) grouping() *Grouping {
	g := &Grouping{Without: p.advance().kind == tWithout}
	g.Labels = p.nameList()
	return g
}

func (p *parser) labelReplace() Expr {
	e := &LabelReplace{At: p.advance().pos}
	p.expect(tOpenParen, "(")
	e.Inner = p.metric()
	for i, s := range []*string{&e.Dst, &e.Replacement, &e.Src, &e.Regex} {
		if i == 0 {
			p.expect(tComma)
		} else {
			p.expect(tComma, ",")
		}
		*s = p.expect(tString, "STRING").text
	}
	p.expect(tCloseParen, ")")
	p.checkLabelReplace(e)
	return e
}

func (p *parser) rangeAggregation() Expr {
	t := p.advance()
	e := &RangeAggregation{Op: RangeOp(t.text), At: t.pos}
	p.expect(tOpenParen, "(")
	param, legal := p.rangeParams(e)
	e.Range = p.rangeOperand(legal)
	p.expect(tCloseParen, ")")
	if p.tok.kind == tBy || p.tok.kind == tWithout {
		e.Grouping = p.grouping()
	}
	p.checkRange(e, param)
	return e
}

// depth returns the height of the tree as it prints, label filters included.
func depth(e Expr) int {
	below := 0
	switch e := e.(type) {
	case *LogSelector:
		for _, s := range e.Stages {
			if f, ok := s.(*LabelFilter); ok {
				below = max(below, conditionDepth(f.Cond))
			}
		}
		return below
	case *Time:
		return 0
	case *Function:
		below = depth(e.Inner)
	case *RangeAggregation:
		below = depth(e.Range.Selector)
		if u := e.Range.Unwrap; u != nil {
			for _, f := range u.Filters {
				below = max(below, conditionDepth(f.Cond))
			}
		}
	case *VectorAggregation:
		below = depth(e.Inner)
	case *BinaryExpr:
		below = max(depth(e.LHS), depth(e.RHS))
	case *LabelReplace:
		below = depth(e.Inner)
	case *Literal:
		if !math.IsNaN(e.Value) && !math.IsInf(e.Value, 0) {
			return 0
		}
	}
	return below + 1
}

func conditionDepth(c Condition) int {
	switch c := c.(type) {
	case *LogicalCond:
		return max(conditionDepth(c.Left), conditionDepth(c.Right)) + 1
	case *InCond:
		if c.Query != nil {
			return depth(c.Query) + 1
		}
	}
	return 0
}
