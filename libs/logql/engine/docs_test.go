package engine_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

var updateDocs = flag.Bool("update", false, "write the answers into docs/logql.md")

// TestDocs runs every query of docs/logql.md: a block "data" has entries as in a
// script, a block "logql [instant T | range START END STEP] [fails]" a query, and the
// block behind it the answer.
func TestDocs(t *testing.T) {
	const file = "../../../docs/logql.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, file: file}
	in := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	var out []string
	// block returns the lines of the block that begins with line i, and where it ends.
	block := func(i int) ([]string, int) {
		end := i + 1
		for end < len(in) && in[end] != "```" {
			end++
		}
		if end >= len(in) {
			t.Fatalf("%s:%d: block without an end", file, i+1)
		}
		return in[i+1 : end], end
	}
	queries := 0
	for i := 0; i < len(in); i++ {
		kind, isBlock := strings.CutPrefix(in[i], "```")
		if !isBlock {
			out = append(out, in[i])
			continue
		}
		s.line = i + 1
		body, end := block(i)
		out = append(out, in[i:end+1]...)
		how, isQuery := strings.CutPrefix(kind, "logql")
		switch {
		case kind == "data":
			for _, line := range body {
				s.load(line)
			}
		case isQuery:
			queries++
			want := s.answer(strings.TrimSpace(how), strings.Join(body, "\n"))
			got := []string(nil)
			if end+1 < len(in) && in[end+1] == "```text" {
				got, end = block(end + 1)
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") && !*updateDocs {
				s.errorf("%s:\n is %s\nnot %s", body, strings.Join(want, "\n    "), strings.Join(got, "\n    "))
			}
			out = append(out, "```text")
			out = append(append(out, want...), "```")
		default:
			t.Fatalf("%s:%d: block of kind %q", file, i+1, kind)
		}
		i = end
	}
	if queries == 0 {
		t.Error("no queries")
	}
	if *updateDocs {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// answer runs a query of the documentation and returns the lines to show.
func (s *script) answer(how, query string) []string {
	how, fails := strings.CutSuffix(how, "fails")
	expr, err := syntax.ParseExpr(query)
	if err != nil && fails {
		return []string{err.Error()}
	}
	if err != nil {
		s.errorf("%s: %v", query, err)
		return nil
	}
	if again, err := syntax.ParseExpr(expr.String()); err != nil || again.String() != expr.String() {
		s.errorf("%s is printed as %s, which is another query (%v)", query, expr, err)
	}
	if how = strings.TrimSpace(how); how == "" {
		how = "logs forward 100 0s 60s"
	}
	got, err := s.eval(how + " " + query)
	switch {
	case fails && err == nil:
		s.errorf("%s does not fail", query)
	case fails:
		return []string{err.Error()}
	case err != nil:
		s.errorf("%s: %v", query, err)
	case len(got) == 0:
		return []string{"(nothing)"}
	}
	return got
}
