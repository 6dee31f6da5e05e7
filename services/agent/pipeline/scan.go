package pipeline

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonNode is a place in JSON that something is wanted of, or of what is below.
type jsonNode struct {
	outs   []int // results that are set to the value
	fields []jsonField
	elems  []jsonElem
}

type jsonField struct {
	key  string
	node *jsonNode
}

type jsonElem struct {
	index int
	node  *jsonNode
}

// jsonStep is a key or, if key is unused, an index.
type jsonStep struct {
	key   string
	index int // -1: key
}

// at gives the node below at path, which it makes if need be.
func (n *jsonNode) at(path []jsonStep) *jsonNode {
	for _, step := range path {
		var next *jsonNode
		if step.index < 0 {
			for _, f := range n.fields {
				if f.key == step.key {
					next = f.node
				}
			}
			if next == nil {
				next = &jsonNode{}
				n.fields = append(n.fields, jsonField{step.key, next})
			}
		} else {
			for _, e := range n.elems {
				if e.index == step.index {
					next = e.node
				}
			}
			if next == nil {
				next = &jsonNode{}
				n.elems = append(n.elems, jsonElem{step.index, next})
			}
		}
		n = next
	}
	return n
}

// simplePath takes a JMESPath expression apart that is nothing but keys and
// indices: a.b[0]."c d". false: it is more.
func simplePath(s string) ([]jsonStep, bool) {
	var steps []jsonStep
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '[' && len(steps) > 0:
			end := strings.IndexByte(s[i:], ']')
			if end < 0 {
				return nil, false
			}
			n, err := strconv.ParseUint(s[i+1:i+end], 10, 31)
			if err != nil {
				return nil, false
			}
			steps = append(steps, jsonStep{index: int(n)})
			i += end + 1
			continue
		case c == '.' && len(steps) > 0:
			i++
		case len(steps) > 0:
			return nil, false
		}
		if i == len(s) {
			return nil, false
		}
		if s[i] == '"' {
			end := strings.IndexByte(s[i+1:], '"')
			if end < 0 || strings.IndexByte(s[i+1:i+1+end], '\\') >= 0 {
				return nil, false
			}
			steps = append(steps, jsonStep{s[i+1 : i+1+end], -1})
			i += end + 2
			continue
		}
		end := i
		for end < len(s) && (s[end] == '_' || s[end] >= 'a' && s[end] <= 'z' || s[end] >= 'A' && s[end] <= 'Z' || end > i && s[end] >= '0' && s[end] <= '9') {
			end++
		}
		if end == i {
			return nil, false
		}
		steps = append(steps, jsonStep{s[i:end], -1})
		i = end
	}
	return steps, len(steps) > 0
}

// jsonValue is where a result lies: b[from:to], quotes included.
type jsonValue struct {
	from, to int
	kind     kind
	escaped  bool
}

const maxJSONDepth = 512

var (
	errJSON      = errors.New("not valid JSON")
	errNotObject = errors.New("not a JSON object")
	errDepth     = errors.New("nested too deep")
)

// jsonScan reads JSON once, all of it, and notes where the wanted values lie.
type jsonScan struct {
	b       []byte
	results []jsonValue
	depth   int
	scratch []byte // decoded keys
}

// object reads b, which must be one object. Results of what is not there are zero.
func (p *jsonScan) object(n *jsonNode) error {
	i := skipSpace(p.b, 0)
	if i == len(p.b) || p.b[i] != '{' {
		return errNotObject
	}
	i, _, _, err := p.value(i, n)
	if err != nil {
		return err
	}
	if skipSpace(p.b, i) != len(p.b) {
		return errJSON
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// value reads the value at i and gives the index behind it. Of a name that comes twice the last
// value counts, with nothing of what lay below the one before.
func (p *jsonScan) value(i int, n *jsonNode) (next int, k kind, escaped bool, err error) {
	if i >= len(p.b) {
		return 0, 0, false, errJSON
	}
	if n != nil {
		p.forget(n)
	}
	switch c := p.b[i]; {
	case c == '"':
		k = text
		next, escaped, err = p.str(i)
	case c == '{':
		k = nested
		next, err = p.fields(i, n)
	case c == '[':
		k = nested
		next, err = p.elems(i, n)
	case c == '-' || c >= '0' && c <= '9':
		k = number
		next, err = p.number(i)
	case bytes.HasPrefix(p.b[i:], []byte("true")):
		k, next = boolean, i+4
	case bytes.HasPrefix(p.b[i:], []byte("false")):
		k, next = boolean, i+5
	case bytes.HasPrefix(p.b[i:], []byte("null")):
		k, next = null, i+4
	default:
		err = errJSON
	}
	if err == nil && n != nil {
		for _, out := range n.outs {
			p.results[out] = jsonValue{i, next, k, escaped}
		}
	}
	return next, k, escaped, err
}

// forget takes back the results of what lies below n.
func (p *jsonScan) forget(n *jsonNode) {
	below := func(c *jsonNode) {
		for _, out := range c.outs {
			p.results[out] = jsonValue{}
		}
		p.forget(c)
	}
	for _, f := range n.fields {
		below(f.node)
	}
	for _, e := range n.elems {
		below(e.node)
	}
}

// str passes over the string at i.
func (p *jsonScan) str(i int) (next int, escaped bool, err error) {
	i++
	n := bytes.IndexByte(p.b[i:], '"')
	if n < 0 {
		return 0, false, errJSON
	}
	e := bytes.IndexByte(p.b[i:i+n], '\\')
	if e < 0 {
		return i + n + 1, false, nil
	}
	for i += e; i < len(p.b); i++ {
		switch p.b[i] {
		case '\\':
			i++
		case '"':
			return i + 1, true, nil
		}
	}
	return 0, true, errJSON
}

func (p *jsonScan) number(i int) (int, error) {
	b := p.b
	digits := func() bool {
		from := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		return i > from
	}
	if b[i] == '-' {
		i++
	}
	first := i
	if !digits() || b[first] == '0' && i > first+1 {
		return 0, errJSON
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return 0, errJSON
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return 0, errJSON
		}
	}
	return i, nil
}

func (p *jsonScan) fields(i int, n *jsonNode) (int, error) {
	if p.depth++; p.depth > maxJSONDepth {
		return 0, errDepth
	}
	b := p.b
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		p.depth--
		return i + 1, nil
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return 0, errJSON
		}
		next, escaped, err := p.str(i)
		if err != nil {
			return 0, err
		}
		var child *jsonNode
		if n != nil && len(n.fields) > 0 {
			child = p.wanted(n, b[i+1:next-1], escaped)
		}
		if i = skipSpace(b, next); i >= len(b) || b[i] != ':' {
			return 0, errJSON
		}
		if i, _, _, err = p.value(skipSpace(b, i+1), child); err != nil {
			return 0, err
		}
		if i = skipSpace(b, i); i >= len(b) {
			return 0, errJSON
		}
		if b[i] == '}' {
			p.depth--
			return i + 1, nil
		}
		if b[i] != ',' {
			return 0, errJSON
		}
		i = skipSpace(b, i+1)
	}
}

func (p *jsonScan) wanted(n *jsonNode, key []byte, escaped bool) *jsonNode {
	if escaped {
		var ok bool
		if p.scratch, ok = appendUnescaped(p.scratch[:0], key); !ok {
			return nil
		}
		key = p.scratch
	}
	for i := range n.fields {
		if f := &n.fields[i]; len(f.key) == len(key) && f.key == string(key) {
			return f.node
		}
	}
	return nil
}

func (p *jsonScan) elems(i int, n *jsonNode) (int, error) {
	if p.depth++; p.depth > maxJSONDepth {
		return 0, errDepth
	}
	b := p.b
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		p.depth--
		return i + 1, nil
	}
	for index := 0; ; index++ {
		var child *jsonNode
		if n != nil {
			for _, e := range n.elems {
				if e.index == index {
					child = e.node
				}
			}
		}
		var err error
		if i, _, _, err = p.value(i, child); err != nil {
			return 0, err
		}
		if i = skipSpace(b, i); i >= len(b) {
			return 0, errJSON
		}
		if b[i] == ']' {
			p.depth--
			return i + 1, nil
		}
		if b[i] != ',' {
			return 0, errJSON
		}
		i = skipSpace(b, i+1)
	}
}

// appendUnescaped appends the inside of a JSON string, escapes decoded. Halves of
// surrogate pairs become U+FFFD.
func appendUnescaped(dst, s []byte) ([]byte, bool) {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			n := bytes.IndexByte(s[i:], '\\')
			if n < 0 {
				n = len(s) - i
			}
			dst = append(dst, s[i:i+n]...)
			i += n
			continue
		}
		if i+1 >= len(s) {
			return dst, false
		}
		c := s[i+1]
		i += 2
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			high, ok := hex4(s[i:])
			if !ok {
				return dst, false
			}
			i += 4
			if utf16.IsSurrogate(high) {
				full := rune(utf8.RuneError)
				if len(s) >= i+6 && s[i] == '\\' && s[i+1] == 'u' {
					if low, ok := hex4(s[i+2:]); ok {
						full = utf16.DecodeRune(high, low)
					}
				}
				if high = full; full != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, high)
		default:
			return dst, false
		}
	}
	return dst, true
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(n), err == nil
}

// take gives a result as an extracted value.
func (r *Runner) take(b []byte, v jsonValue) (value, bool) {
	switch v.kind {
	case null, absent:
		return value{kind: null}, true
	case text:
		inner := b[v.from+1 : v.to-1]
		if v.escaped {
			dst, ok := appendUnescaped(r.room(), inner)
			if !ok {
				return value{}, false
			}
			inner = r.kept(dst)
		}
		return value{str(inner), text}, true
	}
	return value{str(b[v.from:v.to]), v.kind}, true
}

// logfmtScan walks over key=value pairs.
type logfmtScan struct {
	b          []byte
	i          int
	key, value []byte
	escaped    bool
}

// next advances; done: there is no more. A syntax error ends it.
func (p *logfmtScan) next() (ok bool, err error) {
	b, i := p.b, p.i
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	if i == len(b) {
		return false, nil
	}
	from := i
	for i < len(b) && b[i] > ' ' && b[i] != '=' && b[i] != '"' {
		i++
	}
	p.key, p.value, p.escaped = b[from:i], nil, false
	if len(p.key) == 0 || i < len(b) && b[i] == '"' {
		return false, errLogfmt
	}
	if i == len(b) || b[i] != '=' {
		p.i = i
		return true, nil
	}
	i++
	if i < len(b) && b[i] == '"' {
		i++
		from = i
		for ; i < len(b); i++ {
			if b[i] == '\\' {
				p.escaped = true
				i++
			} else if b[i] == '"' {
				p.value, p.i = b[from:i], i+1
				return true, nil
			}
		}
		return false, errLogfmt
	}
	from = i
	for i < len(b) && b[i] > ' ' {
		if b[i] == '=' || b[i] == '"' {
			return false, errLogfmt
		}
		i++
	}
	p.value, p.i = b[from:i], i
	return true, nil
}

var errLogfmt = errors.New("not valid logfmt")
