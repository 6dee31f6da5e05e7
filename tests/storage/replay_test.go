package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/tests/harness"
)

// TestReplayInLittleMemory fills the log of a process that may use much memory and kills it.
// Started again with the least that is allowed it reads the log within that, whatever its
// size, and has everything. With WEIR_MEMORY_BYTES the log is larger than that memory.
func TestReplayInLittleMemory(t *testing.T) {
	const limit = 512 << 20
	config := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(config, []byte("limits:\n  ingestion_rate: 1GB\n  ingestion_burst: 1GB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := harness.Start(t, "--config="+config, "--memory.limit=8GiB", "--ingester.cut-size=4GiB", "--ingester.cut-interval=2h")
	s := shape{tenants: 1, streams: 100, lines: number(t, "WEIR_MEMORY_BYTES", 15e6) / 150, batch: 2000, runs: 20,
		begin: time.Now().Add(-3 * time.Hour).Truncate(time.Second)}
	bytes := s.push(t, node.Client())
	log := node.Metric("weir_wal_size_bytes")
	node.Kill()
	for i, arg := range node.Args {
		if strings.HasPrefix(arg, "--memory.limit=") {
			node.Args[i] = "--memory.limit=512MiB"
		}
	}
	node.Start()
	node.AwaitReady()
	replayed := node.Peak()
	if n := s.count(t, node.Client(), "tenant-0000"); n != s.lines {
		t.Errorf("%d lines of %d are there", n, s.lines)
	}
	t.Logf("%d lines, %d MB, %.0f MB in the log: %d MB resident once it was read, %d MB after a count of all", s.lines, bytes/1e6, log/1e6, replayed/1e6, node.Peak()/1e6)
	if node.Peak() > limit {
		t.Errorf("%d MiB resident", node.Peak()>>20)
	}
}
