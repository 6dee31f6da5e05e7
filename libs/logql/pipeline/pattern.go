package pipeline

import (
	"bytes"
	"fmt"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// patternPart is a literal or a capture of a pattern.
type patternPart struct {
	literal []byte // nil: a capture
	name    string // of a capture; "_" is anonymous
}

// splitPattern takes a pattern apart. Two captures in a row are an error.
func splitPattern(pattern string) ([]patternPart, error) {
	var parts []patternPart
	for _, p := range syntax.PatternParts(pattern) {
		if !p.Capture {
			parts = append(parts, patternPart{literal: []byte(p.Text)})
			continue
		}
		if n := len(parts); n > 0 && parts[n-1].literal == nil {
			return nil, fmt.Errorf("found consecutive capture '<%s><%s>': invalid expression", parts[n-1].name, p.Text)
		}
		parts = append(parts, patternPart{name: p.Text})
	}
	return parts, nil
}

// patternMatcher is the test of |> and !>.
type patternMatcher []patternPart

func newPatternMatcher(pattern string) (patternMatcher, error) {
	parts, err := splitPattern(pattern)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.literal == nil && p.name != "_" {
			return nil, fmt.Errorf("named captures are not allowed: found '<%s>'", p.name)
		}
	}
	return parts, nil
}

// match looks for the literals from left to right, each where it occurs first.
// A wildcard stands for one byte at least; the start is not anchored, the end is.
func (m patternMatcher) match(line []byte) bool {
	if len(m) == 0 {
		return len(line) == 0
	}
	rest := line
	for i, p := range m {
		if p.literal == nil {
			continue
		}
		j := bytes.Index(rest, p.literal)
		if j < 0 || (i > 0 && j == 0) {
			return false
		}
		rest = rest[j+len(p.literal):]
	}
	openEnd := m[len(m)-1].literal == nil
	return openEnd == (len(rest) > 0)
}

// patternCaptures are the parts of a pattern stage.
type patternCaptures []patternPart

// match calls f for the named captures in turn, with their index among the parts,
// until it returns false. A leading literal has to start the line. If a later
// literal is missing, the capture in front of it takes the rest and is the last.
func (c patternCaptures) match(line []byte, f func(part int, value []byte) bool) bool {
	if len(line) == 0 || len(c) == 0 {
		return true
	}
	i := 0
	if lit := c[0].literal; lit != nil {
		if !bytes.HasPrefix(line, lit) {
			return true
		}
		line, i = line[len(lit):], 1
	}
	for ; i < len(c); i += 2 { // captures and literals alternate
		value, found := line, false
		if i+1 < len(c) {
			value, line, found = bytes.Cut(line, c[i+1].literal)
		}
		if c[i].name != "_" && !f(i, value) {
			return false
		}
		if !found {
			return true
		}
	}
	return true
}
