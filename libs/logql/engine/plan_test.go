package engine

import (
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// What is wanted of rows of a stream {app="x"} in a store that has metadata trace.
func TestNeed(t *testing.T) {
	for query, want := range map[string]string{
		`{app="x"}`:                                                           "all",
		`{app="x"} |= "a" !~ "b" or "c"`:                                      "|= \"a\",!~ \"b\" or \"c\" [] [] lines meta",
		`{app="x"} |= ip("1.2.3.4") |> "<_>foo<_>"`:                           " [[foo]] [] lines meta",
		`{app="x"} | line_format "x" |= "a"`:                                  "all",
		`{app="x"} | json | level="error" |= "b"`:                             "|= \"b\" [[error \\]] [] lines meta level=error unless level, list 0",
		`{app="x"} | logfmt a="b", c="d" | a="1", c="2"`:                      " [[1 \\] [2 \\]] [] lines meta b=1 unless a, list 0 d=2 unless c, list 1",
		`{app="x"} | json a="b.c", d="e", d="f" | a="1" | d="2"`:              " [[1 \\] [2 \\]] [] lines meta",
		`{app="x"} | json | json | level="1"`:                                 " [[1 \\]] [] lines meta",
		`{app="x"} | json | trace="1"`:                                        " [] [] lines meta trace=1 unless trace, list -1",
		`{app="x"} | trace="1"`:                                               " [] [{trace 1}] lines meta",
		`{app="x"} | trace="1" and (n="2", m="3" or k="4")`:                   " [] [{trace 1} {n 2}] lines meta",
		`{app="x"} | trace="1" or n="2"`:                                      "all",
		`{app="x"} | app="x"`:                                                 "all",
		`{app="x"} | trace!="1" | n=~"a" | n=""`:                              "all",
		`{app="x"} | label_format n=m | n="1"`:                                "all",
		`{app="x"} | json | line_format "{{.m}}" | logfmt | level="error"`:    "all",
		`{app="x"} | logfmt | level="error" | line_format "x" | n="1"`:        " [[error \\] [1 \\]] [] lines meta level=error unless level, list 0 n=1 unless n, list 1",
		`{app="x"} | unpack | level="error"`:                                  "all",
		`{app="x"} | json | drop level | level="error"`:                       "all",
		`{app="x"} | json | level_extracted="error"`:                          "all",
		`{app="x"} | json | __error__="JSONParserErr"`:                        "all",
		`count_over_time({app="x"}[1m])`:                                      " [] [] meta",
		`sum(count_over_time({app="x"}[1m]))`:                                 " [] []",
		`sum by (app) (rate({app="x"} |= "a" [1m]))`:                          "|= \"a\" [] []",
		`sum by (app, trace) (rate({app="x"} |= "a" [1m]))`:                   "|= \"a\" [] [] meta[app trace]",
		`sum without (app) (rate({app="x"}[1m]))`:                             " [] [] meta",
		`sum by (app) (bytes_rate({app="x"} |= "a" [1m]))`:                    "|= \"a\" [] [] lines",
		`sum by (app) (rate({app="x"} |> "<_>a<_>" [1m]))`:                    " [[a]] [] lines",
		`sum by (app) (rate({app="x"} | trace="1" [1m]))`:                     " [] [{trace 1}] meta[app trace]",
		`sum by (app) (rate({app="x"} | json | trace="1" [1m]))`:              " [] [] lines meta trace=1 unless trace, list -1",
		`sum_over_time({app="x"} | unwrap n [1m])`:                            " [] [] meta",
		`absent_over_time({app="x"} |= "a" [1m])`:                             "|= \"a\" [] []",
		`sum by (app) (rate({app="x"} | label_format a=b | c="d" [1m]))`:      " [] [] meta",
		`sum by (app) (rate({app="x"} | label_format a="{{__line__}}" [1m]))`: "all",
	} {
		e, err := syntax.ParseExpr(query)
		if err != nil {
			t.Fatal(query, err)
		}
		p, err := newPlan(e)
		if err != nil {
			t.Fatal(query, err)
		}
		n := p.need(model.Labels{{Name: "app", Value: "x"}}, false, false, func(name string) bool { return name == "trace" })
		got := "all"
		if n != nil {
			got = ""
			for i, f := range n.Filters {
				if i > 0 {
					got += ","
				}
				got += f.String()
			}
			got += fmt.Sprintf(" %v %v", n.Any, n.Metadata)
			if n.Lines {
				got += " lines"
			}
			if n.Meta {
				got += " meta"
			}
			if n.Names != nil {
				got += fmt.Sprint(n.Names)
			}
			for _, f := range n.Parsed {
				got += fmt.Sprintf(" %s=%s unless %s, list %d", f.Name, f.Value, f.Unless, f.Any)
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
		if n != p.need(model.Labels{{Name: "app", Value: "x"}}, false, false, func(name string) bool { return name == "trace" }) {
			t.Errorf("%s: made twice", query)
		}
	}
}
