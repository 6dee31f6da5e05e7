package syntax_test

import (
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Words that only Weir's language has are names of labels in Loki's queries still.
func TestWordsAreNamesToo(t *testing.T) {
	for _, word := range []string{
		"distinct", "dedup", "sort", "top", "limit", "sample", "unroll", "asc", "desc", "in", "not", "time", "abs", "ceil",
		"floor", "round", "clamp", "clamp_min", "clamp_max", "exp", "ln", "sqrt", "count_distinct_over_time", "histogram_over_time",
	} {
		for _, query := range []string{
			`{W="x", a="b"}`, `{W=~"x.*"} |= "y"`, `{a="b"} | W="x"`, `{a="b"} | W!="x"`, `{a="b"} | W=~"x.+"`, `{a="b"} | W!~"x.+"`,
			`{a="b"} | W > 5`, `{a="b"} | W >= 5s`, `{a="b"} | W < 5KB`, `{a="b"} | W <= 5 | W == 5`, `{a="b"} | W = 5`, `{a="b"} | W = ip("10.0.0.1")`,
			`{a="b"} | c="d", W="x"`, `{a="b"} | c="d" W="x"`, `{a="b"} | c="d" or W > 5 and W="y"`, `{a="b"} | (W="x")`,
			`{a="b"} | json W`, `{a="b"} | json W="W", c`, `{a="b"} | logfmt W="x"`, `{a="b"} | label_format W=c, c=W`,
			`{a="b"} | drop W`, `{a="b"} | drop W="x", c`, `{a="b"} | keep W, W="x"`, `{a="b"} | drop W != "x"`, `{a="b"} | keep W | W="x"`,
			`sum by (W) (rate({a="b"}[5m]))`, `sum(rate({a="b"}[5m])) without (W, c)`, `sum_over_time({a="b"} | unwrap W [5m])`,
			`max_over_time({a="b"} | unwrap bytes(W) | W="x" [5m]) by (W)`, `sum(rate({a="b"}[5m])) / on (W) group_left (W) sum(rate({a="b"}[5m]))`,
			`rate({a="b"} | W="x" [5m] offset 5m)`,
		} {
			text := strings.ReplaceAll(query, "W", word)
			e, err := syntax.ParseExpr(text)
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			syntax.Walk(e, func(e syntax.Expr) bool {
				switch e := e.(type) {
				case *syntax.Function, *syntax.Time:
					t.Errorf("%s has a function", text)
				case *syntax.LogSelector:
					for _, s := range e.Stages {
						if syntax.Extended(s) {
							t.Errorf("%s has a stage %s", text, s)
						}
					}
				}
				return true
			})
			// Word for word what another name gives.
			plain, err := syntax.ParseExpr(strings.ReplaceAll(query, "W", "zzz"))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := e.String(), strings.ReplaceAll(plain.String(), "zzz", word); got != want {
				t.Errorf("%s is printed as %s, not %s", text, got, want)
			}
		}
	}
}

func TestExtended(t *testing.T) {
	for text, want := range map[string]string{
		`{a="b"} | DISTINCT c , "d e"|limit 5`:                     `{a="b"} | distinct c,"d e" | limit 5`,
		`{a="b"} | sort limit asc | top 3 top | dedup in`:          `{a="b"} | sort limit | top 3 top | dedup in`,
		`{a="b"} | limit in ("5")`:                                 `{a="b"} | limit in ("5")`,
		`{a="b"} | c not in ("x",` + "`y`" + `) or d in ({e="f"})`: `{a="b"} | ( c not in ("x","y") or d in ({e="f"}) )`,
		`{"a.b"="c", "x"=~"y.*"} | "or" > 5`:                       `{"a.b"="c", x=~"y.*"} | "or">5`,
		`sum by ("a.b", "c") (rate(|= "x" [5m]))`:                  `sum by ("a.b",c) (rate(|= "x"[5m]))`,
		`|="x"!="y"`: `|= "x" != "y"`,
		`clamp(rate({a="b"}[5m]), -1, +5) * time( )`:                        `(clamp(rate({a="b"}[5m]),-1,5) * time())`,
		`count_distinct_over_time(a,"b c",({d="e"})[5m]) by (f)`:            `count_distinct_over_time(a,"b c",{d="e"}[5m]) by (f)`,
		`histogram_over_time(-1,0.5,{a="b"}|unwrap c[5m])`:                  `histogram_over_time(-1,0.5,{a="b"} | unwrap c[5m])`,
		`{a="b"} | json "a.b"="c" , d | label_format "é"="x" | logfmt "by"`: `{a="b"} | json "a.b"="c",d="d" | label_format "é"="x" | logfmt "by"="by"`,
		`{a="b"} | sample 1e-1 | unroll "x-y"`:                              `{a="b"} | sample 0.1 | unroll "x-y"`,
	} {
		e, err := syntax.ParseExpr(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if e.String() != strings.ReplaceAll(want, "sum by (\"a.b\",c) (", "sum by (\"a.b\",c)(") {
			t.Errorf("%s is printed as %s, not %s", text, e, want)
		}
		checkRoundTrip(t, e)
	}
	for text, want := range map[string]string{
		`{a="b"} | limit 0`:                     "invalid number of limit",
		`{a="b"} | top 1.5 c`:                   "invalid number of top",
		`{a="b"} | sample 0`:                    "invalid share",
		`{a="b"} | sample 1.1`:                  "invalid share",
		`{a="b"} | distinct`:                    "unexpected $end, expecting IDENTIFIER or STRING",
		`{a="b"} | limit`:                       "unexpected $end, expecting NUMBER",
		`{a="b"} | json "c"="d"`:                "unexpected STRING",
		`{""="b"}`:                              "cannot be empty",
		`rate({a="b"} | sort c [5m])`:           "has no meaning in rate",
		`count_distinct_over_time({a="b"}[5m])`: "parameter required",
		`count_distinct_over_time(c, {a="b"} | unwrap d [5m])`: "invalid aggregation count_distinct_over_time with unwrap",
		`histogram_over_time({a="b"} | unwrap d [5m])`:         "parameter required",
		`histogram_over_time(2, 1, {a="b"} | unwrap d [5m])`:   "must ascend",
		`histogram_over_time(1, {a="b"}[5m])`:                  "without unwrap",
		`abs(1)`:                                               "needs a vector",
		`abs(time())`:                                          "needs a vector",
		`abs(rate({a="b"}[5m]), 1)`:                            "wrong number of arguments of abs: 2",
		`clamp(rate({a="b"}[5m]), 1)`:                          "wrong number of arguments of clamp: 2",
		`round(rate({a="b"}[5m]), 0)`:                          "multiples of 0",
		`rate({a="b"}[5m]) and time()`:                         "unexpected number in logical/set",
		`{} |= "x"`:                                            "at least one regexp or equality matcher",
		`{a="b"} | c in ({})`:                                  "at least one regexp or equality matcher",
		`{a="b"} | c in ()`:                                    "expecting STRING or {",
	} {
		if e, err := syntax.ParseExpr(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", text, e, err, want)
		}
	}
	if _, err := syntax.ParseLogQuery(`|= "x"`); err == nil {
		t.Error("a search without a selector is a log query where one needs a selector")
	}
	many := `{a="b"} | c in ("` + strings.Repeat(`x","`, 10_000) + `y")`
	if _, err := syntax.ParseExpr(many); err == nil || !strings.Contains(err.Error(), "too many values") {
		t.Errorf("10001 values: %v", err)
	}
}
