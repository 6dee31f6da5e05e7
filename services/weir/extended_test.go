package weir

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

// pushAt pushes lines of one timestamp.
func (p *process) pushAt(t *testing.T, app string, at time.Time, lines ...string) {
	t.Helper()
	st := &pushv1.Stream{Labels: map[string]string{"app": app}}
	for _, l := range lines {
		st.Entries = append(st.Entries, &pushv1.Entry{TimestampUnixNano: at.UnixNano(), Line: &pushv1.Entry_Text{Text: l}})
	}
	resp, err := pushv1.NewPushServiceClient(p.conn).Push(t.Context(), &pushv1.PushRequest{Streams: []*pushv1.Stream{st}})
	if err != nil || resp.GetAcceptedEntries() != uint64(len(lines)) {
		t.Fatalf("push: %v, %v", resp, err)
	}
}

// get asks the HTTP port and decodes what it answers.
func (p *process) get(t *testing.T, path string, params url.Values) (status int, body []byte) {
	t.Helper()
	resp, err := http.Get("http://" + p.HTTPAddr() + path + "?" + params.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it is read only
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// Pages of entries that all have one timestamp, that lie in blocks and in memory and in
// both, neither lose nor repeat any, whatever the query's stages make of them.
func TestPagesOfOneTimestamp(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	at := time.Now().Add(-5 * time.Minute)
	const apps, lines = 3, 600
	const first = `{app=~"app.+"}`
	text := func(i int) string { return fmt.Sprintf(`{"i":%d,"mod":"m%d","list":["a","b"]}`, i, i%7) }
	want := map[string]bool{}
	for round := range 3 {
		for a := range apps {
			var batch []string
			// Rounds overlap, so that entries are in several places.
			for i := round * lines / 3; i < min((round+2)*lines/3, lines); i++ {
				batch = append(batch, text(i))
				want[fmt.Sprintf("app%d %s", a, text(i))] = true
			}
			p.pushAt(t, fmt.Sprint("app", a), at, batch...)
		}
		if round < 2 {
			if _, err := adminv1.NewAdminServiceClient(p.conn).Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	page := func(rest bool, req *queryv1.QueryRangeRequest) *queryv1.QueryRangeResponse {
		if !rest {
			resp, err := queryv1.NewQueryServiceClient(p.conn).QueryRange(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		status, body := p.get(t, "/api/v1/query_range", url.Values{
			"query": {req.GetQuery()}, "limit": {fmt.Sprint(req.GetLimit())}, "cursor": {req.GetCursor()}, "direction": {req.GetDirection().String()},
		})
		resp := &queryv1.QueryRangeResponse{}
		if err := protojson.Unmarshal(body, resp); status != http.StatusOK || err != nil {
			t.Fatalf("%d: %v: %.300s", status, err, body)
		}
		return resp
	}
	for _, c := range []struct {
		query  string
		each   int // how often each entry comes
		limits []uint32
	}{
		{first, 1, []uint32{601, 5000}},
		{`{app=~"app.+"} | json list="list[*]" | unroll list`, 2, []uint32{1399}},
		{`{app=~"app.+"} | json | distinct app, i`, 1, []uint32{1000}},
		{`{app=~"app.+"} | json | sort i desc`, 1, []uint32{1001}},
		{`{app=~"app.+"} | json | dedup i`, 1, []uint32{1100}},
	} {
		for _, limit := range c.limits {
			for _, direction := range []queryv1.Direction{queryv1.Direction_DIRECTION_FORWARD, queryv1.Direction_DIRECTION_BACKWARD} {
				for _, rest := range []bool{false, true} {
					if rest && c.query != first {
						continue
					}
					got := map[string]int{}
					req := &queryv1.QueryRangeRequest{Query: c.query, Limit: limit, Direction: direction}
					total := 0
					for more := true; more; more = req.GetCursor() != "" {
						resp := page(rest, req)
						n := 0
						for _, s := range resp.GetStreams().GetStreams() {
							for _, e := range s.GetEntries() {
								got[s.GetLabels()["app"]+" "+e.GetText()]++
								n++
							}
						}
						if n == 0 || n < int(limit) && resp.GetNextCursor() != "" {
							t.Fatalf("%s: a page of %d entries", c.query, n)
						}
						total += n
						req.Cursor = resp.GetNextCursor()
					}
					if total != c.each*len(want) {
						t.Errorf("%s, %s, rest %v, by %d: %d entries, not %d", c.query, direction, rest, limit, total, c.each*len(want))
					}
					for e := range want {
						if got[e] != c.each {
							t.Fatalf("%s, %s, rest %v, by %d: %q came %d times", c.query, direction, rest, limit, e, got[e])
						}
					}
				}
			}
		}
	}
}

// What Loki does not have is asked over Loki's HTTP API and over gRPC alike.
func TestExtendedQueries(t *testing.T) {
	p := startProcess(t, t.TempDir(), func(c *Config) { c.Limits.MaxUnselectiveQueryBytes = 400 })
	at := time.Now().Add(-time.Minute)
	p.push(t, "web", at, `user=ann took=5 ok=1`, `user=bob took=30 ok=0`, `user=ann took=7 ok=1`)
	if _, err := adminv1.NewAdminServiceClient(p.conn).Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
		t.Fatal(err)
	}
	p.push(t, "web", at, `user=ann took=5 ok=1`)
	p.push(t, "api", at.Add(time.Second), `user=cid took=1 ok=1`, `user=bob took=100 ok=1`)

	logs := func(query string) (out []string) {
		lines, _ := p.lines(t, &queryv1.QueryRangeRequest{Query: query, Direction: queryv1.Direction_DIRECTION_FORWARD})
		status, body := p.get(t, "/loki/api/v1/query_range", url.Values{"query": {query}, "direction": {"forward"}})
		var answer struct {
			Data struct {
				Result []struct{ Values [][]string }
			}
		}
		if err := json.Unmarshal(body, &answer); status != http.StatusOK || err != nil {
			t.Fatalf("%s: %d %.300s", query, status, body)
		}
		var loki []string
		for _, s := range answer.Data.Result {
			for _, v := range s.Values {
				loki = append(loki, v[1])
			}
		}
		if slices.Sort(loki); !slices.Equal(loki, slices.Sorted(slices.Values(lines))) {
			t.Errorf("%s: %q over Loki's API, %q over gRPC", query, loki, lines)
		}
		return lines
	}
	for query, want := range map[string]string{
		`{app=~".+"} | logfmt | distinct user | line_format "{{.user}}"`:                                "ann bob cid",
		`{app=~".+"} | logfmt | dedup ok | line_format "{{.user}}"`:                                     "ann bob ann",
		`{app=~".+"} | logfmt | top 1 user | line_format "{{.user}}={{.top_count}}"`:                    "ann=2",
		`{app=~".+"} | logfmt | sort took desc | limit 1 | line_format "{{.took}}"`:                     "100",
		`{app="web"} | logfmt | user in ({app="api"} | logfmt) | line_format "{{.user}}"`:               "bob",
		`{app="web"} | logfmt | user not in ({app="api"} | logfmt) | limit 1 | line_format "{{.user}}"`: "ann",
		`|= "cid" | logfmt | line_format "{{.app}}"`:                                                    "api",
		`{"app"="api"} | logfmt | "user"="cid" | sample 1 | line_format "{{.took}}"`:                    "1",
	} {
		if got := strings.Join(logs(query), " "); got != want {
			t.Errorf("%s gives %q, want %q", query, got, want)
		}
	}
	for query, want := range map[string]float64{
		`count_distinct_over_time(user, {app=~".+"} | logfmt [10m]) by ()`:                        3,
		`sum(histogram_over_time(5, 50, {app=~".+"} | logfmt | unwrap took [10m]) by ()) - 5 * 3`: -4,
		`clamp_max(sum(count_over_time({app=~".+"} | logfmt | user in ("bob") [10m])), 1.5)`:      1.5,
		`sum(count_over_time(!= "cid" [10m]))`:                                                    4,
	} {
		resp, err := queryv1.NewQueryServiceClient(p.conn).Query(t.Context(), &queryv1.QueryRequest{Query: query})
		if err != nil || len(resp.GetVector().GetSamples()) != 1 || resp.GetVector().GetSamples()[0].GetSample().GetValue() != want {
			t.Errorf("%s gives %v, %v, want %v", query, resp, err, want)
		}
		if status, body := p.get(t, "/loki/api/v1/query", url.Values{"query": {query}}); status != http.StatusOK {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	if status, body := p.get(t, "/loki/api/v1/format_query", url.Values{"query": {`|="x"|distinct  "a b",c`}}); status != http.StatusOK || !strings.Contains(string(body), `|= \"x\" | distinct \"a b\",c`) {
		t.Errorf("formatted: %d %s", status, body)
	}

	resp, err := queryv1.NewQueryServiceClient(p.conn).Query(t.Context(), &queryv1.QueryRequest{
		Query: `sum by ("the.user") (sum_over_time({"app"="api"} | logfmt "the.user"="user", "größe"="took" | "the.user"!="cid" | unwrap "größe" [10m]))`})
	if v := resp.GetVector().GetSamples(); err != nil || len(v) != 1 || v[0].GetLabels()["the.user"] != "bob" || v[0].GetSample().GetValue() != 100 {
		t.Errorf("by names in quotes: %v, %v", resp, err)
	}

	// The budget of searches without a selector.
	p.push(t, "web", at.Add(2*time.Second), strings.Repeat("x", 500))
	status, body := p.get(t, "/loki/api/v1/query_range", url.Values{"query": {`|= "cid"`}})
	if status != http.StatusBadRequest || !strings.Contains(string(body), "max_unselective_query_bytes") || !strings.Contains(string(body), "is 400") {
		t.Errorf("beyond the budget: %d %s", status, body)
	}
	for _, query := range []string{`{app="web"} | distinct x`, `|= "x"`, `{app="web"} | a in ({app="api"})`} {
		stream, err := tailv1.NewTailServiceClient(p.conn).Tail(t.Context(), &tailv1.TailRequest{Query: query})
		if err == nil {
			_, err = stream.Recv()
		}
		if err == nil {
			t.Errorf("%s can be tailed", query)
		}
	}
}
