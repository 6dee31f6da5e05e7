package syntax_test

import (
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

func TestParseLabels(t *testing.T) {
	type labels = []syntax.Label
	for _, c := range []struct {
		text string
		want labels
		err  string
	}{
		{`{}`, nil, ""},
		{`{a="b"}`, labels{{"a", "b"}}, ""},
		{" {\tb = \"x\" , a='y',by=`z`, } ", labels{{"b", "x"}, {"a", "y"}, {"by", "z"}}, ""},
		{`{a="\"\\\n\u00e9\xff", b='it\'s', c="it's", d=""}`, labels{{"a", "\"\\\né\xff"}, {"b", "it's"}, {"c", "it's"}, {"d", ""}}, ""},
		{"{a=`\\n\n`}", labels{{"a", "\\n\n"}}, ""},
		{`{a="1",a="2"}`, labels{{"a", "1"}, {"a", "2"}}, ""},
		{``, nil, `1:1: parse error: no expression found in input`},
		{`a="b"`, nil, `1:1: parse error: unexpected identifier "a" expected "{"`},
		{`{9a="b"}`, nil, `1:2: parse error: unexpected character inside braces: '9'`},
		{`{a="b", dot.name="c"}`, nil, `1:12: parse error: unexpected character inside braces: '.'`},
		{`{space name="b"}`, nil, `1:8: parse error: unexpected identifier "name" in label set, expected "="`},
		{`{="b"}`, nil, `1:2: parse error: unexpected "=" in label set, expected identifier or "}"`},
		{`{a="b" c="d"}`, nil, `1:8: parse error: unexpected identifier "c" in label set, expected "," or "}"`},
		{`{a="b"`, nil, `1:7: parse error: unexpected end of input in label set, expected "," or "}"`},
		{`{a=b}`, nil, `1:4: parse error: unexpected identifier "b" in label set, expected string`},
		{`{a=~"b"}`, nil, `1:4: parse error: unexpected character inside braces: '~'`},
		{"{\na=\"b}", nil, `2:3: parse error: unterminated quoted string`},
		{"{a=`b}", nil, `1:4: parse error: unterminated raw string`},
		{"{a=\"b\n\"}", nil, `1:4: parse error: unterminated quoted string`},
		{`{a="\z"}`, nil, `1:4: parse error: invalid escape in string`},
		{`{a="b"} x`, nil, `1:9: parse error: unexpected identifier "x" after the label set`},
		{`{,}`, nil, `1:2: parse error: unexpected "," in label set, expected identifier or "}"`},
		{`{é="b"}`, nil, `1:2: parse error: unexpected character inside braces: 'é'`},
	} {
		got, err := syntax.ParseLabels(c.text)
		if c.err == "" && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%s: %v, %v", c.text, got, err)
		}
		if c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s:\n got %v\nwant %s", c.text, err, c.err)
		}
	}
}

func TestParseAnyLabels(t *testing.T) {
	for _, c := range []struct {
		text string
		want []syntax.Label
		err  string
	}{
		{`{a="b", "k8s.pod.name"="c", 'größe'='d', ` + "`x \\`=`e`}", []syntax.Label{{"a", "b"}, {"k8s.pod.name", "c"}, {"größe", "d"}, {`x \`, "e"}}, ""},
		{`{"by"="x"}`, []syntax.Label{{"by", "x"}}, ""},
		{`{""="x"}`, nil, `1:2: parse error: a label name must be valid UTF-8 and not empty`},
		{`{"\xff"="x"}`, nil, `1:2: parse error: a label name must be valid UTF-8 and not empty`},
		{`{"a}`, nil, `1:2: parse error: unterminated quoted string`},
		{`{"a" "b"}`, nil, `1:6: parse error: unexpected string in label set, expected "="`},
		{`{é="b"}`, nil, `1:2: parse error: unexpected character inside braces: 'é'`},
	} {
		got, err := syntax.ParseAnyLabels(c.text)
		if c.err == "" && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%s: %v, %v", c.text, got, err)
		}
		if c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s:\n got %v\nwant %s", c.text, err, c.err)
		}
	}
}
