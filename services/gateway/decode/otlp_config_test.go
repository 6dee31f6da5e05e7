package decode

import (
	"fmt"
	"testing"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"

	"google.golang.org/protobuf/proto"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/limits"
)

func otlpConfig(t fataler, text string) limits.OTLPConfig {
	t.Helper()
	l := limits.Default()
	if err := conf.DecodeYAML([]byte("otlp_config: "+text), &l); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if err := l.Validate(); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return l.OTLPConfig
}

// splitting is a configuration that makes labels of all that can be.
func splitting(t fataler) limits.OTLPConfig {
	return otlpConfig(t, `{
		resource_attributes: {ignore_defaults: true, attributes_config: [{action: drop, regex: "os.*"}, {action: index_label, regex: ".*"}]},
		scope_attributes: [{action: index_label, regex: ".*"}], log_attributes: [{action: index_label, regex: ".*"}], severity_text_as_label: true}`)
}

func TestOTLPConfig(t *testing.T) {
	record := func(at uint64, text string, attributes ...*common.KeyValue) *logs.LogRecord {
		return &logs.LogRecord{TimeUnixNano: at, SeverityText: text, Body: str(fmt.Sprint(at)), Attributes: attributes}
	}
	wire := export(t, &logs.ResourceLogs{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{
			kv("service.name", str("shop")), kv("host.name", str("h")), kv("process.id", integer(7)), kv("team", kvs(kv("name", str("a")), kv("size", integer(2)))),
		}},
		ScopeLogs: []*logs.ScopeLogs{
			{
				Scope:      &common.InstrumentationScope{Name: "lib", Attributes: []*common.KeyValue{kv("kind", str("db")), kv("x.y", str("1"))}},
				LogRecords: []*logs.LogRecord{record(1, "INFO", kv("http.method", str("GET")), kv("kind", str("mine"))), record(2, ""), record(3, "INFO")},
			},
			{LogRecords: []*logs.LogRecord{record(4, "WARN"), record(5, "INFO", kv("http.method", str("GET")))}},
		},
	})
	meta := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	at := func(time int64, pairs ...string) row {
		return row{Time: time, Line: fmt.Sprint(time), Metadata: meta(pairs...)}
	}
	all := []string{"host_name", "h", "process_id", "7", "team_name", "a", "team_size", "2"}
	lib := append([]string{"scope_name", "lib", "kind", "db", "x_y", "1"}, all...)
	with := func(base []string, more ...string) []string { return append(append([]string{}, base...), more...) }
	for name, c := range map[string]struct {
		config string
		want   []stream
	}{
		"none": {"{}", []stream{{`{service_name="shop"}`, []row{
			at(1, with(lib, "severity_text", "INFO", "http_method", "GET", "kind", "mine")...), at(2, lib...), at(3, with(lib, "severity_text", "INFO")...),
			at(4, with(all, "severity_text", "WARN")...), at(5, with(all, "severity_text", "INFO", "http_method", "GET")...),
		}}}},
		"resource": {`{resource_attributes: {attributes_config: [
			{action: index_label, attributes: [host.name]}, {action: drop, regex: "process\\..*|team"}, {action: structured_metadata, attributes: [service.name, team]}]},
			scope_attributes: [{action: drop, regex: ".*"}], log_attributes: [{action: drop, attributes: [kind]}]}`, []stream{{`{host_name="h"}`, []row{
			at(1, "service_name", "shop", "scope_name", "lib", "severity_text", "INFO", "http_method", "GET"), at(2, "service_name", "shop", "scope_name", "lib"),
			at(3, "service_name", "shop", "scope_name", "lib", "severity_text", "INFO"),
			at(4, "service_name", "shop", "severity_text", "WARN"), at(5, "service_name", "shop", "severity_text", "INFO", "http_method", "GET"),
		}}}},
		"no defaults": {`{resource_attributes: {ignore_defaults: true, attributes_config: [{action: drop, regex: "[^s].*"}]}}`, []stream{{`{service_name="unknown_service"}`, []row{
			at(1, "service_name", "shop", "scope_name", "lib", "x_y", "1", "severity_text", "INFO", "http_method", "GET", "kind", "mine"),
			at(2, "service_name", "shop", "scope_name", "lib", "x_y", "1", "kind", "db"), at(3, "service_name", "shop", "scope_name", "lib", "x_y", "1", "kind", "db", "severity_text", "INFO"),
			at(4, "service_name", "shop", "severity_text", "WARN"), at(5, "service_name", "shop", "severity_text", "INFO", "http_method", "GET"),
		}}}},
		"severity": {`{resource_attributes: {attributes_config: [{action: drop, regex: "host.*|process.*|team"}]}, severity_text_as_label: true,
			scope_attributes: [{action: drop, regex: ".*"}]}`, []stream{
			{`{service_name="shop", severity_text="INFO"}`, []row{at(1, "scope_name", "lib", "http_method", "GET", "kind", "mine"), at(3, "scope_name", "lib"), at(5, "http_method", "GET")}},
			{`{service_name="shop"}`, []row{at(2, "scope_name", "lib")}},
			{`{service_name="shop", severity_text="WARN"}`, []row{at(4)}},
		}},
		"records": {`{resource_attributes: {attributes_config: [{action: drop, regex: "host.*|process.*|team"}]},
			scope_attributes: [{action: index_label, regex: "ki.d"}, {action: drop, attributes: [x.y]}], log_attributes: [{action: index_label, regex: "http.*|kind"}]}`, []stream{
			{`{http_method="GET", kind="mine", service_name="shop"}`, []row{at(1, "scope_name", "lib", "severity_text", "INFO")}},
			{`{kind="db", service_name="shop"}`, []row{at(2, "scope_name", "lib"), at(3, "scope_name", "lib", "severity_text", "INFO")}},
			{`{service_name="shop"}`, []row{at(4, "severity_text", "WARN")}},
			{`{http_method="GET", service_name="shop"}`, []row{at(5, "severity_text", "INFO")}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := otlpConfig(t, c.config)
			res := NewMemory(1 << 20).Reserve(1 << 20)
			req, err := OTLP(wire, &cfg, res)
			if err != nil {
				t.Fatal(err)
			}
			same(t, plain(t, req), c.want)
		})
	}
}

// What all records of a scope have is read once, however many streams they are of. Were
// it read for each stream, this would take many minutes.
func TestOTLPScopeOfManyStreams(t *testing.T) {
	cfg := otlpConfig(t, `{scope_attributes: [{action: drop, attributes: [k]}], log_attributes: [{action: index_label, attributes: [id]}]}`)
	sl := &logs.ScopeLogs{Scope: &common.InstrumentationScope{Name: "lib"}}
	again, records := kv("k", str("v")), 20_000
	for range 100_000 {
		sl.Scope.Attributes = append(sl.Scope.Attributes, again)
	}
	for i := range records {
		sl.LogRecords = append(sl.LogRecords, &logs.LogRecord{TimeUnixNano: 1, Body: str("x"), Attributes: []*common.KeyValue{kv("id", str(fmt.Sprint(i)))}})
	}
	memory := NewMemory(1 << 30)
	res := memory.Reserve(1 << 30)
	req, err := OTLP(export(t, &logs.ResourceLogs{ScopeLogs: []*logs.ScopeLogs{sl}}), &cfg, res)
	if err != nil || len(req.GetStreams()) != records {
		t.Fatalf("%d streams, %v", len(req.GetStreams()), err)
	}
}

// The labels of a resource are looked at for each record, which is bounded.
func TestOTLPLabelsOfManyRecords(t *testing.T) {
	cfg := otlpConfig(t, `{severity_text_as_label: true}`)
	data, err := proto.Marshal(&logs.ResourceLogs{
		Resource:  &resource.Resource{Attributes: []*common.KeyValue{kv("service.name", str("shop"))}},
		ScopeLogs: []*logs.ScopeLogs{{LogRecords: []*logs.LogRecord{{TimeUnixNano: 1, Body: str("x")}, {TimeUnixNano: 2, Body: str("y")}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	one := pairCost + len("service_name") + len("shop")
	for left, ok := range map[int]bool{2 * one: true, 2*one - 1: false} {
		res := NewMemory(1 << 20).Reserve(1 << 20)
		r := &otlpReader{builder: newBuilder(res, DoorOTLP), text: textWriter{memory: res}, cfg: &cfg, splits: true, work: maxSplitLabels - left}
		if err := r.resource(data); (err == nil) != ok {
			t.Errorf("%d left for labels of %d: %v", left, 2*one, err)
		}
	}
}
