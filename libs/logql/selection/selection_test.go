package selection_test

import (
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/model"
)

func rows(lines ...string) *model.Rows {
	r := &model.Rows{}
	for i, l := range lines {
		r.Times = append(r.Times, int64(i))
		r.Lines.AppendString(l)
	}
	return r
}

func TestSelection(t *testing.T) {
	ls := model.NewLabels([]model.Label{{Name: "app", Value: "shop"}, {Name: "env", Value: "prod"}})
	r := rows("GET /a", `{"user":"ann"}`, "POST /b")
	level := model.Column{Name: "detected_level"}
	level.AppendString(0, "info")
	level.AppendString(2, "debug")
	level.Finish(3)
	r.Derived = []model.Column{level}
	for text, want := range map[string]string{
		`{app="shop"}`:                           "yyy",
		`{app="other"}`:                          "",
		`{app="shop",env!~"p.*"}`:                "",
		`{app="shop"} |= "GET"`:                  "ynn",
		`{app="shop"} != "GET"`:                  "nyy",
		`{app="shop"} | detected_level="debug"`:  "nny",
		`{app="shop"} | json | user="ann"`:       "nyn",
		`{app=~".+"} |~ "[A-Z]+ /" !~ "/b$"`:     "ynn",
		`{app="shop"} | detected_level!="debug"`: "yyn",
		`{app="shop"} | env="prod"`:              "yyy",
	} {
		s, err := selection.Parse(text)
		if err != nil {
			t.Fatal(text, err)
		}
		got := ""
		if s.Stream(ls) {
			m := s.ForStream(ls)
			for i := range r.Len() {
				got += map[bool]string{true: "y", false: "n"}[m.Match(r, i)]
			}
		}
		if got != want {
			t.Errorf("%s keeps %s, want %s", text, got, want)
		}
		if _, err := selection.Parse(s.String()); err != nil {
			t.Errorf("%s does not parse: %v", s, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                                 "parse error",
		`{}`:                               "at least one",
		`count_over_time({a="b"}[1m])`:     "only log selector",
		`{a="b"} | line_format "{{now}}"`:  "only filters",
		`{a="b"} | label_format x="{{.}}"`: "only filters",
		`{a="b"} |~ "("`:                   "stage",
	} {
		if _, err := selection.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
