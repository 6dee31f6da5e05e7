package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxExpanded bounds the text that Expand makes.
const maxExpanded = 16 << 20

// Expand replaces ${NAME} in text by environment variables, as Promtail does with
// -config.expand-env: in the whole text, comments included. What is not set is
// empty; ${NAME:-x} (also := = :? :+) gives x where it is empty or not set. More
// forms are those of shells: # ## % %% / // ^ ^^ , ,, and :offset:length. $$ is
// $, and \\ is \, everywhere; $NAME stays as it is.
func Expand(text string, getenv func(string) string) (string, error) {
	e := expander{in: text, getenv: getenv, line: 1}
	out, err := e.text(false)
	if err != nil {
		return "", fmt.Errorf("line %d: %w", e.line, err)
	}
	return out, nil
}

type expander struct {
	in     string
	i      int
	line   int
	depth  int
	size   int
	getenv func(string) string
}

// text reads up to the end, or inside of braces up to the closing one.
func (e *expander) text(inside bool) (string, error) {
	if e.depth++; e.depth > 20 {
		return "", fmt.Errorf("${...} nested more than 20 deep")
	}
	defer func() { e.depth-- }()
	var out strings.Builder
	for e.i < len(e.in) {
		c := e.in[e.i]
		rest := e.in[e.i:]
		switch {
		case inside && c == '}':
			return out.String(), nil
		case strings.HasPrefix(rest, "$$"):
			out.WriteByte('$')
			e.i += 2
		case strings.HasPrefix(rest, "${"):
			v, err := e.variable()
			if err != nil {
				return "", err
			}
			if e.size += len(v); e.size > maxExpanded {
				return "", fmt.Errorf("the variables make more than %d bytes", maxExpanded)
			}
			out.WriteString(v)
		case strings.HasPrefix(rest, `\\`), strings.HasPrefix(rest, `\/`):
			out.WriteByte(rest[1])
			e.i += 2
		default:
			if c == '\n' {
				e.line++
			}
			out.WriteByte(c)
			e.i++
		}
	}
	return out.String(), nil
}

func (e *expander) variable() (string, error) {
	start := e.i
	e.i += 2
	bad := func() (string, error) {
		end := min(len(e.in), start+40)
		if n := strings.IndexByte(e.in[start:end], '\n'); n >= 0 {
			end = start + n
		}
		return "", fmt.Errorf("%q is no variable: want ${NAME} or ${NAME:-default}; write $$ for a $ that stays", e.in[start:end])
	}
	upper := ""
	if e.i < len(e.in) && e.in[e.i] == '#' {
		upper = "#" // the length
		e.i++
	}
	from := e.i
	for e.i < len(e.in) && (e.in[e.i] == '_' || e.in[e.i] >= '0' && e.in[e.i] <= '9' || e.in[e.i]|0x20 >= 'a' && e.in[e.i]|0x20 <= 'z') {
		e.i++
	}
	name := e.in[from:e.i]
	if e.i >= len(e.in) {
		return bad()
	}
	value := ""
	if name != "" {
		value = e.getenv(name)
	}
	op := ""
	for _, o := range []string{"}", ":-", ":=", ":?", ":+", "=", "##", "#", "%%", "%", "//", "/", "^^", "^", ",,", ",", ":"} {
		if strings.HasPrefix(e.in[e.i:], o) {
			op = o
			break
		}
	}
	if op == "" {
		return bad()
	}
	if op == "}" {
		e.i++
		if upper != "" {
			return strconv.Itoa(utf8.RuneCountInString(value)), nil
		}
		return value, nil
	}
	e.i += len(op)
	arg, err := e.text(true)
	if err != nil {
		return "", err
	}
	if e.i >= len(e.in) {
		return bad()
	}
	e.i++ // the brace
	switch op {
	case ":-", ":=", ":?", ":+", "=":
		if value == "" {
			return arg, nil
		}
		return value, nil
	case "^^":
		return strings.ToUpper(value), nil
	case ",,":
		return strings.ToLower(value), nil
	case "^", ",":
		_, n := utf8.DecodeRuneInString(value)
		if op == "^" {
			return strings.ToUpper(value[:n]) + value[n:], nil
		}
		return strings.ToLower(value[:n]) + value[n:], nil
	case "#", "##":
		return trimPrefix(value, arg, op == "##"), nil
	case "%", "%%":
		return trimSuffix(value, arg, op == "%%"), nil
	case "/", "//":
		old, with, _ := strings.Cut(arg, "/")
		if old == "" {
			return value, nil
		}
		if op == "//" {
			return strings.ReplaceAll(value, old, with), nil
		}
		return strings.Replace(value, old, with, 1), nil
	}
	a, b, hasLength := strings.Cut(arg, ":")
	offset, err := strconv.Atoi(strings.TrimSpace(a))
	if err != nil || offset < 0 {
		return bad()
	}
	value = value[min(offset, len(value)):]
	if hasLength {
		n, err := strconv.Atoi(strings.TrimSpace(b))
		if err != nil || n < 0 {
			return bad()
		}
		value = value[:min(n, len(value))]
	}
	return value, nil
}

// glob reports whether a shell pattern matches all of v; * matches / too.
func glob(pattern string) func(v string) bool {
	var b strings.Builder
	for _, c := range pattern {
		switch c {
		case '*':
			b.WriteString("(?s:.*)")
		case '?':
			b.WriteString("(?s:.)")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return regexp.MustCompile("^" + b.String() + "$").MatchString
}

func trimPrefix(v, pattern string, longest bool) string {
	found, match := v, glob(pattern)
	for i := 0; i <= len(v); i++ {
		if match(v[:i]) {
			found = v[i:]
			if !longest {
				return found
			}
		}
	}
	return found
}

func trimSuffix(v, pattern string, longest bool) string {
	found, match := v, glob(pattern)
	for i := len(v); i >= 0; i-- {
		if match(v[i:]) {
			found = v[:i]
			if !longest {
				return found
			}
		}
	}
	return found
}
