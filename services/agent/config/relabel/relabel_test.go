package relabel

import (
	"maps"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
)

func read(text string) ([]Rule, node.Problems) {
	var doc yaml.Node
	var rules []Rule
	var ps node.Problems
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, node.Problems{{Text: err.Error()}}
	}
	node.Decode(doc.Content[0], "r", &rules, node.Options{}, &ps)
	return rules, ps
}

func TestActions(t *testing.T) {
	for _, c := range []struct {
		rules string
		want  string // labels after; "-": dropped
	}{
		{`[{source_labels: [a], target_label: d}]`, "a=foo b=bar c=baz d=foo"},
		{`[{source_labels: [a, b], regex: "f(.*);(.*)r", target_label: d, replacement: "${2}-$1"}]`, "a=foo b=bar c=baz d=ba-oo"},
		{`[{source_labels: [a], regex: "x.*", target_label: d}]`, "a=foo b=bar c=baz"},
		{`[{source_labels: [a], regex: "o", target_label: d}]`, "a=foo b=bar c=baz"}, // anchored
		{`[{source_labels: [none], target_label: a}]`, "b=bar c=baz"},
		{`[{target_label: a, replacement: x}]`, "a=x b=bar c=baz"},
		{`[{source_labels: [a], regex: "(f).*", target_label: "${1}_x", replacement: y}]`, "a=foo b=bar c=baz f_x=y"},
		{`[{source_labels: [a], regex: "foo|x", action: keep}]`, "a=foo b=bar c=baz"},
		{`[{source_labels: [a], regex: "fo", action: keep}]`, "-"},
		{`[{source_labels: [a], regex: "foo", action: drop}]`, "-"},
		{`[{source_labels: [a, b], separator: "", regex: "foobar", action: drop}]`, "-"},
		{`[{source_labels: [a], target_label: b, action: keepequal}]`, "-"},
		{`[{source_labels: [a], target_label: b, action: dropequal}]`, "a=foo b=bar c=baz"},
		{`[{source_labels: [a, b], target_label: d, action: hashmod, modulus: 1000}]`, "a=foo b=bar c=baz d=" + hashed},
		{`[{regex: "(b|c)", replacement: "n_$1", action: labelmap}]`, "a=foo b=bar c=baz n_b=bar n_c=baz"},
		{`[{regex: "b|c", action: labeldrop}]`, "a=foo"},
		{`[{regex: "b|c", action: labelkeep}]`, "b=bar c=baz"},
		{`[{source_labels: [a], target_label: a, action: uppercase}]`, "a=FOO b=bar c=baz"},
		{`[{source_labels: [a], target_label: b, action: Lowercase}]`, "a=foo b=foo c=baz"},
	} {
		rules, ps := read(c.rules)
		if len(ps) > 0 {
			t.Errorf("%s: %v", c.rules, ps)
			continue
		}
		labels := map[string]string{"a": "foo", "b": "bar", "c": "baz"}
		want := map[string]string{}
		for _, p := range strings.Fields(c.want) {
			n, v, _ := strings.Cut(p, "=")
			want[n] = v
		}
		if kept := Apply(rules, labels); kept != (c.want != "-") {
			t.Errorf("%s: kept is %v", c.rules, kept)
		} else if kept && !maps.Equal(labels, want) {
			t.Errorf("%s: got %v, want %s", c.rules, labels, c.want)
		}
	}
}

// hashed is md5("foo;bar")'s last eight bytes, big-endian, modulo 1000.
const hashed = "750"

func TestErrors(t *testing.T) {
	for rule, want := range map[string]string{
		`{source_labels: [a]}`:                                   "needs target_label",
		`{action: x}`:                                            "unknown action",
		`{regex: "(", target_label: a}`:                          "regex",
		`{action: hashmod, target_label: a}`:                     "modulus above 0",
		`{action: labeldrop, regex: a, target_label: x}`:         "takes only regex",
		`{action: keepequal, target_label: a, regex: x}`:         "takes only source_labels and target_label",
		`{target_label: a-b}`:                                    "not a label name",
		`{source_labels: [a-b], target_label: x}`:                "not a label name",
		`{action: labelmap, regex: "(.*)", replacement: "-$1"}`:  "makes no label name",
		`{source_label: a, target_label: x}`:                     "did you mean source_labels?",
		`{source_labels: a, target_label: x, action: lowercase}`: "",
	} {
		_, ps := read("[" + rule + "]")
		if want == "" && len(ps) > 0 || want != "" && !strings.Contains(ps.Error(), want) {
			t.Errorf("%s: got %q, want %q", rule, ps.Error(), want)
		}
	}
}
