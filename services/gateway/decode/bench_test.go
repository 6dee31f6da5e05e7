package decode

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/limits"
)

// Requests of 10,000 lines of about 150 bytes in ten streams, each line with two
// pairs of metadata.
func BenchmarkDecode(b *testing.B) {
	m := &pushv1.PushRequest{}
	var loki []stream
	var text strings.Builder
	text.WriteString(`{"streams":[`)
	for s := range 10 {
		in := &pushv1.Stream{Labels: map[string]string{"app": strconv.Itoa(s)}}
		st := stream{Labels: labelText(nil)}
		fmt.Fprintf(&text, `%s{"stream":{"app":"%d"},"values":[`, strings.Repeat(",", min(s, 1)), s)
		for i := range 1000 {
			line := fmt.Sprintf("ts=2026-11-20T10:29:57.716Z level=info msg=\"request served\" method=GET path=/item/%d status=200 duration=178.5ms bytes=27734 remote=10.4.3.244", i)
			md := map[string]string{"trace_id": fmt.Sprintf("%032x", i), "user": "erin"}
			in.Entries = append(in.Entries, &pushv1.Entry{TimestampUnixNano: int64(i), Line: &pushv1.Entry_Text{Text: line}, StructuredMetadata: md})
			st.Rows = append(st.Rows, row{Time: int64(i), Line: line, Metadata: md})
			fmt.Fprintf(&text, `%s["%d",%q,{"trace_id":"%032x","user":"erin"}]`, strings.Repeat(",", min(i, 1)), i, line, i)
		}
		text.WriteString("]}")
		m.Streams, loki = append(m.Streams, in), append(loki, st)
	}
	text.WriteString("]}")
	wire, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	var records []*logs.LogRecord
	for i := range 10_000 {
		e := m.Streams[i/1000].Entries[i%1000]
		records = append(records, &logs.LogRecord{
			TimeUnixNano: uint64(i) + 1, SeverityNumber: 9, SeverityText: "INFO", Body: str(e.GetText()),
			Attributes: []*common.KeyValue{kv("user", str("erin"))}, TraceId: fmt.Appendf(nil, "%016x", i),
		})
	}
	otlp := export(b, &logs.ResourceLogs{
		Resource:  &resource.Resource{Attributes: []*common.KeyValue{kv("service.name", str("shop")), kv("host.name", str("h1"))}},
		ScopeLogs: []*logs.ScopeLogs{{LogRecords: records}},
	})
	run := func(name string, data []byte, f func([]byte) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := f(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("push", wire, func(d []byte) error { _, err := Push(d, nil); return err })
	run("generated", wire, func(d []byte) error { return proto.Unmarshal(d, &pushv1.PushRequest{}) })
	run("loki", lokiWire(loki), func(d []byte) error { _, err := Loki(d, nil); return err })
	run("otlp", otlp, func(d []byte) error { _, err := OTLP(d, &limits.OTLPConfig{}, nil); return err })
	run("otlp-generated", otlp, func(d []byte) error { return proto.Unmarshal(d, &collogs.ExportLogsServiceRequest{}) })
	run("json", []byte(text.String()), func(d []byte) error { _, err := LokiJSON(d, nil); return err })
}
