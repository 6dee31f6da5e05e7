package decode

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// maxDepth bounds how deep JSON may nest.
const maxDepth = 32

// scanner reads JSON from a slice. Its methods leave at at the byte behind what they
// read.
type scanner struct {
	b  []byte
	at int

	// What strings with escapes are unescaped into.
	keyBuf, textBuf []byte
}

func (s *scanner) fail(what string) error {
	return rpcerr.New(rpcerr.ParseError, "the JSON is not valid: %s at byte %d", what, s.at)
}

func (s *scanner) blanks() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek returns the next byte that is not blank, 0 at the end.
func (s *scanner) peek() byte {
	s.blanks()
	if s.at < len(s.b) {
		return s.b[s.at]
	}
	return 0
}

func (s *scanner) expect(c byte) error {
	if s.peek() != c {
		if s.at >= len(s.b) {
			return s.fail("it ends where " + string(rune(c)) + " is expected")
		}
		return s.fail("expected " + string(rune(c)))
	}
	s.at++
	return nil
}

// end reports an error unless only blanks are left.
func (s *scanner) end() error {
	if s.peek(); s.at < len(s.b) {
		return s.fail("more text behind the value")
	}
	return nil
}

// object calls f with each key of an object; f reads the value. The key is valid
// until the next key of any object is read.
func (s *scanner) object(f func(key []byte) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.at++
		return nil
	}
	for {
		key, err := s.unquote(&s.keyBuf)
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := f(key); err != nil {
			return err
		}
		if s.peek() != ',' {
			return s.expect('}')
		}
		s.at++
	}
}

// array calls f before each element, with its number; f reads it.
func (s *scanner) array(f func(i int) error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.at++
		return nil
	}
	for i := 0; ; i++ {
		if err := f(i); err != nil {
			return err
		}
		if s.peek() != ',' {
			return s.expect(']')
		}
		s.at++
	}
}

// text reads a string, which is valid until the next is read.
func (s *scanner) text() ([]byte, error) { return s.unquote(&s.textBuf) }

// unquote reads a string. The result aliases the input, or scratch if the string
// has escapes.
func (s *scanner) unquote(scratch *[]byte) ([]byte, error) {
	if err := s.expect('"'); err != nil {
		return nil, err
	}
	rest := s.b[s.at:]
	n := bytes.IndexByte(rest, '"')
	if n < 0 {
		s.at = len(s.b)
		return nil, s.fail("the string has no end")
	}
	raw := rest[:n]
	escape := -1
	for i, c := range raw {
		if c == '\\' {
			escape = i
			break
		}
		if c < ' ' {
			s.at += i
			return nil, s.fail("a control character in a string")
		}
	}
	if escape < 0 {
		s.at += n + 1
		return raw, nil
	}
	s.at += escape
	out, err := s.escaped(append((*scratch)[:0], raw[:escape]...))
	if err == nil {
		*scratch = out
	}
	return out, err
}

// escaped reads the rest of a string that has escapes behind what is in out.
func (s *scanner) escaped(out []byte) ([]byte, error) {
	for s.at < len(s.b) {
		switch c := s.b[s.at]; {
		case c == '"':
			s.at++
			return out, nil
		case c < ' ':
			return nil, s.fail("a control character in a string")
		case c != '\\':
			// Whole stretches at once: long lines with an escape here and there.
			n := 1
			for s.at+n < len(s.b) && s.b[s.at+n] != '"' && s.b[s.at+n] != '\\' && s.b[s.at+n] >= ' ' {
				n++
			}
			out = append(out, s.b[s.at:s.at+n]...)
			s.at += n
		case s.at+1 >= len(s.b):
			s.at++
		default:
			var err error
			if out, err = s.escape(out); err != nil {
				return nil, err
			}
		}
	}
	return nil, s.fail("the string has no end")
}

// escape reads one escape.
func (s *scanner) escape(out []byte) ([]byte, error) {
	c := s.b[s.at+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r := s.hex(s.at)
		if r < 0 {
			return nil, s.fail("an escape that is none")
		}
		s.at += 6
		if utf16.IsSurrogate(r) {
			// The second half of a pair; a half alone becomes U+FFFD.
			if pair := utf16.DecodeRune(r, s.hex(s.at)); pair != utf8.RuneError {
				s.at += 6
				return utf8.AppendRune(out, pair), nil
			}
		}
		return utf8.AppendRune(out, r), nil
	default:
		return nil, s.fail("an escape that is none")
	}
	s.at += 2
	return append(out, c), nil
}

// hex returns the number of the \uXXXX at a position, -1 if there is none.
func (s *scanner) hex(at int) rune {
	if at+6 > len(s.b) || s.b[at] != '\\' || s.b[at+1] != 'u' {
		return -1
	}
	r := rune(0)
	for _, c := range s.b[at+2 : at+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// scalar reads a number, true, false or null and returns its text.
func (s *scanner) scalar() ([]byte, error) {
	s.blanks()
	from := s.at
	for s.at < len(s.b) {
		switch c := s.b[s.at]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', c == 'E', c == '+', c == '-', c == '.':
			s.at++
			continue
		}
		break
	}
	text := s.b[from:s.at]
	switch string(text) {
	case "true", "false", "null":
		return text, nil
	}
	if !number(text) {
		s.at = from
		return nil, s.fail("expected a value")
	}
	return text, nil
}

// number reports whether b is a JSON number.
func number(b []byte) bool {
	digits := func() bool {
		n := 0
		for n < len(b) && '0' <= b[n] && b[n] <= '9' {
			n++
		}
		b = b[n:]
		return n > 0
	}
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	if len(b) > 1 && b[0] == '0' && '0' <= b[1] && b[1] <= '9' {
		return false
	}
	if !digits() {
		return false
	}
	if len(b) > 0 && b[0] == '.' {
		b = b[1:]
		if !digits() {
			return false
		}
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		b = b[1:]
		if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		if !digits() {
			return false
		}
	}
	return len(b) == 0
}

// skip reads any value that is depth levels down.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.fail("it nests too deep")
	}
	switch s.peek() {
	case '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	case '[':
		return s.array(func(int) error { return s.skip(depth + 1) })
	case '"':
		_, err := s.text()
		return err
	}
	_, err := s.scalar()
	return err
}

// null reads null if it is next.
func (s *scanner) null() bool {
	s.blanks()
	if bytes.HasPrefix(s.b[s.at:], []byte("null")) {
		s.at += 4
		return true
	}
	return false
}
