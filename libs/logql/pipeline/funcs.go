package pipeline

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"text/template"
	"time"
	_ "time/tzdata" // toDateInZone has to know zones wherever it runs
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

// funcEnv is what template functions know besides their arguments.
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
