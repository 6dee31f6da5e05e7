package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// canary runs weirctl canary, and returns its report and exit code.
func canary(t *testing.T, node *harness.Node, while func(), args ...string) (r checker.Report, code int) {
	t.Helper()
	cmd := exec.Command(harness.Program(t, "services/cmd/weirctl"),
		append([]string{"canary", "--addr=" + node.GRPC, "--rate=200", "--every=1s", "--window=1m", "-o=json"}, args...)...)
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // where the test ends before it does
	while()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its code tells
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatalf("%v: %q, %s", err, out.String(), stderr.String())
	}
	return r, cmd.ProcessState.ExitCode()
}

// TestCanary lets a canary look at a server that is killed and keeps its promises, goes
// on with its journal, and then at one that loses its data directory.
func TestCanary(t *testing.T) {
	t.Parallel()
	node := harness.Start(t)
	journal, listen := filepath.Join(t.TempDir(), "journal"), harness.FreeAddr(t)
	looked := func(metric string, n float64) {
		t.Helper()
		harness.Until(t, func() error {
			resp, err := http.Get("http://" + listen + "/metrics")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(b)) {
				var got float64
				if rest, ok := strings.CutPrefix(line, metric+" "); ok {
					if _, err := fmt.Sscan(rest, &got); err == nil && got >= n {
						return nil
					}
				}
			}
			return fmt.Errorf("%s is not %v yet", metric, n)
		})
	}
	args := []string{"--journal=" + journal, "--metrics-listen=" + listen}
	r, code := canary(t, node, func() {
		looked("weir_canary_checked_entries_total", 50)
		node.Kill()
		node.Start()
		node.AwaitReady()
		looked("weir_canary_checked_entries_total", 500)
		looked("weir_canary_tailed_entries_total", 1)
	}, args...)
	if code != 0 || r.Err() != nil || r.Acked < 500 || r.StoredRequests == 0 || r.Tailed == 0 {
		t.Errorf("exit code %d: %+v", code, r)
	}
	t.Logf("after a kill: %s; %d entries by tail", r.Verdict, r.Tailed)

	// What the run before has written is looked for, and not there.
	node.Kill()
	if err := os.RemoveAll(node.Dir); err != nil {
		t.Fatal(err)
	}
	node.Start()
	node.AwaitReady()
	r, code = canary(t, node, func() { looked(`weir_canary_broken_total{promise="lost"}`, 1) }, append(args, "--timeout=1s")...)
	if code != 1 || r.Lost == 0 || len(r.Examples) == 0 {
		t.Errorf("all is lost, and the exit code is %d: %+v", code, r)
	}
	t.Logf("after the loss of all: %s", r.Verdict)
}
