package pipeline

import (
	"errors"
	"fmt"
	"strconv"
)

// pathStep is a key or an index (key unused) of a JSON path.
type pathStep struct {
	key   string
	index int // -1: key, allElements: [*]
}

// parsePath parses a.b[0]["c d"].
func parsePath(s string) ([]pathStep, error) {
	var steps []pathStep
	bad := func(what string) error { return fmt.Errorf("cannot parse expression [%s]: syntax error: %s", s, what) }
	for i := 0; ; {
		switch {
		case i == len(s):
			if len(steps) == 0 {
				return nil, bad("unexpected end")
			}
			return steps, nil
		case s[i] == '[':
			end := i + 1
			if end < len(s) && s[end] == '"' {
				for end++; end < len(s) && s[end] != '"'; end++ {
					if s[end] == '\\' {
						end++
					}
				}
				if end+1 >= len(s) || s[end+1] != ']' {
					return nil, bad("missing closing ]")
				}
				key, err := strconv.Unquote(s[i+1 : end+1])
				if err != nil {
					return nil, bad("invalid string")
				}
				steps = append(steps, pathStep{key, -1})
				i = end + 2
				continue
			}
			if end+1 < len(s) && s[end] == '*' && s[end+1] == ']' {
				steps = append(steps, pathStep{"", allElements})
				i = end + 2
				continue
			}
			for end < len(s) && s[end] >= '0' && s[end] <= '9' {
				end++
			}
			n, err := strconv.Atoi(s[i+1 : end])
			if err != nil || end == len(s) || s[end] != ']' {
				return nil, bad("invalid index")
			}
			steps = append(steps, pathStep{"", n})
			i = end + 1
		default:
			if s[i] == '.' {
				if i++; len(steps) == 0 {
					return nil, bad(`unexpected "."`)
				}
			} else if len(steps) > 0 {
				return nil, bad(fmt.Sprintf("unexpected %q", s[i:]))
			}
			end := i
			for end < len(s) && (s[end] == '_' || s[end] >= 'a' && s[end] <= 'z' || s[end] >= 'A' && s[end] <= 'Z' ||
				s[end] >= 0x80 || end > i && (s[end] >= '0' && s[end] <= '9' || s[end] == '-')) {
				end++
			}
			if end == i {
				if i == len(s) {
					return nil, bad("unexpected end")
				}
				return nil, bad(fmt.Sprintf("unexpected %q", s[i:]))
			}
			steps = append(steps, pathStep{s[i:end], -1})
			i = end
		}
	}
}

var errStop = errors.New("found")

// find returns where the value at path lies in the JSON text that starts at i:
// ok if there is one. It is an error if the text breaks before.
func find(b []byte, i int, path []pathStep, a *arena) (kind jsonKind, from, to int, escaped, ok bool, err error) {
	if len(path) == 0 {
		kind, to, escaped, err = scanValue(b, i)
		return kind, i, to, escaped, err == nil, err
	}
	if i >= len(b) {
		err = errJSONEnd
		return
	}
	step := path[0]
	switch {
	case step.index == -1 && b[i] == '{':
		_, err = eachField(b, i, func(key []byte, esc bool, at int) (int, error) {
			if esc {
				mark := len(a.buf)
				var good bool
				if a.buf, good = appendUnescaped(a.buf, key, 0, false); !good {
					return 0, errors.New("bad escape in a key")
				}
				key = a.buf[mark:]
			}
			if string(key) == step.key {
				var e error
				kind, from, to, escaped, ok, e = find(b, at, path[1:], a)
				if e != nil {
					return 0, e
				}
				if ok {
					return 0, errStop
				}
			}
			_, next, _, e := scanValue(b, at)
			return next, e
		})
	case step.index >= 0 && b[i] == '[':
		i = skipBlanks(b, i+1)
		for n := 0; err == nil; n++ {
			if i < len(b) && b[i] == ']' {
				return
			}
			if n == step.index {
				return find(b, i, path[1:], a)
			}
			var next int
			if _, next, _, err = scanValue(b, i); err != nil {
				return
			}
			i = skipBlanks(b, next)
			switch {
			case i < len(b) && b[i] == ',':
				i = skipBlanks(b, i+1)
			case i < len(b) && b[i] == ']':
			default:
				err = errJSONAt(b, i)
			}
		}
	default:
		_, _, _, err = scanValue(b, i)
	}
	if err == errStop {
		err = nil
	}
	return
}

// jsonFields is `| json x="path"`.
type jsonFields struct {
	parser
	fields []field
	paths  [][]pathStep
}

func newJSONFields(p parser, fields []field) (*jsonFields, error) {
	j := &jsonFields{parser: p, fields: fields}
	for _, f := range fields {
		path, err := parsePath(f.path)
		if err != nil {
			return nil, err
		}
		j.paths = append(j.paths, path)
	}
	return j, nil
}

func (j *jsonFields) run(st *Stream, line []byte) ([]byte, bool) {
	if len(line) == 0 {
		return line, true
	}
	if c := line[0]; c != '{' && c != '[' && c != '"' {
		st.set.setErr(ErrJSONParser, errNotObject.Error())
		return line, true
	}
	for i, f := range j.fields {
		if hasAll(j.paths[i]) {
			if !j.all(st, line, f, j.paths[i]) {
				return line, false
			}
			continue
		}
		kind, from, to, escaped, ok, err := find(line, 0, j.paths[i], &st.arena)
		if err != nil {
			st.set.setErr(ErrJSONParser, err.Error())
		}
		info := st.set.slots[f.slot]
		var value []byte
		switch {
		case !ok || kind == jsonNull:
			if _, there := st.set.get(info); there {
				continue
			}
		case kind == jsonString:
			value = st.arena.text(line[from+1:to-1], escaped)
		default:
			value = st.arena.sanitize(line[from:to])
		}
		if !j.set(st, st.set.target(info), str(value)) {
			return line, false
		}
	}
	return line, true
}
