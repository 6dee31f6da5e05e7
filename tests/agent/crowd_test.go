package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-logs/weir/tests/harness"
)

// TestCrowd: ten times as many files as may be open grow and are renamed, and the agent is killed:
// all of their lines are there, once and in order.
func TestCrowd(t *testing.T) {
	r := newRig(t)
	r.raw = fmt.Sprintf(`
server: {address: "%s", min_backoff: 20ms, max_backoff: 500ms}
positions: {file: "%s"}
files:
  - {paths: ["%s/*.log"], labels: {app: numbers}}
batch: {max_wait: 50ms}
read: {poll_interval: 5ms, scan_interval: 100ms, rotate_grace: 100ms, max_open_files: 6}
listen: "%s"
`, r.server.GRPC, r.positions(), r.dir, r.listen)
	next := make([]int, 60)
	all := 0
	write := func(i, lines int) {
		f, err := os.OpenFile(filepath.Join(r.dir, fmt.Sprintf("f%d.log", i)), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range lines {
			if _, err := fmt.Fprintf(f, "%d %d\n", i, next[i]); err != nil {
				t.Fatal(err)
			}
			next[i]++
			all++
		}
	}
	for i := range next {
		write(i, 1)
	}
	r.start()
	for range 3 {
		r.await(all)
		harness.Until(t, func() error {
			if n := r.metric("weir_agent_open_files") + r.metric("weir_agent_resting_files"); int(n) < len(next) {
				return fmt.Errorf("%v files are followed", n)
			}
			if n := r.metric("weir_agent_open_files"); n > 6 {
				return errors.New("more are open than may be")
			}
			return nil
		})
		for k := range 300 {
			i := rand.IntN(len(next))
			if k%20 == 0 {
				name := filepath.Join(r.dir, fmt.Sprintf("f%d.log", i))
				if err := os.Rename(name, fmt.Sprintf("%s-%08d", name, all)); err != nil {
					t.Fatal(err)
				}
			}
			write(i, 1+rand.IntN(3))
		}
		r.agent.Kill()
		for i := range next {
			write(i, 1)
		}
		r.start()
	}
	r.await(all)
	got := make([]int, len(next))
	r.read(func(l string) {
		var i, n int
		if _, err := fmt.Sscanf(l, "%d %d", &i, &n); err != nil || n != got[i] {
			t.Errorf("file %d: %q, want %d", i, l, got[i])
		}
		got[i] = n + 1
	})
	for i := range next {
		if got[i] != next[i] {
			t.Errorf("file %d: %d lines, want %d", i, got[i], next[i])
		}
	}
	r.agent.Terminate()
}
