package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/entry"
)

var t0 = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// compile makes a pipeline of YAML, which is a list.
func compile(t testing.TB, text string, d Deps) *Pipeline {
	t.Helper()
	p, ps := compileText(text, d)
	if err := ps.Err(); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return p
}

func compileText(text string, d Deps) (*Pipeline, node.Problems) {
	var ps node.Problems
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, node.Problems{{Text: err.Error()}}
	}
	return Compile(doc.Content[0], "stages", d, &ps), ps
}

// feed makes entries of lines, read one after another from t0 on, of {app="a"}.
// A line may begin with {labels}.
func feed(lines ...string) []entry.Entry {
	var in []entry.Entry
	at := int64(0)
	for i, l := range lines {
		labels := map[string]string{"app": "a"}
		if strings.HasPrefix(l, "{{") {
			head, rest, _ := strings.Cut(l[2:], "}}")
			labels = map[string]string{}
			for _, p := range strings.Split(head, ",") {
				n, v, _ := strings.Cut(p, "=")
				labels[n] = v
			}
			l = rest
		}
		end := at + int64(len(l)) + 1
		in = append(in, entry.Entry{Labels: entry.SetOf(labels), Time: t0.UnixNano() + int64(i), Line: []byte(l), Span: entry.Span{Start: at, End: end}})
		at = end
	}
	return in
}

// show writes an entry: time if it is not the one it came with, labels, metadata,
// tenant, line.
func show(e entry.Entry) string {
	var b strings.Builder
	if e.Time < t0.UnixNano() || e.Time > t0.UnixNano()+1000 {
		fmt.Fprintf(&b, "%s ", time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano))
	}
	b.WriteString(e.Labels.String())
	if len(e.Metadata) > 0 {
		b.WriteString(model.Labels(e.Metadata).String())
	}
	if e.Tenant != "" {
		fmt.Fprintf(&b, "@%s", e.Tenant)
	}
	b.WriteString(" " + string(e.Line))
	return b.String()
}

func runAll(t testing.TB, r *Runner, in []entry.Entry) []string {
	t.Helper()
	var got []string
	out, err := r.Run(context.Background(), in, t0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range out {
		got = append(got, show(e))
	}
	for _, e := range r.Flush(t0.Add(time.Hour), true) {
		got = append(got, show(e))
	}
	if held := r.Held(nil); len(held) > 0 {
		t.Errorf("held after the end: %v", held)
	}
	return got
}

func TestStages(t *testing.T) {
	const a = `{app="a"} `
	for _, c := range []struct {
		name, stages string
		in           []string
		want         []string
	}{
		{"json", `[{json: {expressions: {l: level, user: user.name, first: 'list[0]', q: '"a b"', same: }}}, {labels: {l: , user: , first: , q: , same: }}]`,
			[]string{`{"level":"in\u0066o","user":{"name":"jo"},"list":["x","y"],"a b":"c","same":true}`},
			[]string{`{app="a", first="x", l="info", q="c", same="true", user="jo"} ` + `{"level":"in\u0066o","user":{"name":"jo"},"list":["x","y"],"a b":"c","same":true}`}},
		{"json numbers", `[{json: {expressions: {a: , b: , c: , d: }}}, {template: {source: o, template: '{{.a}} {{.b}} {{.c}} {{.d}}'}}, {output: {source: o}}]`,
			[]string{`{"a":12345678901234567890,"b":1.50,"c":1e3,"d":{"z": 1,"y":2}}`}, []string{a + `12345678901234567890 1.5 1000 {"z": 1,"y":2}`}},
		{"json JMESPath", `[{json: {expressions: {n: 'length(items)', m: "items[?x > '1'] | [0].y", k: 'items[*].y'}}}, {labels: {n: , m: , k: }}]`,
			[]string{`{"items":[{"x":"1","y":"a"},{"x":"2","y":"b"}]}`},
			[]string{`{app="a", k="[\"a\",\"b\"]", n="2"} ` + `{"items":[{"x":"1","y":"a"},{"x":"2","y":"b"}]}`}},
		{"json bad", `[{json: {expressions: {x: }}}, {labels: {x: }}]`, []string{`{"x":1`, `[1]`, `plain`, ``, `{"x":01}`, `{"x":1}x`},
			[]string{a + `{"x":1`, a + `[1]`, a + `plain`, a, a + `{"x":01}`, a + `{"x":1}x`}},
		{"json drop_malformed", `[{json: {expressions: {x: }, drop_malformed: true}}]`, []string{`{"x":1`, `{}`}, []string{a + `{}`}},
		{"json source", `[{json: {expressions: {m: }}}, {json: {expressions: {x: }, source: m}}, {labels: {x: }}]`,
			[]string{`{"m":"{\"x\":\"y\"}"}`, `{"m":{"x":"z"}}`}, []string{`{app="a", x="y"} {"m":"{\"x\":\"y\"}"}`, `{app="a", x="z"} {"m":{"x":"z"}}`}},
		{"json missing does not erase", `[{json: {expressions: {app: }}}, {labels: {app: }}]`, []string{`{}`, `{"app":null}`}, []string{a + `{}`, a + `{"app":null}`}},
		{"json missing counts for drop", `[{json: {expressions: {x: }}}, {drop: {source: x}}]`, []string{`{}`, `no json`}, []string{a + `no json`}},
		{"json short", `[{json: [x, {y: z}]}, {labels: [x, y]}]`, []string{`{"x":"1","z":"2"}`}, []string{`{app="a", x="1", y="2"} {"x":"1","z":"2"}`}},

		{"logfmt", `[{logfmt: {mapping: {l: level, msg: , bare: , last: }}}, {labels: {l: , msg: , last: }}]`,
			[]string{`level=info msg="hi \"you\"" bare last=1 last=2`}, []string{`{app="a", l="info", last="2", msg="hi \"you\""} ` + `level=info msg="hi \"you\"" bare last=1 last=2`}},
		{"logfmt broken keeps what was read", `[{logfmt: {mapping: {a: , b: }}}, {labels: {a: , b: }}]`, []string{`a=1 x"=2 b=3`}, []string{`{a="1", app="a"} a=1 x"=2 b=3`}},

		{"regex", `[{regex: {expression: '^(?P<ip>\S+) (?P<opt>x)?'}}, {labels: {ip: , opt: }}]`, []string{`1.2.3.4 y`, `none`},
			[]string{`{app="a", ip="1.2.3.4", opt=""} 1.2.3.4 y`, a + `none`}},
		{"regex source", `[{regex: {expression: '(?P<a>a+)', source: app}}, {labels: {x: a}}]`, []string{`l`}, []string{`{app="a", x="a"} l`}},

		{"replace", `[{replace: {expression: 'password=(\S+)', replace: '***'}}]`, []string{`u=1 password=x y password=zz`}, []string{a + `u=1 password=*** y password=***`}},
		{"replace template and named", `[{replace: {expression: '(?P<w>\w+)$', replace: '{{ ToUpper .Value }}-{{ .app }}'}}, {labels: {w: }}]`, []string{`hello you`}, []string{`{app="a", w="YOU-a"} hello YOU-a`}},
		{"replace no group", `[{replace: {expression: 'x', replace: 'y'}}]`, []string{`x`}, []string{a + `x`}},
		{"replace nested groups", `[{replace: {expression: '((a)b)c', replace: 'X'}}]`, []string{`abc`}, []string{a + `Xc`}},
		{"replace source", `[{regex: {expression: '(?P<m>.*)'}}, {replace: {expression: '(\d+)', source: m, replace: 'N'}}, {labels: {m: }}]`, []string{`a1b22`}, []string{`{app="a", m="aNbN"} a1b22`}},

		{"labels", `[{labels: {app: , no: }}, {labels: {b: app}}]`, []string{`l`}, []string{`{app="a", b="a"} l`}},
		{"labels not UTF-8", `[{regex: {expression: '(?P<x>.*)'}}, {labels: {x: }}]`, []string{"\xff"}, []string{a + "\xff"}},
		{"labeldrop", `[{labeldrop: [x, y]}]`, []string{`{{x=1,z=2}}l`}, []string{`{z="2"} l`}},
		{"labelallow keeps the tenant", `[{tenant: {value: t}}, {labelallow: [x]}]`, []string{`{{x=1,z=2}}l`}, []string{`{x="1"}@t l`}},
		{"static_labels", `[{static_labels: {env: prod, none: ''}}]`, []string{`l`}, []string{`{app="a", env="prod"} l`}},
		{"structured_metadata", `[{regex: {expression: 'id=(?P<id>\d+)'}}, {structured_metadata: {trace: id, app: }}]`, []string{`id=7`, `x`},
			[]string{`{}{app="a", trace="7"} id=7`, `{}{app="a"} x`}},
		{"structured_metadata of another value leaves the label", `[{regex: {expression: '(?P<app>.*)'}}, {structured_metadata: {app: }}]`, []string{`b`}, []string{`{app="a"}{app="b"} b`}},
		{"structured_metadata_drop", `[{structured_metadata: {x: app}}, {structured_metadata_drop: [x]}]`, []string{`l`}, []string{`{} l`}},

		{"timestamp", `[{regex: {expression: '^(?P<t>\S+)'}}, {timestamp: {source: t, format: RFC3339Nano}}]`, []string{`2026-01-02T03:04:05.6789+02:00 x`},
			[]string{`2026-01-02T01:04:05.6789Z ` + a + `2026-01-02T03:04:05.6789+02:00 x`}},
		{"timestamp unix", `[{regex: {expression: '^(?P<t>\S+)'}}, {timestamp: {source: t, format: Unix}}]`, []string{`1700000000.25`}, []string{`2023-11-14T22:13:20.25Z ` + a + `1700000000.25`}},
		{"timestamp ms", `[{regex: {expression: '^(?P<t>\S+)'}}, {timestamp: {source: t, format: UnixMs}}]`, []string{`1700000000250`}, []string{`2023-11-14T22:13:20.25Z ` + a + `1700000000250`}},
		{"timestamp without a year", `[{regex: {expression: '^(?P<t>.{15})'}}, {timestamp: {source: t, format: 'Jan _2 15:04:05'}}]`, []string{`Jan  2 03:04:05 x`}, []string{`2026-01-02T03:04:05Z ` + a + `Jan  2 03:04:05 x`}},
		{"timestamp location and fallback", `[{regex: {expression: '^(?P<t>.*)'}}, {timestamp: {source: t, format: RFC3339, fallback_formats: ['2006-01-02 15:04:05'], location: Europe/Berlin}}]`,
			[]string{`2026-07-02 03:04:05`}, []string{`2026-07-02T01:04:05Z ` + a + `2026-07-02 03:04:05`}},
		{"timestamp fudge", `[{regex: {expression: '^t=(?P<t>\S+)'}}, {timestamp: {source: t, format: RFC3339}}]`, []string{`none yet`, `t=2026-01-02T03:04:05Z`, `t=x`, `none`},
			[]string{a + `none yet`, `2026-01-02T03:04:05Z ` + a + `t=2026-01-02T03:04:05Z`, `2026-01-02T03:04:05.000000001Z ` + a + `t=x`, `2026-01-02T03:04:05.000000002Z ` + a + `none`}},
		{"timestamp skip", `[{regex: {expression: '^t=(?P<t>\S+)'}}, {timestamp: {source: t, format: RFC3339, action_on_failure: skip}}]`, []string{`t=2026-01-02T03:04:05Z`, `t=x`},
			[]string{`2026-01-02T03:04:05Z ` + a + `t=2026-01-02T03:04:05Z`, a + `t=x`}},

		{"output", `[{json: {expressions: {m: }}}, {output: {source: m}}]`, []string{`{"m":"hi"}`, `x`, `{}`}, []string{a + `hi`, a + `x`, a + `{}`}},
		{"docker", `[{docker: {}}]`, []string{`{"log":"hi\n","stream":"stderr","time":"2026-01-02T03:04:05.5Z"}`, `junk`},
			[]string{`2026-01-02T03:04:05.5Z {app="a", stream="stderr"} hi`, a + `junk`}},
		{"docker joins pieces", `[docker]`, []string{`{"log":"aa","stream":"stdout","time":"2026-01-02T03:04:05.1Z"}`, `{"log":"x\r\n","stream":"stderr","time":"2026-01-02T03:04:05.2Z"}`, `{"log":"bb\n","stream":"stdout","time":"2026-01-02T03:04:05.3Z"}`},
			[]string{`2026-01-02T03:04:05.2Z {app="a", stream="stderr"} x`, `2026-01-02T03:04:05.3Z {app="a", stream="stdout"} aabb`}},
		{"cri", `[{cri: {}}]`, []string{`2026-01-02T03:04:05.123456789+01:00 stderr F hi  there`, `not cri`, `2026-01-02T03:04:05Z stdout F `},
			[]string{`2026-01-02T02:04:05.123456789Z {app="a", stream="stderr"} hi  there`, a + `not cri`, `2026-01-02T03:04:05Z {app="a", stream="stdout"} `}},
		{"cri joins pieces", `[{cri: {}}]`, []string{`2026-01-02T03:04:01Z stdout P aa`, `2026-01-02T03:04:02Z stderr F x`, `2026-01-02T03:04:03Z stdout P bb`, `2026-01-02T03:04:04Z stdout F cc`},
			[]string{`2026-01-02T03:04:02Z {app="a", stream="stderr"} x`, `2026-01-02T03:04:04Z {app="a", stream="stdout"} aabbcc`}},
		{"cri limit of streams", `[{cri: {max_partial_lines: "1"}}]`, []string{`2026-01-02T03:04:01Z stdout P aa`, `2026-01-02T03:04:02Z stderr P x`, `2026-01-02T03:04:03Z stderr F y`},
			[]string{`2026-01-02T03:04:01Z {app="a", stream="stdout"} aa`, `2026-01-02T03:04:03Z {app="a", stream="stderr"} xy`}},
		{"cri truncation", `[{cri: {max_partial_line_size: 3b, max_partial_line_size_truncate: true}}]`, []string{`2026-01-02T03:04:01Z stdout P aa`, `2026-01-02T03:04:01Z stdout P bb`, `2026-01-02T03:04:03Z stdout F cc`},
			[]string{`2026-01-02T03:04:03Z {app="a", stream="stdout"} aab`}},
		{"cri keeps a label tags", `[{cri: {}}]`, []string{`{{tags=x}}2026-01-02T03:04:05Z stdout F hi`}, []string{`2026-01-02T03:04:05Z {stream="stdout", tags="x"} hi`}},

		{"match", `[{match: {selector: '{app="a"} |= "x"', stages: [{static_labels: {hit: "1"}}]}}, {static_labels: {all: "1"}}]`, []string{`x`, `y`, `{{b=1}}x`},
			[]string{`{all="1", app="a", hit="1"} x`, `{all="1", app="a"} y`, `{all="1", b="1"} x`}},
		{"match drop", `[{match: {selector: '{app=~"a|b"} !~ "^keep"', action: drop}}]`, []string{`x`, `keep`}, []string{a + `keep`}},
		{"match of what is not there", `[{match: {selector: '{none=""}', stages: [{static_labels: {hit: "1"}}]}}]`, []string{`x`}, []string{`{app="a", hit="1"} x`}},
		{"match nested", `[{match: {selector: '{app="a"}', stages: [{match: {selector: '{app="a"} |= "b"', stages: [{static_labels: {x: "1"}}]}}, {static_labels: {y: "1"}}]}}]`,
			[]string{`ab`, `c`}, []string{`{app="a", x="1", y="1"} ab`, `{app="a", y="1"} c`}},
		{"match copies labels", `[{regex: {expression: '(?P<app>.*)'}}, {match: {selector: '{app="a"}', stages: [{output: {source: app}}]}}]`, []string{`b`}, []string{a + `a`}},
		{"pipeline", `[{pipeline: [{static_labels: {x: "1"}}]}, {pipeline: {stages: [{static_labels: {y: "1"}}]}}]`, []string{`l`}, []string{`{app="a", x="1", y="1"} l`}},

		{"template", `[{template: {source: n, template: 'v={{ .app }} {{ .none }} {{ .Entry }}'}}, {output: {source: n}}]`, []string{`l`}, []string{a + `v=a <no value> l`}},
		{"template without a source", `[{template: {source: n, template: 'v={{ .Value }}'}}, {output: n}]`, []string{`l`}, []string{a + `v=<no value>`}},
		{"template functions", `[{template: {source: n, template: '{{ Replace .app "a" "bb" -1 | ToUpper }}|{{ TrimPrefix "xy" "x" }}|{{ trunc 2 "abc" }}|{{ default "d" .zz }}|{{ regexReplaceAll "(a)" .app "<$1>" }}'}}, {output: n}]`,
			[]string{`l`}, []string{a + `BB|y|ab|d|<a>`}},
		{"template hash", `[{template: {source: n, template: '{{ Sha2Hash "salt" "x" }}'}}, {output: n}]`, []string{`l`}, []string{a + `c9ef43a03d58f2cb9b0c4b069c179595739f5181a5565c8db5dbb124564ea819`}},
		{"template empty deletes", `[{template: {source: app, template: '{{ "" }}'}}, {labels: {x: app}}]`, []string{`l`}, []string{a + `l`}},
		{"template error", `[{template: {source: app, template: '{{ index .app 99 }}'}}, {labels: {x: app}}]`, []string{`l`}, []string{`{app="a", x="a"} l`}},

		{"tenant value", `[{tenant: {value: t}}]`, []string{`l`}, []string{`{app="a"}@t l`}},
		{"tenant label", `[{tenant: {label: app}}]`, []string{`l`}, []string{`{app="a"}@a l`}},
		{"tenant source", `[{json: {expressions: {c: }}}, {tenant: {source: c}}]`, []string{`{"c":"x"}`, `{"c":""}`, `{}`}, []string{`{app="a"}@x {"c":"x"}`, a + `{"c":""}`, a + `{}`}},

		{"drop expression", `[{drop: {expression: debug}}]`, []string{`a debug`, `x`}, []string{a + `x`}},
		{"drop source", `[{logfmt: {mapping: {l: }}}, {drop: {source: l}}]`, []string{`l=1`, `x=1`}, []string{a + `x=1`}},
		{"drop sources", `[{logfmt: {mapping: {l: , m: }}}, {drop: {source: [l, m], value: '1;2'}}]`, []string{`l=1 m=2`, `l=1 m=3`, `l=1`}, []string{a + `l=1 m=3`, a + `l=1`}},
		{"drop source and expression", `[{logfmt: {mapping: {l: }}}, {drop: {source: l, expression: '^d'}}]`, []string{`l=debug`, `l=info`}, []string{a + `l=info`}},
		{"drop no source", `[{drop: {source: none, expression: '^$'}}]`, []string{`x`}, nil},
		{"drop longer", `[{drop: {longer_than: 3b}}]`, []string{`abc`, `abcd`}, []string{a + `abc`}},
		{"drop older", `[{regex: {expression: '(?P<t>.*)'}}, {timestamp: {source: t, format: RFC3339}}, {drop: {older_than: 24h}}]`, []string{`2026-03-03T00:00:00Z`, `2026-03-04T00:00:00Z`},
			[]string{`2026-03-04T00:00:00Z ` + a + `2026-03-04T00:00:00Z`}},
		{"drop needs all", `[{drop: {expression: x, longer_than: 3}}]`, []string{`x`, `xxxx`, `yyyy`}, []string{a + `x`, a + `yyyy`}},
		{"limit", `[{limit: {rate: 1, burst: 2, drop: true}}]`, []string{`1`, `2`, `3`}, []string{a + `1`, a + `2`}},
		{"limit by label", `[{limit: {rate: 1, burst: 1, drop: true, by_label_name: app}}]`, []string{`{{app=x}}1`, `{{app=y}}2`, `{{app=x}}3`, `{{z=1}}4`, `{{z=1}}5`},
			[]string{`{app="x"} 1`, `{app="y"} 2`, `{z="1"} 4`, `{z="1"} 5`}},

		{"multiline", `[{multiline: {firstline: '^\d'}}]`, []string{`early`, `1 a`, ` b`, ``, ` c`, `2 d`, `3 e`, ` f`},
			[]string{a + `early`, a + "1 a\n b\n\n c", a + `2 d`, a + "3 e\n f"}},
		{"multiline count", `[{multiline: {firstline: '^\d', max_lines: 2}}]`, []string{`1 a`, ` b`, ` c`, ` d`, ` e`}, []string{a + "1 a\n b", a + " c\n d", a + ` e`}},
		{"multiline streams apart", `[{multiline: {firstline: '^\d'}}]`, []string{`{{s=1}}1 a`, `{{s=2}}2 b`, `{{s=1}} c`, `{{s=2}} d`}, []string{`{s="1"} ` + "1 a\n c", `{s="2"} ` + "2 b\n d"}},
		{"multiline then more", `[{multiline: {firstline: '^\d'}}, {regex: {expression: '(?P<n>^\d)'}}, {labels: {n: }}]`, []string{`1 a`, ` b`}, []string{`{app="a", n="1"} ` + "1 a\n b"}},
		{"multiline in match keeps the order", `[{match: {selector: '{app="a"} !~ "^#"', stages: [{multiline: {firstline: '^\d'}}]}}]`, []string{`1 a`, ` b`, `# c`, `2 d`}, []string{a + "1 a\n b", a + `# c`, a + `2 d`}},

		{"pack", `[{pack: {labels: [app, none], ingest_timestamp: false}}]`, []string{"say \"hi\"\t\x01"}, []string{`{} {"app":"a","_entry":"say \"hi\"\t\u0001"}`}},
		{"decolorize", `[decolorize]`, []string{"\x1b[31mred\x1b[0m x"}, []string{a + `red x`}},

		{"truncate", `[{truncate: {limit: 5, suffix: '..'}}]`, []string{`abcdefg`, `abcde`, `abüü`}, []string{a + `abc..`, a + `abcde`, a + `ab..`}},
		{"truncate label", `[{truncate: {limit: 1b, source: app, source_type: label}}]`, []string{`{{app=xyz}}l`}, []string{`{app="x"} l`}},
		{"luhn", `[{luhn: {}}]`, []string{`card 4111111111111111 and 4111111111111112`}, []string{a + `card **REDACTED** and 4111111111111112`}},
		{"luhn delimiters", `[{luhn: {replacement: X, delimiters: '- '}}]`, []string{`4111-1111 1111-1111.`}, []string{a + `X.`}},
		{"pattern", `[{pattern: '<ip> - <_> [<t>] <rest>'}, {labels: {ip: , t: , rest: }}]`, []string{`1.2.3.4 - joe [now] GET /`, `no`}, []string{`{app="a", ip="1.2.3.4", rest="GET /", t="now"} 1.2.3.4 - joe [now] GET /`, a + `no`}},
		{"redact", `[redact]`, []string{
			`mail joe.doe+x@example.org now`, `card 4111 1111 1111 1111 ok`, `Authorization: Bearer abcdef0123456789`,
			`key AKIAIOSFODNN7EXAMPLE end`, `login password=hunter22&x=1`, `jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1 end`, `nothing here 12345`},
			[]string{a + `mail <redacted:mail> now`, a + `card <redacted:card> ok`, a + `Authorization: Bearer <redacted:token>`,
				a + `key <redacted:key> end`, a + `login password=<redacted:token>&x=1`, a + `jwt <redacted:token> end`, a + `nothing here 12345`}},
		{"redact assigned", `[{redact: tokens}]`, []string{`{"client_secret": "abcd1234", "x":"y"}`, `Failed password for root from 1.2.3.4: x`, `token: eyJhbGci ok`, `PASSWORD = 'a b c d'`, `tokens=5`, `api-key=zzzz;q`},
			[]string{a + `{"client_secret": "<redacted:token>", "x":"y"}`, a + `Failed password for root from 1.2.3.4: x`, a + `token: <redacted:token> ok`, a + `PASSWORD = 'a b c d'`, a + `tokens=5`, a + `api-key=<redacted:token>;q`}},
		{"redact own", `[{redact: {expressions: {plate: '[A-Z]{2}-\d+'}, replacement: '#'}}]`, []string{`car AB-123`}, []string{a + `car #`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := runAll(t, compile(t, c.stages, Deps{}).NewRunner(), feed(c.in...))
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}
