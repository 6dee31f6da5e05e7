package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/tests/harness"
)

// TestDemo: the demo starts, every command that it proposes works and has something
// to show, and it ends what it started.
func TestDemo(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("the demo is a script for bash, which is not installed")
	}
	dir := demoTree(t)
	demo := startDemo(t, dir, "")
	text := demo.Log()
	ran := 0
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if ok || !strings.HasPrefix(line, "  ") {
			continue
		}
		if strings.Contains(command, "curl ") {
			if _, err := exec.LookPath("curl"); err != nil {
				t.Logf("without curl: %s", command)
				continue
			}
		}
		tail := strings.Contains(command, "weirctl tail ")
		if tail {
			command += " --for 1s"
		}
		command = strings.ReplaceAll(command, "curl -s", "curl -fs")
		ran++
		// The shop has only begun, and so may have nothing yet to ask for.
		harness.Until(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, bash, "-euo", "pipefail", "-c", command)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil || len(out) == 0 && !tail && !strings.Contains(command, "weirctl push") {
				return fmt.Errorf("%s: %v, %q", command, err, out)
			}
			if strings.Contains(command, "query_range") && !strings.Contains(string(out), `"filename"`) {
				return fmt.Errorf("%s: no lines in %q", command, out)
			}
			return nil
		})
	}
	if ran < 5 {
		t.Errorf("the demo proposes %d commands:\n%s", ran, text)
	}
	demo.Interrupt()
	if code := demo.AwaitExit(); code != 130 {
		t.Errorf("the demo exits with status %d when interrupted", code)
	}
	gone(t, dir)
}

// TestDemoEnds: told to, the demo ends by itself.
func TestDemoEnds(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("the demo is a script for bash, which is not installed")
	}
	dir := demoTree(t)
	demo := startDemo(t, dir, "1")
	if code := demo.AwaitExit(); code != 0 || !strings.Contains(demo.Log(), "the demo ends") {
		t.Errorf("the demo exits with status %d", code)
	}
	gone(t, dir)
}

// demoTree returns a directory with what the demo needs of a built repository.
func demoTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"bin", "tools"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, pkg := range []string{"services/cmd/weir", "services/cmd/weirctl", "services/agent/cmd/weir-agent"} {
		copyFile(t, harness.Program(t, pkg), filepath.Join(dir, "bin", filepath.Base(pkg)))
	}
	for _, name := range []string{"demo.sh", "lib.sh"} {
		copyFile(t, filepath.Join(harness.Root(), "tools", name), filepath.Join(dir, "tools", name))
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if os.Link(from, to) == nil {
		return
	}
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// startDemo starts the demo and waits until it says that it is ready.
func startDemo(t *testing.T, dir, seconds string) *harness.Process {
	t.Helper()
	demo := harness.NewProcess(t, "demo")
	// Killed, it could not end what it started.
	t.Cleanup(func() {
		if demo.Running() {
			demo.Interrupt()
			demo.AwaitExit()
		}
	})
	demo.Start("/usr/bin/env", "DEMO_HTTP=0", "DEMO_GRPC=0", "DEMO_DIR="+filepath.Join(dir, "work"), "DEMO_FOR="+seconds,
		"bash", filepath.Join(dir, "tools", "demo.sh"))
	harness.Until(t, func() error {
		select {
		case <-demo.Exited():
			t.Fatal("the demo ended before it was ready")
		default:
		}
		if !strings.Contains(demo.Log(), "Ctrl-C ends it all") {
			return fmt.Errorf("the demo does not become ready: %s", demo.Log())
		}
		return nil
	})
	return demo
}

// gone checks that no process runs a program of a directory.
func gone(t *testing.T, dir string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && strings.HasPrefix(exe, dir+"/") {
			t.Errorf("%s still runs %s", link, exe)
		}
	}
}
