package syntax

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// checkRange sets the parameter and checks what depends on the operation.
func (p *parser) checkRange(e *RangeAggregation, param string) {
	switch {
	case e.Op == OpQuantileOverTime && param == "":
		p.fail("parameter required for operation %s", e.Op)
	case e.Op == OpQuantileOverTime:
		v, err := strconv.ParseFloat(param, 64)
		if err != nil {
			p.fail("invalid parameter for operation %s: %s", e.Op, err)
		}
		e.Param = v
	case param != "":
		p.fail("parameter %s not supported for operation %s", param, e.Op)
	}
	p.checkExtended(e)
	if e.Grouping != nil && !e.Op.groups() {
		p.fail("grouping not allowed for %s aggregation", e.Op)
	}
	if e.Range.Unwrap != nil && !e.Op.unwraps() {
		p.fail("invalid aggregation %s with unwrap", e.Op)
	}
	if e.Range.Unwrap == nil && !e.Op.counts() {
		p.fail("invalid aggregation %s without unwrap", e.Op)
	}
}

func (o RangeOp) groups() bool {
	switch o {
	case OpAvgOverTime, OpStddevOverTime, OpStdvarOverTime, OpQuantileOverTime,
		OpMaxOverTime, OpMinOverTime, OpFirstOverTime, OpLastOverTime,
		OpCountDistinctOverTime, OpHistogramOverTime:
		return true
	}
	return false
}

// unwraps reports whether the operation aggregates unwrapped values.
func (o RangeOp) unwraps() bool {
	return o == OpRate || o == OpAbsentOverTime || !o.counts()
}

// counts reports whether the operation works on entries as such.
func (o RangeOp) counts() bool {
	switch o {
	case OpCountOverTime, OpRate, OpBytesOverTime, OpBytesRate, OpAbsentOverTime, OpCountDistinctOverTime:
		return true
	}
	return false
}

func (o VectorOp) hasParam() bool {
	return o == OpTopk || o == OpBottomk || o == OpApproxTopk
}

// checkVector sets the parameter and checks what depends on the operation.
func (p *parser) checkVector(e *VectorAggregation, param string) {
	switch {
	case !e.Op.hasParam():
		if param != "" {
			p.fail("unsupported parameter for operation %s(%s,", e.Op, param)
		}
	case param == "":
		p.fail("parameter required for operation %s", e.Op)
	default:
		n, err := strconv.Atoi(param)
		if err != nil {
			p.fail("invalid parameter %s(%s,", e.Op, param)
		}
		if n <= 0 {
			p.fail("invalid parameter (must be greater than 0) %s(%s", e.Op, param)
		}
		e.Param = n
	}
	if e.Grouping == nil {
		return
	}
	switch e.Op {
	case OpSort, OpSortDesc:
		p.fail("sort and sort_desc doesn't allow grouping by ")
	case OpApproxTopk:
		p.fail("grouping not allowed for %s aggregation", e.Op)
	}
}

// binary checks the operands and folds literals.
func (p *parser) binary(e *BinaryExpr) Expr {
	leg := func(side string, x Expr) (*Literal, bool) {
		if s, ok := x.(*LogSelector); ok {
			name := "MatchersExpr"
			if len(s.Stages) > 0 {
				name = "PipelineExpr"
			}
			p.fail("unexpected type for %s leg of binary operation (%s): *syntax.%s", side, e.Op, name)
		}
		l, ok := x.(*Literal)
		return l, ok
	}
	left, lok := leg("left", e.LHS)
	right, rok := leg("right", e.RHS)
	if e.Op.IsSet() {
		literal := func(side string, l *Literal) {
			p.fail("unexpected literal for %s leg of logical/set binary operation (%s): %f", side, e.Op, l.Value)
		}
		if lok {
			literal("left", left)
		}
		if rok {
			literal("right", right)
		}
		for _, x := range []Expr{e.LHS, e.RHS} {
			if IsScalar(x) {
				p.fail("unexpected number in logical/set binary operation (%s): %s", e.Op, x)
			}
		}
	}
	if lok && rok {
		return &Literal{Value: Fold(e.Op, left.Value, right.Value), At: left.At}
	}
	return e
}

// Fold computes a binary operation on two numbers; comparisons give 0 or 1.
// Division and modulo by zero give NaN. It panics on a set operator.
func Fold(op BinaryOp, a, b float64) float64 {
	truth := func(v bool) float64 {
		if v {
			return 1
		}
		return 0
	}
	switch op {
	case OpAdd:
		return a + b
	case OpSub:
		return a - b
	case OpMul:
		return a * b
	case OpDiv:
		if b == 0 {
			return math.NaN()
		}
		return a / b
	case OpMod:
		if b == 0 {
			return math.NaN()
		}
		return math.Mod(a, b)
	case OpPow:
		return math.Pow(a, b)
	case OpEqual:
		return truth(a == b)
	case OpNotEqual:
		return truth(a != b)
	case OpGreater:
		return truth(a > b)
	case OpGreaterEqual:
		return truth(a >= b)
	case OpLess:
		return truth(a < b)
	case OpLessEqual:
		return truth(a <= b)
	}
	panic("syntax: no arithmetic for " + string(op))
}

func (p *parser) checkLabelReplace(e *LabelReplace) {
	p.chargeRegex(e.Regex)
	if _, err := regexp.Compile(e.Regex); err != nil {
		p.fail("invalid regex in label_replace: %s", err)
	}
}

func (p *parser) checkRegexp(s *Regexp) {
	fail := func(format string, args ...any) {
		p.fail("invalid regexp parser: %s", fmt.Sprintf(format, args...))
	}
	p.chargeRegex(s.Text)
	re, err := regexp.Compile(s.Text)
	if err != nil {
		fail("%s", err)
	}
	seen := map[string]bool{}
	for _, name := range re.SubexpNames() {
		if name == "" {
			continue
		}
		if !IsLabelName(name) {
			fail("invalid extracted label name '%s'", name)
		}
		if seen[name] {
			fail("duplicate extracted label name '%s'", name)
		}
		seen[name] = true
	}
	if len(seen) == 0 {
		fail("at least one named capture must be supplied")
	}
}

// PatternPart is a piece of a pattern: a literal or a capture.
type PatternPart struct {
	// Text is the literal, or the name of the capture ("_" for `<_>`).
	Text    string
	Capture bool
}

// PatternParts splits `<ip> - <_> x`. Whatever is no well-formed capture is literal.
func PatternParts(text string) []PatternPart {
	var parts []PatternPart
	literal := 0 // start of the literal being read
	for i := 0; i < len(text); {
		name, ok := captureAt(text[i:])
		if !ok {
			i++
			continue
		}
		if literal < i {
			parts = append(parts, PatternPart{Text: text[literal:i]})
		}
		parts = append(parts, PatternPart{Text: name, Capture: true})
		i += len(name) + 2
		literal = i
	}
	if literal < len(text) {
		parts = append(parts, PatternPart{Text: text[literal:]})
	}
	return parts
}

// captureAt returns the name of the capture that s starts with.
func captureAt(s string) (string, bool) {
	if s[0] != '<' {
		return "", false
	}
	end := strings.IndexFunc(s[1:], func(r rune) bool {
		return r > 'z' || !isLetter(byte(r)) && !isDigit(byte(r))
	}) + 1
	if end == 0 || s[end] != '>' || !IsLabelName(s[1:end]) {
		return "", false
	}
	return s[1:end], true
}

func (p *parser) checkPattern(s *Pattern) {
	const prefix = "invalid pattern parser: "
	if s.Text == "" {
		p.fail(prefix + "parse error at line 1, col 1: syntax error: unexpected $end, expecting IDENTIFIER or LITERAL")
	}
	parts := PatternParts(s.Text)
	seen := map[string]bool{}
	for _, part := range parts {
		if part.Capture && part.Text != "_" {
			seen[part.Text] = true
		}
	}
	if len(seen) == 0 {
		p.fail(prefix + "at least one capture is required")
	}
	for i := 1; i < len(parts); i++ {
		if parts[i-1].Capture && parts[i].Capture {
			p.fail(prefix+"found consecutive capture '<%s><%s>': invalid expression", parts[i-1].Text, parts[i].Text)
		}
	}
	clear(seen)
	for _, part := range parts {
		if !part.Capture || part.Text == "_" {
			continue
		}
		if seen[part.Text] {
			p.fail(prefix+"duplicate capture name (%s): invalid expression", part.Text)
		}
		seen[part.Text] = true
	}
}
