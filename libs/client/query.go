package client

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// Query evaluates a metric query at one instant.
func (c *Client) Query(ctx context.Context, req *queryv1.QueryRequest) (*queryv1.QueryResponse, error) {
	return c.query.Query(ctx, req)
}

// QueryRange evaluates a query over a range of time: one page of it. See Pages
// for all of them.
func (c *Client) QueryRange(ctx context.Context, req *queryv1.QueryRangeRequest) (*queryv1.QueryRangeResponse, error) {
	return c.query.QueryRange(ctx, req)
}

// Labels lists label names.
func (c *Client) Labels(ctx context.Context, req *queryv1.LabelsRequest) (*queryv1.LabelsResponse, error) {
	return c.query.Labels(ctx, req)
}

// LabelValues lists the values of a label.
func (c *Client) LabelValues(ctx context.Context, req *queryv1.LabelValuesRequest) (*queryv1.LabelValuesResponse, error) {
	return c.query.LabelValues(ctx, req)
}

// Series lists streams.
func (c *Client) Series(ctx context.Context, req *queryv1.SeriesRequest) (*queryv1.SeriesResponse, error) {
	return c.query.Series(ctx, req)
}

// Patterns tells what the lines of a log query have in common.
func (c *Client) Patterns(ctx context.Context, req *queryv1.PatternsRequest) (*queryv1.PatternsResponse, error) {
	return c.query.Patterns(ctx, req)
}

// Stats counts what a selector covers.
func (c *Client) Stats(ctx context.Context, req *queryv1.StatsRequest) (*queryv1.StatsResponse, error) {
	return c.query.Stats(ctx, req)
}

// FormatQuery gives a query in its canonical form.
func (c *Client) FormatQuery(ctx context.Context, query string) (string, error) {
	resp, err := c.query.FormatQuery(ctx, &queryv1.FormatQueryRequest{Query: query})
	return resp.GetQuery(), err
}

// Explain says how a query would be run.
func (c *Client) Explain(ctx context.Context, req *queryv1.QueryRangeRequest) (*queryv1.ExplainResponse, error) {
	return c.query.Explain(ctx, &queryv1.ExplainRequest{Query: req})
}

// Pages evaluates a log query page by page: each page has up to req.Limit
// entries and starts where the one before ended, so that together they are all
// entries of the range. A metric query has one page. An error ends the sequence.
//
// The range should be fixed: without `end`, and `start`, each page would have
// its own.
func (c *Client) Pages(ctx context.Context, req *queryv1.QueryRangeRequest) iter.Seq2[*queryv1.QueryRangeResponse, error] {
	return func(yield func(*queryv1.QueryRangeResponse, error) bool) {
		next := proto.CloneOf(req)
		for {
			page, err := c.QueryRange(ctx, next)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(page, nil) || page.GetNextCursor() == "" {
				return
			}
			if page.GetNextCursor() == next.GetCursor() {
				yield(nil, &Error{Code: codes.Internal, Message: "the server's cursor does not move"})
				return
			}
			next.Cursor = page.GetNextCursor()
		}
	}
}

// QueryStream evaluates a range query whose answer comes in pieces: progress,
// entries or a matrix, and Done as the last. An error ends the sequence; so does
// leaving the loop, which cancels the query.
func (c *Client) QueryStream(ctx context.Context, req *queryv1.QueryRangeRequest) iter.Seq2[*queryv1.QueryStreamResponse, error] {
	return func(yield func(*queryv1.QueryStreamResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		call, err := c.query.QueryStream(ctx, &queryv1.QueryStreamRequest{Query: req})
		if err != nil {
			yield(nil, err)
			return
		}
		done := false
		for {
			msg, err := call.Recv()
			if errors.Is(err, io.EOF) && done {
				return
			}
			if errors.Is(err, io.EOF) {
				err = &Error{Code: codes.Unavailable, Message: "the answer ended early"}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			done = msg.GetDone() != nil
			if !yield(msg, nil) {
				return
			}
		}
	}
}

// Line gives an entry's line, whichever of its two forms it has. Do not change
// it.
func Line(e *queryv1.LogEntry) []byte {
	if r, ok := e.GetLine().(*queryv1.LogEntry_Raw); ok {
		return r.Raw
	}
	return []byte(e.GetText())
}

// Merged gives the entries of all streams of an answer in one order, that of
// direction by timestamp; each with its stream. Entries of equal timestamp come
// by the order of the streams.
func Merged(streams []*queryv1.LogStream, direction queryv1.Direction) iter.Seq2[*queryv1.LogStream, *queryv1.LogEntry] {
	forward := direction == queryv1.Direction_DIRECTION_FORWARD
	return func(yield func(*queryv1.LogStream, *queryv1.LogEntry) bool) {
		// The heads form a heap; ties go to the stream that comes first.
		heap := make([]cursor, 0, len(streams))
		less := func(a, b cursor) bool {
			ta, tb := a.head().GetTimestampUnixNano(), b.head().GetTimestampUnixNano()
			if ta != tb {
				return (ta < tb) == forward
			}
			return a.index < b.index
		}
		down := func(i int) {
			for {
				c := 2*i + 1
				if c >= len(heap) {
					return
				}
				if c+1 < len(heap) && less(heap[c+1], heap[c]) {
					c++
				}
				if !less(heap[c], heap[i]) {
					return
				}
				heap[i], heap[c] = heap[c], heap[i]
				i = c
			}
		}
		for i, s := range streams {
			if len(s.GetEntries()) > 0 {
				heap = append(heap, cursor{s, s.GetEntries(), i})
			}
		}
		for i := len(heap)/2 - 1; i >= 0; i-- {
			down(i)
		}
		for len(heap) > 0 {
			top := &heap[0]
			if !yield(top.stream, top.head()) {
				return
			}
			if top.rest = top.rest[1:]; len(top.rest) == 0 {
				heap[0] = heap[len(heap)-1]
				heap = heap[:len(heap)-1]
			}
			down(0)
		}
	}
}

// cursor is a place in a stream that is being merged.
type cursor struct {
	stream *queryv1.LogStream
	rest   []*queryv1.LogEntry
	index  int
}

func (c cursor) head() *queryv1.LogEntry { return c.rest[0] }

// ListQueries lists the tenant's queries that run or wait, on all queriers.
func (c *Client) ListQueries(ctx context.Context, req *queryv1.ListQueriesRequest) (*queryv1.ListQueriesResponse, error) {
	return c.query.ListQueries(ctx, req)
}

// CancelQuery ends one of the tenant's queries.
func (c *Client) CancelQuery(ctx context.Context, id string) (*queryv1.RunningQuery, error) {
	resp, err := c.query.CancelQuery(ctx, &queryv1.CancelQueryRequest{Id: id})
	return resp.GetQuery(), err
}
