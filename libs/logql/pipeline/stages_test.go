package pipeline

import (
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

func stages(t testing.TB, text string) []syntax.Stage {
	t.Helper()
	sel, err := syntax.ParseLogQuery(`{app="x"} ` + text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return sel.Stages
}

func compile(t testing.TB, text string) *Pipeline {
	t.Helper()
	p, err := Compile(stages(t, text), Hints{})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

var (
	testLabels = model.LabelsFromMap(map[string]string{"app": "x", "env": "test"})
	testMeta   = []model.Label{{Name: "trace", Value: "t1"}, {Name: "env", Value: "meta"}}
)

// outcome runs one row and returns its parsed labels and, if it is not the one
// given, its line: `a="1" b="2" -> line`; "dropped" if it is not kept.
func outcome(p *Pipeline, line string) string {
	out, set, ok := p.ForStream(testLabels).Process(1_795_169_100_000_000_000, []byte(line), testMeta)
	if !ok {
		return "dropped"
	}
	var parsed model.Labels
	for _, l := range set.AppendParsed(nil) {
		if l.Name != errorDetailsLabel {
			parsed = append(parsed, l)
		}
	}
	text := strings.Trim(parsed.String(), "{}")
	if string(out) != line {
		text += " -> " + string(out)
	}
	return text
}

func TestStages(t *testing.T) {
	for _, c := range []struct{ query, line, want string }{
		// Line filters.
		{`|= "a"`, "cab", ""},
		{`|= "a"`, "cAb", "dropped"},
		{`|= ""`, "", ""},
		{`!= ""`, "x", "dropped"},
		{`|= "a" or "b"`, "xbx", ""},
		{`!= "a" or "b"`, "xbx", "dropped"},
		{`|~ "a.c"`, "a\nc", "dropped"},
		{`|~ "(?s)a.c"`, "a\nc", ""},
		{`|~ ".*"`, "", ""},
		{`!~ ".*"`, "x", "dropped"},
		{`|~ "(?i)ERROR|warn"`, "an Error", ""},
		{`|~ "(?i)k"`, "a \u212a", ""},
		{`|~ "foo.*(bar|qux)"`, "foo and bar", ""},
		{`|~ "foo.*(bar|qux)"`, "bar and foo", "dropped"},
		{`|> "<_>b<_>"`, "abc", ""},
		{`|> "<_>b<_>"`, "bc", "dropped"},
		{`|> "<_>b<_>"`, "ab", "dropped"},
		{`|> "b<_>"`, "abc", ""},
		{`|> "<_>b"`, "ab", ""},
		{`|> "<_>b"`, "abbc", "dropped"},
		{`|> ""`, "", ""},
		{`|> ""`, "x", "dropped"},
		{`!> "<_>"`, "x", "dropped"},
		{`|= ip("192.168.0.0/16")`, "from 192.168.0.7 on", ""},
		{`|= ip("192.168.0.0/16")`, "192.168.000.001", "dropped"},
		{`|= ip("1.2.3.0-1.2.3.9")`, "x 1.2.3.4.5", "dropped"},
		{`|= ip("1.2.3.0-1.2.3.9")`, "x=1.2.3.4:80", ""},
		{`|= ip("10.0.0.1")`, "id:10.0.0.1", "dropped"},
		{`|= ip("2001:db8::/32")`, "[2001:db8::1]:443", ""},
		{`|= ip("::1")`, "::1", ""},
		{`!= ip("10.0.0.1")`, "10.0.0.1", "dropped"},
		{`| decolorize |= "ab"`, "a\x1b[0mb", " -> ab"},

		// json
		{`| json`, `{"a":1,"b":"two","c":true,"d":null,"e":[1],"f":{"g":"h","i":{"j":-0.5}}}`, `a="1", b="two", c="true", f_g="h", f_i_j="-0.5"`},
		{`| json`, ` {"a":"x\u00e9\ud83d\ude00\n" } trailing`, `a="xé😀\n"`},
		{`| json`, `{"app":"y","trace":"t2","a b":"1","9":"2","é":"3"," k ":"4","":"5","n":{"":"6"}}`, `_="3", _9="2", a_b="1", app_extracted="y", k="4", n="6", trace_extracted="t2"`},
		{`| json`, `{"a":1,"a":2,"b_c":3,"b":{"c":4}}`, `a="1", b_c="3"`},
		{`| json`, `{"a":1,`, `__error__="JSONParserErr", a="1"`},
		{`| json`, `{"a":1,"b":x,"c":2}`, `__error__="JSONParserErr", a="1"`},
		{`| json`, `{"a":1,"b":{"c":"d"`, `__error__="JSONParserErr", a="1", b_c="d"`},
		{`| json`, `{"a":"\x41","b":"\ud800"}`, `a="", b=""`},
		{`| json`, `{"\x":1}`, `__error__="JSONParserErr"`},
		{`| json`, "{\"a\":\"x\xffy\uFFFDz\"}", `a="x y z"`},
		{`| json`, ``, `__error__="JSONParserErr"`},
		{`| json`, `[1]`, `__error__="JSONParserErr"`},
		{`| json`, `"x"`, `__error__="JSONParserErr"`},
		{`| json`, `{}`, ``},
		{`| json`, `{"a":1,}`, `a="1"`},
		{`| json`, `{"a":[{"b":"]"}],"c":2}`, `c="2"`},
		{`| json | json`, `{"a":1}`, `a="1"`},
		{`| json x="a.b[1]", y="[\"k.e y\"]", z`, `{"a":{"b":[1,"two"]},"k.e y":{"o": 1},"z":null}`, `x="two", y="{\"o\": 1}", z=""`},
		{`| json app="a", env="b"`, `{"a":1}`, `app_extracted="1"`},
		{`| json a="a", b="b"`, `{"a":1,`, `__error__="JSONParserErr", a="1", b=""`},
		{`| json a`, ` {"a":1}`, `__error__="JSONParserErr"`},
		{`| json a`, ``, ``},
		{`| json a="x" | json a="y"`, `{"x":1,"y":2}`, `a="2"`},

		// logfmt
		{`| logfmt`, `a=1 b="x y" c= d e="q\"\n\u00e9" f='g`, `a="1", b="x y", e="q\"\né", f="'g"`},
		{`| logfmt --keep-empty`, `a=1 c= d e=""`, `a="1", c="", d="", e=""`},
		{`| logfmt`, `a=1 =v b=c"d e==f g="h`, `a="1"`},
		{`| logfmt`, `b="x"y c=2`, `b="x", c="2"`},
		{`| logfmt`, `a=1 a=2 app=y x.y=3 9=4`, `_9="4", a="1", app_extracted="y", x_y="3"`},
		{`| logfmt --strict`, `a=1 =v b=2`, `__error__="LogfmtParserErr", a="1"`},
		{`| logfmt --strict`, `a="\q" b=2`, `__error__="LogfmtParserErr"`},
		{`| logfmt`, "a=x\xffy", `a="x y"`},
		{`| logfmt x="k", y`, `k=1 k=2 z=3`, `x="1", y=""`},
		{`| logfmt x="k"`, `x=2 k=1`, `x="1"`},
		{`| logfmt x="k"`, `x=2`, `x="2"`},
		{`| logfmt x="k"`, "k=a\xff", `x=""`},
		{`| logfmt k | logfmt x="k"`, "k=a", `k="a", x=""`},
		{`| logfmt app, new="app"`, "app=a", `app_extracted="a", new="a"`},

		// regexp, pattern, unpack
		{`| regexp "(?P<a>\\d+)-(?P<b>x)?(y)"`, "z 12-y", `a="12", b=""`},
		{`| regexp "(?P<a>\\d+)"`, "none", ``},
		{`| pattern "<a> - <_> [<b>]"`, "1 - 2 [3] 4", `a="1", b="3"`},
		{`| pattern "x <a>"`, "y 1", ``},
		{`| pattern "<a> <b> <c>"`, "1 2", `a="1", b="2"`},
		{`| pattern "<a>,<b>"`, ",", `a="", b=""`},
		{`| pattern "<app>"`, "y", `app_extracted="y"`},
		{`| pattern "<a>"`, "", ``},
		{`| unpack`, `{"_entry":"l","p":"q","n":1,"app":"y"}`, `app_extracted="y", p="q" -> l`},
		{`| unpack`, `{"p":"q"}`, ``},
		{`| unpack`, `{"_entry":"l","p":"q"`, `__error__="JSONParserErr"`},
		{`| unpack`, `x`, `__error__="JSONParserErr"`},
		{`| unpack`, ``, ``},
		{`| logfmt | unpack`, `{"_entry":"l"}`, ` -> l`},

		// Label filters.
		{`| logfmt | a="1"`, "a=1", `a="1"`},
		{`| b!="1"`, "", ``},
		{`| b=""`, "", ``},
		{`| app="x" | trace="t1" | env_extracted="meta"`, "", ``},
		{`| logfmt | a=~"1|2"`, "a=12", `dropped`},
		{`| logfmt | a!~"1|2"`, "a=12", `a="12"`},
		{`| logfmt | a=~"l.*"`, "a=carol", `dropped`},
		{`| logfmt | a > 1`, "a=2", `a="2"`},
		{`| logfmt | a != 1`, "b=2", `dropped`},
		{`| logfmt | a > 1`, "a=x", `__error__="LabelFilterErr", a="x"`},
		{`| logfmt | a >= 1m`, "a=60s", `a="60s"`},
		{`| logfmt | a > 1m`, "a=1d", `__error__="LabelFilterErr", a="1d"`},
		{`| logfmt | a == 5KB`, `a="5 kb"`, `a="5 kb"`},
		{`| logfmt | a < 5KiB`, "a=5,000", `a="5,000"`},
		{`| logfmt | a > 1KB`, "a=-1", `__error__="LabelFilterErr", a="-1"`},
		{`| logfmt | a=ip("10.0.0.0/8")`, "a=10.1.2.3:80", `a="10.1.2.3:80"`},
		{`| logfmt | a!=ip("10.0.0.0/8")`, "b=1", `dropped`},
		{`| logfmt | a="1" or b > 5`, "a=1 b=x", `a="1", b="x"`},
		{`| logfmt | a="1" and b > 5`, "a=1 b=6", `a="1", b="6"`},
		{`| json | a > 5`, "no", `dropped`},
		{`| json | a > 5 | __error__="JSONParserErr"`, `{"a":9,`, `__error__="JSONParserErr", a="9"`},
		{`| json | app > 5`, `no`, `__error__="JSONParserErr"`},
		{`| json | __error__=""`, `no`, `dropped`},
		{`| json | __error_details__!=""`, `no`, `dropped`},
		{`| json | __error__=""`, `{"__error__":"mine"}`, `__error__="mine"`},
		// At extraction, but not where a later stage sets the label.
		{`| logfmt | label_format n=v | v=""`, "v=1", `dropped`},
		{`| logfmt | label_format v="{{ToUpper .v}}" | v="A"`, "v=a", `v="A"`},
		{`| logfmt | drop v | v=""`, "v=a", ``},

		// Formats.
		{`| logfmt | label_format b=a`, "a=1", `b="1"`},
		{`| logfmt | label_format b=nosuch`, "a=1", `a="1"`},
		{`| logfmt | label_format b=a, c="{{.a}}{{.b}}", d="{{.c}}x"`, "a=1", `b="1", c="1", d="x"`},
		{`| logfmt | label_format c="{{.a.b}}", d="y"`, "a=1", `__error__="TemplateFormatErr", a="1", d="y"`},
		{`| label_format e=__error__`, "", ``},
		{`| line_format "{{.app}}/{{.trace}}/{{.nosuch}}"`, "l", ` -> x/t1/`},
		{`| line_format "{{index .app 100}}"`, "l", `__error__="TemplateFormatErr"`},
		{`| json | line_format "{{.__error__}}"`, "l", `__error__="JSONParserErr" -> `},
		{`| json | line_format "{{.__error__}}!"`, "l", `__error__="JSONParserErr" -> JSONParserErr!`},
		{`| line_format "a=1" | logfmt`, "l", `a="1" -> a=1`},
		{`| line_format "{{.}}"`, "l", ` -> map[app:x env:test env_extracted:meta trace:t1]`},
		{`| logfmt | drop a, b="2", c=~"3"`, "a=1 b=3 c=3 d=4", `b="3", d="4"`},
		{`| json | drop __error__`, "no", ``},
		{`| logfmt | keep a, b="2"`, "a=1 b=3 c=3", `a="1"`},
		{`| json | keep a`, "no", `__error__="JSONParserErr"`},
		{`| logfmt a | drop a | logfmt`, "a=1", ``},
		{`| drop app | logfmt`, "app=1", `app_extracted="1"`},
		{`| decolorize`, "\x1b[1;31mred\x1b[0m \u009b32mgreen \x1b]0;title\atext", ` -> red green text`},
	} {
		if got := outcome(compile(t, c.query), c.line); got != c.want {
			t.Errorf("%s of %q:\n got %s\nwant %s", c.query, c.line, got, c.want)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for query, want := range map[string]string{
		"|~ `(`":                     "parse error : stage '|~ \"(\"' : error parsing regexp: missing closing ): `(`",
		"|= ip(`x`)":                 "parse error : stage '|= ip(\"x\")' : ip: invalid pattern: \"x\"",
		"|~ ip(`1.2.3.4`)":           "parse error : stage '|~ ip(\"1.2.3.4\")' : ip: invalid operation",
		"|> `<x>`":                   "parse error : stage '|> \"<x>\"' : named captures are not allowed: found '<x>'",
		"| a=ip(`1.1.1.1-1`)":        "parse error : stage '| a=ip(\"1.1.1.1-1\")' : ip: invalid pattern: \"1.1.1.1-1\"",
		"| json a=`b[`":              "parse error : stage '| json a=\"b[\"' : cannot parse expression [b[]: ",
		"| logfmt a=`b c`":           "parse error : stage '| logfmt a=\"b c\"' : cannot parse expression [b c]: ",
		"| line_format `{{`":         "parse error : stage '| line_format \"{{\"' : invalid line template: ",
		"| line_format `{{nosuch}}`": "parse error : stage '| line_format \"{{nosuch}}\"' : invalid line template: ",
		"| label_format a=`{{`":      "parse error : stage '| label_format a=\"{{\"' : invalid template for label 'a': ",
		"| label_format a=b,a=c":     "parse error : stage '| label_format a=b,a=c' : multiple label name 'a' not allowed in a single format operation",
		"| label_format __error__=b": "parse error : stage '| label_format __error__=b' : __error__ cannot be formatted",
		"| line_format `{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}`": "parse error : stage",
	} {
		if _, err := Compile(stages(t, query), Hints{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", query, err, want)
		}
	}
}

func TestCategories(t *testing.T) {
	p := compile(t, `| logfmt | label_format app="new", m=trace`)
	_, set, ok := p.ForStream(testLabels).Process(0, []byte("a=1"), testMeta)
	if !ok {
		t.Fatal("dropped")
	}
	for _, c := range []struct {
		what string
		got  []model.Label
		want string
	}{
		{"stream", set.AppendStream(nil), `{env="test"}`},
		{"metadata", set.AppendMetadata(nil), `{env_extracted="meta"}`},
		{"parsed", set.AppendParsed(nil), `{a="1", app="new", m="t1"}`},
		{"all", set.Append(nil), `{a="1", app="new", env="test", env_extracted="meta", m="t1"}`},
		{"by", set.AppendGroup(nil, &Grouping{Names: []string{"app", "nosuch"}}), `{app="new"}`},
		{"without", set.AppendGroup(nil, &Grouping{Names: []string{"app", "nosuch"}, Without: true}), `{a="1", env="test", env_extracted="meta", m="t1"}`},
	} {
		if got := model.Labels(c.got).String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
}

func TestNeedles(t *testing.T) {
	for query, want := range map[string]string{
		`|= "a"`:                                 "[[a]]",
		`|= "a" or "b" |= "c" != "d"`:            "[[a b] [c]]",
		`|= "a" or ""`:                           "[]",
		`|= ""`:                                  "[]",
		`|~ "foo.*(bar|qux)"`:                    "[[foo]]",
		`|~ "err(or)?|warn"`:                     "[[error err warn]]",
		`|~ "(?i)abc"`:                           "[]",
		`|~ "a|b*"`:                              "[]",
		`|~ "[0-9]+ (GET|POST) x+"`:              "[[ GET   POST ]]",
		`|> "ab<_>c"`:                            "[[ab] [c]]",
		`|= ip("1.2.3.4")`:                       "[]",
		`|= "a" or ip("1.2.3.4")`:                "[]",
		`| json |= "a" | x="1" |= "b"`:           "[[a] [b]]",
		`| json |= "a" | line_format "x" |= "b"`: "[[a]]",
		`| decolorize |= "a"`:                    "[]",
	} {
		got := compile(t, query).Filter().Needles()
		text := strings.TrimSpace(strings.ReplaceAll(sprint(got), "[]string", ""))
		if text != want {
			t.Errorf("%s: got %s, want %s", query, text, want)
		}
	}
}

func TestExtractor(t *testing.T) {
	for _, c := range []struct {
		query, line string
		value       float64
		want        string
	}{
		{`sum_over_time({app="x"} | logfmt | unwrap a [1m])`, "a=1_000 b=2", 1000, `{app="x", b="2", env="test", env_extracted="meta", trace="t1"}`},
		{`sum_over_time({app="x"} | logfmt | unwrap duration(a) [1m])`, "a=1m30s", 90, ""},
		{`sum_over_time({app="x"} | logfmt | unwrap duration_seconds(a) [1m])`, "a=1ms", 0.001, ""},
		{`sum_over_time({app="x"} | logfmt | unwrap bytes(a) [1m])`, "a=2KiB", 2048, ""},
		{`sum_over_time({app="x"} | logfmt | unwrap a [1m])`, "b=1", 0, "none"},
		{`sum_over_time({app="x"} | logfmt | unwrap a [1m])`, "a=x", 0, `{__error__="SampleExtractionErr", __error_details__="strconv.ParseFloat: parsing \"x\": invalid syntax", app="x", env="test", env_extracted="meta", trace="t1"}`},
		{`sum_over_time({app="x"} | logfmt | unwrap a | __error__="" [1m])`, "a=x", 0, "none"},
		{`sum_over_time({app="x"} | logfmt | unwrap a | a > 5 [1m])`, "a=4", 0, "none"},
		{`sum_over_time({app="x"} | logfmt | unwrap a | a > 5 [1m])`, "a=6", 6, ""},
		{`count_over_time({app="x"} | logfmt [1m])`, "a=6", 1, ""},
		{`bytes_over_time({app="x"} | line_format "12345" [1m])`, "a", 5, ""},
	} {
		e, err := syntax.ParseExpr(c.query)
		if err != nil {
			t.Fatal(err)
		}
		r := e.(*syntax.RangeAggregation)
		x, err := CompileExtractor(r.Range.Selector.Stages, r.Range.Unwrap, r.Op == syntax.OpBytesOverTime, Hints{})
		if err != nil {
			t.Fatal(err)
		}
		value, set, ok := x.ForStream(testLabels).Process(0, []byte(c.line), testMeta)
		if ok == (c.want == "none") {
			t.Errorf("%s of %s: ok is %v", c.query, c.line, ok)
			continue
		}
		if !ok {
			continue
		}
		if got := model.Labels(set.AppendGroup(nil, nil)).String(); value != c.value || (c.want != "" && got != c.want) {
			t.Errorf("%s of %s: got %v %s, want %v %s", c.query, c.line, value, got, c.value, c.want)
		}
		if kind, _ := set.Err(); kind != "" {
			want := "pipeline error: '" + kind + "' for series: '" + strings.Replace(c.want, "app=", `a="x", app=`, 1) + "'.\n"
			if text := NewPipelineError(set).Error(); !strings.HasPrefix(text, want) {
				t.Error(text)
			}
		}
		if got, ok := set.Get("a"); strings.Contains(c.query, "unwrap a [") && (!ok || got == "") {
			t.Error("the unwrapped label cannot be named by a grouping")
		}
	}
}

// TestHints: leaving out what nobody reads changes nothing that is read.
func TestHints(t *testing.T) {
	lines := []string{`{"a":1,"b":"2","c":{"d":"e"}}`, `{"a":1,"b`, `a=1 b=2 c="x`, `a=1 =b`, `plain`, ``, `{"_entry":"a=1 b=2","c":"3"}`, `{"a":1,"a":2,"b":3}`}
	for _, query := range []string{
		`| json`, `| logfmt`, `| logfmt --strict`, `| unpack`, `| unpack | logfmt`, `| json | logfmt`,
		`| json | label_format b=a`, `| logfmt | c="3"`, `| json | line_format "{{.b}}"`, `| json | line_format "{{.}}"`,
		`| pattern "<a>=<b>"`, `| regexp "(?P<a>.)(?P<b>.)"`, `| json | keep b`, `| json | drop a, c="2"`,
		`| json a="b", c="a"`, `| logfmt a="b"`,
	} {
		all := compile(t, query)
		for _, needed := range [][]string{{}, {"a"}, {"b"}, {"a", "b"}, {"c_d"}} {
			some, err := Compile(stages(t, query), Hints{Needed: needed})
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range lines {
				l1, s1, ok1 := all.ForStream(testLabels).Process(0, []byte(line), testMeta)
				l2, s2, ok2 := some.ForStream(testLabels).Process(0, []byte(line), testMeta)
				if ok1 != ok2 || string(l1) != string(l2) {
					t.Errorf("%s needing %v of %s: %v %s, want %v %s", query, needed, line, ok2, l2, ok1, l1)
				}
				if !ok1 || !ok2 {
					continue
				}
				for _, n := range append(needed, errorLabel) {
					v1, has1 := s1.Get(n)
					v2, has2 := s2.Get(n)
					if v1 != v2 || has1 != has2 {
						t.Errorf("%s needing %v of %s: %s is %q, want %q", query, needed, line, n, v2, v1)
					}
				}
			}
		}
	}
}

func TestNamesAreForgotten(t *testing.T) {
	st := compile(t, `| json | x="1"`).ForStream(testLabels)
	for i := range 3 * maxNames {
		line := `{"k` + sprint(i) + `":"v","x":"1","app":"y"}`
		_, set, ok := st.Process(0, []byte(line), testMeta)
		if !ok {
			t.Fatal("dropped")
		}
		if got := model.Labels(set.AppendParsed(nil)).String(); got != `{app_extracted="y", k`+sprint(i)+`="v", x="1"}` {
			t.Fatal(got)
		}
		if len(st.set.byName) > maxNames+8 {
			t.Fatal("names pile up")
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for query, line := range map[string]string{
		`|= "b" != "q" |~ "(?i)err" |~ "x[0-9]+"`: "a b error x1",
		`| json | a="1"`:               `{"a":"1","b":{"c":2,"d":"x\ny"},"e":[1]}`,
		`| logfmt | a > 0`:             `a=1 b="c d" e="f\ng"`,
		`| logfmt a, b="c"`:            `a=1 b="c d" c="f\ng"`,
		`| json a, b="c.d"`:            `{"a":1,"c":{"d":"e"}}`,
		`| pattern "<a> <b>" | drop a`: `1 2`,
		`| unpack | logfmt`:            `{"_entry":"a=b","c":"d"}`,
		`| logfmt | label_format c=a, d="{{.b}}x" | line_format "{{.c}} {{.d}}"`: `a=1 b=2`,
		`| decolorize`: "a\x1b[0mb",
		`| logfmt | d > 1m and b > 1KB | i=ip("10.0.0.0/8")`: "d=2m b=2kB i=10.0.0.1",
	} {
		st := compile(t, query).ForStream(testLabels)
		l := []byte(line)
		var labels []model.Label
		var key []byte
		if n := testing.AllocsPerRun(100, func() {
			if _, set, ok := st.Process(0, l, testMeta); ok {
				labels = set.Append(labels[:0])
				key = AppendKey(key[:0], labels)
			} else {
				t.Error("dropped: ", query)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", query, n)
		}
	}
}
