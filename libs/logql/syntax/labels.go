package syntax

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Label is a pair of a stream's label text.
type Label struct {
	Name, Value string
}

// ParseLabels parses the label text of a push request, `{a="b", c="d"}`, and
// returns the pairs in the order written: unsorted, names possibly repeated,
// values possibly empty. A trailing comma is legal; strings are quoted with ",
// ' or `. Values are bytes as they come, not checked to be UTF-8. Names are [A-Za-z_][A-Za-z0-9_]* and may be words that queries reserve.
//
// Errors read `1:22: parse error: …` with line and column (in bytes).
func ParseLabels(text string) ([]Label, error) { return parseLabels(labelParser{src: text}) }

// ParseAnyLabels is ParseLabels, but names may also be any UTF-8 in quotes,
// `{"k8s.pod.name"="c"}`.
func ParseAnyLabels(text string) ([]Label, error) {
	return parseLabels(labelParser{src: text, quoted: true})
}

func parseLabels(p labelParser) ([]Label, error) {
	p.blanks()
	if err := p.punct('{', `expected "{"`); err != nil {
		return nil, err
	}
	// Pairs cost six bytes at least: `a="b",`.
	labels := make([]Label, 0, min(strings.Count(p.src, "=")+1, 32))
	for {
		p.blanks()
		if p.peek() == '}' {
			break
		}
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		p.blanks()
		if err := p.punct('=', `in label set, expected "="`); err != nil {
			return nil, err
		}
		p.blanks()
		value, err := p.value()
		if err != nil {
			return nil, err
		}
		labels = append(labels, Label{Name: name, Value: value})
		p.blanks()
		if p.peek() == ',' {
			p.off++
			continue
		}
		if p.peek() != '}' {
			return nil, p.unexpected(p.off, `in label set, expected "," or "}"`)
		}
	}
	p.off++
	p.blanks()
	if p.off < len(p.src) {
		return nil, p.unexpected(p.off, "after the label set")
	}
	return labels, nil
}

type labelParser struct {
	src    string
	off    int
	quoted bool // names may be
}

func (p *labelParser) blanks() {
	p.off = runEnd(p.src, p.off, func(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' })
}

// peek returns the next byte, or 0 at the end.
func (p *labelParser) peek() byte {
	if p.off < len(p.src) {
		return p.src[p.off]
	}
	return 0
}

func (p *labelParser) punct(c byte, want string) error {
	if p.peek() != c {
		return p.unexpected(p.off, want)
	}
	p.off++
	return nil
}

func (p *labelParser) name() (string, error) {
	start := p.off
	if c := p.peek(); p.quoted && (c == '"' || c == '\'' || c == '`') {
		name, err := p.value()
		if err == nil && (name == "" || !utf8.ValidString(name)) {
			err = p.errorf(start, "a label name must be valid UTF-8 and not empty")
		}
		return name, err
	}
	if !isLetter(p.peek()) {
		return "", p.unexpected(start, `in label set, expected identifier or "}"`)
	}
	p.off = runEnd(p.src, start, func(c byte) bool { return isLetter(c) || isDigit(c) })
	return p.src[start:p.off], nil
}

func (p *labelParser) value() (string, error) {
	start := p.off
	quote := p.peek()
	if quote != '"' && quote != '\'' && quote != '`' {
		return "", p.unexpected(start, "in label set, expected string")
	}
	plain := true
	i := start + 1
	for ; i < len(p.src) && p.src[i] != quote; i++ {
		if quote == '`' {
			continue
		}
		if p.src[i] == '\n' {
			break
		}
		if p.src[i] == '\\' {
			plain = false
			i++
		}
	}
	if i >= len(p.src) || p.src[i] != quote {
		if quote == '`' {
			return "", p.errorf(start, "unterminated raw string")
		}
		return "", p.errorf(start, "unterminated quoted string")
	}
	p.off = i + 1
	body := p.src[start+1 : i]
	if plain {
		return body, nil
	}
	value, ok := unescape(body, quote)
	if !ok {
		return "", p.errorf(start, "invalid escape in string")
	}
	return value, nil
}

// unexpected says what stands at off where something else should.
func (p *labelParser) unexpected(off int, where string) error {
	rest := p.src[off:]
	if rest == "" {
		if where == `expected "{"` {
			return p.errorf(off, "no expression found in input")
		}
		return p.errorf(off, "unexpected end of input %s", where)
	}
	if end := runEnd(rest, 0, func(c byte) bool { return isLetter(c) || isDigit(c) }); end > 0 && isLetter(rest[0]) {
		return p.errorf(off, "unexpected identifier %q %s", rest[:min(end, 64)], where)
	}
	switch rest[0] {
	case '=', ',', '}', '{':
		return p.errorf(off, "unexpected %q %s", rest[:1], where)
	case '"', '\'', '`':
		return p.errorf(off, "unexpected string %s", where)
	}
	r, _ := utf8.DecodeRuneInString(rest)
	if off == 0 {
		return p.errorf(off, "unexpected character: %s", strconv.QuoteRune(r))
	}
	return p.errorf(off, "unexpected character inside braces: %s", strconv.QuoteRune(r))
}

func (p *labelParser) errorf(off int, format string, args ...any) error {
	before := p.src[:off]
	line := strings.Count(before, "\n") + 1
	col := off - strings.LastIndexByte(before, '\n')
	return fmt.Errorf("%d:%d: parse error: %s", line, col, fmt.Sprintf(format, args...))
}
