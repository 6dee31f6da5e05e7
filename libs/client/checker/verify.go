package checker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
)

// Ask is what to read of a Load's entries.
type Ask struct {
	Service  string // default Service
	Span     Span   // zero: everything of the last three hours
	Backward bool
	Page     uint32 // entries of a page
}

// reach is how far back everything goes: FarthestBack, and time for a test to run.
const reach = 3 * time.Hour

// Selector covers the entries of a Load of a service.
func Selector(service string) string { return fmt.Sprintf("{service_name=%q}", service) }

// Fetch reads what is asked for, page by page.
func Fetch(ctx context.Context, c *client.Client, a Ask) (*Read, error) {
	if a.Service == "" {
		a.Service = Service
	}
	span := a.Span
	if span == (Span{}) {
		now := time.Now()
		span = Span{now.Add(-reach).UnixNano(), now.Add(2 * time.Hour).UnixNano()}
	}
	req := &queryv1.QueryRangeRequest{
		Query: Selector(a.Service), Limit: a.Page, Direction: queryv1.Direction_DIRECTION_FORWARD,
		Start: timestamppb.New(time.Unix(0, span.From)), End: timestamppb.New(time.Unix(0, span.To)),
	}
	if a.Backward {
		req.Direction = queryv1.Direction_DIRECTION_BACKWARD
	}
	r := &Read{Span: a.Span, Backward: a.Backward}
	for resp, err := range c.Pages(ctx, req) {
		if err != nil {
			return nil, fmt.Errorf("page %d: %w", r.Pages, err)
		}
		for _, s := range resp.GetStreams().GetStreams() {
			if s.GetLabels()["service_name"] != a.Service || len(s.GetLabels()) != 2 {
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

// Counts returns how many entries of a span count_over_time finds in each stream.
func Counts(ctx context.Context, c *client.Client, service string, span Span) (map[int]int, error) {
	// A range of a metric query is open at its beginning and closed at its end.
	resp, err := c.Query(ctx, &queryv1.QueryRequest{
		Query: fmt.Sprintf("sum by (stream) (count_over_time(%s[%s]))", Selector(service), time.Duration(span.To-span.From)),
		Time:  timestamppb.New(time.Unix(0, span.To-1)),
	})
	if err != nil {
		return nil, err
	}
	counts := map[int]int{}
	for _, s := range resp.GetVector().GetSamples() {
		stream, err := strconv.Atoi(s.GetLabels()["stream"])
		if err != nil {
			return nil, fmt.Errorf("a count has the labels %v", s.GetLabels())
		}
		counts[stream] += int(s.GetSample().GetValue())
	}
	return counts, nil
}

// Check reads everything while nothing is pushed, forward, backward, in small and in
// large pages and by count, and judges it. Entries in gone must not be there.
func Check(ctx context.Context, c *client.Client, h *History, gone map[ID]bool) (Verdict, error) {
	mark := h.Mark()
	forward, err := Fetch(ctx, c, Ask{Page: 5000})
	if err != nil {
		return Verdict{}, fmt.Errorf("read forward: %w", err)
	}
	v := h.Judge(mark, forward, gone)
	for _, a := range []Ask{{Backward: true, Page: 4999}, {Page: min(4999, uint32(max(100, forward.Len()/30)))}} {
		other, err := Fetch(ctx, c, a)
		if err != nil {
			return v, fmt.Errorf("read, backward %v: %w", a.Backward, err)
		}
		if w := h.Judge(mark, other, gone); w.Err() != nil && v.Err() == nil {
			return w, nil
		}
		v.Compare(forward, other)
	}
	now := time.Now()
	counts, err := Counts(ctx, c, Service, Span{now.Add(-reach).UnixNano(), now.Add(2 * time.Hour).UnixNano()})
	if err != nil {
		return v, fmt.Errorf("count: %w", err)
	}
	n := 0
	for _, c := range counts {
		n += c
	}
	v.Count(n)
	return v, nil
}

// Verifier reads while writers write. What was acknowledged before a read began must be
// in it; what is not and comes later is stale, what does not come is lost.
type Verifier struct {
	Client  *client.Client
	History *History
	Service string        // default Service
	Wait    time.Duration // for what is missing to come; default 30 s
}

// Verify reads a span in both directions, in pages of the given size, and by count, and
// returns what is wrong. An error is a query that was not answered: that is not wrong.
func (v *Verifier) Verify(ctx context.Context, span Span, page uint32) (Verdict, error) {
	var all Verdict
	for _, backward := range []bool{false, true} {
		w, err := v.read(ctx, Ask{Service: v.Service, Span: span, Page: page, Backward: backward})
		if err != nil {
			return all, err
		}
		if backward {
			w.Acked, w.Rows, w.UnknownPresent, w.UnknownAbsent = 0, 0, 0, 0 // those of the first are meant
		}
		all.Add(w)
	}
	mark := v.History.Mark()
	service := v.Service
	if service == "" {
		service = Service
	}
	counts, err := Counts(ctx, v.Client, service, span)
	if err != nil {
		return all, err
	}
	v.History.JudgeCounts(&all, mark, span, counts)
	return all, nil
}

func (v *Verifier) read(ctx context.Context, a Ask) (Verdict, error) {
	wait := v.Wait
	if wait == 0 {
		wait = 30 * time.Second
	}
	mark := v.History.Mark()
	var first Verdict
	for began := time.Now(); ; {
		r, err := Fetch(ctx, v.Client, a)
		if err != nil {
			return first, err
		}
		w := v.History.Judge(mark, r, nil)
		if first.Lost == 0 {
			first = w
		} else if w.Lost < first.Lost {
			first.Stale, first.Lost = first.Stale+first.Lost-w.Lost, w.Lost
		}
		if first.Lost == 0 || time.Since(began) > wait {
			return first, nil
		}
		if sleep(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return first, ctx.Err() // what is missing had not its time to come
		}
	}
}
