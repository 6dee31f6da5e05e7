package pipeline

import (
	"context"
	"testing"
	"time"

	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/entry"
)

func TestSmoke(t *testing.T) {
	var ps node.Problems
	root := node.Parse([]byte(`
- cri: {}
- json: {expressions: {level: level, msg: m.x}}
- labels: {level: }
- output: {source: msg}
`), &ps)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	_ = root
}
func BenchmarkCRI(b *testing.B) {
	var ps node.Problems
	root := node.Parse([]byte("s:\n- cri: {}\n- json: {expressions: {level: level}}\n- labels: {level: }\n"), &ps)
	p := Compile(root.Content[1], "s", Deps{}, &ps)
	if len(ps) > 0 {
		b.Fatal(ps)
	}
	line := []byte(`2026-01-02T15:04:05.999999999Z stdout F {"ts":"2026-01-02T15:04:05.99Z","level":"info","caller":"metrics.go:123","msg":"query done","duration":0.123,"status":200,"user":{"id":17,"name":"jo"}}`)
	set := entry.SetOf(map[string]string{"app": "x", "filename": "/var/log/pods/a/b/0.log"})
	in := make([]entry.Entry, 1000)
	r := p.NewRunner()
	b.SetBytes(int64(len(line)) * 1000)
	b.ReportAllocs()
	for b.Loop() {
		for i := range in {
			in[i] = entry.Entry{Labels: set, Line: line}
		}
		out, err := r.Run(context.Background(), in, time.Time{})
		if err != nil || len(out) != 1000 || out[0].Labels.Labels().Get("level") != "info" {
			b.Fatal(out[0], err)
		}
	}
}
