package input

import (
	"net/url"
	"strings"
	"testing"

	"github.com/weir-logs/weir/tests/harness"
)

// invalidTenants are no tenants (row 67).
var invalidTenants = []string{
	"..", ".", "a/b", "a:b", "a|b", "%2e%2e", "%252e", "a b", "-a", "a\\b", "a,b",
	strings.Repeat("a", 151), strings.Repeat("a", 1024),
}

// TestTenants tries invalid tenants and those of others (row 68) at every kind of door.
func TestTenants(t *testing.T) {
	node := harness.Start(t)
	query := url.Values{"query": {`{service_name=~".+"}`}}.Encode()
	doors := []request{
		{path: lokiPush, header: map[string]string{"Content-Type": lokiJSON}, body: stream(map[string]string{"app": "x"}, "x")},
		{path: restPush, header: map[string]string{"Content-Type": lokiJSON}, body: []byte(`{"streams":[{"labels":{"app":"x"},"entries":[{"text":"x"}]}]}`)},
		{path: "/loki/api/v1/query_range?" + query},
		{path: "/loki/api/v1/labels"},
		{path: "/api/v1/query_range?" + query},
		{path: "/api/v1/labels"},
	}
	for _, tenant := range append(invalidTenants, "ä", "а") { // the last is Cyrillic
		for _, d := range doors {
			h := map[string]string{"X-Scope-OrgID": tenant}
			for k, v := range d.header {
				h[k] = v
			}
			d.header, d.status = h, []int{400}
			if strings.HasPrefix(d.path, "/api/") {
				d.text = `"reason":"INVALID_TENANT"`
			}
			t.Run(tenant[:min(len(tenant), 20)]+d.path, func(t *testing.T) { d.do(t, node) })
		}
	}

	as := func(tenant string, more ...string) map[string]string {
		h := map[string]string{"Content-Type": lokiJSON, "X-Scope-OrgID": tenant}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	request{path: lokiPush, header: as("alice"), body: stream(map[string]string{"app": "canary"}, "canary"), status: []int{204}}.do(t, node)
	if n := lines(t, node, "alice"); n != 1 {
		t.Fatalf("alice has %d lines", n)
	}
	for _, spoof := range [][]string{
		{}, {"Grpc-Metadata-X-Scope-OrgID", "alice"}, {"Grpc-Metadata-x-scope-orgid", "alice"}, {"X-Forwarded-User", "alice"},
		{"Grpcgateway-X-Scope-Orgid", "alice"}, {"X-Org-Id", "alice"}, {"X-Forwarded-X-Scope-OrgID", "alice"},
	} {
		for _, path := range []string{
			"/loki/api/v1/query_range?" + query, "/api/v1/query_range?" + query, "/loki/api/v1/labels", "/api/v1/labels",
			"/loki/api/v1/label/app/values", "/api/v1/labels/app/values", "/loki/api/v1/series", "/api/v1/series",
		} {
			code, body := request{path: path, header: as("bob", spoof...)}.send(t, node)
			if code != 200 && code != 400 || strings.Contains(body, "canary") || strings.Contains(body, `"app"`) {
				t.Errorf("bob with %q reads at %s: %d %s", spoof, path, code, body)
			}
		}
	}
	alive(t, node)
}
