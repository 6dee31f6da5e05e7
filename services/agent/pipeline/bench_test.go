package pipeline

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-logs/weir/services/agent/entry"
)

// BenchmarkPipelines runs stages over samples of real logs, each line in the
// format of Kubernetes' engines, in batches of 1000.
func BenchmarkPipelines(b *testing.B) {
	for _, c := range []struct{ name, sample, stages string }{
		{"cri-json-labels", "drone.log", `[cri, {json: [level, method, status]}, {labels: [level]}]`},
		{"cri-logfmt-labels", "distributor.log", `[cri, {logfmt: [level, component]}, {labels: [level]}]`},
		{"cri-regex-labels", "apache.log", `[cri, {regex: '\[(?P<level>\w+)\] '}, {labels: [level]}]`},
		{"cri-pattern-labels", "access.log", `[cri, {pattern: '<ip> <_> <_> [<_>] "<method> <_>'}, {labels: [method]}]`},
		{"cri-multiline", "hadoop.log", `[cri, {multiline: '^\d{4}-'}]`},
		{"cri-redact", "openssh.log", `[cri, redact]`},
	} {
		b.Run(c.name, func(b *testing.B) {
			data, err := os.ReadFile(filepath.Join("../../../../shared/corpus/samples", c.sample))
			if err != nil {
				b.Skip(err)
			}
			lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
			set := entry.SetOf(map[string]string{"app": "x", "filename": "/var/log/pods/a_b_c/d/0.log"})
			var batch []entry.Entry
			size := 0
			for i := range 1000 {
				l := append([]byte("2026-01-02T15:04:05.999999999Z stdout F "), lines[i%len(lines)]...)
				size += len(l)
				batch = append(batch, entry.Entry{Labels: set, Line: l})
			}
			r := compile(b, c.stages, Deps{Metrics: NewMetrics(nil)}).NewRunner()
			in := make([]entry.Entry, len(batch))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				copy(in, batch)
				if _, err := r.Run(context.Background(), in, t0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
