package harness

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/client/checker"
)

// Span is how far back a checker.Load goes, and a margin.
const Span = 3 * time.Hour

// Selector covers the entries of a checker.Load.
const Selector = `{service_name="` + checker.Service + `"}`

// Read reads all entries of a checker.Load, page by page.
func Read(ctx context.Context, c *client.Client, backward bool, page uint32) (*checker.Read, error) {
	return checker.Fetch(ctx, c, checker.Ask{Backward: backward, Page: page})
}

// Check reads everything while nothing is pushed, forward, backward, in small and in
// large pages and by count, and judges it. Entries in gone must not be there.
func Check(ctx context.Context, c *client.Client, h *checker.History, gone map[checker.ID]bool) (checker.Verdict, error) {
	return checker.Check(ctx, c, h, gone)
}

// Warnings returns what a query of everything says is missing.
func Warnings(ctx context.Context, c *client.Client) ([]string, error) {
	now := time.Now()
	resp, err := c.QueryRange(ctx, &queryv1.QueryRangeRequest{
		Query: Selector, Limit: 1, Partial: true, Start: timestamppb.New(now.Add(-Span)), End: timestamppb.New(now.Add(2 * time.Hour)),
	})
	return resp.GetWarnings(), err
}
