package input

import (
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/tests/harness"
)

// Queries that would hold all that there is, many at once: those that need more than
// their part of the memory fail, and the process stays in its budget.
func TestQueriesOfDeathStayInTheBudget(t *testing.T) {
	const budget = 512 * mib
	node := harness.Start(t, "--memory.limit=512MiB", "--limits.query-timeout=2s")
	fill(t, node, 20, 1000)
	const sel = `{app="x"}`
	queries := []string{
		`quantile_over_time(0.9, ` + sel + ` | json | unwrap a [1h]) by (id)`,
		`sum by (x) (count_over_time(` + sel + ` | pattern "<x>" [1h]))`,
		`count_distinct_over_time(x, ` + sel + ` | pattern "<x>" [1h]) by ()`,
		`first_over_time(` + sel + ` | json | unwrap a [1h]) by (id)`,
		`topk(10, sum by (x) (rate(` + sel + ` | regexp "(?P<x>.*)" [1h])))`,
		`sum by (id) (rate(` + sel + ` | json [1h])) * on (id) group_left sum by (id) (rate(` + sel + ` | json [1h]))`,
		`count_over_time(` + sel + ` | json [1h])`,
		sel + ` | json | sort id desc | limit 100000 | sort a`,
		sel + ` | json | distinct id | sort id`,
		sel + ` | json | top 100000 id`,
		sel + ` | label_format l="[` + strings.Repeat("1,", 20_000) + `1]" | unroll l | sort l | limit 1000000 | sort l desc`,
		sel + ` | json | id in (` + sel + ` | json) and d_e in (` + sel + ` | json)`,
		sel + ` | line_format "{{ range fromJson \"[1,2,3,4,5,6,7,8,9,0]\" }}{{ repeat 100000 \"abcdefghij\" }}{{ end }}"`,
		`|~ "(e|ee)*x" | json | dedup id`,
	}
	node.ResetPeak()
	c := node.Client()
	work := make(chan *queryv1.QueryRangeRequest)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for req := range work {
				_, err := c.QueryRange(t.Context(), req)
				switch status.Code(err) {
				case codes.OK, codes.InvalidArgument, codes.ResourceExhausted, codes.DeadlineExceeded:
				default:
					t.Errorf("%.200s: %.300v", req.GetQuery(), err)
				}
			}
		})
	}
	for _, q := range queries {
		work <- &queryv1.QueryRangeRequest{Query: q, Limit: 5000, Step: durationpb.New(60e9), CutSeries: strings.Contains(q, "by (x)")}
	}
	close(work)
	wg.Wait()
	if got := node.Peak(); got > budget {
		t.Errorf("the process took %d MiB of its %d", got>>20, int64(budget)>>20)
	} else {
		t.Logf("the process took %d MiB of its %d at most", got>>20, int64(budget)>>20)
	}
	alive(t, node)
}
