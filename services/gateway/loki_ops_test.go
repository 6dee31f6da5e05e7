package gateway_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/services/gateway"
)

// What operators and Grafana ask besides queries.
func TestLokiOperators(t *testing.T) {
	e := start(t, func(l *limits.Limits, _ *gateway.Config) {
		l.RetentionPeriod = 48 * time.Hour
		l.RetentionStream = []limits.RetentionStream{{Selector: `{app="x"}`, Priority: 3, Period: 24 * time.Hour}}
		l.OTLPConfig.LogAttributes = []limits.OTLPRule{{Action: limits.OTLPDrop, Attributes: []string{"k"}}}
	})
	for _, part := range []string{
		`"retention_period":"48h0m0s"`, `"retention_stream":[{"period":"24h0m0s","priority":3,"selector":"{app=\"x\"}"}]`,
		`"log_attributes":[{"action":"drop","attributes":["k"],"regex":""}]`, `"pattern_ingester_enabled":true`, `"volume_enabled":true`,
	} {
		e.want(200, part, "GET", "/loki/api/v1/drilldown-limits", "")
	}
	for _, part := range []string{"max_query_series: 500\n", "retention_period: 48h\n", "  log_attributes:\n    - action: drop\n"} {
		e.want(200, part, "GET", "/config/tenant/v1/limits", "")
	}
	for _, method := range []string{"GET", "POST"} {
		e.want(200, `{"shards":[{"bounds":{"min":0,"max":18446744073709551615},"stats":{"streams":1,"chunks":2,"bytes":3,"entries":4}}],"statistics":{}}`,
			method, "/loki/api/v1/index/shards?query="+url.QueryEscape(`sum(rate({app="x"} |= "a" [1m])) / sum(rate({app="x"}[1m]))`)+"&targetBytesPerShard=1MB", "")
		if got := last[*queryv1.StatsRequest](t, e.backend); got.GetSelector() != `{app="x"}` {
			t.Error(got)
		}
	}
	e.want(400, "parse error", "GET", "/loki/api/v1/index/shards?query=%7B", "")
	e.want(400, "number of bytes", "GET", "/loki/api/v1/index/shards?query=%7Ba%3D%22b%22%7D&targetBytesPerShard=much", "")
	many, asked := `rate({app="x"}[1m])`, len(e.backend.asked)
	for i := range 64 {
		many += fmt.Sprintf(` + rate({app="%d"}[1m])`, i)
	}
	e.want(400, "65 stream selectors, the limit is 64", "GET", "/loki/api/v1/index/shards?query="+url.QueryEscape(many), "")
	e.want(400, "input size too long", "POST", "/loki/api/v1/index/shards", "query="+strings.Repeat("x", 1<<17+1), "Content-Type", "application/x-www-form-urlencoded")
	if n := len(e.backend.asked); n != asked {
		t.Errorf("%d questions for what is refused", n-asked)
	}
	for _, path := range []string{"/loki/api/v1/rules", "/loki/api/v1/rules/ns", "/loki/api/v1/rules/ns/group", "/api/prom/rules"} {
		e.want(404, "no rule groups found", "GET", path, "")
	}
	e.want(200, `{"status":"success","data":{"groups":[]},"errorType":"","error":""}`, "GET", "/prometheus/api/v1/rules?type=alert", "")
	e.want(200, `{"status":"success","data":{"alerts":[]},"errorType":"","error":""}`, "GET", "/prometheus/api/v1/alerts", "")
}

// A tenant's pushes can be refused for a while, by every door, with a status that
// agents take for success.
func TestBlockedIngestion(t *testing.T) {
	until := time.Now().Add(time.Hour)
	e := start(t, func(l *limits.Limits, _ *gateway.Config) { l.BlockIngestionUntil.Time = until })
	text := "ingestion blocked for user t1 until '" + until.UTC().Format(time.RFC3339) + "' with status code '260'"
	e.want(260, text+"\n", "POST", "/loki/api/v1/push", oneStream, "Content-Type", "application/json", "X-Scope-OrgID", "t1")
	e.want(260, text, "POST", "/otlp/v1/logs", oneRecord, "Content-Type", "application/json", "X-Scope-OrgID", "t1")
	e.want(403, `"reason":"PERMISSION_DENIED"`, "POST", "/api/v1/push", `{"streams":[{"labels":{"app":"x"},"entries":[{"text":"x"}]}]}`, "Content-Type", "application/json", "X-Scope-OrgID", "t1")
	if len(e.backend.asked) != 0 {
		t.Error("something was stored")
	}
	past := start(t, func(l *limits.Limits, _ *gateway.Config) { l.BlockIngestionUntil.Time = time.Now().Add(-time.Hour) })
	past.want(204, "", "POST", "/loki/api/v1/push", oneStream, "Content-Type", "application/json")
}
