package engine_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
)

// What goes down to a selective store changes no answer, above all where metadata,
// labels of streams and parsed labels have one name.
func TestNeedsChangeNoAnswer(t *testing.T) {
	queries := []string{
		`| json | level="error"`, `| logfmt | level="error"`, `| level="error"`, `| json | level="error" | trace="1"`,
		`| trace="1" | logfmt | level="info"`, `| app="m"`, `| app_extracted="m"`, `| app="a"`, `| logfmt | app="a" | n="1"`,
		`| detected_level="error"`, `| json | detected_level="error"`, `|= "error" | json | n="1"`, `| json |= "error" | level!="info"`,
		`| regexp "(?P<level>\\w+)" | level="error"`, `| pattern "<level> happened <n>" | level="info"`,
		`| line_format "level=error" | logfmt | level="error"`, `| json | line_format "{{.level}}" |= "error"`, `!= "info" or "error"`,
		`|~ "n=.*1" !~ "(?i)INFO"`, `|> "<_>error<_>"`, `| drop level | json | level="error"`, `| keep level | level="error"`, `| label_format level=trace | level="1"`,
		`| decolorize | json | level="error"`, `| json x="level" | x="error"`, `| json level="n" | level="1"`, `| trace="1" or level="error"`,
	}
	rapid.Check(t, func(t *rapid.T) {
		all := entries(t)
		query := `{app=~"` + pick(t, "app", ".+", "a", "b") + `"} ` + pick(t, "stages", queries...)
		switch pick(t, "kind", 0, 1, 2, 3, 4) {
		case 1:
			query = `count_over_time(` + query + ` | __error__="" [1m])`
		case 2:
			query = `sum by (app, level) (count_over_time(` + query + ` | __error__="" [1m]))`
		case 3:
			query = `sum by (app) (count_over_time(` + query + `[1m]))`
		case 4:
			query = `sum by (env) (bytes_over_time(` + query + `[1m]))`
		}
		q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, query)}, End: 301 * sec, Step: time.Minute, Backward: rapid.Bool().Draw(t, "backward")}
		var got [2]*engine.Result
		var errs [2]error
		for i := range got {
			s := enginetest.NewStore(all...)
			s.Selective, s.RunRows, s.BatchRows = i == 1, 3, 2
			q.Sources = []engine.Source{engine.Local(s, "s")}
			got[i], errs[i] = run(q)
		}
		if errs[0] != nil || errs[1] != nil {
			if errs[0] == nil || errs[1] == nil {
				t.Fatalf("%s: %v and %v", query, errs[0], errs[1])
			}
			return
		}
		if !slices.Equal(texts(got[0]), texts(got[1])) || diff(points(got[1]), points(got[0])) != "" {
			t.Fatalf("%s: got %v %v, want %v %v", query, texts(got[1]), points(got[1]), texts(got[0]), points(got[0]))
		}
		a, b := got[0].Statistics, got[1].Statistics
		if a.EntriesPostFilter != b.EntriesPostFilter && len(got[0].Streams) > 0 && b.EntriesPostFilter < uint64(len(texts(got[0]))) || b.EntriesRead > a.EntriesRead {
			t.Fatalf("%s: %+v and %+v", query, a, b)
		}
	})
}
