package pipeline

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"text/template"
	"time"
	_ "time/tzdata" // toDateInZone has to know zones wherever it runs
	"unicode"
	"unicode/utf8"
)

// Bounds on what one row may cost.
const (
	maxOutput  = 1 << 20  // bytes of any string a template makes
	maxWork    = 16 << 20 // bytes that functions may read and write
	loopCost   = 256      // work of one turn of a loop
	maxRegexps = 16       // compiled regexes and zones that are remembered
	// maxRegexpSize is in instructions; a regex may come from a line.
	maxRegexpSize = 32 << 10
)

var (
	errTooLong    = errors.New("result longer than 1 MiB")
	errTooMuch    = errors.New("template does too much work")
	errRegexpSize = errors.New("regular expression too large")
	errDivision   = errors.New("division by zero")
)

// funcEnv is what template functions know besides their arguments. Every stream has its own.
type funcEnv struct {
	line    string
	ts      int64
	now     func() time.Time
	work    int
	regexps map[string]*regexp.Regexp
	zones   map[string]*time.Location
}

func (e *funcEnv) begin(ts int64, line []byte) {
	e.ts, e.line, e.work = ts, str(line), 0
}

// charge accounts for n bytes read or written.
func (e *funcEnv) charge(n int) error {
	if e.work += n + 16; e.work > maxWork || n < 0 {
		return errTooMuch
	}
	return nil
}

// room checks that a string of n bytes may be made.
func (e *funcEnv) room(n int) error {
	if n > maxOutput || n < 0 {
		return errTooLong
	}
	return e.charge(n)
}

func (e *funcEnv) time() time.Time { return time.Unix(0, e.ts).UTC() }

func (e *funcEnv) present() time.Time {
	if e.now == nil {
		return e.time()
	}
	return e.now().UTC()
}

func (e *funcEnv) regexp(s string) (*regexp.Regexp, error) {
	if re := e.regexps[s]; re != nil {
		return re, nil
	}
	if err := e.charge(64 * len(s)); err != nil {
		return nil, err
	}
	if tree, err := syntax.Parse(s, syntax.Perl); err == nil && regexpSize(tree) > maxRegexpSize {
		return nil, errRegexpSize
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, err
	}
	if e.regexps == nil || len(e.regexps) >= maxRegexps {
		e.regexps = map[string]*regexp.Regexp{}
	}
	e.regexps[s] = re
	return re, nil
}

// regexpSize estimates how many instructions a regex compiles to.
func regexpSize(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, s := range re.Sub {
		n += regexpSize(s)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, 1<<30)
}

func (e *funcEnv) zone(name string) *time.Location {
	if z := e.zones[name]; z != nil {
		return z
	}
	z, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		z = time.UTC
	}
	if e.zones == nil || len(e.zones) >= maxRegexps {
		e.zones = map[string]*time.Location{}
	}
	e.zones[name] = z
	return z
}

// str1 wraps a function that makes a string of about the size of its input.
func (e *funcEnv) str1(f func(string) string) func(string) (string, error) {
	return func(s string) (string, error) {
		if err := e.room(len(s)); err != nil {
			return "", err
		}
		return f(s), nil
	}
}

func (e *funcEnv) str2(f func(a, b string) string) func(a, b string) (string, error) {
	return func(a, b string) (string, error) {
		if err := e.charge(len(a) + len(b)); err != nil {
			return "", err
		}
		return f(a, b), nil
	}
}

func (e *funcEnv) bool2(f func(a, b string) bool) func(a, b string) (bool, error) {
	return func(a, b string) (bool, error) {
		return f(a, b), e.charge(len(a) + len(b))
	}
}

// loopName is the function that compiled templates call in every turn of a loop.
const loopName = "__loop__"

// functions returns the template functions over e.
func (e *funcEnv) functions() template.FuncMap {
	swap := func(f func(a, b string) string) func(a, b string) (string, error) {
		return e.str2(func(a, b string) string { return f(b, a) })
	}
	swapBool := func(f func(a, b string) bool) func(a, b string) (bool, error) {
		return e.bool2(func(a, b string) bool { return f(b, a) })
	}
	return template.FuncMap{
		loopName:        func() (string, error) { return "", e.charge(loopCost) },
		"__line__":      func() string { return e.line },
		"__timestamp__": e.time,

		"lower": e.str1(strings.ToLower), "ToLower": e.str1(strings.ToLower),
		"upper": e.str1(strings.ToUpper), "ToUpper": e.str1(strings.ToUpper),
		"title": e.str1(title),
		"trim":  e.str1(strings.TrimSpace), "TrimSpace": e.str1(strings.TrimSpace),
		"trimAll": swap(strings.Trim), "Trim": e.str2(strings.Trim),
		"TrimLeft": e.str2(strings.TrimLeft), "TrimRight": e.str2(strings.TrimRight),
		"trimPrefix": swap(strings.TrimPrefix), "TrimPrefix": e.str2(strings.TrimPrefix),
		"trimSuffix": swap(strings.TrimSuffix), "TrimSuffix": e.str2(strings.TrimSuffix),
		"replace":   func(old, new, s string) (string, error) { return e.replace(s, old, new, -1) },
		"Replace":   e.replace,
		"contains":  swapBool(strings.Contains),
		"hasPrefix": swapBool(strings.HasPrefix),
		"hasSuffix": swapBool(strings.HasSuffix),

		"regexReplaceAll":        e.regexReplaceAll,
		"regexReplaceAllLiteral": e.regexReplaceAllLiteral,
		"count":                  e.count,

		"trunc": trunc, "substr": substr,
		"alignLeft":  func(n int, s string) (string, error) { return e.align(n, s, true) },
		"alignRight": func(n int, s string) (string, error) { return e.align(n, s, false) },
		"repeat":     e.repeat, "indent": e.indent,
		"nindent": func(n int, s string) (string, error) {
			s, err := e.indent(n, s)
			return "\n" + s, err
		},

		"b64enc": func(s string) (string, error) {
			if err := e.room(base64.StdEncoding.EncodedLen(len(s))); err != nil {
				return "", err
			}
			return base64.StdEncoding.EncodeToString([]byte(s)), nil
		},
		"b64dec":    e.str1(b64dec),
		"urlencode": func(s string) (string, error) { return e.grow(s, 3, url.QueryEscape) },
		"urldecode": func(s string) (string, error) {
			if err := e.charge(len(s)); err != nil {
				return "", err
			}
			return url.QueryUnescape(s)
		},

		"bytes": func(s string) (float64, error) {
			n, err := ParseBytes(s)
			return float64(n), err
		},
		"duration": seconds, "duration_seconds": seconds,

		"int": func(v any) int { return int(toInt(v)) }, "float64": toFloat,
		"add": func(v ...any) int64 { return fold(v, func(a, b int64) int64 { return a + b }) },
		"mul": func(a any, v ...any) int64 {
			return fold(append([]any{a}, v...), func(a, b int64) int64 { return a * b })
		},
		"max": func(a any, v ...any) int64 {
			return fold(append([]any{a}, v...), func(a, b int64) int64 { return max(a, b) })
		},
		"min": func(a any, v ...any) int64 {
			return fold(append([]any{a}, v...), func(a, b int64) int64 { return min(a, b) })
		},
		"sub": func(a, b any) int64 { return toInt(a) - toInt(b) },
		"div": func(a, b any) (int64, error) {
			d := toInt(b)
			if d == 0 {
				return 0, errDivision
			}
			return toInt(a) / d, nil
		},
		"mod": func(a, b any) (int64, error) {
			d := toInt(b)
			if d == 0 {
				return 0, errDivision
			}
			return toInt(a) % d, nil
		},
		"addf":  func(v ...any) (float64, error) { return e.decimals(v, decimal.add) },
		"subf":  func(a any, v ...any) (float64, error) { return e.decimals(append([]any{a}, v...), decimal.sub) },
		"mulf":  func(a any, v ...any) (float64, error) { return e.decimals(append([]any{a}, v...), decimal.mul) },
		"divf":  func(a any, v ...any) (float64, error) { return e.decimals(append([]any{a}, v...), decimal.div) },
		"maxf":  func(a any, v ...any) float64 { return foldFloat(a, v, math.Max) },
		"minf":  func(a any, v ...any) float64 { return foldFloat(a, v, math.Min) },
		"ceil":  func(v any) float64 { return math.Ceil(toFloat(v)) },
		"floor": func(v any) float64 { return math.Floor(toFloat(v)) },
		"round": round,

		"default": func(d any, v ...any) any {
			if len(v) == 0 || empty(v[0]) {
				return d
			}
			return v[0]
		},
		"fromJson": func(s string) (any, error) {
			if err := e.charge(8 * len(s)); err != nil {
				return nil, err
			}
			var v any
			if json.Unmarshal([]byte(s), &v) != nil {
				return nil, nil
			}
			return v, nil
		},

		"date": func(layout string, v any) (string, error) {
			t := e.present()
			switch v := v.(type) {
			case time.Time:
				t = v
			case *time.Time:
				t = *v
			case int64:
				t = time.Unix(v, 0)
			case int:
				t = time.Unix(int64(v), 0)
			case int32:
				t = time.Unix(int64(v), 0)
			}
			if err := e.room(8 * len(layout)); err != nil {
				return "", err
			}
			return t.UTC().Format(layout), nil
		},
		"toDate": func(layout, s string) time.Time {
			t, _ := time.ParseInLocation(layout, s, time.UTC)
			return t
		},
		"toDateInZone": func(layout, zone, s string) time.Time {
			t, _ := time.ParseInLocation(layout, s, e.zone(zone))
			return t
		},
		"now":             e.present,
		"unixEpoch":       func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) },
		"unixEpochMillis": func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) },
		"unixEpochNanos":  func(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) },
		"unixToTime":      unixToTime,

		// Go's own, bounded.
		"print":    func(v ...any) (string, error) { return e.sprint(v, 1, fmt.Sprint) },
		"println":  func(v ...any) (string, error) { return e.sprint(v, 1, fmt.Sprintln) },
		"html":     func(v ...any) (string, error) { return e.sprint(v, 5, template.HTMLEscaper) },
		"js":       func(v ...any) (string, error) { return e.sprint(v, 6, template.JSEscaper) },
		"urlquery": func(v ...any) (string, error) { return e.sprint(v, 3, template.URLQueryEscaper) },
		"printf":   e.printf,
	}
}

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
