package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

func (b *backend) Volume(ctx context.Context, r *queryv1.VolumeRequest) (*queryv1.VolumeResponse, error) {
	b.note(ctx, r)
	return &queryv1.VolumeResponse{Volumes: []*queryv1.VectorSample{
		{Labels: map[string]string{"app": "a"}, Sample: &queryv1.Sample{TimestampUnixNano: 60e9, Value: 50}},
		{Labels: map[string]string{"app": ""}, Sample: &queryv1.Sample{TimestampUnixNano: 60e9, Value: 5}},
	}, Warnings: []string{"half"}}, nil
}

func (b *backend) VolumeRange(ctx context.Context, r *queryv1.VolumeRangeRequest) (*queryv1.VolumeRangeResponse, error) {
	b.note(ctx, r)
	return &queryv1.VolumeRangeResponse{Volumes: []*queryv1.Series{
		{Labels: map[string]string{"app": "x"}, Samples: []*queryv1.Sample{{TimestampUnixNano: 60e9, Value: 5}, {TimestampUnixNano: 90e9, Value: 6}}},
	}, Warnings: []string{"half"}}, nil
}

func (b *backend) DetectedLabels(ctx context.Context, r *queryv1.DetectedLabelsRequest) (*queryv1.DetectedLabelsResponse, error) {
	b.note(ctx, r)
	if r.GetSelector() == "" {
		return &queryv1.DetectedLabelsResponse{Warnings: b.warnings}, nil
	}
	return &queryv1.DetectedLabelsResponse{Warnings: b.warnings, Labels: []*queryv1.DetectedLabel{{Name: "a", Cardinality: 2}, {Name: "b", Cardinality: 1}}}, nil
}

func (b *backend) DetectedFields(ctx context.Context, r *queryv1.DetectedFieldsRequest) (*queryv1.DetectedFieldsResponse, error) {
	b.note(ctx, r)
	return &queryv1.DetectedFieldsResponse{Limit: 1000, Warnings: b.warnings, Fields: []*queryv1.DetectedField{
		{Name: "detected_level", Type: "string", Cardinality: 1},
		{Name: "f", Type: "float", Cardinality: 3, Parsers: []string{"logfmt"}},
		{Name: "o_x_y", Type: "duration", Cardinality: 1, Parsers: []string{"json", "logfmt"}, JsonPath: []string{"o", "x-y"}},
	}}, nil
}

func (b *backend) DetectedFieldValues(ctx context.Context, r *queryv1.DetectedFieldValuesRequest) (*queryv1.DetectedFieldValuesResponse, error) {
	b.note(ctx, r)
	if r.GetName() == "none" {
		return &queryv1.DetectedFieldValuesResponse{Limit: 7, Warnings: b.warnings}, nil
	}
	return &queryv1.DetectedFieldValuesResponse{Values: []string{"5", `"6"`}, Limit: 7, Warnings: b.warnings}, nil
}

// What Loki's parameters mean, and how its answers look.
func TestLokiVolumesAndDetected(t *testing.T) {
	e := start(t)
	x, from, to := "query=%7Bapp%3D%22x%22%7D", &timestamppb.Timestamp{}, &timestamppb.Timestamp{Seconds: 60}
	for _, c := range []struct {
		path, text string
		asked      proto.Message
	}{
		{"index/volume?start=0&end=60&" + x, `{"status":"success","warnings":["half"],"data":{"resultType":"vector","result":[{"metric":{"app":"a"},"value":[60,"50"]},{"metric":{"app":""},"value":[60,"5"]}],"stats":{}}}`,
			&queryv1.VolumeRequest{Selector: `{app="x"}`, Start: from, End: to}},
		{"index/volume?limit=5000&aggregateBy=labels&targetLabels=zone,app,&targetLabels=z", "",
			&queryv1.VolumeRequest{Limit: 1000, AggregateBy: queryv1.AggregateBy_AGGREGATE_BY_LABELS, TargetLabels: []string{"zone", "app", "z"}}},
		{"index/volume_range?start=0&end=60&step=30&limit=3&aggregateBy=series&targetLabels=a&" + x, `{"status":"success","warnings":["half"],"data":{"resultType":"matrix","result":[{"metric":{"app":"x"},"values":[[60,"5"],[90,"6"]]}],"stats":{}}}`,
			&queryv1.VolumeRangeRequest{Selector: `{app="x"}`, Start: from, End: to, Step: durationpb.New(30e9), Limit: 3, TargetLabels: []string{"a"}}},
		{"detected_labels?" + x, `{"detectedLabels":[{"label":"a","cardinality":2},{"label":"b","cardinality":1}]}`,
			&queryv1.DetectedLabelsRequest{Selector: `{app="x"}`}},
		{"detected_labels?start=0&end=60", `{"detectedLabels":[]}`, &queryv1.DetectedLabelsRequest{Start: from, End: to}},
		{"detected_fields?line_limit=7&" + x, `{"fields":[{"label":"detected_level","type":"string","cardinality":1,"parsers":null},` +
			`{"label":"f","type":"float","cardinality":3,"parsers":["logfmt"]},` +
			`{"label":"o_x_y","type":"duration","cardinality":1,"parsers":["json","logfmt"],"jsonPath":["o","x-y"]}],"limit":1000}`,
			&queryv1.DetectedFieldsRequest{Query: `{app="x"}`, LineLimit: 7}},
		{"detected_fields?limit=3&start=0&end=60", "", &queryv1.DetectedFieldsRequest{Limit: 3, Start: from, End: to}},
		{"detected_fields?limit=3&field_limit=4", "", &queryv1.DetectedFieldsRequest{Limit: 4}},
		{"detected_field/n/values?start=0&end=60&line_limit=9&limit=7&" + x, `{"values":["5","\"6\""],"limit":7}`,
			&queryv1.DetectedFieldValuesRequest{Name: "n", Query: `{app="x"}`, Start: from, End: to, LineLimit: 9, Limit: 7}},
		{"detected_field/none/values?" + x, `{"values":[],"limit":7}`, &queryv1.DetectedFieldValuesRequest{Name: "none", Query: `{app="x"}`}},
	} {
		if _, text := e.want(200, c.text, "GET", "/loki/api/v1/"+c.path, ""); c.text != "" && text != c.text+"\n" {
			t.Errorf("%s: %s\nwant %s", c.path, text, c.text)
		}
		if got := last[proto.Message](t, e.backend); !proto.Equal(got, c.asked) {
			t.Errorf("%s asks %v, want %v", c.path, got, c.asked)
		}
	}
	asked := len(e.backend.asked)
	for path, text := range map[string]string{
		"index/volume?aggregateBy=x":   "invalid aggregation option",
		"index/volume?limit=0":         "limit must be a positive value",
		"index/volume_range?step=-1":   "zero or negative query resolution step widths are not accepted",
		"detected_labels?start=%3F":    "could not parse 'start' parameter",
		"detected_fields?line_limit=0": "limit must be a positive value",
	} {
		e.want(400, text, "GET", "/loki/api/v1/"+path, "")
	}
	if n := len(e.backend.asked); n != asked {
		t.Errorf("%d questions for what is refused", n-asked)
	}
}

// What an answer lacks is told in each of Loki's answers, which are the same but for that.
func TestLokiWarnings(t *testing.T) {
	e := start(t)
	q := url.Values{"query": {`{app="x"}`}, "start": {"800"}, "end": {"1001"}}.Encode()
	for _, path := range []string{
		"labels?", "label/app/values?", "series?", "index/stats?", "index/shards?", "patterns?",
		"detected_labels?", "detected_labels?query=", "detected_fields?", "detected_field/n/values?", "detected_field/none/values?",
	} {
		if path = "/loki/api/v1/" + path; !strings.HasSuffix(path, "query=") {
			path += q
		}
		ask := func(warnings ...string) map[string]any {
			e.backend.warnings = warnings
			_, text := e.want(200, "", "GET", path, "")
			var m map[string]any
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				t.Fatalf("%s: %v in %s", path, err, text)
			}
			return m
		}
		whole, part := ask(), ask("half", `of "it"`)
		if _, ok := whole["warnings"]; ok {
			t.Errorf("%s: %v", path, whole)
		}
		if got := fmt.Sprint(part["warnings"]); got != `[half of "it"]` {
			t.Errorf("%s warns: %s", path, got)
		}
		if delete(part, "warnings"); !reflect.DeepEqual(whole, part) {
			t.Errorf("%s: %v, with warnings %v", path, whole, part)
		}
	}
}
