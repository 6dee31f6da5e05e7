package pipeline

import (
	resyntax "regexp/syntax"
	"slices"
	"strconv"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// condition is a compiled label filter.
type condition interface {
	// keep evaluates it on the row, whose error it may set.
	keep(st *Stream) bool
}

// valueCondition is one on a single label.
type valueCondition interface {
	condition
	// accepts reports whether a row with this value of the label may be kept. It
	// has no effect on the row.
	accepts(st *Stream, value string) bool
}

type logicalCondition struct {
	or          bool
	left, right condition
}

func (c *logicalCondition) keep(st *Stream) bool {
	if c.left.keep(st) {
		return c.or || c.right.keep(st)
	}
	return c.or && c.right.keep(st)
}

// stringCondition sees a missing label as "". Of the error labels it reads __error__ only.
type stringCondition struct {
	slot    int
	name    string
	matches func(string) bool
}

func (c *stringCondition) keep(st *Stream) bool {
	switch c.name {
	case errorLabel:
		return c.matches(st.set.errKind)
	case errorDetailsLabel:
		return c.matches("")
	}
	v, _ := st.set.get(st.set.slots[c.slot])
	return c.matches(v)
}

func (c *stringCondition) accepts(_ *Stream, value string) bool { return c.matches(value) }

// matches returns m.Matches, as a comparison if m is a regex for a few words.
func matches(m *syntax.Matcher) func(string) bool {
	if m.Type != syntax.Re && m.Type != syntax.Nre {
		return m.Matches
	}
	tree, err := resyntax.Parse(m.Value, resyntax.Perl)
	if err != nil {
		return m.Matches
	}
	words, ok := expand(tree.Simplify())
	if !ok || words.fold {
		return m.Matches
	}
	return func(v string) bool { return slices.Contains(words.strings, v) == (m.Type == syntax.Re) }
}

// numericCondition is a test that needs the label to be there and to convert.
type numericCondition struct {
	slot int
	test func(value string) (bool, error)
}

func (c *numericCondition) keep(st *Stream) bool {
	v, ok := st.set.get(st.set.slots[c.slot])
	if !ok {
		return false
	}
	if st.set.errKind != "" {
		return true // only string filters remove a row that is in error
	}
	keep, err := c.test(v)
	if err != nil {
		st.set.setErr(ErrLabelFilter, err.Error())
		return true
	}
	return keep
}

func (c *numericCondition) accepts(st *Stream, value string) bool {
	if st.set.errKind != "" {
		return true
	}
	keep, err := c.test(value)
	return err != nil || keep
}

func compare[T int64 | uint64 | float64](op syntax.CompareOp, a, b T) bool {
	switch op {
	case syntax.CompareEqual:
		return a == b
	case syntax.CompareNotEqual:
		return a != b
	case syntax.CompareGreater:
		return a > b
	case syntax.CompareGreaterEqual:
		return a >= b
	case syntax.CompareLess:
		return a < b
	default:
		return a <= b
	}
}

// compileCondition compiles c. Names of the labels that it reads go through slot.
func compileCondition(c syntax.Condition, slot func(string) int) (condition, error) {
	switch c := c.(type) {
	case *syntax.LogicalCond:
		l, err := compileCondition(c.Left, slot)
		if err != nil {
			return nil, err
		}
		r, err := compileCondition(c.Right, slot)
		if err != nil {
			return nil, err
		}
		return &logicalCondition{c.Or, l, r}, nil
	case *syntax.StringCond:
		return &stringCondition{slot(c.Name), c.Name, matches(c.Matcher)}, nil
	case *syntax.NumberCond:
		return &numericCondition{slot(c.Name), func(v string) (bool, error) {
			f, err := strconv.ParseFloat(v, 64)
			return compare(c.Op, f, c.Value), err
		}}, nil
	case *syntax.DurationCond:
		return &numericCondition{slot(c.Name), func(v string) (bool, error) {
			d, err := time.ParseDuration(v)
			return compare(c.Op, int64(d), int64(c.Value)), err
		}}, nil
	case *syntax.BytesCond:
		return &numericCondition{slot(c.Name), func(v string) (bool, error) {
			n, err := ParseBytes(v)
			return compare(c.Op, n, c.Value), err
		}}, nil
	case *syntax.IPCond:
		m, err := newIPMatcher(c.Pattern)
		if err != nil {
			return nil, err
		}
		return &numericCondition{slot(c.Name), func(v string) (bool, error) {
			return m.match(raw(v)) != c.Negated, nil
		}}, nil
	case *syntax.InCond:
		return newInCondition(c, slot)
	}
	panic("unknown condition")
}

// singleLabel returns the label that c tests if it tests just one, and is allowed
// to be applied as soon as that is extracted.
func singleLabel(c syntax.Condition) string {
	name := ""
	switch c := c.(type) {
	case *syntax.StringCond:
		name = c.Name
	case *syntax.NumberCond:
		name = c.Name
	case *syntax.DurationCond:
		name = c.Name
	case *syntax.BytesCond:
		name = c.Name
	case *syntax.IPCond:
		name = c.Name
	case *syntax.InCond: // which reads it, but is no valueCondition
		name = c.Name
	}
	if name == errorLabel || name == errorDetailsLabel {
		return ""
	}
	return name
}

type filterStage struct{ cond condition }

func (f *filterStage) run(st *Stream, line []byte) ([]byte, bool) {
	return line, f.cond.keep(st)
}
