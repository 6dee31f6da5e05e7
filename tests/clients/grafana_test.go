package clients

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// grafana asks as Grafana's data source does: GET, an answer in gzip where it is large.
type grafana struct {
	*testing.T
	addr string
}

// get returns the answer to a request of Grafana's, decoded; params are names and values.
func (g grafana) get(status int, path string, header http.Header, params ...string) (map[string]any, string) {
	g.Helper()
	v := url.Values{}
	for i := 0; i < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	req, err := http.NewRequestWithContext(g.Context(), http.MethodGet, "http://"+g.addr+path+"?"+v.Encode(), nil)
	if err != nil {
		g.Fatal(err)
	}
	for k, vs := range header {
		req.Header[k] = vs
	}
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", "Grafana/13.0.0")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		g.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck
	body := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(resp.Body); err != nil {
			g.Fatal(err)
		}
	}
	text, err := io.ReadAll(body)
	if err != nil {
		g.Fatal(err)
	}
	if resp.StatusCode != status {
		g.Fatalf("%s?%s: status %d: %s", path, v.Encode(), resp.StatusCode, text)
	}
	out := map[string]any{}
	if status == http.StatusOK {
		if err := json.Unmarshal(text, &out); err != nil {
			g.Fatalf("%s: %v in %s", path, err, text)
		}
	} else if ct := resp.Header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		g.Errorf("%s: an error of type %s", path, ct)
	}
	return out, string(text)
}

// at returns what is at a path of keys and indices in a decoded answer; nil if nothing is.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func (g grafana) want(what string, got any, want string) {
	g.Helper()
	b, err := json.Marshal(got)
	if err != nil {
		g.Fatal(err)
	}
	if string(b) != want {
		g.Errorf("%s: %s, want %s", what, b, want)
	}
}

// TestGrafana replays what Grafana asks: its data source in Explore, live view, context
// and alerting, and Logs Drilldown.
func TestGrafana(t *testing.T) {
	_, addr := startServer(t)
	g := grafana{t, addr}
	// Save & test, on an empty server. Ten digits are seconds, of the year 2096.
	health, _ := g.get(200, "/loki/api/v1/query", nil, "direction", "backward", "query", "vector(1)+vector(1)", "time", "4000000000")
	g.want("health", at(health, "data", "result"), `[{"metric":{},"value":[4000000000,"2"]}]`)
	empty, _ := g.get(200, "/loki/api/v1/labels", nil)
	g.want("labels of an empty server", empty, `{"status":"success"}`)

	now := time.Now().Truncate(time.Second)
	ns := func(t time.Time) string { return fmt.Sprint(t.UnixNano()) }
	var values []string
	for i := range 60 {
		level := []string{"info", "info", "error"}[i%3]
		line := fmt.Sprintf(`{"level":%q,"msg":"order placed","order":{"id":%d},"dur":"%dms"}`, level, i, i)
		values = append(values, fmt.Sprintf(`[%q,%q,{"trace_id":"t%d"}]`, ns(now.Add(time.Duration(i-90)*time.Second)), line, i))
	}
	push := func(stream, values string) {
		t.Helper()
		resp, err := http.Post("http://"+addr+"/loki/api/v1/push", "application/json", strings.NewReader(`{"streams":[{"stream":`+stream+`,"values":[`+values+`]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck
		if resp.StatusCode != http.StatusNoContent {
			t.Fatal(resp.Status)
		}
	}
	push(`{"app":"shop","pod":"p-1"}`, strings.Join(values, ","))
	from, to := ns(now.Add(-time.Hour)), ns(now.Add(time.Minute))
	within := func(params ...string) []string { return append(params, "start", from, "end", to) }
	explore := http.Header{"X-Loki-Response-Encoding-Flags": {"categorize-labels"}, "X-Query-Tags": {"Source=grafana-lokiexplore-app"}}

	// Explore: logs, with labels by category.
	logs, _ := g.get(200, "/loki/api/v1/query_range", explore, within("direction", "backward", "limit", "10", "query", `{app="shop"} | json | drop __error__`, "step", "15000ms")...)
	g.want("flags", at(logs, "data", "encodingFlags"), `["categorize-labels"]`)
	g.want("stream", at(logs, "data", "result", 0, "stream"), `{"app":"shop","pod":"p-1","service_name":"shop"}`)
	entry := at(logs, "data", "result", 0, "values", 0)
	g.want("time", at(entry, 0), fmt.Sprintf("%q", ns(now.Add(-31*time.Second))))
	g.want("labels by category", at(entry, 2), `{"parsed":{"dur":"59ms","level":"error","msg":"order placed","order_id":"59"},"structuredMetadata":{"detected_level":"error","trace_id":"t59"}}`)
	if at(logs, "data", "stats", "summary", "totalBytesProcessed") == nil {
		t.Error("there are no statistics")
	}
	// The volume above them, by level.
	volume, _ := g.get(200, "/loki/api/v1/query_range", http.Header{"X-Query-Tags": {"Source=logvolhist"}}, within(
		"query", `sum by (level, detected_level) (count_over_time({app="shop"} | drop __error__[2m]))`, "step", "120000ms")...)
	sums := map[string]bool{}
	result, _ := at(volume, "data", "result").([]any)
	for _, s := range result {
		sums[fmt.Sprint(at(s, "metric", "detected_level"))] = true
	}
	g.want("levels of the volume", sums, `{"error":true,"info":true}`)
	// Context of a line: around it, both ways.
	for direction, bounds := range map[string][2]string{
		"BACKWARD": {ns(now.Add(-2 * time.Hour)), ns(now.Add(-60 * time.Second))},
		"FORWARD":  {ns(now.Add(-60 * time.Second)), ns(now.Add(2 * time.Hour))},
	} {
		around, _ := g.get(200, "/loki/api/v1/query_range", explore, "direction", direction, "limit", "1", "query", `{app="shop",pod="p-1"}`, "start", bounds[0], "end", bounds[1], "step", "1000ms")
		n := map[string]int{"BACKWARD": 29, "FORWARD": 30}[direction]
		g.want("context "+direction, at(around, "data", "result", 0, "values", 0, 2, "structuredMetadata", "trace_id"), fmt.Sprintf(`"t%d"`, n))
	}
	// The query builder and the sidebar.
	labels, _ := g.get(200, "/loki/api/v1/labels", nil, within()...)
	g.want("labels", at(labels, "data"), `["app","pod","service_name"]`)
	pods, _ := g.get(200, "/loki/api/v1/label/pod/values", nil, within("query", `{app="shop"}`)...)
	g.want("values", at(pods, "data"), `["p-1"]`)
	shards, _ := g.get(200, "/loki/api/v1/label/__stream_shard__/values", nil, within("query", `{app="shop"}`)...)
	g.want("shards", shards, `{"status":"success"}`)
	series, _ := g.get(200, "/loki/api/v1/series", nil, within("match[]", `{app="shop"}`)...)
	g.want("series", at(series, "data"), `[{"app":"shop","pod":"p-1","service_name":"shop"}]`)
	stats, _ := g.get(200, "/loki/api/v1/index/stats", nil, within("query", `{app="shop"}`)...)
	g.want("stats", []any{at(stats, "streams"), at(stats, "entries")}, `[1,60]`)
	// Logs Drilldown.
	limits, _ := g.get(200, "/loki/api/v1/drilldown-limits", nil)
	g.want("volumes and patterns are there", []any{at(limits, "limits", "volume_enabled"), at(limits, "pattern_ingester_enabled")}, `[true,true]`)
	services, _ := g.get(200, "/loki/api/v1/index/volume", nil, within("query", `{service_name=~".+"}`, "limit", "5000", "targetLabels", "service_name")...)
	g.want("services", at(services, "data", "result", 0, "metric"), `{"service_name":"shop"}`)
	if v, ok := at(services, "data", "result", 0, "value", 1).(string); !ok || v == "" {
		t.Error("volumes are texts")
	}
	ranged, _ := g.get(200, "/loki/api/v1/index/volume_range", nil, within("query", `{app="shop"}`, "step", "60")...)
	g.want("volume_range", at(ranged, "data", "resultType"), `"matrix"`)
	detected, _ := g.get(200, "/loki/api/v1/detected_labels", nil, within("query", `{app="shop"}`)...)
	g.want("detected labels", at(detected, "detectedLabels", 0), `{"cardinality":1,"label":"app"}`)
	fields, _ := g.get(200, "/loki/api/v1/detected_fields", nil, within("query", `{app="shop"}`, "limit", "1000", "line_limit", "1000")...)
	found := map[string]any{}
	list, _ := at(fields, "fields").([]any)
	for _, f := range list {
		found[at(f, "label").(string)] = []any{at(f, "type"), at(f, "cardinality"), at(f, "parsers"), at(f, "jsonPath")}
	}
	g.want("order_id", found["order_id"], `["int",60,["json"],["order","id"]]`)
	g.want("trace_id", found["trace_id"], `["string",60,null,null]`)
	if _, ok := found["dur"]; !ok {
		t.Errorf("fields %v", found)
	}
	levels, _ := g.get(200, "/loki/api/v1/detected_field/level/values", nil, within("query", `{app="shop"}`)...)
	g.want("values of a field", at(levels, "values"), `["error","info"]`)
	patterns, _ := g.get(200, "/loki/api/v1/patterns", nil, within("query", `{app="shop"}`)...)
	if p, ok := at(patterns, "data", 0, "pattern").(string); !ok || !strings.Contains(p, "order placed") || !strings.Contains(p, "<_>") {
		t.Errorf("patterns %v", patterns)
	}
	if s, ok := at(patterns, "data", 0, "samples", 0, 0).(float64); !ok || s > float64(now.Unix()) {
		t.Errorf("samples are in seconds: %v", patterns)
	}
	filtered, _ := g.get(200, "/loki/api/v1/query_range", explore, within("query",
		`{service_name="shop"} | detected_level="error" | json | logfmt | drop __error__, __error_details__ | order_id="5"`, "limit", "100", "step", "15s")...)
	g.want("a filter of Drilldown", at(filtered, "data", "result", 0, "values", 0, 2, "structuredMetadata", "trace_id"), `"t5"`)
	// Alerting evaluates an instant query.
	alert, _ := g.get(200, "/loki/api/v1/query", nil, "direction", "backward", "query", `sum(count_over_time({app="shop"} |= "error" [1h])) > 10`, "time", to)
	g.want("alert", at(alert, "data", "result", 0, "value", 1), `"20"`)
	rules, _ := g.get(200, "/prometheus/api/v1/rules", nil)
	g.want("rules", at(rules, "data", "groups"), `[]`)
	// Errors are plain text, which Grafana shows and looks into.
	for query, text := range map[string]string{
		`{app="shop"`:        "parse error at line 1, col",
		`{app=~".*"}`:        "parse error : queries require at least one regexp or equality matcher",
		`sum(rate({a="b"}))`: "parse error at line 1, col",
	} {
		if _, got := g.get(400, "/loki/api/v1/query_range", explore, within("query", query)...); !strings.HasPrefix(got, text) {
			t.Errorf("%s: %q, want %q", query, got, text)
		}
	}
	g.get(404, "/loki/api/v1/rules", nil)

	// Live: the last lines, then what comes.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	live, _, err := websocket.Dial(ctx, "ws://"+addr+"/loki/api/v1/tail?"+url.Values{"query": {`{app="shop"}`}, "limit": {"2"}, "start": {from}}.Encode(),
		&websocket.DialOptions{HTTPHeader: explore, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		t.Fatal(err)
	}
	defer live.CloseNow() //nolint:errcheck
	var seen []any
	for sent := false; len(seen) < 3; {
		_, b, err := live.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var frame map[string]any
		if err := json.Unmarshal(b, &frame); err != nil {
			t.Fatal(err)
		}
		streams, _ := frame["streams"].([]any)
		for _, s := range streams {
			vs, _ := at(s, "values").([]any)
			for _, v := range vs {
				seen = append(seen, at(v, 2, "structuredMetadata", "trace_id"))
			}
		}
		if len(seen) == 2 && !sent {
			sent = true
			push(`{"app":"shop","pod":"p-1"}`, fmt.Sprintf(`[%q,"live",{"trace_id":"now"}]`, ns(time.Now())))
		}
	}
	g.want("live", seen, `["t58","t59","now"]`)
	if err := live.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}
