package input

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	weirclient "github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/harness"
)

// nest returns a query of depth n: what(what(…)).
func nest(open, inner, end string, n int) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
}

// refusedQueries are texts that no querier should run.
func refusedQueries() map[string]string {
	const sel, count = `{app="x"}`, `count_over_time({app="x"}[1m])`
	return map[string]string{
		"129 KiB of text":                 `{app="` + strings.Repeat("x", 129<<10) + `"}`,
		"no text":                         "",
		"30,000 parentheses":              nest("(", count, ")", 30_000),
		"30,000 parentheses, open":        strings.Repeat("(", 30_000),
		"10,000 aggregations":             nest("sum(", count, ")", 10_000),
		"10,000 binary operations, right": nest("1+(", count, ")", 10_000),
		"10,000 parentheses in a filter":  sel + " | logfmt | " + nest("(", `a="b"`, ")", 10_000),
		"10,000 braces":                   strings.Repeat("{", 10_000),
		"3,000 stages":                    sel + strings.Repeat(" | json", 3000),
		"regex with nested counts":        sel + ` |~ "((a{1,1000}){1,1000}){1,1000}"`,
		"regex of great size":             sel + ` |~ "` + strings.Repeat("(a{0,900}b)", 1000) + `"`,
		"regex of depth 2,000":            sel + ` |~ "` + nest("(", "a", ")", 2000) + `"`,
		"matcher with nested counts":      `{app=~"((a{1,1000}){1,1000})"}`,
		"regexp stage with nested counts": sel + ` | regexp "(?P<a>((a{1,1000}){1,1000}))"`,
		"regex that does not compile":     sel + ` |~ "("`,
		"template that does not parse":    sel + ` | line_format "{{"`,
		"template without end":            sel + ` | line_format "{{ range .a }}"`,
		"template that calls itself":      sel + ` | line_format "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}"`,
		"template of unknown function":    sel + ` | line_format "{{ exec .a }}"`,
		"no UTF-8":                        `{app="` + "\xff" + `"}`,
		"matches everything":              `{app=~".*"}`,
		"two queries":                     sel + sel,
		"NUL":                             sel + "\x00",
		"range beyond 64 bits":            `count_over_time({app="x"}[99999999999999999999y])`,
		"negative range":                  `count_over_time({app="x"}[-1m])`,
	}
}

// TestQueryText sends texts that must be refused, over gRPC, REST and Loki's API.
func TestQueryText(t *testing.T) {
	node := harness.Start(t)
	c := node.Client()
	for name, text := range refusedQueries() {
		t.Run(name, func(t *testing.T) {
			bounded(t, node, 150*mib, func() {
				if name != "no UTF-8" { // cannot be said in a message
					_, err := c.QueryRange(t.Context(), &queryv1.QueryRangeRequest{Query: text})
					if status.Code(err) != codes.InvalidArgument {
						t.Errorf("gRPC: %.300v", err)
					}
				}
				form := []byte(url.Values{"query": {text}}.Encode())
				header := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
				request{path: "/loki/api/v1/query_range", header: header, body: form, status: []int{400}}.do(t, node)
				request{path: "/loki/api/v1/query", header: header, body: form, status: []int{400}}.do(t, node)
				if len(form) < 30<<10 {
					request{path: "/api/v1/query_range?" + string(form), status: []int{400}}.do(t, node)
				}
				_, err := c.FormatQuery(t.Context(), text)
				switch status.Code(err) {
				case codes.OK, codes.InvalidArgument, codes.Internal: // some can be printed; Internal: not sent
				default:
					t.Errorf("format: %.300v", err)
				}
			})
		})
	}
}

// fill pushes lines of JSON with values of many kinds.
func fill(t *testing.T, node *harness.Node, streams, lines int) {
	t.Helper()
	now := time.Now().UnixNano()
	for i := range streams {
		s := &pushv1.Stream{Labels: map[string]string{"app": "x", "id": fmt.Sprint(i)}}
		for k := range lines {
			s.Entries = append(s.Entries, &pushv1.Entry{
				TimestampUnixNano: now - int64(k)*int64(time.Millisecond),
				Line:              &pushv1.Entry_Text{Text: fmt.Sprintf(`{"a":%d,"id":"%d-%d","d":{"e":"%s"}}`, k, i, k, strings.Repeat("e", 200))},
			})
		}
		if _, err := node.Client().Push(t.Context(), &pushv1.PushRequest{Streams: []*pushv1.Stream{s}}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestQueryCost runs queries that would take much of everything if they could: each
// is answered or refused, within its bounds.
func TestQueryCost(t *testing.T) {
	node := harness.Start(t, "--limits.query-timeout=5s")
	fill(t, node, 20, 1000)
	c := node.Client()
	const sel = `{app="x"}`
	for name, text := range map[string]string{
		"template that repeats":      sel + ` | line_format "{{ repeat 1000000000 \"x\" | trunc 5 }}"`,
		"template that pads":         sel + ` | line_format "{{ printf \"%1000000000d\" 1 }}"`,
		"template that aligns":       sel + ` | line_format "{{ alignLeft 1000000000 \"x\" }}"`,
		"template that indents":      sel + ` | line_format "{{ indent 1000000000 \"x\" }}"`,
		"template that replaces":     sel + ` | line_format "{{ $a := __line__ }}` + strings.Repeat(`{{ $a = replace \"e\" \"eeeeeeeeee\" $a }}`, 12) + `{{ $a }}"`,
		"template of loops":          sel + ` | line_format "` + strings.Repeat(`{{ range fromJson \"[1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0]\" }}`, 8) + `x` + strings.Repeat(`{{ end }}`, 8) + `"`,
		"label that repeats":         sel + ` | label_format a="{{ repeat 1000000000 \"x\" }}"`,
		"a million series":           `sum by (id, a, d_e) (count_over_time({app="x"} | json [1h]))`,
		"quantiles of unique labels": `quantile_over_time(0.99, {app="x"} | json | unwrap a [1h]) by (id)`,
		"unwrap of text":             `sum_over_time({app="x"} | json | unwrap id [1h])`,
		"a slow regex":               sel + ` |~ "(e*)*(e|ee)*(e?e?e?e?)*$"`,
		"many alternatives":          sel + ` |~ "` + strings.Repeat("abcdef|", 10_000) + `x"`,
		"500 filters":                sel + strings.Repeat(` |= "e"`, 500),
		"a great join":               `sum by (id) (count_over_time({app="x"}[1h])) * on() group_left sum by (id) (count_over_time({app="x"}[1h]))`,
		"a great vector of numbers":  strings.Repeat("1+", 2000) + "1",
	} {
		t.Run(name, func(t *testing.T) {
			bounded(t, node, 450*mib, func() {
				began := time.Now()
				resp, err := c.QueryRange(t.Context(), &queryv1.QueryRangeRequest{Query: text, Limit: 5000, Step: durationpb.New(time.Second * 30)})
				switch status.Code(err) {
				case codes.OK, codes.InvalidArgument, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Unimplemented:
				default:
					t.Errorf("%.300v", err)
				}
				if took := time.Since(began); took > 40*time.Second {
					t.Errorf("it took %s", took)
				}
				longest := 0
				for _, s := range resp.GetStreams().GetStreams() {
					for _, e := range s.GetEntries() {
						longest = max(longest, len(weirclient.Line(e)))
					}
				}
				t.Logf("%s: %.100v; longest line %d", time.Since(began).Round(time.Millisecond), err, longest)
			})
		})
	}
}

// TestQueryParameters sends times, steps and limits that make no sense.
func TestQueryParameters(t *testing.T) {
	node := harness.Start(t)
	fill(t, node, 1, 10)
	logs := "query=" + url.QueryEscape(`{app="x"}`)
	metric := "query=" + url.QueryEscape(`count_over_time({app="x"}[1m])`)
	var rs []request
	for _, p := range []string{
		logs + "&start=abc", logs + "&end=abc", logs + "&start=1e400", logs + "&start=NaN", logs + "&start=99999999999999999999999",
		logs + "&limit=-1", logs + "&limit=abc", logs + "&limit=5001", logs + "&limit=99999999999999", logs + "&direction=sideways",
		logs + "&start=2026-01-01T00:00:00Z&end=2025-01-01T00:00:00Z", logs + "&start=0&end=9999999999", logs + "&interval=-1s",
		metric + "&step=0", metric + "&step=-1", metric + "&step=abc", metric + "&step=1ns", metric + "&step=1e-12", metric + "&step=NaN",
		"",
	} {
		path := "/loki/api/v1/query_range?" + p
		rs = append(rs, request{name: p, path: path, status: []int{400}})
	}
	for _, p := range []string{"start=abc", "limit=-1", "limit=abc", "direction=sideways", "nope=1", "limit=1&limit=2&cursor=x", "cursor=AAAA"} {
		rs = append(rs, request{name: "REST " + p, path: "/api/v1/query_range?" + logs + "&" + p, status: []int{400}})
	}
	rs = append(rs,
		request{name: "a form of 2 MiB", path: "/loki/api/v1/query_range", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
			body: append([]byte("query="), repeat("x", 2*mib)...), status: []int{400, 413}},
		request{name: "broken escapes", path: "/loki/api/v1/query_range?query=%zz", status: []int{400}},
		request{name: "a label's name", path: "/loki/api/v1/label/a%2fb/values", status: []int{200, 400, 404}},
		request{name: "selectors of series", path: "/loki/api/v1/series?match[]=" + strings.Repeat("{", 1000), status: []int{400}},
		request{name: "stats without a selector", path: "/loki/api/v1/index/stats?query=" + strings.Repeat("(", 1000), status: []int{400}},
	)
	run(t, node, 150*mib, rs)

	c := node.Client()
	for name, q := range map[string]*queryv1.QueryRangeRequest{
		"invalid time":     {Query: `{app="x"}`, Start: &timestamppb.Timestamp{Seconds: 1 << 62}},
		"invalid nanos":    {Query: `{app="x"}`, Start: &timestamppb.Timestamp{Nanos: -1}},
		"negative step":    {Query: `rate({app="x"}[1m])`, Step: durationpb.New(-time.Second)},
		"step of 1 ns":     {Query: `rate({app="x"}[1m])`, Step: durationpb.New(1)},
		"invalid step":     {Query: `rate({app="x"}[1m])`, Step: &durationpb.Duration{Seconds: 1 << 62}},
		"too much":         {Query: `{app="x"}`, Limit: 5001},
		"invalid cursor":   {Query: `{app="x"}`, Cursor: "garbage"},
		"cursor of 10 MiB": {Query: `{app="x"}`, Cursor: strings.Repeat("A", 10<<20)},
		"direction 7":      {Query: `{app="x"}`, Direction: 7},
		"a century":        {Query: `{app="x"}`, Start: timestamppb.New(time.Unix(0, 0))},
	} {
		if _, err := c.QueryRange(t.Context(), q); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	alive(t, node)
}

// TestQueryEnds leaves in the middle of queries (row 62): their work ends.
func TestQueryEnds(t *testing.T) {
	node := harness.Start(t)
	fill(t, node, 20, 2000)
	c := node.Client()
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, _ = c.QueryRange(ctx, &queryv1.QueryRangeRequest{ // it ends with the context, or not
				Query: `sum by (e) (count_over_time({app="x"} | json | d_e=~"(e*)*(e|ee)*x?" [1h]))`, Step: durationpb.New(time.Second),
			})
		})
	}
	wg.Wait()
	harness.Until(t, func() error {
		if running, queued := node.Metric("weir_querier_running_queries"), node.Metric("weir_querier_queued_queries"); running+queued != 0 {
			return fmt.Errorf("%v queries run and %v wait", running, queued)
		}
		return nil
	})
	alive(t, node)
}

// TestQueryQueue runs more queries than may wait (row 63): those beyond are refused,
// and pushes go on.
func TestQueryQueue(t *testing.T) {
	node := harness.Start(t, "--querier.max-concurrent=1", "--querier.max-queued=10")
	fill(t, node, 20, 2000)
	c := node.Client()
	var mu sync.Mutex
	got := map[codes.Code]int{}
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			_, err := c.QueryRange(t.Context(), &queryv1.QueryRangeRequest{
				Query: `sum by (id) (count_over_time({app="x"} | json [1h]))`, Step: durationpb.New(30 * time.Second),
			})
			mu.Lock()
			defer mu.Unlock()
			got[status.Code(err)]++
			if c := status.Code(err); c != codes.OK && (c != codes.ResourceExhausted || weirclient.Reason(err) != "TOO_MANY_QUERIES") {
				t.Errorf("%v", err)
			}
		})
	}
	for range 20 {
		request{path: lokiPush, header: map[string]string{"Content-Type": lokiJSON}, body: stream(map[string]string{"app": "y"}, "y"), status: []int{http.StatusNoContent}}.do(t, node)
	}
	wg.Wait()
	if got[codes.OK] < 11 || got[codes.OK] == 60 {
		t.Errorf("answers: %v", got)
	}
	t.Logf("answers: %v", got)
	alive(t, node)
}
