package syntax

import (
	"reflect"
	"testing"
)

// checkRoundTrip checks that the canonical text parses back to an equal tree.
func checkRoundTrip(t interface {
	Helper()
	Errorf(string, ...any)
}, e Expr) {
	t.Helper()
	text := e.String()
	back, err := ParseCanonical(text)
	if err != nil {
		t.Errorf("canonical text %q does not parse: %v", text, err)
		return
	}
	if !Equal(e, back) {
		t.Errorf("canonical text %q parses to another tree, %q", text, back)
	}
	if again := back.String(); again != text {
		t.Errorf("canonical text %q prints as %q", text, again)
	}
}

func TestEqual(t *testing.T) {
	parse := func(s string) Expr {
		e, err := ParseExpr(s)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a := parse(`sum by (a) (rate({app=~"x.*"} |= "y" [5m]))`)
	if b := parse("sum  by (a)\n(rate({ app =~ `x.*` } |= `y` [300s]))"); !Equal(a, b) || reflect.DeepEqual(a, b) {
		t.Errorf("equal but for places: Equal %v", Equal(a, b))
	}
	for _, s := range []string{
		`sum by (b) (rate({app=~"x.*"} |= "y" [5m]))`,
		`sum by (a) (rate({app=~"x.+"} |= "y" [5m]))`,
		`sum by (a) (rate({app=~"x.*"} != "y" [5m]))`,
		`sum by (a) (rate({app=~"x.*"} |= "y" [5m] offset 1m))`,
		`max by (a) (rate({app=~"x.*"} |= "y" [5m]))`,
		`{app=~"x.*"}`, `1`,
	} {
		if Equal(a, parse(s)) {
			t.Errorf("equal to %s", s)
		}
	}
	if nan := parse("0/0"); !Equal(nan, parse("1 % 0")) {
		t.Error("NaN is not equal to NaN")
	}
}
