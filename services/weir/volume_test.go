package weir

import (
	"encoding/json"
	"fmt"
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
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// What Loki's API tells of volumes and of detected labels and fields is what gRPC and
// REST tell, from memory and from blocks.
func TestVolumesAndDetected(t *testing.T) {
	p := startProcess(t, t.TempDir(), func(c *Config) { c.Querier.MultiTenantQueries = true })
	start := time.Now().Add(-10 * time.Minute).Truncate(time.Minute)
	end := start.Add(2 * time.Minute)
	lines := func(entries ...string) (out []*pushv1.Entry) {
		for i, l := range entries {
			at := start.Add(time.Duration(i+1) * 20 * time.Second).UnixNano()
			out = append(out, &pushv1.Entry{TimestampUnixNano: at, Line: &pushv1.Entry_Text{Text: l}, StructuredMetadata: map[string]string{"trace": "t" + strconv.Itoa(i)}})
		}
		return out
	}
	for _, tenant := range []string{"fake", "other"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", tenant)
		_, err := pushv1.NewPushServiceClient(p.conn).Push(ctx, &pushv1.PushRequest{Streams: []*pushv1.Stream{
			{Labels: map[string]string{"app": "shop", "zone": "a", "pid": "17"}, Entries: lines(`{"n":1,"o":{"took":"5ms"}}`, `{"n":2.5,"ok":true}`, "", "", `{"n":3}`)},
			{Labels: map[string]string{"app": "shop", "zone": "b", "pid": "18"}, Entries: lines(`level=warn n=4 size=5KB`)},
			{Labels: map[string]string{"app": "web"}, Entries: lines("words", "more words of this")},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	q := queryv1.NewQueryServiceClient(p.conn)
	from, to := timestamppb.New(start), timestamppb.New(end)
	bounds := func(params url.Values) url.Values {
		params.Set("start", start.Format(time.RFC3339Nano))
		params.Set("end", end.Format(time.RFC3339Nano))
		return params
	}
	get := func(tenant, path string, params url.Values) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.HTTPAddr()+path+"?"+bounds(params).Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Scope-OrgID", tenant)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // it is read only
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s, %v", path, resp.StatusCode, body, err)
		}
		return string(body)
	}
	for round := range 2 {
		for _, c := range []struct {
			tenant     string
			request    proto.Message
			rest       string
			restParams url.Values
			loki       string
			lokiParams url.Values
			want       string
		}{
			{"fake", &queryv1.VolumeRequest{Selector: `{app=~".+"}`, Start: from, End: to},
				"/api/v1/volume", url.Values{"selector": {`{app=~".+"}`}},
				"index/volume", url.Values{"query": {`{app=~".+"}`}}, `app=shop:75 app=web:23`},
			{"fake", &queryv1.VolumeRequest{Selector: `{}`, Start: from, End: to, TargetLabels: []string{"zone", "app"}, Limit: 2},
				"/api/v1/volume", url.Values{"selector": {`{}`}, "target_labels": {"zone", "app"}, "limit": {"2"}},
				"index/volume", url.Values{"query": {`{}`}, "targetLabels": {"zone,app"}, "limit": {"2"}}, `app=shop,zone=a:52 app=shop,zone=b:23`},
			{"fake", &queryv1.VolumeRequest{Selector: `{}`, Start: from, End: to, AggregateBy: queryv1.AggregateBy_AGGREGATE_BY_LABELS},
				"/api/v1/volume", url.Values{"selector": {`{}`}, "aggregate_by": {"AGGREGATE_BY_LABELS"}},
				"index/volume", url.Values{"query": {`{}`}, "aggregateBy": {"labels"}}, `app=:98 service_name=:98 pid=:75 zone=:75`},
			{"fake|other", &queryv1.VolumeRequest{Selector: `{app="web"}`, Start: from, End: to, TargetLabels: []string{"__tenant_id__"}},
				"/api/v1/volume", url.Values{"selector": {`{app="web"}`}, "target_labels": {"__tenant_id__"}},
				"index/volume", url.Values{"query": {`{app="web"}`}, "targetLabels": {"__tenant_id__"}}, `__tenant_id__=fake:23 __tenant_id__=other:23`},
			{"fake", &queryv1.VolumeRangeRequest{Selector: `{app="shop"}`, Start: from, End: to, Step: durationpb.New(time.Minute), TargetLabels: []string{"zone"}},
				"/api/v1/volume_range", url.Values{"selector": {`{app="shop"}`}, "step": {"1m"}, "target_labels": {"zone"}},
				"index/volume_range", url.Values{"query": {`{app="shop"}`}, "step": {"1m"}, "targetLabels": {"zone"}}, `zone=a:60s=45,120s=7 zone=b:60s=23`},
			{"fake", &queryv1.DetectedLabelsRequest{Selector: `{app="shop"}`, Start: from, End: to},
				"/api/v1/detected_labels", url.Values{"selector": {`{app="shop"}`}},
				"detected_labels", url.Values{"query": {`{app="shop"}`}}, `app/1 service_name/1 zone/2`},
			{"fake", &queryv1.DetectedFieldsRequest{Query: `{app="shop"} != ""`, Start: from, End: to, Limit: 6},
				"/api/v1/detected_fields", url.Values{"query": {`{app="shop"} != ""`}, "limit": {"6"}},
				"detected_fields", url.Values{"query": {`{app="shop"} != ""`}, "limit": {"6"}}, `of 6`},
			{"fake", &queryv1.DetectedFieldsRequest{Query: `{app="shop"}`, Start: from, End: to, LineLimit: 1},
				"/api/v1/detected_fields", url.Values{"query": {`{app="shop"}`}, "line_limit": {"1"}},
				"detected_fields", url.Values{"query": {`{app="shop"}`}, "line_limit": {"1"}}, `detected_level/string/1[][] n/int/1[json][n] trace/string/1[][] of 1000`},
			{"fake", &queryv1.DetectedFieldsRequest{Query: `{app="shop"}`, Start: from, End: to, Limit: 4},
				"/api/v1/detected_fields", url.Values{"query": {`{app="shop"}`}, "limit": {"4"}},
				"detected_fields", url.Values{"query": {`{app="shop"}`}, "limit": {"4"}}, `detected_level/string/2[][] level/string/1[logfmt][] n/int/4[json logfmt][n] o_took/duration/1[json][o took] of 4`},
			{"fake", &queryv1.DetectedFieldValuesRequest{Name: "n", Query: `{app="shop"}`, Start: from, End: to, Limit: 3},
				"/api/v1/detected_fields/n/values", url.Values{"query": {`{app="shop"}`}, "limit": {"3"}},
				"detected_field/n/values", url.Values{"query": {`{app="shop"}`}, "limit": {"3"}}, `1 2.5 3 of 3`},
		} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", c.tenant)
			var own proto.Message
			var err error
			switch r := c.request.(type) {
			case *queryv1.VolumeRequest:
				own, err = q.Volume(ctx, r)
			case *queryv1.VolumeRangeRequest:
				own, err = q.VolumeRange(ctx, r)
			case *queryv1.DetectedLabelsRequest:
				own, err = q.DetectedLabels(ctx, r)
			case *queryv1.DetectedFieldsRequest:
				own, err = q.DetectedFields(ctx, r)
			case *queryv1.DetectedFieldValuesRequest:
				own, err = q.DetectedFieldValues(ctx, r)
			}
			if err != nil {
				t.Fatalf("%T %v: %v", c.request, c.request, err)
			}
			rest := own.ProtoReflect().New().Interface()
			if err := protojson.Unmarshal([]byte(get(c.tenant, c.rest, c.restParams)), rest); err != nil {
				t.Fatal(err)
			}
			g, r, l := told(own, start), told(rest, start), tellsLoki(t, get(c.tenant, "/loki/api/v1/"+c.loki, c.lokiParams), start)
			if g != c.want || r != c.want || l != c.want {
				t.Errorf("round %d, %T %v:\ngRPC %s\nREST %s\nLoki %s\nwant %s", round, c.request, c.request, g, r, l, c.want)
			}
		}
		if round == 0 {
			if _, err := adminv1.NewAdminServiceClient(p.conn).Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, err := range map[string]error{
		"no selector":    second(q.Volume(t.Context(), &queryv1.VolumeRequest{})),
		"a query":        second(q.Volume(t.Context(), &queryv1.VolumeRequest{Selector: `rate({a="b"}[5m])`})),
		"empty":          second(q.Volume(t.Context(), &queryv1.VolumeRequest{Selector: `{a=~".*"}`})),
		"no time":        second(q.Volume(t.Context(), &queryv1.VolumeRequest{Selector: `{}`, Start: to, End: to})),
		"too many":       second(q.Volume(t.Context(), &queryv1.VolumeRequest{Selector: `{}`, Limit: 1001})),
		"no name":        second(q.Volume(t.Context(), &queryv1.VolumeRequest{Selector: `{}`, TargetLabels: []string{"b)"}})),
		"no aggregation": second(q.VolumeRange(t.Context(), &queryv1.VolumeRangeRequest{Selector: `{}`, AggregateBy: 7})),
		"no step":        second(q.VolumeRange(t.Context(), &queryv1.VolumeRangeRequest{Selector: `{}`, Step: &durationpb.Duration{}})),
		"half":           second(q.DetectedLabels(t.Context(), &queryv1.DetectedLabelsRequest{Selector: `{`})),
		"a number":       second(q.DetectedFields(t.Context(), &queryv1.DetectedFieldsRequest{Query: `vector(1)`})),
		"too many lines": second(q.DetectedFields(t.Context(), &queryv1.DetectedFieldsRequest{Query: `{a="b"}`, LineLimit: 5001})),
		"no field":       second(q.DetectedFieldValues(t.Context(), &queryv1.DetectedFieldValuesRequest{Query: `{a="b"}`})),
	} {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "nobody")
	if resp, err := q.DetectedFieldValues(ctx, &queryv1.DetectedFieldValuesRequest{Query: `{app="shop"}`, Name: "n"}); err != nil || len(resp.GetValues()) != 0 {
		t.Errorf("of another tenant: %v, %v", resp, err)
	}
}

func second[T any](_ T, err error) error { return err }

// told puts an answer into few words, with times from a start on.
func told(m proto.Message, start time.Time) string {
	var out []string
	switch m := m.(type) {
	case *queryv1.VolumeResponse:
		for _, v := range m.GetVolumes() {
			out = append(out, fmt.Sprintf("%s:%v", pairs(v.GetLabels()), v.GetSample().GetValue()))
		}
	case *queryv1.VolumeRangeResponse:
		for _, v := range m.GetVolumes() {
			var samples []string
			for _, s := range v.GetSamples() {
				samples = append(samples, fmt.Sprintf("%ds=%v", (s.GetTimestampUnixNano()-start.UnixNano())/1e9, s.GetValue()))
			}
			out = append(out, pairs(v.GetLabels())+":"+strings.Join(samples, ","))
		}
	case *queryv1.DetectedLabelsResponse:
		for _, l := range m.GetLabels() {
			out = append(out, fmt.Sprintf("%s/%d", l.GetName(), l.GetCardinality()))
		}
	case *queryv1.DetectedFieldsResponse:
		for _, f := range m.GetFields() {
			out = append(out, fmt.Sprintf("%s/%s/%d%v%v", f.GetName(), f.GetType(), f.GetCardinality(), f.GetParsers(), f.GetJsonPath()))
		}
		out = append(out, fmt.Sprintf("of %d", m.GetLimit()))
	case *queryv1.DetectedFieldValuesResponse:
		out = append(slices.Clone(m.GetValues()), fmt.Sprintf("of %d", m.GetLimit()))
	}
	if w, ok := m.(interface{ GetWarnings() []string }); !ok || len(w.GetWarnings()) > 0 {
		out = append(out, fmt.Sprint("warnings ", w))
	}
	return strings.Join(out, " ")
}

func pairs(labels map[string]string) string {
	var out []string
	for k, v := range labels {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// tellsLoki puts an answer of Loki's API into the words of told.
func tellsLoki(t *testing.T, body string, start time.Time) string {
	t.Helper()
	var a struct {
		Data *struct {
			Result []struct {
				Metric map[string]string
				Value  []any
				Values [][]any
			}
		}
		DetectedLabels []struct {
			Label       string
			Cardinality int
		}
		Fields []struct {
			Label, Type string
			Cardinality int
			Parsers     []string
			JSONPath    []string
		}
		Values []string
		Limit  *int
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var out []string
	if a.Data != nil {
		for _, r := range a.Data.Result {
			var samples []string
			for _, v := range r.Values {
				samples = append(samples, fmt.Sprintf("%ds=%v", int64(v[0].(float64))-start.Unix(), v[1]))
			}
			if r.Value != nil {
				samples = append(samples, fmt.Sprint(r.Value[1]))
			}
			out = append(out, pairs(r.Metric)+":"+strings.Join(samples, ","))
		}
	}
	for _, l := range a.DetectedLabels {
		out = append(out, fmt.Sprintf("%s/%d", l.Label, l.Cardinality))
	}
	for _, f := range a.Fields {
		out = append(out, fmt.Sprintf("%s/%s/%d%v%v", f.Label, f.Type, f.Cardinality, f.Parsers, f.JSONPath))
	}
	out = append(out, a.Values...)
	if a.Limit != nil {
		out = append(out, fmt.Sprintf("of %d", *a.Limit))
	}
	return strings.Join(out, " ")
}
