package syntax

import "regexp"

// MatchType is the operator of a matcher.
type MatchType uint8

// Match types.
const (
	Eq  MatchType = iota // =
	Neq                  // !=
	Re                   // =~
	Nre                  // !~
)

var matchTypeText = [...]string{Eq: "=", Neq: "!=", Re: "=~", Nre: "!~"}

// String returns the operator as written in queries.
func (t MatchType) String() string { return matchTypeText[t] }

// Matcher tests the value of a label. Make it with NewMatcher. It is safe for
// concurrent use.
type Matcher struct {
	Name, Value string
	Type        MatchType

	re *regexp.Regexp
}

// NewMatcher makes a matcher. The error is that of the regexp package, or says
// that the regex is too large.
func NewMatcher(t MatchType, name, value string) (*Matcher, error) {
	m := &Matcher{Name: name, Value: value, Type: t}
	if t == Re || t == Nre {
		// Looked at bare first, so that an error quotes what the user wrote.
		size, err := regexSize(value)
		if err != nil {
			return nil, err
		}
		if size > maxRegexSize {
			return nil, errRegexSize
		}
		re, err := regexp.Compile("^(?s:" + value + ")$")
		if err != nil {
			return nil, err
		}
		m.re = re
	}
	return m, nil
}

// MustMatcher is NewMatcher for values known to be valid.
func MustMatcher(t MatchType, name, value string) *Matcher {
	m, err := NewMatcher(t, name, value)
	if err != nil {
		panic(err)
	}
	return m
}

// Matches reports whether the value satisfies the matcher. Regexes are anchored
// at both ends and their dot matches newlines.
func (m *Matcher) Matches(value string) bool {
	switch m.Type {
	case Eq:
		return value == m.Value
	case Neq:
		return value != m.Value
	case Re:
		return m.re.MatchString(value)
	default:
		return !m.re.MatchString(value)
	}
}

// String returns the matcher as it stands in a selector: name="value".
func (m *Matcher) String() string {
	return canonical(func(p *printer) { p.matcher(m) })
}
