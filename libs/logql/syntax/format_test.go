package syntax_test

import (
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		{`1+vector(1e-9)`, `(1 + vector(0.000000))`},
		{`{a="b"}|c=~"foo(bar|[0-9]+)"|d=~"foo.*"|e=~"[0-9]` + "`" + `"`,
			"{a=\"b\"} | c=~`foo(bar|[0-9]+)` | d=~\"foo.*\" | e=~\"[0-9]`\""},
		{`sum_over_time({a="b"} | unwrap c | d>12KiB [1m])`, `sum_over_time({a="b"} | unwrap c | d>12kB[1m])`},
		{`{application="a long name of an application", environment="a long name of an environment"} |= "a" or "b" | decolorize`,
			`{application="a long name of an application", environment="a long name of an environment"}
  |= "a" or "b"
  | decolorize`},
		{`{application="a long name of an application", environment="a long name of an environment", zone="some zone"}`,
			`{application="a long name of an application", environment="a long name of an environment", zone="some zone"}`},
		{`quantile_over_time(0.9, {application="a long name of an application", environment="a long name of an environment"} | json | unwrap bytes(size) | zone="a" [5m] offset 1h30m) by (a, b)`,
			`quantile_over_time(
  0.9,
  {application="a long name of an application", environment="a long name of an environment"} | json
    | unwrap bytes(size)
    | zone="a" [5m] offset 1h30m
) by (a, b)`},
		{`topk(5, sum without () (rate({application="a long name of an application", environment="a long name of an environment"}[5m])))`,
			`topk(
  5,
  sum without ()(
    rate({application="a long name of an application", environment="a long name of an environment"}[5m])
  )
)`},
		{`(rate({application="a long name of an application"}[5m]) + rate({application="a long name of another application"}[5m])) * on (application) vector(2)`,
			`  (
      rate({application="a long name of an application"}[5m])
    +
      rate({application="a long name of another application"}[5m])
  )
* on (application)
  vector(2.000000)`},
		{`label_replace(rate({application="a long name of an application"}[5m]), "destination", "$1", "application", "a long (.*)")`,
			`label_replace(
  rate({application="a long name of an application"}[5m]),
  "destination",
  "$1",
  "application",
  "a long (.*)"
)`},
	} {
		got, err := syntax.Format(c.query)
		if err != nil || got != c.want {
			t.Errorf("%s (%v)\n got\n%s\nwant\n%s", c.query, err, got, c.want)
			continue
		}
		if _, err := syntax.ParseExpr(got); err != nil {
			t.Errorf("formatted text does not parse: %v\n%s", err, got)
		}
	}
	if _, err := syntax.Format("{"); err == nil {
		t.Error("no error")
	}
}
