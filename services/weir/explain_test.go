package weir

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// Explain says what a query would read and cost, and what each filter spares.
func TestExplainTellsWhatFiltersSkip(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	at := time.Now().Add(-time.Minute)
	for round := range 2 {
		p.push(t, "shop", at, fmt.Sprintf("order number%d placed", round), "nothing else")
		if _, err := adminv1.NewAdminServiceClient(p.conn).Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := queryv1.NewQueryServiceClient(p.conn).Explain(t.Context(), &queryv1.ExplainRequest{Query: &queryv1.QueryRangeRequest{
		Query: `{app="shop"} |= "number1" != "zzzz"`, Start: timestamppb.New(at.Add(-29 * 24 * time.Hour)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	text := resp.String()
	for _, want := range []string{"number1` skips 1 of 2 row groups of 2 blocks", "zzzz` skips 0 of 2", "all that together skips 1 of 2", "parts of time"} {
		if !strings.Contains(strings.NewReplacer(`\"`, "`", `"`, "`").Replace(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if resp.GetCost() == 0 || resp.GetBytes() == 0 || len(resp.GetWarnings()) > 0 {
		t.Errorf("cost %d: %s", resp.GetCost(), text)
	}
}
