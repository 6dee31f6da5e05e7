package input

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/tests/harness"
)

// TestSeveralTenants asks every kind of question about two tenants at once, where that
// is allowed, from memory and from blocks.
func TestSeveralTenants(t *testing.T) {
	node := harness.Start(t, "--querier.multi-tenant-queries")
	now := time.Now()
	// Equal streams and entries of two tenants stay two.
	for _, tenant := range []string{"alice", "bob", "carol"} {
		for i, line := range []string{"level=info n=1", "level=error n=2", tenant} {
			at := fmt.Sprint(now.Add(time.Duration(i-10) * time.Second).UnixNano())
			request{
				path: lokiPush, header: map[string]string{"Content-Type": lokiJSON, "X-Scope-OrgID": tenant},
				body: streamAt(map[string]string{"app": "x"}, at, line), status: []int{204},
			}.do(t, node)
		}
	}
	ask := func(tenants, path string, params ...string) string {
		t.Helper()
		v := url.Values{}
		for i := 0; i < len(params); i += 2 {
			v.Add(params[i], params[i+1])
		}
		return request{path: path + "?" + v.Encode(), header: map[string]string{"X-Scope-OrgID": tenants}, status: []int{200}}.do(t, node)
	}
	values := func(body string) map[string]string { // of a vector, by labels
		t.Helper()
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Value  [2]any
				}
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		out := map[string]string{}
		for _, r := range answer.Data.Result {
			key := r.Metric["__tenant_id__"]
			for _, name := range []string{"app", "level"} {
				if v := r.Metric[name]; v != "" {
					key += " " + name + "=" + v
				}
			}
			out[strings.TrimSpace(key)] = fmt.Sprint(r.Value[1])
		}
		return out
	}
	check := func(t *testing.T) {
		for query, want := range map[string]map[string]string{
			`sum without (detected_level) (count_over_time({app="x"}[5m]))`:           {"alice app=x": "3", "bob app=x": "3"},
			`sum(count_over_time({app="x"}[5m]))`:                                     {"": "6"},
			`sum by (__tenant_id__) (count_over_time({app="x"}[5m]))`:                 {"alice": "3", "bob": "3"},
			`max by (__tenant_id__) (rate({app="x"}[1s] offset 100d))`:                {},
			`sum(count_over_time({app="x", __tenant_id__="bob"}[5m]))`:                {"": "3"},
			`sum(count_over_time({app="x", __tenant_id__!~"a.*"} |= "n=" [5m]))`:      {"": "2"},
			`sum by (level) (count_over_time({app="x"} | logfmt [5m]))`:               {"": "2", "level=info": "2", "level=error": "2"},
			`sum(count_over_time({app="x"} | __tenant_id__="alice" [5m]))`:            {"": "3"},
			`sum without (detected_level) (count_over_time({app="x"} |= "bob" [5m]))`: {"bob app=x": "1"},
			`sum by (app) (sum_over_time({app="x"} | logfmt | unwrap n [5m]))`:        {"app=x": "6"},
			`sum(count_over_time({__tenant_id__="carol"}[5m])) or vector(0)`:          {"": "0"},
		} {
			if got := values(ask("bob|alice", "/loki/api/v1/query", "query", query)); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
		body := ask("alice|bob", "/loki/api/v1/query_range", "query", `{app="x"} | line_format "{{.__tenant_id__}} {{__line__}}"`, "limit", "100")
		for tenant, want := range map[string]int{"alice": 3, "bob": 3, "carol": 0} {
			if got := strings.Count(body, `"`+tenant+" "); got != want {
				t.Errorf("%d lines of %s, want %d: %s", got, tenant, want, body)
			}
			if got := strings.Contains(body, fmt.Sprintf(`"__tenant_id__":%q`, tenant)); got != (want > 0) {
				t.Errorf("streams of %s: %v in %s", tenant, got, body)
			}
		}
		for _, c := range [][]string{
			{`"data":["__tenant_id__","app","service_name"]`, "/loki/api/v1/labels"},
			{`"data":["alice","bob"]`, "/loki/api/v1/label/__tenant_id__/values"},
			{`"data":["x"]`, "/loki/api/v1/label/app/values", "query", `{__tenant_id__="alice"}`},
			{`"__tenant_id__":"bob","app":"x"`, "/loki/api/v1/series", "match[]", `{app="x"}`},
			{`"entries":6`, "/loki/api/v1/index/stats", "query", `{app="x"}`},
			{`"metric":{"app":"x"}`, "/loki/api/v1/index/volume", "query", `{app="x"}`},
			{`"metric":{"__tenant_id__":"bob"}`, "/loki/api/v1/index/volume", "query", `{app="x"}`, "targetLabels", "__tenant_id__"},
			{`{"label":"__tenant_id__","cardinality":2}`, "/loki/api/v1/detected_labels", "query", `{app="x"}`},
			{`{"label":"n","type":"int","cardinality":2`, "/loki/api/v1/detected_fields", "query", `{app="x"}`},
			{`"status":"success"`, "/loki/api/v1/patterns", "query", `{app="x"}`},
		} {
			if body := ask("bob|alice", c[1], c[2:]...); !strings.Contains(body, c[0]) {
				t.Errorf("%s: %s lacks %s", c[1], body, c[0])
			}
		}
		// Over gRPC the tenants are in the metadata.
		ctx := metadata.AppendToOutgoingContext(harness.Context(t), "x-scope-orgid", "bob|alice|bob")
		resp, err := node.Client().QueryRange(ctx, &queryv1.QueryRangeRequest{Query: `{app="x"} |= "n=2"`})
		if err != nil || len(resp.GetStreams().GetStreams()) != 2 {
			t.Errorf("%v, %v", resp, err)
		}
		// Page by page nothing is lost or repeated, though all times are there twice.
		seen, cursor := map[string]int{}, ""
		for {
			resp, err := node.Client().QueryRange(ctx, &queryv1.QueryRangeRequest{Query: `{app="x"}`, Limit: 1, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range resp.GetStreams().GetStreams() {
				for _, e := range s.GetEntries() {
					seen[s.GetLabels()["__tenant_id__"]+" "+e.GetText()]++
				}
			}
			if cursor = resp.GetNextCursor(); cursor == "" {
				break
			}
		}
		if len(seen) != 6 {
			t.Errorf("pages had %v", seen)
		}
	}
	t.Run("memory", check)
	if resp, err := http.Post("http://"+node.HTTP+"/flush", "", nil); err != nil || resp.StatusCode != 204 {
		t.Fatal(resp, err)
	} else {
		resp.Body.Close()
	}
	t.Run("blocks", check)

	// What one tenant deletes is the others' still.
	deletes := url.Values{"query": {`{app="x"} |= "n="`}, "start": {fmt.Sprint(now.Add(-time.Hour).Unix())}}
	request{method: "POST", path: "/loki/api/v1/delete?" + deletes.Encode(), header: map[string]string{"X-Scope-OrgID": "alice"}, status: []int{204}}.do(t, node)
	harness.Until(t, func() error {
		got := values(ask("alice|bob", "/loki/api/v1/query", "query", `sum by (__tenant_id__) (count_over_time({app="x"}[5m]))`))
		if want := map[string]string{"alice": "1", "bob": "3"}; !reflect.DeepEqual(got, want) {
			return fmt.Errorf("after a delete: %v, want %v", got, want)
		}
		return nil
	})

	several := map[string]string{"X-Scope-OrgID": "alice|bob", "Content-Type": lokiJSON}
	request{path: lokiPush, header: several, body: stream(map[string]string{"app": "x"}, "x"), status: []int{400}, text: "multiple org IDs present"}.do(t, node)
	for _, path := range []string{"/loki/api/v1/tail", "/api/v1/tail"} {
		request{path: path + "?" + url.Values{"query": {`{app="x"}`}}.Encode(), header: several, status: []int{400}, text: "multiple org IDs present"}.do(t, node)
	}
	// A stream that has the label itself would be told from no other.
	request{path: lokiPush, header: map[string]string{"X-Scope-OrgID": "alice", "Content-Type": lokiJSON}, body: stream(map[string]string{"__tenant_id__": "bob"}, "x"), status: []int{204}}.do(t, node)
	request{path: "/loki/api/v1/query?" + url.Values{"query": {`count_over_time({service_name=~".+"}[5m])`}}.Encode(), header: several, status: []int{400}, text: "label __tenant_id__ of its own"}.do(t, node)
	alive(t, node)
}
