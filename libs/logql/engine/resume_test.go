package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/model"
)

// What unroll made of one entry is found again page by page, though a sort has put what
// others are made of in between.
func TestPagesOfUnrolledEntriesThatAreSorted(t *testing.T) {
	var all []enginetest.Entry
	for i := range 3 {
		all = append(all, enginetest.Entry{
			Labels: labels("app", "a"), Time: int64(i) * sec, Position: uint32(i), Line: fmt.Sprint(i),
			Metadata: model.NewLabels([]model.Label{{Name: "list", Value: "[1,2,3]"}}),
		})
	}
	for _, emit := range []bool{false, true} {
		for limit := 1; limit < 10; limit++ {
			q := engine.RangeQuery{
				Query: engine.Query{Expr: parse(t, `{app="a"} | unroll list | sort list`), Sources: sources([]*enginetest.Store{enginetest.NewStore(all...)}, true)},
				End:   100 * sec, Limit: limit,
			}
			var got []string
			add := func(ls []engine.LogStream) error {
				for _, s := range ls {
					for _, e := range s.Entries {
						got = append(got, e.Parsed.Get("list")+string(e.Line))
					}
				}
				return nil
			}
			if emit {
				q.Emit = add
			}
			for range len(all) * 3 { // no page is empty
				res, err := run(q)
				if err != nil {
					t.Fatal(err)
				}
				if !emit {
					_ = add(res.Streams)
				}
				if q.Cursor = res.NextCursor; q.Cursor == "" {
					break
				}
			}
			if want := []string{"10", "11", "12", "20", "21", "22", "30", "31", "32"}; !slices.Equal(slices.Sorted(slices.Values(got)), want) {
				t.Errorf("pages of %d, emitted %v: %q", limit, emit, got)
			}
		}
	}
}
