package pipeline

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// logfmtScanner walks over the pairs of a line.
type logfmtScanner struct {
	line []byte
	pos  int

	key, value []byte
	escaped    bool // value holds escapes, not decoded
	err        error
}

var errLogfmtKey = errors.New("invalid key")

// next advances to the next pair or broken pair; err tells which. value is empty
// for a key alone. Bytes up to the blank separate pairs.
func (s *logfmtScanner) next() bool {
	line, i := s.line, s.pos
	for i < len(line) && line[i] <= ' ' {
		i++
	}
	if i == len(line) {
		s.pos = i
		return false
	}
	s.value, s.escaped, s.err = nil, false, nil
	start, multibyte := i, false
	for i < len(line) && line[i] > ' ' && line[i] != '=' && line[i] != '"' {
		multibyte = multibyte || line[i] >= utf8.RuneSelf
		i++
	}
	s.key = line[start:i]
	switch {
	case i < len(line) && (line[i] == '"' || i == start):
		s.fail(i)
		return true
	case multibyte && !sound(s.key):
		s.err, s.pos = errLogfmtKey, s.skip(i)
		return true
	case i == len(line) || line[i] != '=':
		s.pos = i
		return true
	}
	i++
	if i == len(line) || line[i] <= ' ' {
		s.pos = i
		return true
	}
	if line[i] == '"' {
		s.quoted(i)
		return true
	}
	start = i
	for i < len(line) && line[i] > ' ' {
		if line[i] == '=' || line[i] == '"' {
			s.fail(i)
			return true
		}
		i++
	}
	s.value, s.pos = line[start:i], i
	return true
}

func (s *logfmtScanner) quoted(i int) {
	i++
	start := i
	for i < len(s.line) {
		switch s.line[i] {
		case '"':
			s.value, s.pos = s.line[start:i], i+1
			return
		case '\\':
			s.escaped = true
			i++
		}
		i++
	}
	s.pos, s.err = len(s.line), fmt.Errorf("logfmt syntax error at pos %d : unterminated quoted value", start)
}

func (s *logfmtScanner) fail(at int) {
	s.err = fmt.Errorf("logfmt syntax error at pos %d : unexpected %q", at+1, rune(s.line[at]))
	s.pos = s.skip(at)
}

func (s *logfmtScanner) skip(i int) int {
	for i < len(s.line) && s.line[i] > ' ' {
		i++
	}
	return i
}

// error is the text of what makes a pair broken, which may be that decode failed.
func (s *logfmtScanner) error() string {
	if s.err == nil {
		s.err = fmt.Errorf("logfmt syntax error at pos %d : invalid quoted value", s.pos)
	}
	return s.err.Error()
}

// decode returns the value without escapes; false if one is bad. The result may
// alias the line or the arena.
func (s *logfmtScanner) decode(a *arena) ([]byte, bool) {
	if !s.escaped {
		return s.value, true
	}
	from := len(a.buf)
	var ok bool
	if a.buf, ok = appendUnescaped(a.buf, s.value, '\'', true); !ok {
		a.buf = a.buf[:from]
		return nil, false
	}
	return a.buf[from:len(a.buf):len(a.buf)], true
}

// appendUnescaped appends s with JSON escapes decoded; also may be escaped too. In
// lenient mode a lone surrogate becomes U+FFFD, else it is an error.
func appendUnescaped(dst, s []byte, also byte, lenient bool) ([]byte, bool) {
	for i := 0; i < len(s); {
		c := s[i]
		if c != '\\' {
			if c < ' ' && lenient {
				return dst, false
			}
			dst = append(dst, c)
			i++
			continue
		}
		if i+1 == len(s) {
			return dst, false
		}
		c = s[i+1]
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
			r, ok := hex4(s[i:])
			if !ok {
				return dst, false
			}
			i += 4
			if utf16.IsSurrogate(r) {
				var low rune
				if len(s) >= i+6 && s[i] == '\\' && s[i+1] == 'u' {
					low, _ = hex4(s[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				} else if !lenient {
					return dst, false
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			if also == 0 || c != also {
				return dst, false
			}
			dst = append(dst, c)
		}
	}
	return dst, true
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	r := rune(0)
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// logfmtStage is `| logfmt` without parameters.
type logfmtStage struct {
	parser
	strict, keepEmpty bool
}

func (l *logfmtStage) run(st *Stream, line []byte) ([]byte, bool) {
	if !l.strict && l.idle {
		return line, true // nothing is needed, and nothing can go wrong
	}
	sc := logfmtScanner{line: line}
	for sc.next() {
		value, ok := []byte(nil), sc.err == nil
		if ok {
			value, ok = sc.decode(&st.arena)
		}
		if !ok {
			if !l.strict {
				continue
			}
			st.set.setErr(ErrLogfmtParser, sc.error())
			return line, true
		}
		if len(value) == 0 && !l.keepEmpty {
			continue
		}
		info := st.set.key(sc.key)
		if info == nil {
			continue
		}
		if info = st.set.target(info); st.set.taken(info) || !l.needs(info) {
			continue
		}
		if !l.set(st, info, str(st.arena.sanitize(value))) {
			return line, false
		}
	}
	return line, true
}

// logfmtFields is `| logfmt x="k"`.
type logfmtFields struct {
	parser
	strict, keepEmpty bool
	fields            []field
	paths             []string         // sanitised
	byKey             map[string][]int // which fields a sanitised key may set
}

// field is a label and where it is read from.
type field struct {
	slot int
	name string
	path string
}

func newLogfmtFields(p parser, fields []field) (*logfmtFields, error) {
	l := &logfmtFields{parser: p, fields: fields, byKey: map[string][]int{}}
	for i, f := range fields {
		for j := range len(f.path) {
			if c := f.path[j]; !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf ||
				j > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.')) {
				return nil, fmt.Errorf("cannot parse expression [%s]: syntax error: unexpected %q", f.path, f.path[j:])
			}
		}
		if f.path == "" {
			return nil, fmt.Errorf("cannot parse expression [%s]: syntax error: unexpected end", f.path)
		}
		key := string(appendSanitized(nil, []byte(f.path)))
		l.paths = append(l.paths, key)
		l.byKey[key] = append(l.byKey[key], i)
		if f.name != key {
			l.byKey[f.name] = append(l.byKey[f.name], i)
		}
	}
	return l, nil
}

func (l *logfmtFields) run(st *Stream, line []byte) ([]byte, bool) {
	sc := logfmtScanner{line: line}
	mark := int32(len(st.set.parsed))
	st.found = append(st.found[:0], make([]byte, len(l.fields))...)
	for sc.next() {
		value, ok := []byte(nil), sc.err == nil
		if ok {
			value, ok = sc.decode(&st.arena)
		}
		if !ok {
			if !l.strict {
				continue
			}
			st.set.setErr(ErrLogfmtParser, sc.error())
			break
		}
		key := st.set.key(sc.key)
		if key == nil {
			continue
		}
		targets := l.byKey[key.name]
		if len(targets) == 0 || (key.parsedRow == st.set.row && key.parsed < mark) {
			continue // not asked for, or extracted by an earlier stage
		}
		if !sound(value) {
			value = nil
		}
		for _, i := range targets {
			// The first pair of the key asked for wins over one named like the label.
			how := foundName
			if l.paths[i] == key.name {
				how = foundKey
			}
			if st.found[i] >= how {
				continue
			}
			st.found[i] = how
			if !l.set(st, st.set.target(st.set.slots[l.fields[i].slot]), str(value)) {
				return line, false
			}
		}
	}
	for i, f := range l.fields {
		if info := st.set.slots[f.slot]; st.found[i] == 0 {
			if _, ok := st.set.get(info); !ok && !l.set(st, st.set.target(info), "") {
				return line, false
			}
		}
	}
	return line, true
}

const (
	foundName byte = iota + 1
	foundKey
)
