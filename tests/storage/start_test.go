package storage

import (
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/tests/harness"
)

// TestStart stores many lines, kills the process, and starts it again: it is ready, and
// has answered its first query, soon. With WEIR_LINES (the promise is for 10,000,000)
// "soon" is 2 s and 1 s.
func TestStart(t *testing.T) {
	s := shape{tenants: 1, streams: 100, lines: number(t, "WEIR_LINES", 100_000), batch: 2000, runs: 20,
		begin: time.Now().Add(-3 * time.Hour).Truncate(time.Second)}
	path := t.TempDir() + "/weir.yaml"
	if err := os.WriteFile(path, []byte("limits:\n  ingestion_rate: 1GB\n  ingestion_burst: 1GB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := harness.Start(t, "--config="+path)
	began := time.Now()
	bytes := s.push(t, node.Client())
	pushed := time.Since(began)
	// What is in memory stays there: it is read from the log again.
	log := node.Metric("weir_wal_size_bytes")
	if len(os.Getenv("WEIR_LINES")) > 0 {
		t.Logf("%d lines, %d MB, pushed in %s; %.0f MB in the log, %.0f local blocks of %.0f MB", s.lines, bytes/1e6, pushed.Round(time.Second),
			log/1e6, node.Metric("weir_ingester_local_blocks"), node.Metric("weir_ingester_local_bytes")/1e6)
	}
	for _, what := range []string{"with rows in the log", "with all in the store"} {
		if what == "with all in the store" {
			post(t, node, "/flush")
		}
		node.Kill()
		c := node.Client()
		began := time.Now()
		node.Start()
		node.AwaitReady()
		ready := time.Since(began)
		asked := time.Now()
		// A page of the middle, for which blocks are opened.
		middle := s.begin.Add(time.Duration(s.lines/2) * step)
		resp, err := c.QueryRange(tenant(t, "tenant-0000"), &queryv1.QueryRangeRequest{Query: `{service_name="shop-7"} |= "status=500"`, Limit: 100,
			Start: timestamppb.New(middle.Add(-time.Second)), End: timestamppb.New(middle.Add(time.Second))})
		if err != nil {
			t.Fatal(err)
		}
		first := time.Since(asked)
		if len(resp.GetStreams().GetStreams()) == 0 {
			t.Errorf("%s: nothing is found", what)
		}
		counted := time.Now()
		if n := s.count(t, c, "tenant-0000"); n != s.lines {
			t.Errorf("%s: %d lines of %d are there", what, n, s.lines)
		}
		t.Logf("%s: ready after %s, the first query took %s, a count of all %s", what, ready.Round(time.Millisecond), first.Round(time.Millisecond),
			time.Since(counted).Round(time.Millisecond))
		if os.Getenv("WEIR_LINES") != "" && (ready > 2*time.Second || first > time.Second) {
			t.Errorf("%s: that is too slow", what)
		}
	}
}
