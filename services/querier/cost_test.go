package querier

import (
	"math"
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// What stages make a log query read is in its estimate: twice behind top, and no more
// than it takes where they stop.
func TestCostOfStages(t *testing.T) {
	for query, want := range map[string]struct{ share, most float64 }{
		`{app="a"}`:                              {1, 100 * 4 * entryCost},
		`{app="a"} | json`:                       {1, math.Inf(1)},
		`{app="a"} |= "needle"`:                  {needles, math.Inf(1)},
		`{app="a"} | json | top 5 code`:          {2, math.Inf(1)},
		`{app="a"} |= "needle" | top 5 code`:     {2 * needles, math.Inf(1)},
		`{app="a"} |= "needle" | sort code desc`: {needles, math.Inf(1)},
		`{app="a"} | top 5 pod`:                  {1 + noLines, math.Inf(1)},
		`{app="a"} | dedup code | top 5 code`:    {1, math.Inf(1)}, // counted as they come
		`{app="a"} | json | distinct code`:       {1, math.Inf(1)},
		`{app="a"} | limit 7`:                    {1, 7 * 4 * entryCost},
		`{app="a"} | json | limit 7`:             {1, math.Inf(1)}, // entries may be left out first
	} {
		expr, err := syntax.ParseExpr(query)
		if err != nil {
			t.Fatal(err)
		}
		w := &work{expr: expr, end: 1, limit: 100}
		l := w.leaves()
		if len(l) != 1 || l[0].share != want.share || l[0].most != want.most {
			t.Errorf("%s: %+v, want %+v", query, l, want)
		}
		if got, most := w.revised(1<<30), int64(min(float64(1<<30)*want.share, want.most)); got != most {
			t.Errorf("%s: %d of 1 GiB, want %d", query, got, most)
		}
	}
}
