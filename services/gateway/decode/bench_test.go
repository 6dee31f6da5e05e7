package decode

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
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
	run("json", []byte(text.String()), func(d []byte) error { _, err := LokiJSON(d, nil); return err })
}
