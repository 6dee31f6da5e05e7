package pipeline

import (
	"bytes"
	"errors"
	"fmt"
)

// patternPart is a literal or a capture of a pattern.
type patternPart struct {
	literal []byte // nil: a capture
	name    string // of a capture; "_" is anonymous
}

// splitPattern takes a pattern apart: <name> is a capture, all else literal.
func splitPattern(pattern string) ([]patternPart, error) {
	var parts []patternPart
	literal := []byte{}
	flush := func() {
		if len(literal) > 0 {
			parts = append(parts, patternPart{literal: literal})
			literal = []byte{}
		}
	}
	for i := 0; i < len(pattern); {
		if n := captureLen(pattern[i:]); n > 0 {
			flush()
			name := pattern[i+1 : i+n-1]
			if k := len(parts); k > 0 && parts[k-1].literal == nil {
				return nil, fmt.Errorf("found consecutive capture '<%s><%s>': invalid expression", parts[k-1].name, name)
			}
			parts = append(parts, patternPart{name: name})
			i += n
			continue
		}
		literal = append(literal, pattern[i])
		i++
	}
	flush()
	return parts, nil
}

func captureLen(s string) int {
	if s[0] != '<' {
		return 0
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '>' && i > 1:
			return i + 1
		case c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' && i > 1:
		default:
			return 0
		}
	}
	return 0
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

func newPatternCaptures(pattern string) (patternCaptures, error) {
	parts, err := splitPattern(pattern)
	if err != nil {
		return nil, fmt.Errorf("invalid pattern parser: %w", err)
	}
	seen := map[string]bool{}
	for _, p := range parts {
		if p.literal != nil || p.name == "_" {
			continue
		}
		if seen[p.name] {
			return nil, fmt.Errorf("invalid pattern parser: duplicate capture name (%s): invalid expression", p.name)
		}
		seen[p.name] = true
	}
	if len(seen) == 0 {
		return nil, errors.New("invalid pattern parser: at least one capture is required")
	}
	return parts, nil
}

// match calls f for the named captures in turn, with their index among the parts,
// until it returns false. A leading literal has to start the line. If a later
// literal is missing, the capture in front of it takes the rest and is the last.
func (c patternCaptures) match(line []byte, f func(part int, value []byte) bool) bool {
	if len(line) == 0 {
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
