// Package match evaluates line filters over sections of lines: templates, summaries of
// columns and the gram matrix decide most blocks and rows, packed values the others;
// lines are rebuilt only where nothing else can tell. The result is exactly that of
// matching every line.
//
// The package is pure. A Program and a SectionProgram are immutable to their users and
// safe for concurrent use.
package match

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Term is a test of a line. Exactly one of Literal and Regexp is used: Regexp, if it
// is not empty.
type Term struct {
	// Literal is a text that the line holds.
	Literal string
	// Fold makes the letters of Literal match in any case, in the sense of Go's regular
	// expressions with flag i.
	Fold bool
	// Regexp is a Go regular expression that the line matches somewhere.
	Regexp string
}

// Filter is a condition on lines: a line matches if any of its terms does, or none of
// them if Negate is set.
type Filter struct {
	Any    []Term
	Negate bool
}

// Program is a conjunction of filters.
type Program struct {
	filters []filter // the cheap ones first
	// unpruned makes every line be rebuilt and matched.
	unpruned bool
}

type filter struct {
	terms  []term
	negate bool
}

// A term matches a line that holds a needle that needs no proof, or that holds one
// that does, or any needle if there are none, and re matches it.
type term struct {
	needles []needle
	also    [][]needle     // a line that matches holds one of each of these, too
	unknown bool           // there are no needles: only re tells
	always  bool           // it matches every line
	re      *regexp.Regexp // nil: no needle needs it
	safe    bool           // if re matches a template's text, it matches all its lines
}

// needle is a text that lines are searched for.
type needle struct {
	text []byte
	fold bool // text is in lower case and ASCII letters match in any case
	ask  bool // that the line holds it is no proof
}

func (n *needle) in(line []byte) bool { return n.index(line) >= 0 }

func (n *needle) index(s []byte) int {
	if n.fold {
		return indexFold(s, n.text)
	}
	return bytes.Index(s, n.text)
}

func (n *needle) equal(a, b []byte) bool {
	if n.fold {
		return equalFold(a, b)
	}
	return string(a) == string(b)
}

// Compile makes a program that matches a line if all filters do. Errors are about
// regular expressions and literals that are no text, and say which.
func Compile(filters []Filter) (*Program, error) {
	p := &Program{}
	for _, f := range filters {
		out := filter{negate: f.Negate}
		for _, t := range f.Any {
			c, err := compile(t)
			if err != nil {
				return nil, err
			}
			out.terms = append(out.terms, c)
		}
		p.filters = append(p.filters, out)
	}
	slices.SortStableFunc(p.filters, func(a, b filter) int { return a.cost() - b.cost() })
	return p, nil
}

// Unpruned returns a program with the same results that looks at every line.
func (p *Program) Unpruned() *Program { return &Program{filters: p.filters, unpruned: true} }

func compile(t Term) (term, error) {
	switch {
	case t.Regexp != "":
		return compileRegexp(t.Regexp)
	case t.Literal == "":
		return term{always: true}, nil
	case !t.Fold:
		return term{needles: []needle{{text: []byte(t.Literal)}}}, nil
	}
	c, err := compileRegexp("(?i)" + regexp.QuoteMeta(t.Literal))
	if err != nil {
		return term{}, fmt.Errorf("literal %q in any case: %w", t.Literal, err)
	}
	return c, nil
}

func compileRegexp(s string) (term, error) {
	re, err := regexp.Compile(s)
	if err != nil {
		return term{}, err
	}
	t := analyze(s)
	t.re = re
	if t.safe && re.MatchString("") {
		return term{always: true}, nil
	}
	return t, nil
}

// cost ranks filters by how many lines they are likely to have rebuilt.
func (f *filter) cost() int {
	c := 0
	for i := range f.terms {
		t := &f.terms[i]
		switch {
		case t.unknown:
			c = max(c, 3)
		case t.asks():
			c = max(c, 2)
		default:
			c = max(c, 1)
		}
	}
	return c
}

func (t *term) asks() bool {
	for i := range t.needles {
		if t.needles[i].ask {
			return true
		}
	}
	return t.unknown
}

// Match reports whether a line matches: what all else is measured by.
func (p *Program) Match(line []byte) bool {
	for i := range p.filters {
		if !p.filters[i].match(line) {
			return false
		}
	}
	return true
}

func (f *filter) match(line []byte) bool {
	for i := range f.terms {
		if f.terms[i].match(line) {
			return !f.negate
		}
	}
	return f.negate
}

func (t *term) match(line []byte) bool {
	if t.always {
		return true
	}
	ask := t.unknown
	for i := range t.needles {
		n := &t.needles[i]
		if n.ask && ask || !n.in(line) {
			continue
		}
		if !n.ask {
			return true
		}
		ask = true
	}
	return ask && t.re.Match(line)
}

// lower returns text with ASCII letters in lower case.
func lower(dst, s []byte) []byte {
	dst = append(dst[:0], s...)
	for i, c := range dst {
		if c-'A' < 26 {
			dst[i] = c | 0x20
		}
	}
	return dst
}

// indexFold finds lower in s, whose ASCII letters may be in any case.
func indexFold(s, lower []byte) int {
	if len(lower) == 0 {
		return 0
	}
	c := lower[0]
	if c-'a' >= 26 {
		for at := 0; ; at++ {
			i := bytes.IndexByte(s[at:], c)
			if i < 0 {
				return -1
			}
			if at += i; len(s)-at < len(lower) {
				return -1
			}
			if equalFold(s[at:at+len(lower)], lower) {
				return at
			}
		}
	}
	for i := 0; i+len(lower) <= len(s); i++ {
		if s[i]|0x20 == c && equalFold(s[i:i+len(lower)], lower) {
			return i
		}
	}
	return -1
}

func equalFold(s, lower []byte) bool {
	if len(s) != len(lower) {
		return false
	}
	for i, c := range s {
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// String describes the program.
func (p *Program) String() string {
	var b strings.Builder
	for i := range p.filters {
		f := &p.filters[i]
		if i > 0 {
			b.WriteString(" and ")
		}
		if f.negate {
			b.WriteString("not ")
		}
		b.WriteByte('(')
		for k := range f.terms {
			t := &f.terms[k]
			if k > 0 {
				b.WriteString(" or ")
			}
			switch {
			case t.always:
				b.WriteString("any line")
			case t.re != nil:
				fmt.Fprintf(&b, "/%v/", t.re)
			default:
				fmt.Fprintf(&b, "%q", t.needles[0].text)
			}
		}
		b.WriteByte(')')
	}
	return b.String()
}
