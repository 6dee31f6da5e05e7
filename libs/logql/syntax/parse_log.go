package syntax

// selector parses { m, m } without stages.
func (p *parser) selector() *LogSelector {
	s := &LogSelector{At: p.expect(tOpenBrace, "{").pos}
	if p.accept(tCloseBrace) {
		return s
	}
	legal := []string{"IDENTIFIER", "}"}
	for {
		name := p.labelName(legal...)
		legal = legal[:1]
		s.Matchers = append(s.Matchers, p.matcher(name, "=", "=~", "!~", "!="))
		if p.matchers++; p.matchers > MaxMatchers {
			p.fail("too many matchers in query (limit: %d)", MaxMatchers)
		}
		if !p.accept(tComma) {
			p.expect(tCloseBrace, "}", ",")
			return s
		}
	}
}

// matcher parses the operator and value of a matcher.
func (p *parser) matcher(name string, legal ...string) *Matcher {
	t, ok := matchTypes[p.tok.kind]
	if !ok {
		p.unexpected(legal...)
	}
	p.advance()
	return p.newMatcher(t, name, p.expect(tString, "STRING").text)
}

var matchTypes = map[kind]MatchType{tEq: Eq, tNeq: Neq, tRe: Re, tNre: Nre}

func (p *parser) newMatcher(t MatchType, name, value string) *Matcher {
	if t == Re || t == Nre {
		p.chargeRegex(value)
	}
	m, err := NewMatcher(t, name, value)
	if err != nil {
		p.fail("%s", err)
	}
	return m
}

// rangeOperand parses what a range aggregation works on. The range may stand
// behind the pipeline, between selector and pipeline, or behind parentheses.
func (p *parser) rangeOperand(legal []string) Range {
	r, ranged := p.rangePart(legal)
	if !ranged {
		if u := r.Unwrap; u != nil && len(u.Filters) == 0 {
			p.unexpected("RANGE", "|")
		}
		p.unexpected()
	}
	return r
}

func (p *parser) rangePart(legal []string) (r Range, ranged bool) {
	if p.tok.kind == tOpenParen {
		p.enter()
		defer p.leave()
		p.advance()
		r, ranged = p.rangePart([]string{"{", "("})
		p.expect(tCloseParen)
		if ranged {
			return r, true
		}
		if p.tok.kind != tRange {
			return r, false
		}
		p.window(&r)
		if r.Unwrap == nil && len(r.Selector.Stages) == 0 && p.tok.kind == tPipe {
			r.Unwrap = p.unwrap(p.advance().pos)
		}
		return r, true
	}
	if p.beginsStage() {
		r.Selector, r.Unwrap = p.bare(true)
		if p.tok.kind == tRange {
			p.window(&r)
			ranged = true
		}
		return r, ranged
	}
	if p.tok.kind != tOpenBrace {
		p.unexpected(legal...)
	}
	r.Selector = p.selector()
	if p.tok.kind == tRange {
		p.window(&r)
		ranged = true
	}
	r.Selector.Stages, r.Unwrap = p.pipeline(true)
	if !ranged && p.tok.kind == tRange {
		p.window(&r)
		ranged = true
	}
	return r, ranged
}

// window parses [5m] offset 1h.
func (p *parser) window(r *Range) {
	t := p.advance()
	if t.dur <= 0 {
		panic(&ParseError{Pos: t.pos, Msg: "duration must be greater than 0"})
	}
	r.Interval = t.dur
	if p.accept(tOffset) {
		r.Offset = p.expect(tDuration, "DURATION").dur
	}
}

// pipeline parses stages as long as there are any; an unwrap ends them.
func (p *parser) pipeline(unwrapAllowed bool) ([]Stage, *Unwrap) {
	var stages []Stage
	for {
		at := p.tok.pos
		switch p.tok.kind {
		case tPipeEq, tNeq, tPipeRe, tNre, tPipePat, tNotPat:
			stages = append(stages, p.lineFilter())
		case tPipe:
			p.advance()
			if p.tok.kind == tUnwrap && unwrapAllowed {
				return stages, p.unwrap(at)
			}
			stages = append(stages, p.pipeStage(at))
		default:
			return stages, nil
		}
		if len(stages) > MaxStages {
			p.fail("too many stages in pipeline (limit: %d)", MaxStages)
		}
	}
}

var lineOps = map[kind]LineOp{
	tPipeEq: LineContains, tNeq: LineNotContains,
	tPipeRe: LineRegexp, tNre: LineNotRegexp,
	tPipePat: LinePattern, tNotPat: LineNotPattern,
}

func (p *parser) lineFilter() *LineFilter {
	t := p.advance()
	f := &LineFilter{Op: lineOps[t.kind], At: t.pos}
	for {
		if p.accept(tIP) {
			f.Alternatives = append(f.Alternatives, LineMatch{Text: p.parenString(), IP: true})
		} else {
			text := p.expect(tString, "STRING", "ip").text
			if f.Op == LineRegexp || f.Op == LineNotRegexp {
				p.chargeRegex(text)
			}
			f.Alternatives = append(f.Alternatives, LineMatch{Text: text})
		}
		if !p.accept(tOr) {
			return f
		}
	}
}

// parenString parses ("…").
func (p *parser) parenString() string {
	p.expect(tOpenParen, "(")
	s := p.expect(tString, "STRING").text
	p.expect(tCloseParen, ")")
	return s
}

// pipeStage parses the stage behind a `|`.
func (p *parser) pipeStage(at Pos) Stage {
	if s := p.extendedStage(at); s != nil {
		return s
	}
	switch p.tok.kind {
	case tJSON:
		p.advance()
		return &JSON{Extractions: p.extractions(), At: at}
	case tLogfmt:
		p.advance()
		s := &Logfmt{At: at}
		for p.tok.kind == tFlag {
			if p.advance().text == flagStrict {
				s.Strict = true
			} else {
				s.KeepEmpty = true
			}
		}
		s.Extractions = p.extractions()
		return s
	case tRegexp:
		p.advance()
		s := &Regexp{Text: p.expect(tString, "STRING").text, At: at}
		p.checkRegexp(s)
		return s
	case tPattern:
		p.advance()
		s := &Pattern{Text: p.expect(tString, "STRING").text, At: at}
		p.checkPattern(s)
		return s
	case tUnpack:
		p.advance()
		return &Unpack{At: at}
	case tLineFormat:
		p.advance()
		return &LineFormat{Template: p.expect(tString, "STRING").text, At: at}
	case tLabelFormat:
		p.advance()
		return p.labelFormat(at)
	case tDecolorize:
		p.advance()
		return &Decolorize{At: at}
	case tDrop:
		p.advance()
		return &Drop{Labels: p.labelRefs(), At: at}
	case tKeep:
		p.advance()
		return &Keep{Labels: p.labelRefs(), At: at}
	case tIdent, tString, tOpenParen:
		return &LabelFilter{Cond: p.condition(0, RoundBytes), At: at}
	}
	p.unexpected()
	return nil
}

// extractions parses a="b", c; there may be none.
func (p *parser) extractions() []Extraction {
	if p.tok.kind != tIdent && !p.quotedName() {
		return nil
	}
	var xs []Extraction
	for {
		name := p.newName()
		x := Extraction{Name: name, Path: name}
		if p.accept(tEq) {
			x.Path = p.expect(tString, "STRING").text
		}
		xs = append(xs, x)
		if !p.accept(tComma) {
			return xs
		}
	}
}

func (p *parser) labelFormat(at Pos) *LabelFormat {
	s := &LabelFormat{At: at}
	for {
		a := LabelAssign{Name: p.newName()}
		p.expect(tEq, "=")
		if p.tok.kind == tString {
			a.Value = p.advance().text
		} else {
			a.Rename = true
			a.Value = p.expect(tIdent, "IDENTIFIER", "STRING").text
		}
		s.Assigns = append(s.Assigns, a)
		if !p.accept(tComma) {
			return s
		}
	}
}

func (p *parser) labelRefs() []LabelRef {
	var refs []LabelRef
	for {
		r := LabelRef{Name: p.labelName("IDENTIFIER")}
		// A != or !~ behind the name belongs to it rather than to a line filter.
		if _, ok := matchTypes[p.tok.kind]; ok {
			r.Matcher = p.matcher(r.Name)
		}
		refs = append(refs, r)
		if !p.accept(tComma) {
			return refs
		}
	}
}

// unwrap parses from the word unwrap on; at is the place of the `|`.
func (p *parser) unwrap(at Pos) *Unwrap {
	p.expect(tUnwrap, "unwrap")
	u := &Unwrap{At: at}
	switch p.tok.kind {
	case tIdent, tString:
		u.Name = p.labelName()
	case tConversion:
		u.Conversion = Conversion(p.advance().text)
		p.expect(tOpenParen, "(")
		u.Name = p.labelName("IDENTIFIER")
		p.expect(tCloseParen, ")")
	default:
		p.unexpected("IDENTIFIER", "BYTES_CONV", "DURATION_CONV", "DURATION_SECONDS_CONV")
	}
	for p.tok.kind == tPipe {
		at := p.advance().pos
		if !p.named() && p.tok.kind != tOpenParen {
			p.unexpected("IDENTIFIER", "(")
		}
		exact := func(n uint64) uint64 { return n }
		u.Filters = append(u.Filters, &LabelFilter{Cond: p.condition(0, exact), At: at})
		if len(u.Filters) > MaxStages {
			p.fail("too many stages in pipeline (limit: %d)", MaxStages)
		}
	}
	return u
}
