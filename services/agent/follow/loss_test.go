package follow

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What was seen, not read and is in no copy is counted as lost by a truncation.
func TestTruncatedLoss(t *testing.T) {
	for _, c := range []struct{ copied, lost int }{{0, 90}, {60, 40}, {100, 0}} {
		path := filepath.Join(t.TempDir(), "app.log")
		data := strings.Repeat("123456789\n", 10)
		write := func(name, text string) {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(path, data)
		reg := prometheus.NewRegistry()
		fw := New(quick(path), newRecorder(), nil, nil, NewMetrics(reg))
		f := fw.open(path, path, fw.groups[0])
		f.pos.Offset, f.seen = 10, 100
		f.head, f.tail = []byte(data[:10]), []byte(data[:10])
		fw.add(f)
		if c.copied > 0 {
			write(path+".1", data[:c.copied])
		}
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		fw.stat(f)
		fw.truncated(f, time.Now())
		all, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if v := m.GetMetric()[0].GetCounter().GetValue(); m.GetName() == "weir_agent_truncated_unread_bytes_total" && int(v) != c.lost {
				t.Errorf("copy of %d: %v bytes lost, want %d", c.copied, v, c.lost)
			}
		}
		for _, o := range fw.order {
			_ = o.f.Close()
		}
	}
}
