package syntax

import (
	"strings"
	"unicode/utf8"
)

// lexer splits a query into tokens on demand. It is a value: a copy is a
// bookmark to go back to.
type lexer struct {
	src string
	off int // next byte to read

	// Place of the byte at posOff, from which later places are counted.
	posOff int
	pos    Pos
}

const byteOrderMark = "\ufeff"

func newLexer(src string) lexer {
	src = strings.TrimPrefix(src, byteOrderMark)
	return lexer{src: src, pos: Pos{Line: 1, Col: 1}}
}

// place returns the line and column of a byte offset. Offsets must not decrease.
func (l *lexer) place(off int) Pos {
	for l.posOff < off {
		if l.src[l.posOff] == '\n' {
			l.pos.Line, l.pos.Col = l.pos.Line+1, 1
			l.posOff++
			continue
		}
		_, n := utf8.DecodeRuneInString(l.src[l.posOff:])
		l.pos.Col++
		l.posOff += n
	}
	return l.pos
}

func (l *lexer) token(k kind, start, end int) token {
	l.off = end
	return token{kind: k, off: start, text: l.src[start:end], pos: l.place(start)}
}

func (l *lexer) fail(at int, msg string) token {
	l.off = len(l.src)
	return token{kind: tError, off: at, text: msg, pos: l.place(at)}
}

// next returns the next token; at the end tEOF again and again. After a tError
// the rest of the text is skipped.
func (l *lexer) next() token {
	if msg := l.skipBlanks(); msg != "" {
		return l.fail(l.off, msg)
	}
	start := l.off
	if start == len(l.src) {
		return token{kind: tEOF, off: start, pos: l.place(start)}
	}
	switch c := l.src[start]; {
	case isLetter(c):
		return l.word()
	case isDigit(c) || c == '.' && start+1 < len(l.src) && isDigit(l.src[start+1]):
		return l.number()
	case c == '"':
		return l.quoted()
	case c == '`':
		return l.raw()
	case c == '[':
		return l.rangeLiteral()
	case c == '-':
		return l.minus()
	}
	return l.punct()
}

func (l *lexer) skipBlanks() (failure string) {
	for l.off < len(l.src) {
		rest := l.src[l.off:]
		switch {
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r' || rest[0] == '\n':
			l.off++
		case rest[0] == '#' || strings.HasPrefix(rest, "//"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				l.off += i
			} else {
				l.off = len(l.src)
			}
		case strings.HasPrefix(rest, "/*"):
			i := strings.Index(rest[2:], "*/")
			if i < 0 {
				return "comment not terminated"
			}
			l.off += i + 4
		default:
			return ""
		}
	}
	return ""
}

func (l *lexer) word() token {
	end := l.wordEnd(l.off)
	t := l.token(tIdent, l.off, end)
	if len(t.text) > len("count_distinct_over_time") { // the longest of them
		return t
	}
	lower := strings.ToLower(t.text)
	if k, ok := keywords[lower]; ok {
		t.kind, t.text = k, lower
	} else if k, ok := functions[lower]; ok && l.calls(k != tFunction && k != tTime) {
		t.kind, t.text = k, lower
	}
	return t
}

func (l *lexer) wordEnd(i int) int {
	for i < len(l.src) && (isLetter(l.src[i]) || isDigit(l.src[i])) {
		i++
	}
	return i
}

// calls reports whether what follows makes the name just read a function:
// `(`, or, of an aggregation, by or without with a `(`.
func (l *lexer) calls(groups bool) bool {
	ahead := *l
	if ahead.skipBlanks() != "" || ahead.off == len(ahead.src) {
		return false
	}
	end := ahead.wordEnd(ahead.off)
	if w := ahead.src[ahead.off:end]; groups && (strings.EqualFold(w, "by") || strings.EqualFold(w, "without")) {
		ahead.off = end
		if ahead.skipBlanks() != "" {
			return false
		}
	}
	return strings.HasPrefix(ahead.src[ahead.off:], "(")
}

// minus reads a negative duration, a flag or just the operator.
func (l *lexer) minus() token {
	rest := l.src[l.off:]
	if len(rest) > 1 && isDigit(rest[1]) {
		if end := runEnd(l.src, l.off+1, isDurationByte); end > 0 {
			if d, ok := parseDuration(l.src[l.off:end]); ok {
				t := l.token(tDuration, l.off, end)
				t.dur = d
				return t
			}
		}
	}
	for _, flag := range []string{flagStrict, flagKeepEmpty} {
		if strings.HasPrefix(rest, flag) && l.wordEnd(l.off+len(flag)) == l.off+len(flag) {
			return l.token(tFlag, l.off, l.off+len(flag))
		}
	}
	return l.token(tSub, l.off, l.off+1)
}

const (
	flagStrict    = "--strict"
	flagKeepEmpty = "--keep-empty"
)

// number reads a duration, a size or a plain number, in this order.
func (l *lexer) number() token {
	start := l.off
	if end := runEnd(l.src, start, isDurationByte); end > start {
		if d, ok := parseDuration(l.src[start:end]); ok {
			t := l.token(tDuration, start, end)
			t.dur = d
			return t
		}
	}
	if end := runEnd(l.src, start, isBytesByte); end > start {
		if n, ok := parseBytes(l.src[start:end]); ok {
			t := l.token(tBytes, start, end)
			t.size = n
			return t
		}
	}
	i := start
	digits := func() {
		for i < len(l.src) && (isDigit(l.src[i]) || l.src[i] == '_') {
			i++
		}
	}
	if l.src[i] == '0' && i+2 < len(l.src) && isBasePrefix(l.src[i+1]) && isDigit(l.src[i+2]) {
		// Not decimal: one token, which the conversion refuses as a whole.
		return l.token(tNumber, start, l.wordEnd(i))
	}
	digits()
	if i < len(l.src) && l.src[i] == '.' {
		i++
		digits()
	}
	if i < len(l.src) && (l.src[i] == 'e' || l.src[i] == 'E') {
		j := i + 1
		if j < len(l.src) && (l.src[j] == '+' || l.src[j] == '-') {
			j++
		}
		if j < len(l.src) && isDigit(l.src[j]) {
			i = j
			digits()
		}
	}
	return l.token(tNumber, start, i)
}

func isBasePrefix(c byte) bool {
	return strings.IndexByte("xXbBoO", c) >= 0
}

// rangeLiteral reads [5m]. Errors point at the bracket.
func (l *lexer) rangeLiteral() token {
	start := l.off
	end := strings.IndexByte(l.src[start:], ']')
	if end < 0 {
		return l.fail(start, "missing closing ']' in duration")
	}
	end += start
	d, err := parsePromDuration(l.src[start+1 : end])
	if err != nil {
		return l.fail(start, err.Error())
	}
	t := l.token(tRange, start, end+1)
	t.dur = d
	return t
}

func (l *lexer) raw() token {
	start := l.off
	end := strings.IndexByte(l.src[start+1:], '`')
	if end < 0 {
		return l.fail(start, "literal not terminated")
	}
	body := l.src[start+1 : start+1+end]
	if bad := invalidUTF8(body); bad >= 0 {
		return l.fail(start+1+bad, "invalid UTF-8 rune")
	}
	t := l.token(tString, start, start+end+2)
	t.text = body
	return t
}

func (l *lexer) quoted() token {
	start := l.off
	i := start + 1
	plain := true
scan:
	for {
		if i >= len(l.src) || l.src[i] == '\n' {
			return l.fail(start, "literal not terminated")
		}
		switch l.src[i] {
		case '"':
			break scan
		case '\\':
			plain = false
			if i++; i >= len(l.src) || l.src[i] == '\n' {
				return l.fail(start, "literal not terminated")
			}
		}
		i++
	}
	body := l.src[start+1 : i]
	if bad := invalidUTF8(body); bad >= 0 {
		return l.fail(start+1+bad, "invalid UTF-8 rune")
	}
	text := body
	if !plain {
		var ok bool
		if text, ok = unescape(body, '"'); !ok {
			return l.fail(start, "invalid char escape")
		}
	}
	t := l.token(tString, start, i+1)
	t.text = text
	return t
}

func (l *lexer) punct() token {
	start := l.off
	rest := l.src[start:]
	if len(rest) > 1 {
		if k, ok := twoBytes[rest[:2]]; ok {
			return l.token(k, start, start+2)
		}
	}
	if k, ok := oneByte[rest[0]]; ok {
		return l.token(k, start, start+1)
	}
	r, n := utf8.DecodeRuneInString(rest)
	if r == utf8.RuneError && n == 1 {
		return l.fail(start, "invalid UTF-8 rune")
	}
	return l.token(tUnknown, start, start+n)
}

var twoBytes, oneByte = func() (map[string]kind, map[byte]kind) {
	two, one := map[string]kind{}, map[byte]kind{}
	for k, text := range punctText {
		switch len(text) {
		case 2:
			two[text] = kind(k)
		case 1:
			one[text[0]] = kind(k)
		}
	}
	return two, one
}()

func isLetter(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// IsLabelName reports whether s can be written as a label in a query, but for
// the reserved words.
func IsLabelName(s string) bool {
	if s == "" || isDigit(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isLetter(s[i]) && !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// runEnd returns the end of the bytes from i on that satisfy f.
func runEnd(s string, i int, f func(byte) bool) int {
	for i < len(s) && f(s[i]) {
		i++
	}
	return i
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
	}
	return -1
}
