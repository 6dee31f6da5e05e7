package pipeline

import (
	"strings"
	"testing"
)

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct{ stages, want string }{
		{`[{jsn: {}}]`, "stages[0].jsn: unknown stage; did you mean json?"},
		{`[{json: {}, labels: {}}]`, "must be a mapping with one key"},
		{`[{geoip: {}}]`, "stage geoip is not supported"},
		{`[{eventlogmessage: {}}]`, "not supported"},
		{`[{json: {}}]`, "expressions is missing"},
		{`[{json: {expressions: {a: 'b['}}}]`, "not a JMESPath expression"},
		{`[{json: {expressions: {a: }, source: ''}}]`, "source: must not be empty"},
		{`[{logfmt: {}}]`, "mapping is missing"},
		{`[{regex: {expression: '('}}]`, "missing closing )"},
		{`[{regex: {expression: '(x)'}}]`, "no named group"},
		{`[{regex: {}}]`, "expression: is missing"},
		{`[{replace: {expression: '(x)', replace: '{{'}}]`, "replace"},
		{`[{labels: {}}]`, "is empty"},
		{`[{labels: {a-b: }}]`, `"a-b" is not a label name`},
		{`[{labels: {a: [x]}}]`, "must be a text, not a list"},
		{`[{static_labels: {a: [5]}}]`, "must be a text"},
		{`[{labeldrop: []}]`, "is empty"},
		{`[{timestamp: {}}]`, "stages[0].timestamp.source: is missing"},
		{`[{timestamp: {source: t, format: RFC3339, location: Mars}}]`, "no time zone"},
		{`[{timestamp: {source: t, format: RFC3339, action_on_failure: x}}]`, "neither fudge nor skip"},
		{`[{output: {}}]`, "source: is missing"},
		{`[{tenant: {value: x, source: y}}]`, "exactly one of"},
		{`[{template: {source: x, template: '{{ .'}}]`, "template"},
		{`[{template: {source: x, template: '{{ nofunc }}'}}]`, `function "nofunc" not defined`},
		{`[{match: {selector: 'x', stages: [{docker: }]}}]`, "must begin with"},
		{`[{match: {selector: '{}', stages: [{docker: }]}}]`, "needs a matcher"},
		{`[{match: {selector: '{a="b"} | json', stages: [{docker: }]}}]`, "only line filters"},
		{`[{match: {selector: '{a="b"}'}}]`, "stages: is missing"},
		{`[{match: {selector: '{a="b"}', action: drop, stages: [{docker: }]}}]`, "cannot stand with action drop"},
		{`[{match: {selector: '{a="b"}', action: x}}]`, "neither keep nor drop"},
		{`[{match: {selector: '{a="b"}', stages: [{jsn: }]}}]`, "stages[0].match.stages[0].jsn"},
		{`[{drop: {}}]`, "needs one at least"},
		{`[{drop: {value: x}}]`, "needs one at least"},
		{`[{drop: {source: a, value: x, expression: y}}]`, "excludes expression"},
		{`[{drop: {older_than: x}}]`, "not a duration"},
		{`[{sampling: {}}]`, "rate: is missing"},
		{`[{sampling: {rate: 2}}]`, "from 0 to 1"},
		{`[{limit: {rate: 0, burst: 1}}]`, "more than 0 lines a second"},
		{`[{limit: {rate: 1, burst: 1, by_label_name: x}}]`, "needs drop: true"},
		{`[{multiline: {}}]`, "firstline: is missing"},
		{`[{multiline: {firstline: x, max_wait_time: 0s}}]`, "must be more than 0"},
		{`[{metrics: {x: {type: summary}}}]`, "none of counter, gauge, histogram"},
		{`[{metrics: {x: {type: counter, config: {action: set}}}}]`, `"set" is none of inc, add`},
		{`[{metrics: {x: {type: counter, config: {action: inc, match_all: true, value: y}}}}]`, "excludes match_all"},
		{`[{metrics: {x: {type: counter, config: {action: inc, count_entry_bytes: true}}}}]`, "needs match_all"},
		{`[{metrics: {'a b': {type: counter, config: {action: inc}}}}]`, "is not a metric's name"},
		{`[{metrics: {x: {type: histogram, config: {buckets: [2, 1]}}}}]`, "must ascend"},
		{`[{metrics: {x: {type: counter, prefix: weir_agent_, config: {action: inc}}}}]`, "are the agent's own"},
		{`[{truncate: {}}]`, "more than 0 bytes"},
		{`[{redact: [card]}]`, "did you mean cards?"},
		{`[{pattern: '<a><b>'}]`, "side by side"},
		{`{json: {}}`, "must be a list, not a mapping"},
		{`[[1]]`, "must be a mapping of keys"},
	} {
		_, ps := compileText(c.stages, Deps{})
		err := ps.Err()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", c.stages, err, c.want)
			continue
		}
		for _, p := range ps {
			if p.Line == 0 {
				t.Errorf("%s: no line: %v", c.stages, p)
			}
		}
	}
}

func TestCompileWarnings(t *testing.T) {
	for _, c := range []struct{ stages, want string }{
		{`[{json: {expressions: {a: }, expresions: x}}]`, "unknown key; did you mean expressions?; it is ignored"},
		{`[{regex: {EXPRESSION: '(?P<x>.)'}}]`, ""},
		{`[{replace: {expression: x}}]`, "nothing will ever be replaced"},
		{`[{timestamp: {source: t, format: yyyy-mm-dd}}]`, "has no part of a date"},
		{`[{sampling: {rate: 0}}]`, "drops every line"},
		{`[{limit: {rate: "10", burst: "5", drop: "true"}}]`, ""},
		{`[{json: {expressions: {a: }, drop_malformed: yes}}]`, ""},
	} {
		_, ps := compileText(c.stages, Deps{})
		switch {
		case ps.Err() != nil:
			t.Errorf("%s: %v", c.stages, ps.Err())
		case c.want == "" && len(ps) > 0, c.want != "" && !strings.Contains(ps.Error(), c.want):
			t.Errorf("%s: got %q, want %q", c.stages, ps.Error(), c.want)
		}
	}
}

// All problems of a list come out at once, in their lines.
func TestAllAtOnce(t *testing.T) {
	_, ps := compileText("- json: {}\n- regx: {}\n- match:\n    selector: '{a=\"b\"}'\n    stages:\n      - drop: {}\n", Deps{})
	if len(ps) != 3 || ps[0].Line != 1 || ps[1].Line != 2 || ps[2].Line != 6 {
		t.Errorf("got %+v", ps)
	}
}
