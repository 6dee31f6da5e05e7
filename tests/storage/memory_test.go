package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-logs/weir/tests/harness"
)

// TestMemory pushes loads of very different shapes to a process with the least memory
// that is allowed, lets it write, merge, upload and compact them, and asks: it stays
// within its budget.
func TestMemory(t *testing.T) {
	const limit = 512 << 20
	const line = 150 // bytes, about
	lines := number(t, "WEIR_MEMORY_BYTES", 3<<20) / line
	full := os.Getenv("WEIR_MEMORY_BYTES") != ""
	for _, x := range []struct {
		name             string
		tenants, streams int
	}{
		{"100 streams", 1, 100},
		{"100000 streams", 1, 100_000},
		{"1000 tenants", 1000, 2},
	} {
		if !full {
			x.streams = min(x.streams, 10_000)
			x.tenants = min(x.tenants, 200)
		}
		t.Run(x.name, func(t *testing.T) {
			limits := filepath.Join(t.TempDir(), "weir.yaml")
			if err := os.WriteFile(limits, []byte("limits:\n  max_streams: 200000\n  ingestion_rate: 1GB\n  ingestion_burst: 1GB\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			node := harness.Start(t, "--config="+limits, "--memory.limit=512MiB")
			s := shape{tenants: x.tenants, streams: x.streams, lines: lines, batch: 1000, begin: time.Now().Add(-2 * time.Hour).Truncate(time.Second)}
			if x.tenants > 1 {
				s.batch = max(10, min(1000, lines/x.tenants/4))
			}
			began := time.Now()
			bytes := s.push(t, node.Client())
			pushed := node.Peak()
			post(t, node, "/flush")
			flushed := node.Peak()
			post(t, node, "/compact")
			compacted := node.Peak()
			if n := s.count(t, node.Client(), "tenant-0000"); x.tenants == 1 && n != lines || n == 0 {
				t.Errorf("%d lines of %d are there", n, lines)
			}
			asked := node.Peak()
			mib := func(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
			t.Logf("%d lines, %s: peak %s after pushes, %s after the flush, %s after compaction, %s after a count of all; %s in all",
				lines, mib(bytes), mib(pushed), mib(flushed), mib(compacted), mib(asked), time.Since(began).Round(time.Second))
			if asked > limit {
				t.Errorf("%s resident, %s are allowed", mib(asked), mib(limit))
			}
		})
	}
}
