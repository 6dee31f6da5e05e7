package harness

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/checker"
)

// Span is how far back a checker.Load goes, and a margin.
const Span = 3 * time.Hour

// Selector covers the entries of a checker.Load.
const Selector = `{service_name="` + checker.Service + `"}`

// Read reads all entries of a checker.Load, page by page.
func Read(ctx context.Context, c *client.Client, backward bool, page uint32) (*checker.Read, error) {
	now := time.Now()
	req := &queryv1.QueryRangeRequest{
		Query: Selector, Limit: page, Direction: queryv1.Direction_DIRECTION_FORWARD,
		Start: timestamppb.New(now.Add(-Span)), End: timestamppb.New(now.Add(2 * time.Hour)),
	}
	if backward {
		req.Direction = queryv1.Direction_DIRECTION_BACKWARD
	}
	r := &checker.Read{Backward: backward}
	for resp, err := range c.Pages(ctx, req) {
		if err != nil {
			return nil, fmt.Errorf("page %d: %w", r.Pages, err)
		}
		for _, s := range resp.GetStreams().GetStreams() {
			if s.GetLabels()["service_name"] != checker.Service || len(s.GetLabels()) != 2 {
				return nil, fmt.Errorf("stream with labels %v", s.GetLabels())
			}
			for _, e := range s.GetEntries() {
				r.Add(s.GetLabels()["stream"], e.GetTimestampUnixNano(), client.Line(e))
			}
		}
		r.EndPage()
	}
	return r, nil
}

// Count returns how many entries count_over_time finds.
func Count(ctx context.Context, c *client.Client) (int, error) {
	end := time.Now().Add(2 * time.Hour)
	resp, err := c.Query(ctx, &queryv1.QueryRequest{
		Query: fmt.Sprintf("sum(count_over_time(%s[5h]))", Selector), Time: timestamppb.New(end),
	})
	if err != nil {
		return 0, err
	}
	n := 0.0
	for _, s := range resp.GetVector().GetSamples() {
		n += s.GetSample().GetValue()
	}
	return int(n), nil
}

// Check reads everything while nothing is pushed, forward, backward, in small and in
// large pages and by count, and judges it. Entries in gone must not be there.
func Check(ctx context.Context, c *client.Client, h *checker.History, gone map[checker.ID]bool) (checker.Verdict, error) {
	mark := h.Mark()
	forward, err := Read(ctx, c, false, 5000)
	if err != nil {
		return checker.Verdict{}, fmt.Errorf("read forward: %w", err)
	}
	v := h.Judge(mark, forward, gone)
	for _, x := range []struct {
		backward bool
		page     uint32
	}{{true, 5000}, {false, uint32(max(100, forward.Len()/30))}} {
		other, err := Read(ctx, c, x.backward, min(x.page, 4999))
		if err != nil {
			return v, fmt.Errorf("read, backward %v: %w", x.backward, err)
		}
		if w := h.Judge(mark, other, gone); w.Err() != nil && v.Err() == nil {
			return w, nil
		}
		v.Compare(forward, other)
	}
	n, err := Count(ctx, c)
	if err != nil {
		return v, fmt.Errorf("count: %w", err)
	}
	v.Count(n)
	return v, nil
}

// Warnings returns what a query of everything says is missing.
func Warnings(ctx context.Context, c *client.Client) ([]string, error) {
	now := time.Now()
	resp, err := c.QueryRange(ctx, &queryv1.QueryRangeRequest{
		Query: Selector, Limit: 1, Partial: true, Start: timestamppb.New(now.Add(-Span)), End: timestamppb.New(now.Add(2 * time.Hour)),
	})
	return resp.GetWarnings(), err
}
