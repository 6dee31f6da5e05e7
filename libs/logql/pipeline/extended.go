package pipeline

import (
	"errors"
	"slices"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// SetParsed gives rows labels that earlier stages, which ran elsewhere, have made, until
// it is called again. They may include the labels of an error.
func (s *Stream) SetParsed(labels []model.Label) { s.before = labels }

// SetParsed is that of Stream.
func (s *SampleStream) SetParsed(labels []model.Label) { s.st.SetParsed(labels) }

func (s *LabelSet) setParsed(labels []model.Label) {
	for _, l := range labels {
		switch l.Name {
		case errorLabel:
			s.errKind = l.Value
		case errorDetailsLabel:
			s.errDetails = l.Value
		default:
			s.set(s.name(l.Name), l.Value)
		}
	}
}

// inCondition sees a missing label as "", which is in no list.
type inCondition struct {
	slot    int
	name    string
	negated bool
	values  map[string]struct{}
}

func newInCondition(c *syntax.InCond, slot func(string) int) (condition, error) {
	if c.Query != nil {
		return nil, errors.New("a subquery cannot stand here")
	}
	in := &inCondition{slot(c.Name), c.Name, c.Negated, make(map[string]struct{}, len(c.Values))}
	for _, v := range c.Values {
		if v != "" {
			in.values[v] = struct{}{}
		}
	}
	return in, nil
}

func (c *inCondition) keep(st *Stream) bool {
	var v string
	switch c.name {
	case errorLabel:
		v = st.set.errKind
	case errorDetailsLabel:
		v = st.set.errDetails
	default:
		v, _ = st.set.get(st.set.slots[c.slot])
	}
	_, in := c.values[v]
	return in != c.negated
}

// allElements is the index of a step that stands for all elements of an array.
const allElements = -2

func hasAll(path []pathStep) bool {
	return slices.ContainsFunc(path, func(s pathStep) bool { return s.index == allElements })
}

// all sets a label to the array of all values that a path with [*] leads to. It returns
// false if a filter that follows would remove the row.
func (j *jsonFields) all(st *Stream, line []byte, f field, path []pathStep) bool {
	a := &st.arena
	// Keys are unescaped into the arena, so that the array cannot grow there.
	out, found, err := appendAll(nil, line, 0, path, a)
	if err != nil {
		st.set.setErr(ErrJSONParser, err.Error())
	}
	info := st.set.slots[f.slot]
	if !found {
		out = nil
		if _, there := st.set.get(info); there {
			return true
		}
	} else {
		out = a.sanitize(append(out, ']'))
	}
	return j.set(st, st.set.target(info), string(out))
}

// appendAll appends what a path leads to, in the JSON text that starts at i, to the
// array that is being built in dst. found is whether there is something there: an array,
// if the path has a [*].
func appendAll(dst, b []byte, i int, path []pathStep, a *arena) (_ []byte, found bool, err error) {
	at := slices.IndexFunc(path, func(s pathStep) bool { return s.index == allElements })
	if at < 0 {
		_, from, to, _, ok, err := find(b, i, path, a)
		if !ok {
			return dst, false, err
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		return append(dst, b[from:to]...), true, err
	}
	kind, from, _, _, ok, err := find(b, i, path[:at], a)
	if !ok || kind != jsonArray {
		return dst, false, err
	}
	if len(dst) == 0 {
		dst = append(dst, '[')
	}
	_, err = eachElement(b, from, func(element int) error {
		var err error
		dst, _, err = appendAll(dst, b, element, path[at+1:], a)
		return err
	})
	return dst, true, err
}

// eachElement calls f with the place of each element of the array that starts at i, and
// returns the index behind the array.
func eachElement(b []byte, i int, f func(at int) error) (int, error) {
	i = skipBlanks(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		if err := f(i); err != nil {
			return i, err
		}
		_, next, _, err := scanValue(b, i)
		if err != nil {
			return i, err
		}
		i = skipBlanks(b, next)
		if i == len(b) {
			return i, errJSONEnd
		}
		switch b[i] {
		case ',':
			i = skipBlanks(b, i+1)
		case ']':
			return i + 1, nil
		default:
			return i, errJSONAt(b, i)
		}
	}
}

// Elements calls f with each element of a JSON array: strings decoded, null as "", all
// else as it stands there. ok is false, and f not called, if text is no array.
func Elements(text string, f func(value string) error) (ok bool, err error) {
	b := []byte(text)
	i := skipBlanks(b, 0)
	if i == len(b) || b[i] != '[' {
		return false, nil
	}
	end, broken := eachElement(b, i, func(int) error { return nil })
	if broken != nil || skipBlanks(b, end) != len(b) {
		return false, nil
	}
	var a arena
	_, err = eachElement(b, i, func(at int) error {
		kind, to, escaped, err := scanValue(b, at)
		if err != nil {
			return err
		}
		switch kind {
		case jsonNull:
			return f("")
		case jsonString:
			a.reset()
			return f(string(a.text(b[at+1:to-1], escaped)))
		}
		return f(string(b[at:to]))
	})
	return true, err
}
