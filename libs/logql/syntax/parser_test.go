package syntax_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

func mustParse(t *testing.T, query string) syntax.Expr {
	t.Helper()
	e, err := syntax.ParseExpr(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return e
}

// TestCanonical parses a query and compares its canonical text; "" stands for the query itself.
func TestCanonical(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		// Selectors, blanks, comments, strings.
		{`{a="b"}`, ""},
		{"\ufeff{ a = \"b\" ,\n\tc!=`d` , e=~\"f.+\",g!~\"h\"}\r\n", `{a="b", c!="d", e=~"f.+", g!~"h"}`},
		{"{a=\"b\"} # |= \"c\"\n|= \"d\" // e\n/* f\n */ |= \"g\"", `{a="b"} |= "d" |= "g"`},
		{`{a="\a\b\f\n\r\t\v\\\"\101\xff\u00e9\U0001f600"}`, `{a="\a\b\f\n\r\t\v\\\"A\xffé😀"}`},
		{"{a=`\\n\n\"`}", `{a="\\n\n\""}`},
		{`{count="1", RATE="2", Sum="3", ip="4", duration="5"}`, `{count="1", RATE="2", Sum="3", ip="4", duration="5"}`},
		{`(({a="b"} | json))`, `{a="b"} | json`},
		{`{a="b", c=""}`, ""},
		{`{a!=""}`, ""},

		// Line filters.
		{`{a="b"}|="c"!="d"|~"e"!~"f"|>"g<_>"!>"h"`, `{a="b"} |= "c" != "d" |~ "e" !~ "f" |> "g<_>" !> "h"`},
		{`{a="b"} |= "c" or "d" OR ip("::1") != ip("10.0.0.0/8")`, `{a="b"} |= "c" or "d" or ip("::1") != ip("10.0.0.0/8")`},

		// Parsers and formats.
		{`{a="b"} | JSON | Json c="d[0].e", f`, `{a="b"} | json | json c="d[0].e",f="f"`},
		{`{a="b"} | logfmt --keep-empty --strict --strict x, y="z"`, `{a="b"} | logfmt --strict --keep-empty x="x",y="z"`},
		{`{a="b"} | regexp "(?P<x>.)" | pattern "<x> <_>" | unpack | decolorize`, ""},
		{`{a="b"} | line_format "{{.x}}" | label_format c=d, e="{{.f}}"`, `{a="b"} | line_format "{{.x}}" | label_format c=d,e="{{.f}}"`},
		{`{a="b"} | drop c, d="e", f=~"g" | keep h!="i",j!~"k" != "line"`, `{a="b"} | drop c,d="e",f=~"g" | keep h!="i",j!~"k" != "line"`},

		// Label filters.
		{`{a="b"} | c="d" | e!=5 | f>=1h | g<10KB | h=~"i" | j!=ip("::1") | k==-1 | l=+2`,
			`{a="b"} | c="d" | e!=5 | f>=1h0m0s | g<10kB | h=~"i" | j!=ip("::1") | k==-1 | l==2`},
		{`{a="b"} | c=1 and d=2 or e=3`, `{a="b"} | ( ( c==1 , d==2 ) or e==3 )`},
		{`{a="b"} | c=1 or d=2 and e=3`, `{a="b"} | ( c==1 or ( d==2 , e==3 ) )`},
		{`{a="b"} | c=1 or d=2, e=3`, `{a="b"} | ( c==1 or ( d==2 , e==3 ) )`},
		{`{a="b"} | c=1, d=2 or e=3`, `{a="b"} | ( c==1 , ( d==2 or e==3 ) )`},
		{`{a="b"} | c=1 d=2 or e=3`, `{a="b"} | ( c==1 , ( d==2 or e==3 ) )`},
		{`{a="b"} | c=1 and d=2, e=3`, `{a="b"} | ( c==1 , ( d==2 , e==3 ) )`},
		{`{a="b"} | c=1 (d=2 or e=3) and f=4`, `{a="b"} | ( c==1 , ( ( d==2 or e==3 ) , f==4 ) )`},
		{`{a="b"} | c>1 and d<1.5 and e=0.25`, `{a="b"} | ( ( c>1 , d<1.5 ) , e==0.25 )`},
		{`{a="b"} | c=1e30 or c=1e-9 or c=1_000`, `{a="b"} | ( ( c==1e+30 or c==1e-09 ) or c==1000 )`},

		// Durations and bytes.
		{`{a="b"} | c>250µs | c>1.5h | c>1d | c>-5m | c=1h30m5s10ms`, `{a="b"} | c>250µs | c>1h30m0s | c>24h0m0s | c>-5m0s | c==1h30m5.01s`},
		{`{a="b"} | c>5B | c>5K | c>1.5MiB | c>12KiB | c>4Mi | c>5M | c>2.3MB`, `{a="b"} | c>5B | c>5.0kB | c>1.6MB | c>12kB | c>4.2MB | c>5.0MB | c>2.3MB`},
		{`sum_over_time({a="b"} | unwrap c | d>12KiB | e>1kB [1m])`, `sum_over_time({a="b"} | unwrap c | d>12288B | e>1.0kB[1m])`},

		// Ranges.
		{`count_over_time({a="b"}[5m])`, ""},
		{`count_over_time({a="b"} | json [5m] offset 1h30m)`, `count_over_time({a="b"} | json[5m] offset 1h30m0s)`},
		{`count_over_time({a="b"}[5m] offset -1.5s | json | c=1)`, `count_over_time({a="b"} | json | c==1[5m] offset -1.5s)`},
		{`count_over_time((({a="b"} | json)[1d]))`, `count_over_time({a="b"} | json[1d])`},
		{`count_over_time((({a="b"} | json)) [1w] offset 1w)`, `count_over_time({a="b"} | json[1w] offset 168h0m0s)`},
		{`sum_over_time(({a="b"})[90s] offset 5m | unwrap bytes(c))`, `sum_over_time({a="b"} | unwrap bytes(c)[1m30s] offset 5m0s)`},
		{`sum_over_time(({a="b"} | unwrap c)[1y2w])`, `sum_over_time({a="b"} | unwrap c[379d])`},
		{`sum_over_time({a="b"}[5m] | unwrap duration(c) | d="e" | f=1)`, `sum_over_time({a="b"} | unwrap duration(c) | d="e" | f==1[5m])`},
		{`rate({a="b"} | unwrap duration_seconds(duration) [5m])`, `rate({a="b"} | unwrap duration_seconds(duration)[5m])`},
		{`quantile_over_time(.99, {a="b"} | unwrap c [1h]) by (d, e)`, `quantile_over_time(0.99,{a="b"} | unwrap c[1h]) by (d,e)`},
		{`max_over_time({a="b"} | unwrap c [1h]) by ()`, `max_over_time({a="b"} | unwrap c[1h]) by ()`},
		{`max_over_time({a="b"} | unwrap c [1h]) without ()`, `max_over_time({a="b"} | unwrap c[1h]) without ()`},

		// Vector aggregations.
		{`SUM BY (a, b) (RATE({a="b"}[1m]))`, `sum by (a,b)(rate({a="b"}[1m]))`},
		{`sum(rate({a="b"}[1m])) without (c)`, `sum without (c)(rate({a="b"}[1m]))`},
		{`sum by () (vector(1))`, `sum(vector(1))`},
		{`sum without () (vector(1))`, `sum without ()(vector(1))`},
		{`topk(5, vector(1)) by (a)`, `topk by (a)(5,vector(1))`},
		{`sort(vector(1)) + sort_desc(approx_topk(3, vector(2)))`, `(sort(vector(1)) + sort_desc(approx_topk(3,vector(2))))`},
		{`sum(1 + vector(2))`, `sum((1 + vector(2)))`},
		{`sum(1)`, ""},

		// Binary operators.
		{`vector(1) or vector(2) and vector(3) == vector(4) + vector(5) * vector(6) ^ vector(7)`,
			`(vector(1) or (vector(2) and (vector(3) == (vector(4) + (vector(5) * (vector(6) ^ vector(7)))))))`},
		{`vector(1) - vector(2) - vector(3)`, `((vector(1) - vector(2)) - vector(3))`},
		{`vector(1) ^ vector(2) ^ vector(3)`, `(vector(1) ^ (vector(2) ^ vector(3)))`},
		{`vector(1) unless vector(2) and vector(3)`, `((vector(1) unless vector(2)) and vector(3))`},
		{`vector(1) > bool on (a, b) group_left (c) vector(2)`, `(vector(1) > bool on (a,b) group_left (c) vector(2))`},
		{`vector(1) + ignoring () group_right vector(2)`, `(vector(1) + ignoring () group_right () vector(2))`},
		{`vector(1) + on () vector(2)`, `(vector(1) + on ()  vector(2))`},
		{`vector(1) * -2`, `(vector(1) * -2)`},
		{`label_replace(vector(1), "a", "$1", "b", "(.*)")`, `label_replace(vector(1),"a","$1","b","(.*)")`},

		// Literals fold.
		{`1 + 2 * 3 - 4 / 8`, `6.5`},
		{`2 ^ 3 ^ 2`, `512`},
		{`-2 ^ 2`, `4`},
		{`1 - -1`, `2`},
		{`7 % 4 == 3`, `1`},
		{`1 >= bool 2`, `0`},
		{`1 + 2 + vector(3)`, `(3 + vector(3))`},
		{`vector(3) + 1 + 2`, `((vector(3) + 1) + 2)`},
		{`1 / 0`, `(0 / 0)`},
		{`1e300 * 1e300`, `(1e308 * 10)`},
		{`-1e300 * 1e300`, `(-1e308 * 10)`},
		{`1e-3`, `0.001`},
		{`2.`, `2`},
		{`-.5`, `-0.5`},
	} {
		want := c.want
		if want == "" {
			want = c.query
		}
		e, err := syntax.ParseExpr(c.query)
		if err != nil {
			t.Errorf("%s: %v", c.query, err)
			continue
		}
		if got := e.String(); got != want {
			t.Errorf("%s\n got %s\nwant %s", c.query, got, want)
		}
		checkRoundTrip(t, e)
	}
}

func TestErrors(t *testing.T) {
	const at = "parse error at line %d, col %d: "
	for _, c := range []struct {
		query     string
		line, col int
		text      string
	}{
		{``, 0, 0, `syntax error: unexpected $end`},
		{`  `, 1, 3, `syntax error: unexpected $end`},
		{`{}`, 0, 0, `queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~".*" does not meet this requirement, but app=~".+" will`},
		{`rate({a="b"}[1m]) / rate({c=~".*"}[1m])`, 0, 0, `queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~".*" does not meet this requirement, but app=~".+" will`},
		{"{a=\"é\"}\n | c = \"日本\" }", 2, 13, `syntax error: unexpected }`},
		{"{a=\"x\"}\n\n  |= x", 3, 6, `syntax error: unexpected IDENTIFIER, expecting STRING or ip`},
		{"{a=\"x\ny\"}", 1, 4, `literal not terminated`},
		{"{a=`x", 1, 4, `literal not terminated`},
		{"{a=\"x\\", 1, 4, `literal not terminated`},
		{`{a="\'"}`, 1, 4, `invalid char escape`},
		{`{a="\ud800"}`, 1, 4, `invalid char escape`},
		{`{a='b'}`, 1, 4, `syntax error: unexpected IDENTIFIER, expecting STRING`},
		{"{a=\"x\xff\"}", 1, 6, `invalid UTF-8 rune`},
		{"{a=`x\xff`}", 1, 6, `invalid UTF-8 rune`},
		{"\xff", 1, 1, `invalid UTF-8 rune`},
		{`{a="b"} /* c`, 1, 9, `comment not terminated`},
		{`{é="b"}`, 1, 2, `syntax error: unexpected IDENTIFIER, expecting IDENTIFIER or }`},
		{`{by="b"}`, 1, 2, `syntax error: unexpected by, expecting IDENTIFIER or }`},
		{`{a="b"} | JSON JSON`, 1, 16, `syntax error: unexpected json`},
		{`0x10`, 0, 0, `unable to parse literal as a float: strconv.ParseFloat: parsing "0x10": invalid syntax`},
		{`1e400`, 0, 0, `unable to parse literal as a float: strconv.ParseFloat: parsing "1e400": value out of range`},
		{`rate({a="b"}[5m)`, 1, 13, `missing closing ']' in duration`},
		{`rate({a="b"}[5m1h])`, 1, 13, `not a valid duration string: "5m1h"`},
		{`rate({a="b"}[300y])`, 1, 13, `duration out of range`},
		{`rate({a="b"}[0s])`, 1, 13, `duration must be greater than 0`},
		{`rate({a="b"}[5m] offset 5)`, 1, 25, `syntax error: unexpected NUMBER, expecting DURATION`},
		{`rate({a="b"} | json [5m] | json)`, 1, 26, `syntax error: unexpected |, expecting )`},
		{`rate({a="b"} [5m] | json [5m])`, 1, 26, `syntax error: unexpected RANGE, expecting )`},
		{`rate(({a="b"} | json)[5m] | unwrap x)`, 1, 27, `syntax error: unexpected |, expecting )`},
		{`rate({a="b"} | unwrap x | json [5m])`, 1, 27, `syntax error: unexpected json, expecting IDENTIFIER or (`},
		{`rate({a="b"} | unwrap x |= "y" [5m])`, 1, 25, `syntax error: unexpected |=, expecting RANGE or |`},
		{`{a="b"} | unwrap x`, 1, 11, `syntax error: unexpected unwrap`},
		{`rate(rate({a="b"}[5m])[5m:1m])`, 1, 6, `syntax error: unexpected RATE, expecting NUMBER or { or (`},
		{`({a="b"}) |= "c"`, 1, 11, `syntax error: unexpected |=`},
		{`sum by (a) (vector(1)) by (b)`, 1, 24, `syntax error: unexpected by`},
		{`sum by (a,) (vector(1))`, 1, 11, `syntax error: unexpected ), expecting IDENTIFIER`},
		{`topk(0, vector(1))`, 0, 0, `invalid parameter (must be greater than 0) topk(0`},
		{`rate(0.5, {a="b"}[5m])`, 0, 0, `parameter 0.5 not supported for operation rate`},
		{`-(1)`, 1, 2, `syntax error: unexpected (, expecting NUMBER`},
		{`- -1`, 1, 3, `syntax error: unexpected -, expecting NUMBER`},
		{`-vector(1)`, 1, 2, `syntax error: unexpected VECTOR, expecting NUMBER`},
		{`{a="b"} | json + vector(1)`, 0, 0, `unexpected type for left leg of binary operation (+): *syntax.PipelineExpr`},
		{`vector(1) and 1`, 0, 0, `unexpected literal for right leg of logical/set binary operation (and): 1.000000`},
		{`vector(1) + group_left vector(1)`, 1, 13, `syntax error: unexpected group_left`},
		{`label_replace(vector(1), "a", "b", "c", "(")`, 0, 0, "invalid regex in label_replace: error parsing regexp: missing closing ): `(`"},
		{`{a="b"} | regexp "(?P<1a>x)"`, 0, 0, `invalid regexp parser: invalid extracted label name '1a'`},
		{`{a="b"} | pattern "<a><b>"`, 0, 0, `invalid pattern parser: found consecutive capture '<a><b>': invalid expression`},
		{`{a="b"} | pattern "<_><b>"`, 0, 0, `invalid pattern parser: found consecutive capture '<_><b>': invalid expression`},
		{`{a="b"} | c == ip("::1")`, 1, 16, `syntax error: unexpected ip`},
		{`{a="b"} | c =~ 5`, 1, 16, `syntax error: unexpected NUMBER, expecting STRING`},
		{`{a="b"} | c = 5EB`, 1, 18, `syntax error: unexpected $end`},
		{`{a="b"} | c > -5KB`, 1, 16, `syntax error: unexpected BYTES, expecting NUMBER`},
	} {
		want := "parse error : " + c.text
		if c.line > 0 {
			want = fmt.Sprintf(at, c.line, c.col) + c.text
		}
		e, err := syntax.ParseExpr(c.query)
		if err == nil {
			t.Errorf("%s parses to %s, want %s", c.query, e, want)
			continue
		}
		var pe *syntax.ParseError
		if !errors.As(err, &pe) || pe.Pos != (syntax.Pos{Line: c.line, Col: c.col}) {
			t.Errorf("%s: error %#v", c.query, err)
		}
		if err.Error() != want {
			t.Errorf("%s\n got %s\nwant %s", c.query, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	many := func(n int, s string) string { return strings.Repeat(s, n) }
	for _, c := range []struct {
		name, query, err string
	}{
		{"size", many(syntax.MaxQuerySize, " "), "input size too long (131072 > 131072)"},
		{"almost too long", many(syntax.MaxQuerySize-1, " "), "unexpected $end"},
		{"parentheses", many(60000, "(") + "1" + many(60000, ")"), "nested too deeply"},
		{"open parentheses", many(131000, "("), "nested too deeply"},
		{"range parentheses", "rate(" + many(100000, "("), "nested too deeply"},
		{"functions", many(20000, "sum(") + "vector(1)" + many(20000, ")"), "nested too deeply"},
		{"powers", many(30000, "2^") + "2", "nested too deeply"},
		{"left-deep operators", "vector(1)" + many(10000, "+vector(1)"), "nested too deeply"},
		{"filter parentheses", `{a="b"} | ` + many(100000, "("), "nested too deeply"},
		{"commas", `{a="b"} | a=1` + many(20000, ",a=1"), "nested too deeply"},
		{"left-deep filters", `{a="b"} | a=1` + many(10000, " or a=1"), "nested too deeply"},
		{"filters behind unwrap", `rate({a="b"} | unwrap c | a=1` + many(10000, " or a=1") + `[1m])`, "nested too deeply"},
		{"filters of alternatives, within", `{a="b"} | a=1` + many(800, " or a=1"), ""},
		{"literals are no depth", "1" + many(20000, "+1"), ""},
		{"nested parentheses, within", many(500, "(") + "vector(1)" + many(500, ")"), ""},
		{"matchers", `{a="b"` + many(syntax.MaxMatchers, `,c="d"`) + "}", "too many matchers in query (limit: 1000)"},
		{"matchers, within", `{a="b"` + many(syntax.MaxMatchers-1, `,c="d"`) + "}", ""},
		{"matchers of all legs", `rate({a="b"` + many(999, `,c="d"`) + `}[1m]) + rate({a="b"}[1m])`, "too many matchers in query (limit: 1000)"},
		{"stages", `{a="b"}` + many(syntax.MaxStages+1, "|json"), "too many stages in pipeline (limit: 1000)"},
		{"stages, within", `{a="b"}` + many(syntax.MaxStages, "|json"), ""},
		{"unwrap filters", `rate({a="b"} | unwrap c` + many(syntax.MaxStages+1, "|d=1") + `[1m])`, "too many stages in pipeline (limit: 1000)"},
		{"regex repetitions", `{a=~"` + many(900, "x{1000}") + `"}`, "regular expressions of the query are too large"},
		{"nested repetitions", `{a=~"((x{30}){30}|y{1,900}){1000}"}`, "invalid repeat count"},
		{"regexes together", `{a="b"}` + many(500, `|~"x{1000}"`), "regular expressions of the query are too large"},
		{"long list of words", `{a=~"` + many(10000, "some_word|") + `x"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := syntax.ParseExpr(c.query)
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err == "":
				checkRoundTrip(t, e)
			case err == nil || !strings.Contains(err.Error(), c.err):
				t.Fatalf("got %.300v, want %s", err, c.err)
			}
		})
	}
}

func TestTree(t *testing.T) {
	e := mustParse(t, `max(quantile_over_time(0.5, {a="b", c!~"d"}
  |= "e" or ip("::1")
  | json f="g"
  | (h>1KB or i="j")
  | unwrap duration(k)
  | l<1m [5m] offset 1h) by (m)) / on (n) group_right (o) vector(2)`)
	bin := e.(*syntax.BinaryExpr)
	if bin.Op != syntax.OpDiv || bin.ReturnBool || bin.Position() != (syntax.Pos{Line: 6, Col: 34}) {
		t.Errorf("%+v", bin)
	}
	if m := bin.Matching; !m.On || m.Card != syntax.OneToMany || m.Labels[0] != "n" || m.Include[0] != "o" {
		t.Errorf("%+v", m)
	}
	agg := bin.LHS.(*syntax.VectorAggregation).Inner.(*syntax.RangeAggregation)
	if agg.Param != 0.5 || agg.Position() != (syntax.Pos{Line: 1, Col: 5}) || agg.Grouping.Labels[0] != "m" {
		t.Errorf("%+v", agg)
	}
	r := agg.Range
	if r.Interval != 5*time.Minute || r.Offset != time.Hour || r.Unwrap.Name != "k" || r.Unwrap.Conversion != syntax.ConvertDuration {
		t.Errorf("%+v", r)
	}
	if f := r.Unwrap.Filters[0].Cond.(*syntax.DurationCond); f.Value != time.Minute || f.Op != syntax.CompareLess {
		t.Errorf("%+v", f)
	}
	s := r.Selector
	if s.Matchers[1].Type != syntax.Nre || s.Position() != (syntax.Pos{Line: 1, Col: 29}) {
		t.Errorf("%+v", s)
	}
	for i, want := range []string{`|= "e" or ip("::1")`, `| json f="g"`, `| ( h>1.0kB or i="j" )`} {
		if got := s.Stages[i]; got.String() != want || got.Position() != (syntax.Pos{Line: i + 2, Col: 3}) {
			t.Errorf("stage %d: %s at %v", i, got, got.Position())
		}
	}
	if got := syntax.Selectors(e); len(got) != 1 || got[0] != s {
		t.Errorf("Selectors: %v", got)
	}
	if !syntax.IsMetric(e) || syntax.IsMetric(s) {
		t.Error("IsMetric")
	}
	err := syntax.StageError(s.Stages[1], errors.New("bad path"))
	if got := err.Error(); got != `parse error : stage '| json f="g"' : bad path` {
		t.Error(got)
	}
}

func TestParseSelector(t *testing.T) {
	for _, c := range []struct {
		text, err string
		n         int
	}{
		{`{}`, "", 0},
		{`{a=""}`, "", 1},
		{` ( {a="b", c=~"d"} ) `, "", 2},
		{``, "parse error : syntax error: unexpected $end", 0},
		{`{a="b"} |= "c"`, "only label matchers are supported", 0},
		{`rate({a="b"}[1m])`, "only label matchers are supported", 0},
		{`1`, "only label matchers are supported", 0},
		{`{a=`, "parse error at line 1, col 4: syntax error: unexpected $end, expecting STRING", 0},
	} {
		ms, err := syntax.ParseSelector(c.text)
		if c.err == "" && (err != nil || len(ms) != c.n) {
			t.Errorf("%s: %v, %v", c.text, ms, err)
		}
		if c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s: got %v, want %s", c.text, err, c.err)
		}
	}
	if err := syntax.CheckMatchers(nil); err == nil {
		t.Error("no matchers pass")
	}
}

func TestParseLogQuery(t *testing.T) {
	if s, err := syntax.ParseLogQuery(`({a="b"} | json)`); err != nil || len(s.Stages) != 1 {
		t.Error(s, err)
	}
	if _, err := syntax.ParseLogQuery(`vector(1)`); err == nil || err.Error() != "parse error : only log selector is supported" {
		t.Error(err)
	}
	if _, err := syntax.ParseLogQuery(`{a=""}`); err == nil {
		t.Error("no error")
	}
}

func TestParseCanonicalIsLongerThanQueries(t *testing.T) {
	// Control characters take one byte in backticks and four in quotes.
	e := mustParse(t, "{a=`"+strings.Repeat("\x01", 100_000)+"`}")
	if n := len(e.String()); n < syntax.MaxQuerySize {
		t.Fatal(n)
	}
	checkRoundTrip(t, e)
}

func TestMatcher(t *testing.T) {
	for _, c := range []struct {
		op           syntax.MatchType
		value, label string
		want         bool
	}{
		{syntax.Eq, "a", "a", true}, {syntax.Eq, "a", "", false},
		{syntax.Neq, "a", "a", false}, {syntax.Neq, "a", "", true},
		{syntax.Re, "a.c", "a\nc", true}, {syntax.Re, "a", "ab", false}, {syntax.Re, "a|b", "b", true},
		{syntax.Re, "", "", true}, {syntax.Re, "(?i)A", "a", true}, {syntax.Re, "a|b", "ab", false},
		{syntax.Nre, "a.*", "abc", false}, {syntax.Nre, "a", "", true},
	} {
		if got := syntax.MustMatcher(c.op, "x", c.value).Matches(c.label); got != c.want {
			t.Errorf("x%s%q on %q: %v", c.op, c.value, c.label, got)
		}
	}
	if _, err := syntax.NewMatcher(syntax.Re, "x", "a)(b"); err == nil {
		t.Error("unbalanced parentheses compile")
	}
	if _, err := syntax.NewMatcher(syntax.Re, "x", strings.Repeat("x{1000}", 1000)); err == nil {
		t.Error("a huge regex compiles")
	}
}
