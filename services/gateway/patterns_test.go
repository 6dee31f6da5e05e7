package gateway_test

import (
	"context"
	"net/url"
	"testing"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

func (b *backend) Patterns(ctx context.Context, r *queryv1.PatternsRequest) (*queryv1.PatternsResponse, error) {
	b.note(ctx, r)
	sample := func(at int64, n uint64) *queryv1.PatternSample {
		return &queryv1.PatternSample{TimestampUnixNano: at * 1e9, Entries: n}
	}
	return &queryv1.PatternsResponse{Warnings: b.warnings, Patterns: []*queryv1.Pattern{
		{Pattern: `user <_> logged "in"`, Level: "info", Entries: 60, Samples: []*queryv1.PatternSample{sample(880, 18), sample(900, 10), sample(960, 18)}},
		{Pattern: "seldom <_>", Entries: 30, Samples: []*queryv1.PatternSample{sample(900, 30)}},
	}}, nil
}

func TestLokiPatterns(t *testing.T) {
	e := start(t)
	ask := func(step string) string {
		return "/loki/api/v1/patterns?" + url.Values{"query": {`{app="x"}`}, "start": {"800"}, "end": {"1001"}, "step": {step}}.Encode()
	}
	// Steps beyond the least one have a sample each.
	resp, _ := e.want(200, `{"status":"success","data":[{"pattern":"user <_> logged \"in\"","level":"info","samples":[[880,18],[900,10],[920,0],[940,0],[960,18]]},`+
		`{"pattern":"seldom <_>","level":"","samples":[[900,30]]}]}`+"\n", "GET", ask("20"), "")
	if got := resp.Header.Get("Content-Type"); got != "application/json; charset=UTF-8" {
		t.Error(got)
	}
	if q := last[*queryv1.PatternsRequest](t, e.backend); q.GetLimit() != 300 || q.GetMinEntries() != 30 || q.GetStart().GetSeconds() != 800 || q.GetStep().GetSeconds() != 20 {
		t.Error(q)
	}
	e.want(200, `"samples":[[880,18],[900,10],[960,18]]`, "GET", ask("1"), "")
	if q := last[*queryv1.PatternsRequest](t, e.backend); q.GetStep().GetSeconds() != 10 {
		t.Error(q)
	}

	e.want(400, "zero or negative query resolution step widths are not accepted. Try a positive integer", "GET", ask("-1"), "")
	e.want(400, "could not parse 'start' parameter", "GET", "/loki/api/v1/patterns?query=%7Bapp%3D%22x%22%7D&start=%3F", "")
	e.want(400, "parse error", "GET", "/loki/api/v1/patterns?query=sum(", "")
	e.want(400, "", "GET", "/loki/api/v1/patterns?query=vector(1)", "")
	e.want(400, "exceeded maximum resolution of 11,000 points", "GET", "/loki/api/v1/patterns?query=%7Bapp%3D%22x%22%7D&start=1&end=200000&step=10", "")
}
