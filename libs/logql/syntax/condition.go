package syntax

// condition parses a label filter with operators of at least the given
// precedence (precOr, precAnd). round is applied to byte literals.
func (p *parser) condition(least int, round func(uint64) uint64) Condition {
	left := p.conditionOperand(round)
	for {
		prec := 0
		switch p.tok.kind {
		case tOr:
			prec = precOr
		case tAnd:
			prec = precAnd
		}
		if prec == 0 || prec < least {
			return left
		}
		or := p.advance().kind == tOr
		left = &LogicalCond{Or: or, Left: left, Right: p.condition(prec+1, round)}
	}
}

// conditionOperand parses one test, or one in parentheses. A comma or a blank
// behind it takes everything to its right, however weakly that is bound.
func (p *parser) conditionOperand(round func(uint64) uint64) Condition {
	p.enter()
	defer p.leave()
	var c Condition
	switch p.tok.kind {
	case tOpenParen:
		p.advance()
		c = p.condition(0, round)
		p.expect(tCloseParen)
	case tIdent, tString:
		c = p.comparison(p.labelName(), round)
	default:
		p.unexpected()
	}
	switch p.tok.kind {
	case tComma:
		p.advance()
		return &LogicalCond{Left: c, Right: p.condition(0, round)}
	case tIdent, tString, tOpenParen:
		return &LogicalCond{Left: c, Right: p.condition(0, round)}
	}
	return c
}

var compareOps = map[kind]CompareOp{
	tEq: CompareEqual, tCmpEq: CompareEqual, tNeq: CompareNotEqual,
	tGt: CompareGreater, tGte: CompareGreaterEqual, tLt: CompareLess, tLte: CompareLessEqual,
}

// comparison parses what follows the name.
func (p *parser) comparison(name string, round func(uint64) uint64) Condition {
	if p.atIn() {
		return p.in(name)
	}
	opKind := p.tok.kind
	if opKind == tRe || opKind == tNre {
		return &StringCond{p.matcher(name)}
	}
	op, ok := compareOps[opKind]
	if !ok {
		p.unexpected()
	}
	p.advance()
	equality := opKind == tEq || opKind == tNeq
	switch p.tok.kind {
	case tString:
		if equality {
			return &StringCond{p.newMatcher(matchTypes[opKind], name, p.advance().text)}
		}
	case tIP:
		if equality {
			p.advance()
			return &IPCond{Name: name, Negated: op == CompareNotEqual, Pattern: p.parenString()}
		}
	case tNumber:
		return &NumberCond{Name: name, Op: op, Value: p.float(p.advance().text)}
	case tAdd, tSub:
		sign := p.advance().kind
		v := p.float(p.expect(tNumber, "NUMBER").text)
		if sign == tSub {
			v = -v
		}
		return &NumberCond{Name: name, Op: op, Value: v}
	case tDuration:
		return &DurationCond{Name: name, Op: op, Value: p.advance().dur}
	case tBytes:
		return &BytesCond{Name: name, Op: op, Value: round(p.advance().size)}
	}
	p.unexpected()
	return nil
}
