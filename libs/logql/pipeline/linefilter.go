package pipeline

import (
	"bytes"
	"errors"
	"regexp"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// LineMatcher is a conjunction of line filters. It looks at the line alone and is
// safe for concurrent use. The nil *LineMatcher matches every line.
type LineMatcher struct {
	filters []lineFilter
	needles [][]string
}

// lineFilter keeps a line if any test holds, or, negated, if none does.
type lineFilter struct {
	negated bool
	tests   []lineTest
	cost    int
}

type lineTest func(line []byte) bool

// Match reports whether all filters keep the line.
func (m *LineMatcher) Match(line []byte) bool {
	if m == nil {
		return true
	}
	for i := range m.filters {
		if !m.filters[i].keep(line) {
			return false
		}
	}
	return true
}

func (f *lineFilter) keep(line []byte) bool {
	for _, t := range f.tests {
		if t(line) {
			return !f.negated
		}
	}
	return f.negated
}

// Needles returns what every matching line must contain: of each element one
// string at least, byte for byte. It may be empty, its elements are not, nor
// are the strings.
func (m *LineMatcher) Needles() [][]string {
	if m == nil {
		return nil
	}
	return m.needles
}

// Empty reports whether there is no filter, so that every line matches.
func (m *LineMatcher) Empty() bool { return m == nil || len(m.filters) == 0 }

// add appends a filter, cheap ones in front: the order does not show.
func (m *LineMatcher) add(f lineFilter, needles [][]string) {
	i := len(m.filters)
	for i > 0 && m.filters[i-1].cost > f.cost {
		i--
	}
	m.filters = append(m.filters, lineFilter{})
	copy(m.filters[i+1:], m.filters[i:])
	m.filters[i] = f
	m.needles = append(m.needles, needles...)
}

var errIPOperation = errors.New("ip: invalid operation")

// compileLineFilter returns the filter and its needles.
func compileLineFilter(f *syntax.LineFilter) (lineFilter, [][]string, error) {
	out := lineFilter{negated: f.Op.Negated()}
	var all [][][]string // per alternative
	var literals []string
	for _, a := range f.Alternatives {
		if a.IP {
			if f.Op != syntax.LineContains && f.Op != syntax.LineNotContains {
				return out, nil, errIPOperation
			}
			m, err := newIPMatcher(a.Text)
			if err != nil {
				return out, nil, err
			}
			out.tests = append(out.tests, m.match)
			out.cost = max(out.cost, 2)
			all = append(all, nil)
			continue
		}
		switch f.Op {
		case syntax.LineContains, syntax.LineNotContains:
			literals = append(literals, a.Text)
			all = append(all, [][]string{{a.Text}})
		case syntax.LineRegexp, syntax.LineNotRegexp:
			re, err := regexp.Compile(a.Text)
			if err != nil {
				return out, nil, err
			}
			r := simplify(re)
			out.tests = append(out.tests, r.test)
			out.cost = max(out.cost, r.cost)
			all = append(all, r.needles)
		default:
			m, err := newPatternMatcher(a.Text)
			if err != nil {
				return out, nil, err
			}
			var needles [][]string
			for _, p := range m {
				if p.literal != nil {
					needles = append(needles, []string{string(p.literal)})
				}
			}
			out.tests = append(out.tests, m.match)
			out.cost = max(out.cost, 1)
			all = append(all, needles)
		}
	}
	if len(literals) > 0 {
		out.tests = append([]lineTest{containsAny(literals)}, out.tests...)
	}
	if out.negated {
		return out, nil, nil
	}
	return out, anyOf(all), nil
}

// anyOf returns needles of a line that has those of one alternative.
func anyOf(all [][][]string) [][]string {
	if len(all) == 1 {
		return clean(all[0])
	}
	var union []string
	for _, needles := range all {
		needles = clean(needles)
		if len(needles) == 0 {
			return nil
		}
		union = append(union, best(needles)...)
	}
	return [][]string{union}
}

// clean leaves out elements that say nothing.
func clean(needles [][]string) [][]string {
	var out [][]string
next:
	for _, any := range needles {
		for _, s := range any {
			if s == "" {
				continue next
			}
		}
		if len(any) > 0 {
			out = append(out, any)
		}
	}
	return out
}

// best returns the element whose shortest string is longest.
func best(needles [][]string) []string {
	var out []string
	longest := -1
	for _, any := range needles {
		if n := shortest(any); n > longest {
			out, longest = any, n
		}
	}
	return out
}

func shortest(any []string) int {
	n := -1
	for _, s := range any {
		if n < 0 || len(s) < n {
			n = len(s)
		}
	}
	return n
}

func containsAny(literals []string) lineTest {
	needles := make([][]byte, len(literals))
	for i, l := range literals {
		if l == "" {
			return func([]byte) bool { return true }
		}
		needles[i] = []byte(l)
	}
	if len(needles) == 1 {
		n := needles[0]
		return func(line []byte) bool { return bytes.Contains(line, n) }
	}
	return func(line []byte) bool {
		for _, n := range needles {
			if bytes.Contains(line, n) {
				return true
			}
		}
		return false
	}
}

// lineFilterStage is a line filter that could not be moved to the front.
type lineFilterStage struct{ m LineMatcher }

func (f *lineFilterStage) run(_ *Stream, line []byte) ([]byte, bool) {
	return line, f.m.Match(line)
}
