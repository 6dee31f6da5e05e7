package pipeline_test

import (
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// TestPathsOfAllElements: [*] makes a JSON array of all that a path leads to.
func TestPathsOfAllElements(t *testing.T) {
	for _, c := range []struct{ path, line, want string }{
		{"a[*]", `{"a":[1,"x", true,null,{"b":[2]}]}`, `[1,"x",true,null,{"b":[2]}]`},
		{"a[*].b", `{"a":[{"b":1},{"c":2},{"b":"x\"y"},7]}`, `[1,"x\"y"]`},
		{"a[*].b[*].c", `{"a":[{"b":[{"c":1},{"c":2}]},{"b":3},{"b":[{"c":4}]}]}`, `[1,2,4]`},
		{"a[*][0]", `{"a":[[1,2],[],[3]]}`, `[1,3]`},
		{"[*]", `[1, 2]`, `[1,2]`},
		{"a[*]", `{"a":[]}`, `[]`},
		{"a[*].b", `{"a":[1]}`, `[]`},
		{"a[*]", `{"a":{"b":1}}`, ""},
		{"a[*]", `{"b":1}`, ""},
		{`["a.b"][*]`, `{"a.b":["é"]}`, `["é"]`},
	} {
		labels := run(t, "| json x="+quote(c.path), c.line)
		if got := labels.Get("x"); got != c.want || labels.Get("__error__") != "" {
			t.Errorf("%s of %s is %q, want %q (%s)", c.path, c.line, got, c.want, labels)
		}
	}
	labels := run(t, `| json x="a[*].b"`, `{"a":[{"b":1},{"b":`)
	if labels.Get("__error__") != "JSONParserErr" {
		t.Errorf("broken JSON gives %s", labels)
	}
}

// quote quotes a text as queries do.
func quote(s string) string { return "`" + s + "`" }

func run(t *testing.T, stages, line string) model.Labels {
	t.Helper()
	sel, err := syntax.ParseLogQuery(`{app="x"} ` + stages)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.Compile(sel.Stages, pipeline.Hints{})
	if err != nil {
		t.Fatal(err)
	}
	_, ls, ok := p.ForStream(model.NewLabels([]model.Label{{Name: "app", Value: "x"}})).Process(1, []byte(line), nil)
	if !ok {
		return nil
	}
	return pipeline.Clone(ls.Append(nil))
}

func TestIn(t *testing.T) {
	for _, c := range []struct {
		stages, line string
		kept         bool
	}{
		{`| logfmt | a in ("x","y")`, "a=y", true},
		{`| logfmt | a in ("x","y")`, "a=z", false},
		{`| logfmt | a in ("")`, "b=1", false},
		{`| logfmt | a not in ("x","")`, "b=1", true},
		{`| logfmt | a not in ("x")`, "a=x", false},
		{`| logfmt | a in ("x") or b in ("y")`, "b=y", true},
		{`| "app" in ("x")`, "", true},
		{`| logfmt | label_format a=b | a in ("1")`, "a=2 b=1", true},
	} {
		if got := run(t, c.stages, c.line) != nil; got != c.kept {
			t.Errorf("%s keeps %q: %v", c.stages, c.line, got)
		}
	}
}

func TestElements(t *testing.T) {
	for text, want := range map[string][]string{
		`[]`: nil, ` [1 , "a\nb",null,{"x":[1]}] `: {"1", "a\nb", "", `{"x":[1]}`}, `["é",true]`: {"é", "true"},
	} {
		var got []string
		ok, err := pipeline.Elements(text, func(v string) error { got = append(got, v); return nil })
		if !ok || err != nil || !slices.Equal(got, want) {
			t.Errorf("elements of %s: %q, %v, %v", text, got, ok, err)
		}
	}
	for _, text := range []string{"", "1", "[1", "[1,]", "[1] x", `["a]`, "[1 2]", "{}"} {
		if ok, _ := pipeline.Elements(text, func(string) error { t.Errorf("%s has elements", text); return nil }); ok {
			t.Errorf("%s is an array", text)
		}
	}
}

func FuzzElements(f *testing.F) {
	f.Add(`[1,"a",null,{"b":[2]}]`, "a[*].b")
	f.Add(`{"a":[[1,"\u00e9"],[]]}`, "a[*][*]")
	f.Fuzz(func(t *testing.T, text, path string) {
		_, _ = pipeline.Elements(text, func(string) error { return nil })
		p, err := pipeline.Compile([]syntax.Stage{&syntax.JSON{Extractions: []syntax.Extraction{{Name: "x", Path: path}}}}, pipeline.Hints{})
		if err != nil {
			return
		}
		_, ls, ok := p.ForStream(nil).Process(1, []byte(text), nil)
		if !ok {
			t.Fatal("a parser drops a line")
		}
		ls.Append(nil)
	})
}
