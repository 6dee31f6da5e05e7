package weir

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/conf"
)

// Names are as they were sent where the tenant wants that, by every door, from memory and
// from blocks; for other tenants they are as in Loki.
func TestNamesInUTF8(t *testing.T) {
	p := startProcess(t, t.TempDir(), func(c *Config) {
		if err := conf.DecodeYAML([]byte("limits: {tenants: {keeps: {utf8_names: true}}}"), c); err != nil {
			t.Fatal(err)
		}
	})
	at := time.Now().Add(-time.Minute)
	ns := strconv.FormatInt(at.UnixNano(), 10)
	post := func(tenant, path, body string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.HTTPAddr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Scope-OrgID", tenant)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	loki := `{"streams":[{"stream":{"app":"loki","k8s.pod.name":"p1"},"values":[["` + ns + `","from loki",{"http.method":"GET"}]]}]}`
	otlp := `{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"otlp"}},{"key":"k8s.pod.name","value":{"stringValue":"p2"}}]},
		"scopeLogs":[{"logRecords":[{"timeUnixNano":"` + ns + `","body":{"stringValue":"from otlp"},"attributes":[{"key":"http","value":{"kvlistValue":{"values":[{"key":"method","value":{"stringValue":"PUT"}}]}}}]}]}]}]}`
	for tenant, want := range map[string]int{"keeps": 204, "other": 400} {
		if got := post(tenant, "/loki/api/v1/push", loki); got != want {
			t.Errorf("%s: %d, want %d", tenant, got, want)
		}
		if got := post(tenant, "/otlp/v1/logs", otlp); got != 204 {
			t.Errorf("%s: %d", tenant, got)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", tenant)
		resp, err := pushv1.NewPushServiceClient(p.conn).Push(ctx, &pushv1.PushRequest{Streams: []*pushv1.Stream{{
			Labels: map[string]string{"app": "weir", "größe \"x\"": "p3"},
			Entries: []*pushv1.Entry{{TimestampUnixNano: at.UnixNano(), Line: &pushv1.Entry_Text{Text: "from weir"},
				StructuredMetadata: map[string]string{"http.method": "DELETE", "url/path": "/x"}}},
		}}})
		if err != nil || (resp.GetAcceptedEntries() == 1) != (want == 204) {
			t.Errorf("%s: %v, %v", tenant, resp, err)
		}
	}
	get := func(path string, params url.Values) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.HTTPAddr()+path+"?"+params.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Scope-OrgID", "keeps")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // it is read only
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for round := range 2 {
		for _, c := range []struct {
			path   string
			params url.Values
			want   string
		}{
			{"/api/v1/detected_field_values", url.Values{"name": {"url/path"}, "query": {`{app="weir"}`}}, `"values":["/x"]`},
			{"/api/v1/detected_fields/http.method/values", url.Values{"query": {`{app="weir"}`}}, `"values":["DELETE"]`},
			{"/api/v1/label_values", url.Values{"name": {`größe "x"`}}, `"values":["p3"]`},
			{"/loki/api/v1/detected_field/url%2Fpath/values", url.Values{"query": {`{app="weir"}`}}, `"values":["/x"]`},
			{"/api/v1/label_values", url.Values{}, "name is missing"},
		} {
			if body := get(c.path, c.params); !strings.Contains(strings.ReplaceAll(body, `": [`, `":[`), c.want) {
				t.Errorf("round %d, %s: %s", round, c.path, body)
			}
		}
		for _, c := range []struct{ tenant, query, lines string }{
			{"keeps", `{"k8s.pod.name"=~"p.*"}`, "from loki, from otlp"},
			{"keeps", `{"größe \"x\""="p3"} | "http.method"="DELETE"`, "from weir"},
			{"keeps", `{service_name=~".+"} | "http.method"=~"GET|PUT"`, "from loki, from otlp"},
			{"keeps", `{service_name="otlp"} | keep "k8s.pod.name" | "k8s.pod.name"="p2"`, "from otlp"},
			{"keeps", `{service_name=~".+"} | distinct "http.method"`, "from loki, from otlp, from weir"},
			{"other", `{k8s_pod_name="p2"} | http_method="PUT"`, "from otlp"},
			{"other", `{"k8s.pod.name"=~".+"}`, ""},
		} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", c.tenant)
			resp, err := queryv1.NewQueryServiceClient(p.conn).QueryRange(ctx, &queryv1.QueryRangeRequest{Query: c.query, Start: timestamppb.New(at.Add(-time.Minute))})
			if err != nil {
				t.Fatalf("%s: %v", c.query, err)
			}
			var lines []string
			for _, s := range resp.GetStreams().GetStreams() {
				for _, e := range s.GetEntries() {
					lines = append(lines, e.GetText())
				}
			}
			slices.Sort(lines)
			if got := strings.Join(lines, ", "); got != c.lines {
				t.Errorf("round %d, %s, %s: %q, want %q", round, c.tenant, c.query, got, c.lines)
			}
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "keeps")
		q := queryv1.NewQueryServiceClient(p.conn)
		names, err := q.Labels(ctx, &queryv1.LabelsRequest{})
		if err != nil || strings.Join(names.GetNames(), ",") != `app,größe "x",k8s.pod.name,service_name` {
			t.Errorf("round %d: %v, %v", round, names, err)
		}
		values, err := q.LabelValues(ctx, &queryv1.LabelValuesRequest{Name: "k8s.pod.name"})
		if err != nil || strings.Join(values.GetValues(), ",") != "p1,p2" {
			t.Errorf("round %d: %v, %v", round, values, err)
		}
		sum, err := q.Query(ctx, &queryv1.QueryRequest{Query: `sum by ("k8s.pod.name", "http.method") (count_over_time({"k8s.pod.name"=~".+"}[5m]))`})
		if err != nil || len(sum.GetVector().GetSamples()) != 2 || sum.GetVector().GetSamples()[0].GetLabels()["http.method"] != "GET" {
			t.Errorf("round %d: %v, %v", round, sum, err)
		}
		for _, by := range []queryv1.AggregateBy{queryv1.AggregateBy_AGGREGATE_BY_SERIES, queryv1.AggregateBy_AGGREGATE_BY_LABELS} {
			volume := &queryv1.VolumeRequest{Selector: `{"k8s.pod.name"="p2"}`, TargetLabels: []string{"k8s.pod.name"}, AggregateBy: by}
			resp, err := q.Volume(ctx, volume)
			if err != nil || len(resp.GetVolumes()) != 1 || resp.GetVolumes()[0].GetSample().GetValue() != 9 {
				t.Errorf("round %d: %v, %v", round, resp, err)
			}
			if resp, err := q.Volume(t.Context(), volume); status.Code(err) != codes.InvalidArgument {
				t.Errorf("round %d: %v, %v", round, resp, err)
			}
		}
		if round == 0 {
			if _, err := adminv1.NewAdminServiceClient(p.conn).Flush(ctx, &adminv1.FlushRequest{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if status, body := p.get(t, "/loki/api/v1/label/k8s.pod.name/values", url.Values{}); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}
