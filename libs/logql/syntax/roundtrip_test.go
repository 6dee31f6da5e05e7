package syntax_test

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/logql/syntax/syntaxtest"
	"github.com/weir-logs/weir/libs/model"
)

// checkRoundTrip checks that the canonical text parses back to an equal tree.
func checkRoundTrip(t interface {
	Helper()
	Errorf(string, ...any)
}, e syntax.Expr) {
	t.Helper()
	text := e.String()
	back, err := syntax.ParseCanonical(text)
	if err != nil {
		t.Errorf("canonical text %q does not parse: %v", text, err)
		return
	}
	if !syntax.Equal(e, back) {
		t.Errorf("canonical text %q parses to another tree, %q", text, back)
	}
	if again := back.String(); again != text {
		t.Errorf("canonical text %q prints as %q", text, again)
	}
}

func TestEqual(t *testing.T) {
	parse := func(s string) syntax.Expr {
		e, err := syntax.ParseExpr(s)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a := parse(`sum by (a) (rate({app=~"x.*"} |= "y" [5m]))`)
	if b := parse("sum  by (a)\n(rate({ app =~ `x.*` } |= `y` [300s]))"); !syntax.Equal(a, b) || reflect.DeepEqual(a, b) {
		t.Errorf("equal but for places: Equal %v", syntax.Equal(a, b))
	}
	for _, s := range []string{
		`sum by (b) (rate({app=~"x.*"} |= "y" [5m]))`,
		`sum by (a) (rate({app=~"x.+"} |= "y" [5m]))`,
		`sum by (a) (rate({app=~"x.*"} != "y" [5m]))`,
		`sum by (a) (rate({app=~"x.*"} |= "y" [5m] offset 1m))`,
		`max by (a) (rate({app=~"x.*"} |= "y" [5m]))`,
		`{app=~"x.*"}`, `1`,
	} {
		if syntax.Equal(a, parse(s)) {
			t.Errorf("equal to %s", s)
		}
	}
	if nan := parse("0/0"); !syntax.Equal(nan, parse("1 % 0")) {
		t.Error("NaN is not equal to NaN")
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkRoundTrip(t, syntaxtest.Default().Queries().Draw(t, "query"))
	})
}

func TestPrettyRoundTrip(t *testing.T) {
	words := syntaxtest.Default()
	words.Exact = true
	rapid.Check(t, func(t *rapid.T) {
		e := words.Queries().Draw(t, "query")
		text := syntax.Pretty(e)
		back, err := syntax.ParseCanonical(text)
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		if !syntax.Equal(e, back) {
			t.Fatalf("%s\nof %s\nparses to %s", text, e, back)
		}
		if again := syntax.Pretty(back); again != text {
			t.Fatalf("%s\nprints again as\n%s", text, again)
		}
	})
}

func FuzzParse(f *testing.F) {
	words := syntaxtest.Default()
	for i := range 50 {
		f.Add(words.Queries().Example(i).String())
	}
	for _, s := range []string{
		"", "{", `{a="b"} | a>5 b<1KB, c=ip("::1") or d=~` + "`x`", `rate(({a="b"})[5m] offset -1h | unwrap bytes(x))`,
		`sum(rate({a="b"}[5m])) by (x) / on () group_left vector(1) # end`, `1--1^2%0`, "\ufeff{a=\"\\xff\"}//",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := syntax.ParseExpr(text)
		if err != nil {
			return
		}
		checkRoundTrip(t, e)
		syntax.Pretty(e)
	})
}

// checkAnyLabels checks that labels of any names have a text from which they come again.
func checkAnyLabels(t *testing.T, text string) {
	pairs, err := syntax.ParseAnyLabels(text)
	if err != nil {
		return
	}
	set := make(model.Labels, len(pairs))
	for i, p := range pairs {
		set[i] = model.Label{Name: p.Name, Value: p.Value}
	}
	if back, err := syntax.ParseAnyLabels(set.String()); err != nil || !slices.Equal(back, pairs) {
		t.Errorf("%q: %v, then %v, %v", text, pairs, back, err)
	}
}

func FuzzParseLabels(f *testing.F) {
	f.Add(`{a="b", c='d',}`)
	f.Add("{a=`b`}")
	f.Add("{\"k8s.pod.name\"=\"x\", `größe`='1', 'a b'=\"\"}")
	f.Add(`{"a"="\x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		checkAnyLabels(t, text)
		labels, err := syntax.ParseLabels(text)
		if err != nil {
			return
		}
		var b strings.Builder
		for _, l := range labels {
			b.WriteString(l.Name + "=" + strconv.Quote(l.Value) + ",")
		}
		if any, err := syntax.ParseAnyLabels(text); err != nil || !slices.Equal(any, labels) {
			t.Errorf("%q: with any names %v, %v", text, any, err)
		}
		back, err := syntax.ParseLabels("{" + b.String() + "}")
		if err != nil || !slices.Equal(labels, back) {
			t.Errorf("%q: %v, then %v, %v", text, labels, back, err)
		}
	})
}
