package decode

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
)

func str(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
}

func integer(n int64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
}

func array(vs ...*common.AnyValue) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{Values: vs}}}
}

func kvs(kv ...*common.KeyValue) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{Values: kv}}}
}

func double(f float64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: f}}
}

func kv(k string, v *common.AnyValue) *common.KeyValue { return &common.KeyValue{Key: k, Value: v} }

func export(t testing.TB, rls ...*logs.ResourceLogs) []byte {
	t.Helper()
	b, err := proto.Marshal(&collogs.ExportLogsServiceRequest{ResourceLogs: rls})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func full() *logs.ResourceLogs {
	return &logs.ResourceLogs{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{
			kv("service.name", str("old")), kv("service.name", str("shop")), kv("k8s.pod.name", str("p-1")), kv("host.name", str("h")),
			kv("os", kvs(kv("type", str("linux")), kv("tags", array(str("a"), integer(1), nil)))), kv("shared", str("resource")), kv("empty", str("")),
		}},
		ScopeLogs: []*logs.ScopeLogs{
			{
				Scope: &common.InstrumentationScope{
					Name: "lib", Version: "1.2", DroppedAttributesCount: 3,
					Attributes: []*common.KeyValue{kv("shared", str("scope")), kv("9lives", str("cat"))},
				},
				LogRecords: []*logs.LogRecord{
					{
						TimeUnixNano: 10, ObservedTimeUnixNano: 11, SeverityNumber: 17, SeverityText: "ERROR", Body: str("first"),
						Attributes: []*common.KeyValue{kv("shared", str("record")), kv("http.method", str("GET")), kv("ok", &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: true}})},
						Flags:      1, DroppedAttributesCount: 2, EventName: "click",
						TraceId: bytes.Repeat([]byte{0xab}, 16), SpanId: bytes.Repeat([]byte{0xcd}, 8),
					},
					{ObservedTimeUnixNano: 12, Body: kvs(kv("k", str("a\"b<")), kv("b", array()), kv("k", str("v\n"))), TraceId: make([]byte, 16), SpanId: []byte{1}},
				},
			},
			{LogRecords: []*logs.LogRecord{{}}},
			{Scope: &common.InstrumentationScope{Name: "silent"}},
		},
	}
}

func fullWant() []stream {
	resource := func(more map[string]string) map[string]string {
		m := map[string]string{"host_name": "h", "os_type": "linux", "os_tags": `["a",1,null]`, "shared": "resource"}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	scope := map[string]string{"scope_name": "lib", "scope_version": "1.2", "scope_dropped_attributes_count": "3", "shared": "scope", "key_9lives": "cat"}
	first := resource(scope)
	for k, v := range map[string]string{
		"shared": "record", "http_method": "GET", "ok": "true", "flags": "1", "dropped_attributes_count": "2", "event_name": "click",
		"trace_id": strings.Repeat("ab", 16), "span_id": strings.Repeat("cd", 8), "severity_number": "17", "severity_text": "ERROR", "observed_timestamp": "11",
	} {
		first[k] = v
	}
	return []stream{{Labels: `{k8s_pod_name="p-1", service_name="shop"}`, Rows: []row{
		{Time: 10, Line: "first", Metadata: first},
		{Time: 12, Line: `{"b":[],"k":"v\n"}`, Metadata: resource(scope)},
		{Time: 0, Metadata: resource(nil)},
	}}}
}

func TestOTLP(t *testing.T) {
	wire := export(t, full(), &logs.ResourceLogs{}, &logs.ResourceLogs{ScopeLogs: []*logs.ScopeLogs{{LogRecords: []*logs.LogRecord{{TimeUnixNano: math.MaxUint64, Body: str("x")}}}}})
	want := append(fullWant(), stream{Labels: `{service_name="unknown_service"}`, Rows: []row{{Time: math.MaxInt64, Line: "x", Metadata: map[string]string{}}}})
	mem := NewMemory(1 << 20)
	res := mem.Reserve(1 << 20)
	req, err := OTLP(wire, &limits.OTLPConfig{}, res)
	if err != nil {
		t.Fatal(err)
	}
	if !req.GetStamp() || req.GetDoor() != "otlp" {
		t.Errorf("stamp %v, door %q", req.GetStamp(), req.GetDoor())
	}
	same(t, plain(t, req), want)
	// Fields in another order: scopes before the resource.
	var scopes, rest []byte
	m, err := proto.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	if err := fields(m, func(num protowire.Number, typ protowire.Type, v value) error {
		b := &rest
		if num == 2 {
			b = &scopes
		}
		*b = protowire.AppendBytes(protowire.AppendTag(*b, num, typ), v.bytes)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	req, err = OTLP(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), append(scopes, rest...)), &limits.OTLPConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, plain(t, req), fullWant())
}

func TestOTLPJSON(t *testing.T) {
	text, err := protojson.Marshal(&collogs.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{full()}})
	if err != nil {
		t.Fatal(err)
	}
	// OTLP writes ids in hexadecimal where protobuf's JSON has base64.
	for from, to := range map[string]string{
		"q6urq6urq6urq6urq6urqw==": strings.Repeat("ab", 16), "zc3Nzc3Nzc0=": strings.Repeat("CD", 8),
		"AAAAAAAAAAAAAAAAAAAAAA==": strings.Repeat("00", 16), `"AQ=="`: `"01"`,
	} {
		text = bytes.ReplaceAll(text, []byte(from), []byte(to))
	}
	req, err := OTLPJSON(text, &limits.OTLPConfig{}, nil)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	same(t, plain(t, req), fullWant())

	none := map[string]string{}
	one := func(record string) string {
		return `{"resourceLogs":[{"scopeLogs":[{"logRecords":[` + record + `]}]}]}`
	}
	for _, c := range []struct {
		record, line string
		time         int64
		metadata     map[string]string
	}{
		{`{"timeUnixNano":5,"severityNumber":"SEVERITY_NUMBER_WARN2","unknown":{"a":[1]}}`, "", 5, map[string]string{"severity_number": "14"}},
		{`{"time_unix_nano":"6","severity_text":"x","body":{"string_value":"é\u00e9"}}`, "éé", 6, map[string]string{"severity_text": "x"}},
		{`{"timeUnixNano":"7","body":{"doubleValue":1e-9},"severityNumber":null,"flags":0}`, "1e-9", 7, none},
		{`{"timeUnixNano":"7","body":{"doubleValue":"NaN"}}`, "NaN", 7, none},
		{`{"timeUnixNano":"7","body":{"doubleValue":3.0}}`, "3", 7, none},
		{`{"timeUnixNano":"7","body":{"intValue":"-9223372036854775808"}}`, "-9223372036854775808", 7, none},
		{`{"timeUnixNano":"8","body":{"bytesValue":"_-8"}}`, "/+8=", 8, none},
		{`{"timeUnixNano":"8","body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"boolValue":false},{}]}}}]}}}`, `{"a":[false,null]}`, 8, none},
	} {
		req, err := OTLPJSON([]byte(one(c.record)), &limits.OTLPConfig{}, nil)
		if err != nil {
			t.Errorf("%s: %v", c.record, err)
			continue
		}
		same(t, plain(t, req), []stream{{Labels: `{service_name="unknown_service"}`, Rows: []row{{Time: c.time, Line: c.line, Metadata: c.metadata}}}})
	}
	for _, bad := range []string{
		``, `{`, `[]`, `{"resourceLogs":{}}`, `{"resourceLogs":[1]}`, `{} x`, `{"resourceLogs":[]`,
		one(`{"timeUnixNano":"-1"}`), one(`{"timeUnixNano":1.5}`), one(`{"traceId":"xyz"}`), one(`{"flags":4294967296}`),
		one(`{"severityNumber":"LOUD"}`), one(`{"body":"text"}`), one(`{"body":{"boolValue":"true"}}`), one(`{"body":{"bytesValue":"*"}}`),
		one(`{"body":` + strings.Repeat(`{"arrayValue":{"values":[`, 40) + strings.Repeat(`]}}`, 40) + `}`),
	} {
		if _, err := OTLPJSON([]byte(bad), &limits.OTLPConfig{}, nil); !rpcerr.Is(err, rpcerr.ParseError) && !rpcerr.Is(err, rpcerr.InvalidArgument) {
			t.Errorf("%.100s: %v", bad, err)
		}
	}
	for _, empty := range []string{`null`, `{}`, `{"resourceLogs":[]}`, `{"resourceLogs":null}`, `{"resourceLogs":[{"resource":{}}]}`} {
		if req, err := OTLPJSON([]byte(empty), &limits.OTLPConfig{}, nil); err != nil || len(req.GetStreams()) != 0 {
			t.Errorf("%s: %v %v", empty, req, err)
		}
	}
}

func TestOTLPBombs(t *testing.T) {
	message := func(num protowire.Number, m []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), m)
	}
	record := func(m []byte) []byte { return message(1, message(2, message(2, m))) }
	deep := message(anyString, []byte("x"))
	for range 64 {
		deep = message(anyArray, message(1, deep))
	}
	wide := &logs.ResourceLogs{Resource: &resource.Resource{}, ScopeLogs: []*logs.ScopeLogs{{}}}
	for range 1000 {
		wide.Resource.Attributes = append(wide.Resource.Attributes, kv(strings.Repeat("k", 10)+string(rune('a'+len(wide.Resource.Attributes)%26)), str(strings.Repeat("v", 1000))))
	}
	for range 2000 {
		wide.ScopeLogs[0].LogRecords = append(wide.ScopeLogs[0].LogRecords, &logs.LogRecord{})
	}
	for name, c := range map[string]struct {
		data   []byte
		reason rpcerr.Reason
	}{
		"deep":       {record(message(5, deep)), rpcerr.InvalidArgument},
		"long name":  {record(message(6, append(message(1, make([]byte, maxAttributeName+1)), message(2, message(anyString, []byte("v")))...))), rpcerr.InvalidArgument},
		"keys":       {record(message(5, message(anyMap, bytes.Repeat([]byte{0x0a, 0}, 1<<20)))), rpcerr.TooLarge},
		"nulls":      {record(message(5, message(anyArray, bytes.Repeat([]byte{0x0a, 0}, 4<<20)))), rpcerr.TooLarge},
		"escapes":    {record(message(5, message(anyArray, message(1, message(anyString, make([]byte, 4<<20)))))), rpcerr.TooLarge},
		"records":    {message(1, message(2, bytes.Repeat([]byte{0x12, 0}, 4<<20))), rpcerr.TooLarge},
		"resource":   {export(t, wide), rpcerr.TooLarge},
		"attributes": {message(1, message(1, bytes.Repeat(message(1, append(message(1, []byte("k")), message(2, message(anyString, []byte("v")))...)), 1<<20))), rpcerr.TooLarge},
	} {
		mem := NewMemory(64 << 20)
		res := mem.Reserve(16 << 20)
		n := allocated(func() {
			if _, err := OTLP(c.data, &limits.OTLPConfig{}, res); !rpcerr.Is(err, c.reason) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if n > 128<<20 {
			t.Errorf("%s: %d bytes were allocated for a bound of 16 MiB", name, n)
		}
		res.Release()
	}
	// JSON grows on its way.
	res := NewMemory(64 << 20).Reserve(4 << 20)
	if _, err := OTLPJSON([]byte(`{"resourceLogs":[`+strings.Repeat(`{},`, 1<<20)+`{}]}`), &limits.OTLPConfig{}, res); !rpcerr.Is(err, rpcerr.TooLarge) {
		t.Error(err)
	}
}

func TestOTLPBody(t *testing.T) {
	text := []byte(strings.Repeat("hello body ", 1000))
	zeros := make([]byte, 64<<20)
	packers := map[string]func([]byte) []byte{
		"":     func(b []byte) []byte { return b },
		"gzip": func(b []byte) []byte { return pack(t, "gzip", b) },
		"zstd": func(b []byte) []byte {
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			return w.EncodeAll(b, nil)
		},
		"lz4": func(b []byte) []byte {
			var out bytes.Buffer
			w := lz4.NewWriter(&out)
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		},
	}
	for encoding, packer := range packers {
		packed := packer(text)
		res := NewMemory(64 << 20).Reserve(64 << 20)
		got, err := OTLPBody(bytes.NewReader(packed), -1, encoding, sizes, res)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %v", encoding, err)
		}
		if res.used != int64(len(text)) {
			t.Errorf("%s: %d bytes are counted for %d", encoding, res.used, len(text))
		}
		if encoding == "" {
			continue
		}
		if _, err := OTLPBody(strings.NewReader("{}"), -1, encoding, sizes, nil); !rpcerr.Is(err, rpcerr.InvalidArgument) {
			t.Errorf("%s: %v", encoding, err)
		}
		if _, err := OTLPBody(bytes.NewReader(packed[:len(packed)/2]), -1, encoding, sizes, nil); !rpcerr.Is(err, rpcerr.InvalidArgument) {
			t.Errorf("%s, cut: %v", encoding, err)
		}
		bomb := packer(zeros)
		n := allocated(func() {
			if _, err := OTLPBody(bytes.NewReader(bomb), -1, encoding, sizes, nil); !rpcerr.Is(err, rpcerr.TooLarge) {
				t.Errorf("%s: %v", encoding, err)
			}
		})
		if n > 64<<20 {
			t.Errorf("%s: %d bytes were allocated for a limit of 4 MiB", encoding, n)
		}
	}
	for _, encoding := range []string{"nope", "deflate", "snappy"} {
		if _, err := OTLPBody(strings.NewReader("{}"), -1, encoding, sizes, nil); err == nil || !strings.Contains(err.Error(), "only gzip, lz4 and zstd are supported") {
			t.Errorf("%s: %v", encoding, err)
		}
	}
}

func FuzzOTLP(f *testing.F) {
	f.Add(export(f, full()))
	configs := []limits.OTLPConfig{{}, splitting(f)}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, cfg := range configs {
			req, err := OTLP(data, &cfg, NewMemory(64<<20).Reserve(64<<20))
			if err != nil {
				if !rpcerr.Is(err, rpcerr.InvalidArgument) && !rpcerr.Is(err, rpcerr.TooLarge) {
					t.Fatal(err)
				}
				continue
			}
			plain(t, req)
			// What the generated code takes, and it takes less, has as many records.
			var m collogs.ExportLogsServiceRequest
			if proto.Unmarshal(data, &m) != nil {
				continue
			}
			want, got := 0, 0
			for _, rl := range m.GetResourceLogs() {
				for _, sl := range rl.GetScopeLogs() {
					want += len(sl.GetLogRecords())
				}
			}
			for _, s := range req.GetStreams() {
				got += len(s.GetTimes())
			}
			if got != want {
				t.Fatalf("%d rows of %d records", got, want)
			}
		}
	})
}

func FuzzOTLPJSON(f *testing.F) {
	f.Add([]byte(`{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"x"}}]},"scopeLogs":[{"scope":{"name":"s"},"logRecords":[{"timeUnixNano":"5","body":{"kvlistValue":{"values":[{"key":"k","value":{"intValue":1}}]}},"traceId":"5b8efff798038103d269b633813fc60c"}]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := OTLPJSON(data, &limits.OTLPConfig{}, NewMemory(64<<20).Reserve(64<<20))
		if err != nil {
			if !rpcerr.Is(err, rpcerr.ParseError) && !rpcerr.Is(err, rpcerr.InvalidArgument) && !rpcerr.Is(err, rpcerr.TooLarge) {
				t.Fatal(err)
			}
			return
		}
		plain(t, req)
		if utf8.Valid(data) && !json.Valid(data) {
			t.Fatalf("not JSON: %q", data)
		}
	})
}

func FuzzValueText(f *testing.F) {
	b, err := proto.Marshal(kvs(kv("a", array(str("\xff\x01"[1:]), integer(-1), double(1e300))), kv("b", kvs())))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := readAny(data)
		if err != nil || (v.kind != anyArray && v.kind != anyMap) {
			return
		}
		w := &textWriter{}
		text, err := w.of(v, 0)
		if err == nil && !json.Valid(text) {
			t.Fatalf("%q", text)
		}
	})
}

func TestDoubles(t *testing.T) {
	for _, f := range []float64{0, 1, -1.5, 1e20, 1e21, 1e-6, 1e-7, 1.25e-10, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Copysign(0, -1)} {
		want, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendDouble(nil, f, true); !reflect.DeepEqual(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
