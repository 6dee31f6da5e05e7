package gateway_test

import (
	"fmt"
	"net/url"
	"strconv"
	"testing"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/services/gateway"
)

func TestLokiPatterns(t *testing.T) {
	e := start(t, func(l *limits.Limits, _ *gateway.Config) { l.MaxQueryEntries = 50 })
	const all = 120 // lines, newest first, one a second
	e.backend.stream = func(r *queryv1.QueryStreamRequest, s queryv1.QueryService_QueryStreamServer) error {
		from, _ := strconv.Atoi(r.GetQuery().GetCursor())
		to := min(from+int(r.GetQuery().GetLimit()), all)
		out := &queryv1.LogStream{Labels: map[string]string{"app": "x"}}
		for i := from; i < to; i++ {
			level, text := "info", fmt.Sprintf(`user u%d logged "in" from 10.0.0.%d`, i, i)
			switch {
			case i%12 == 0:
				level, text = "error", fmt.Sprint("this is too seldom: ", i)
			case i >= 60 && i < 90:
				continue // a gap
			}
			out.Entries = append(out.Entries, entry(int64(1000-i)*1e9, text, map[string]string{"detected_level": level}, nil))
		}
		if err := s.Send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Streams{Streams: &queryv1.Streams{Streams: []*queryv1.LogStream{out}}}}); err != nil {
			return err
		}
		done := &queryv1.Done{}
		if to < all {
			done.NextCursor = strconv.Itoa(to)
		}
		return s.Send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Done{Done: done}})
	}
	ask := func(step string) string {
		return "/loki/api/v1/patterns?" + url.Values{"query": {`{app="x"}`}, "start": {"800"}, "end": {"1001"}, "step": {step}}.Encode()
	}
	// Steps beyond the least one have a sample each.
	resp, _ := e.want(200, `{"status":"success","data":[{"pattern":"user <_> logged \"in\" from <_>","level":"info","samples":[[880,18],[900,10],[920,0],[940,18],[960,18],[980,19]]}]}`+"\n", "GET", ask("20"), "")
	if got := resp.Header.Get("Content-Type"); got != "application/json; charset=UTF-8" {
		t.Error(got)
	}
	if q := last[*queryv1.QueryStreamRequest](t, e.backend).GetQuery(); q.GetCursor() != "100" || q.GetLimit() != 50 || q.GetStart().GetSeconds() != 800 {
		t.Error(q)
	}
	e.want(200, `"samples":[[880,9],[890,9],[900,9],[910,1],[940,9],[950,9]`, "GET", ask("1"), "")

	e.want(400, "zero or negative query resolution step widths are not accepted. Try a positive integer", "GET", ask("-1"), "")
	e.want(400, "could not parse 'start' parameter", "GET", "/loki/api/v1/patterns?query=%7Bapp%3D%22x%22%7D&start=%3F", "")
	e.want(400, "parse error", "GET", "/loki/api/v1/patterns?query=sum(", "")
	e.want(400, "", "GET", "/loki/api/v1/patterns?query=vector(1)", "")
	e.want(400, "exceeded maximum resolution of 11,000 points", "GET", "/loki/api/v1/patterns?query=%7Bapp%3D%22x%22%7D&start=1&end=200000&step=10", "")
}
