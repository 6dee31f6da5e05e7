package pipeline

import (
	"bytes"
	"errors"
	"fmt"
)

// maxDepth bounds how deep objects may be nested.
const maxDepth = 256

var (
	errNotObject = errors.New("expected a JSON object")
	errJSONEnd   = errors.New("unexpected end of JSON")
	errTooDeep   = errors.New("objects nested too deep")
	errReject    = errors.New("rejected") // by a filter, at once
)

func errJSONAt(b []byte, i int) error {
	if i >= len(b) {
		return errJSONEnd
	}
	return fmt.Errorf("unexpected %q at offset %d", b[i], i)
}

// Kinds of JSON values.
type jsonKind uint8

const (
	jsonString jsonKind = iota
	jsonNumber
	jsonBool
	jsonNull
	jsonObject
	jsonArray
)

func skipBlanks(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// scanString returns the index behind the string whose opening quote is at i.
func scanString(b []byte, i int) (next int, escaped bool, err error) {
	i++
	n := bytes.IndexByte(b[i:], '"')
	if n < 0 {
		return 0, false, errJSONEnd
	}
	e := bytes.IndexByte(b[i:i+n], '\\')
	if e < 0 {
		return i + n + 1, false, nil
	}
	for i += e; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1, true, nil
		}
	}
	return 0, true, errJSONEnd
}

// scanValue returns the kind of the value that starts at i and the index behind
// it. Objects and arrays are passed over without a look at anything but their
// own kind of bracket; numbers are not checked.
func scanValue(b []byte, i int) (kind jsonKind, next int, escaped bool, err error) {
	if i >= len(b) {
		return 0, 0, false, errJSONEnd
	}
	switch c := b[i]; {
	case c == '"':
		next, escaped, err = scanString(b, i)
		return jsonString, next, escaped, err
	case c == '{':
		next, err = scanBlock(b, i, '{', '}')
		return jsonObject, next, false, err
	case c == '[':
		next, err = scanBlock(b, i, '[', ']')
		return jsonArray, next, false, err
	case c == '-' || c >= '0' && c <= '9':
		return jsonNumber, scanToken(b, i), false, nil
	}
	next = scanToken(b, i)
	switch string(b[i:next]) {
	case "true", "false":
		return jsonBool, next, false, nil
	case "null":
		return jsonNull, next, false, nil
	}
	return 0, 0, false, errJSONAt(b, i)
}

func scanToken(b []byte, i int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case ' ', '\t', '\n', '\r', ',', '}', ']':
			return i
		}
	}
	return i
}

func scanBlock(b []byte, i int, open, shut byte) (int, error) {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			next, _, err := scanString(b, i)
			if err != nil {
				return 0, err
			}
			i = next
			continue
		case open:
			depth++
		case shut:
			if depth--; depth == 0 {
				return i + 1, nil
			}
		}
		i++
	}
	return 0, errJSONEnd
}

// eachField calls f for the fields of the object whose brace is at i, with the
// raw key, whether that has escapes, and the index of the value; f returns the
// index behind the value. The result is the index behind the object.
func eachField(b []byte, i int, f func(key []byte, escaped bool, at int) (int, error)) (int, error) {
	i = skipBlanks(b, i+1)
	for {
		if i < len(b) && b[i] == '}' {
			return i + 1, nil
		}
		if i >= len(b) || b[i] != '"' {
			return 0, errJSONAt(b, i)
		}
		next, escaped, err := scanString(b, i)
		if err != nil {
			return 0, err
		}
		key := b[i+1 : next-1]
		if i = skipBlanks(b, next); i >= len(b) || b[i] != ':' {
			return 0, errJSONAt(b, i)
		}
		if i, err = f(key, escaped, skipBlanks(b, i+1)); err != nil {
			return 0, err
		}
		i = skipBlanks(b, i)
		switch {
		case i < len(b) && b[i] == ',':
			i = skipBlanks(b, i+1)
		case i < len(b) && b[i] == '}':
		default:
			return 0, errJSONAt(b, i)
		}
	}
}

// text returns the value of a JSON string without its quotes: escapes decoded, ""
// if one is bad, and made sound UTF-8.
func (a *arena) text(raw []byte, escaped bool) []byte {
	if escaped {
		from := len(a.buf)
		var ok bool
		if a.buf, ok = appendUnescaped(a.buf, raw, 0, false); !ok {
			a.buf = a.buf[:from]
			return nil
		}
		raw = a.buf[from:len(a.buf):len(a.buf)]
	}
	return a.sanitize(raw)
}

// jsonStage is `| json` without parameters: it flattens the line's object.
type jsonStage struct{ parser }

func (j *jsonStage) run(st *Stream, line []byte) ([]byte, bool) {
	i := skipBlanks(line, 0)
	if i == len(line) || line[i] != '{' {
		st.set.setErr(ErrJSONParser, errNotObject.Error())
		return line, true
	}
	w := jsonWalk{st: st, p: &j.parser, line: line}
	if _, err := w.object(i, 0); err == errReject {
		return line, false
	} else if err != nil {
		st.set.setErr(ErrJSONParser, err.Error())
	}
	return line, true
}

type jsonWalk struct {
	st    *Stream
	p     *parser
	line  []byte
	depth int
}

// object sets the labels of an object's fields. The first prefix bytes of the
// stream's path buffer are the name of the object.
func (w *jsonWalk) object(i, prefix int) (int, error) {
	if w.depth++; w.depth > maxDepth {
		return 0, errTooDeep
	}
	defer func() { w.depth-- }()
	// The loop of eachField, spelt out: this is the hottest of all parsers.
	b := w.line
	i = skipBlanks(b, i+1)
	for {
		if i < len(b) && b[i] == '}' {
			return i + 1, nil
		}
		if i >= len(b) || b[i] != '"' {
			return 0, errJSONAt(b, i)
		}
		next, escaped, err := scanString(b, i)
		if err != nil {
			return 0, err
		}
		key := b[i+1 : next-1]
		if i = skipBlanks(b, next); i >= len(b) || b[i] != ':' {
			return 0, errJSONAt(b, i)
		}
		if i, err = w.field(key, escaped, skipBlanks(b, i+1), prefix); err != nil {
			return 0, err
		}
		i = skipBlanks(b, i)
		switch {
		case i < len(b) && b[i] == ',':
			i = skipBlanks(b, i+1)
		case i < len(b) && b[i] == '}':
		default:
			return 0, errJSONAt(b, i)
		}
	}
}

func (w *jsonWalk) field(key []byte, escaped bool, at, prefix int) (int, error) {
	st := w.st
	if escaped {
		from := len(st.arena.buf)
		var ok bool
		if st.arena.buf, ok = appendUnescaped(st.arena.buf, key, 0, false); !ok {
			return 0, errors.New("bad escape in a key")
		}
		key = st.arena.buf[from:]
	}
	if at < len(w.line) && w.line[at] == '{' {
		n := w.push(key, prefix)
		return w.object(at, n)
	}
	kind, next, escaped, err := scanValue(w.line, at)
	if err != nil || kind == jsonNull || kind == jsonArray {
		return next, err
	}
	var info *nameInfo
	if prefix == 0 {
		info = st.set.key(key)
	} else if n := w.push(key, prefix); n <= maxName {
		info = st.set.nameBytes(st.path[:n])
	}
	if info == nil {
		return next, nil
	}
	if info = st.set.target(info); st.set.taken(info) || !w.p.needs(info) {
		return next, nil
	}
	value := w.line[at:next]
	if kind == jsonString {
		value = st.arena.text(value[1:len(value)-1], escaped)
	} else {
		value = st.arena.sanitize(value) // numbers are not checked
	}
	if !w.p.set(st, info, str(value)) {
		return 0, errReject
	}
	return next, nil
}

// push appends a key to the path of prefix bytes and returns the new length.
func (w *jsonWalk) push(key []byte, prefix int) int {
	st := w.st
	st.path = st.path[:prefix]
	if prefix > maxName {
		return prefix // too long for a label, so is all below
	}
	if prefix > 0 {
		st.path = append(st.path, '_')
	}
	n := len(st.path)
	st.path = appendSanitized(st.path, key)
	if len(st.path) == n {
		st.path = st.path[:prefix]
	}
	return len(st.path)
}

// unpackStage is `| unpack`.
type unpackStage struct{ parser }

// packedEntry is the key of the line in a packed line.
const packedEntry = "_entry"

func (u *unpackStage) run(st *Stream, line []byte) ([]byte, bool) {
	if len(line) == 0 {
		return line, true
	}
	if line[0] != '{' {
		st.set.setErr(ErrJSONParser, errNotObject.Error())
		return line, true
	}
	var entry []byte
	packed := false
	st.pairs = st.pairs[:0]
	_, err := eachField(line, 0, func(key []byte, escaped bool, at int) (int, error) {
		kind, next, escapedValue, err := scanValue(line, at)
		if err != nil || kind != jsonString {
			return next, err
		}
		if escaped {
			var ok bool
			from := len(st.arena.buf)
			if st.arena.buf, ok = appendUnescaped(st.arena.buf, key, 0, false); !ok {
				return 0, errors.New("bad escape in a key")
			}
			key = st.arena.buf[from:]
		}
		value := st.arena.text(line[at+1:next-1], escapedValue)
		if string(key) == packedEntry {
			entry, packed = value, true
			return next, nil
		}
		if info := st.set.key(key); info != nil {
			st.pairs = append(st.pairs, parsedLabel{info, str(value)})
		}
		return next, nil
	})
	if err != nil {
		st.set.setErr(ErrJSONParser, err.Error())
		return line, true
	}
	if !packed {
		return line, true
	}
	for _, p := range st.pairs {
		if info := st.set.target(p.info); !st.set.taken(info) && u.needs(info) && !u.set(st, info, p.value) {
			return line, false
		}
	}
	return entry, true
}
