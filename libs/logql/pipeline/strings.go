package pipeline

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// grow bounds a function whose result may be factor times its input.
func (e *funcEnv) grow(s string, factor int, f func(string) string) (string, error) {
	if len(s) > maxOutput {
		return "", errTooLong
	}
	if err := e.charge(factor * len(s)); err != nil {
		return "", err
	}
	if s = f(s); len(s) > maxOutput {
		return "", errTooLong
	}
	return s, nil
}

// title makes the first letter of each word a capital.
func title(s string) string {
	prev := ' '
	return strings.Map(func(r rune) rune {
		start := !unicode.IsLetter(prev) && !unicode.IsDigit(prev) && prev != '_' &&
			(prev < utf8.RuneSelf || unicode.IsSpace(prev))
		prev = r
		if start {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func (e *funcEnv) replace(s, old, new string, n int) (string, error) {
	hits := strings.Count(s, old)
	if n >= 0 {
		hits = min(hits, n)
	}
	if err := e.charge(len(s)); err != nil {
		return "", err
	}
	if d := len(new) - len(old); d > 0 && hits > maxOutput/d {
		return "", errTooLong
	}
	if err := e.room(len(s) + hits*(len(new)-len(old))); err != nil {
		return "", err
	}
	return strings.Replace(s, old, new, n), nil
}

func (e *funcEnv) regexReplaceAll(re, s, repl string) (string, error) {
	r, err := e.regexp(re)
	if err != nil {
		return "", err
	}
	if err := e.charge(len(s)); err != nil {
		return "", err
	}
	// Matches are found in one go, so their number is bounded by their memory.
	limit := 8 << 20 / (24 + 16*(r.NumSubexp()+1))
	matches := r.FindAllStringSubmatchIndex(s, limit)
	if len(matches) == limit {
		return "", errTooLong
	}
	var out []byte
	last := 0
	for _, m := range matches {
		out = append(out, s[last:m[0]]...)
		out = r.ExpandString(out, repl, s, m)
		last = m[1]
		if len(out) > maxOutput {
			return "", errTooLong
		}
	}
	out = append(out, s[last:]...)
	return string(out), e.room(len(out))
}

func (e *funcEnv) regexReplaceAllLiteral(re, s, repl string) (string, error) {
	r, err := e.regexp(re)
	if err != nil {
		return "", err
	}
	size := len(s)
	out := r.ReplaceAllStringFunc(s, func(string) string {
		if size += len(repl); size > 2*maxOutput {
			return ""
		}
		return repl
	})
	if size > 2*maxOutput {
		return "", errTooLong
	}
	return out, e.room(len(out))
}

func (e *funcEnv) count(re, s string) (int, error) {
	r, err := e.regexp(re)
	if err != nil {
		return 0, err
	}
	n := 0
	r.ReplaceAllStringFunc(s, func(string) string { n++; return "" })
	return n, e.charge(len(s))
}

func trunc(n int, s string) string {
	switch {
	case n >= 0 && n < len(s):
		return s[:n]
	case n < 0 && len(s)+n > 0:
		return s[len(s)+n:]
	}
	return s
}

func substr(start, end int, s string) (string, error) {
	if start < 0 {
		start = 0
		if end < 0 {
			return "", fmt.Errorf("slice bounds out of range [:%d]", end)
		}
	} else if end < 0 || end > len(s) {
		end = len(s)
	}
	if start > end || end > len(s) {
		return "", fmt.Errorf("slice bounds out of range [%d:%d]", start, end)
	}
	return s[start:end], nil
}

func (e *funcEnv) align(n int, s string, left bool) (string, error) {
	if err := e.charge(len(s)); err != nil || n < 0 {
		return s, err
	}
	have := utf8.RuneCountInString(s)
	if have == n {
		return s, nil
	}
	if have < n {
		if err := e.room(len(s) + n - have); err != nil {
			return "", err
		}
		if left {
			return s + strings.Repeat(" ", n-have), nil
		}
		return strings.Repeat(" ", n-have) + s, nil
	}
	runes := []rune(s)
	if left {
		return string(runes[:n]), nil
	}
	return string(runes[have-n:]), nil
}

func (e *funcEnv) repeat(n int, s string) (string, error) {
	if n < 0 {
		return "", errors.New("negative repeat count")
	}
	if len(s) > 0 && n > maxOutput/len(s) {
		return "", errTooLong
	}
	if err := e.room(n * len(s)); err != nil {
		return "", err
	}
	return strings.Repeat(s, n), nil
}

func (e *funcEnv) indent(n int, s string) (string, error) {
	pad, err := e.repeat(n, " ")
	if err != nil {
		return "", err
	}
	s, err = e.replace(s, "\n", "\n"+pad, -1)
	if err == nil {
		err = e.room(len(pad) + len(s))
	}
	if err != nil {
		return "", err
	}
	return pad + s, nil
}

func b64dec(s string) string {
	s += strings.Repeat("=", (4-len(s)%4)%4)
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func seconds(s string) (float64, error) {
	d, err := time.ParseDuration(s)
	return d.Seconds(), err
}

func unixToTime(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	switch len(s) {
	case 5:
		return time.Unix(n*86400, 0).UTC(), nil
	case 10:
		return time.Unix(n, 0).UTC(), nil
	case 13:
		return time.UnixMilli(n).UTC(), nil
	case 16:
		return time.UnixMicro(n).UTC(), nil
	case 19:
		return time.Unix(0, n).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("unable to parse time %q: expected 5, 10, 13, 16 or 19 digits", s)
}

// size estimates, up to a bit more than limit, how long v prints.
func size(v any, limit int) int {
	switch v := v.(type) {
	case nil:
		return 8
	case string:
		return len(v)
	case []any:
		n := 2
		for _, x := range v {
			if n += 1 + size(x, limit-n); n > limit {
				break
			}
		}
		return n
	case map[string]any:
		n := 5
		for k, x := range v {
			if n += 2 + len(k) + size(x, limit-n); n > limit {
				break
			}
		}
		return n
	case map[string]string:
		n := 5
		for k, x := range v {
			n += 2 + len(k) + len(x)
		}
		return n
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.String || r.Kind() == reflect.Slice {
		return 4 * r.Len()
	}
	return 64 // numbers, times
}

// sprint bounds a function that prints its arguments, each byte as factor bytes at most.
func (e *funcEnv) sprint(v []any, factor int, f func(...any) string) (string, error) {
	n := 0
	for _, x := range v {
		if n += size(x, maxOutput) + 1; n > maxOutput+1 {
			return "", errTooLong
		}
	}
	if err := e.charge(n * factor); err != nil {
		return "", err
	}
	s := f(v...)
	if len(s) > maxOutput {
		return "", errTooLong
	}
	return s, nil
}

func (e *funcEnv) printf(format string, v ...any) (string, error) {
	// Widths and precisions count, be they digits or arguments; an argument may be
	// printed by every verb if indexes are used.
	n, number, verbs := len(format), 0, 1
	for i := range len(format) {
		switch c := format[i]; {
		case digit(c):
			number = min(number*10+int(c-'0'), maxOutput+1)
			continue
		case c == '[':
			verbs++
		case c == '*':
			for _, x := range v {
				n += int(min(max(toInt(x), -toInt(x), 0), maxOutput+1))
			}
		}
		n += number
		if number = 0; n > maxOutput {
			return "", errTooLong
		}
	}
	for _, x := range v {
		if n += verbs * size(x, maxOutput); n > maxOutput {
			return "", errTooLong
		}
	}
	if err := e.charge(4 * n); err != nil {
		return "", err
	}
	s := fmt.Sprintf(format, v...)
	if len(s) > maxOutput {
		return "", errTooLong
	}
	return s, nil
}
