package clients

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/harness/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverBinary is the server to test: $WEIR, or bin/weir of this repository.
func serverBinary(t *testing.T) string {
	path := os.Getenv("WEIR")
	if path == "" {
		_, self, _, _ := runtime.Caller(0)
		path = filepath.Join(filepath.Dir(self), "../../bin/weir")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("there is no server to talk to: %v (make build makes it, or WEIR names one)", err)
	}
	return path
}

// startServer starts a server with an empty data directory and returns its addresses
// when it answers.
func startServer(t *testing.T) (grpcAddr, httpAddr string) {
	t.Helper()
	binary := serverBinary(t)
	addrs := [2]string{ports.Free(t), ports.Free(t)}
	log := &strings.Builder{}
	cmd := exec.Command(binary, "--target=all", "--data-dir="+t.TempDir(), "--listen="+addrs[0], "--grpc-listen="+addrs[1])
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	var exit error
	go func() { defer close(exited); exit = cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have exited
		select {
		case <-exited:
		case <-time.After(time.Minute):
			cmd.Process.Kill() //nolint:errcheck // it may have exited
			<-exited
			t.Error("the server did not stop within a minute of SIGTERM")
		}
		if t.Failed() {
			t.Logf("the server ended with %v and wrote\n%s", exit, log)
		}
	})

	c, err := client.Dial(addrs[1])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, err := c.FormatQuery(ctx, `{app="x"}`)
		if err == nil {
			return addrs[1], addrs[0]
		}
		var e *client.Error
		if !errors.As(err, &e) || !e.Temporary() || ctx.Err() != nil {
			t.Fatalf("the server does not answer: %v", err)
		}
		select {
		case <-exited:
			t.Fatalf("the server ended: %v", exit)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestExamples runs each example client whose runtime is there. The clients
// check their answers themselves.
func TestExamples(t *testing.T) {
	examples := []struct {
		name string
		// ready returns why the client cannot run here, or "".
		ready func() string
		args  []string
	}{
		{"python", func() string {
			if out, err := exec.Command("/usr/bin/python3", "-c", "import grpc, grpc_tools").CombinedOutput(); err != nil {
				return "Debian's python3-grpcio and python3-grpc-tools are not there: " + lastLine(out, err)
			}
			return ""
		}, []string{"/usr/bin/python3", "python/client.py"}},
		{"node", func() string {
			if _, err := exec.LookPath("node"); err != nil {
				return err.Error()
			}
			if _, err := os.Stat("node/node_modules/@grpc/grpc-js"); err != nil {
				return "its packages are not installed (npm install in tests/clients/node)"
			}
			return ""
		}, []string{"node", "node/client.js"}},
	}
	addr := "" // of a server that all share, started for the first that can run
	for _, e := range examples {
		why := e.ready()
		if why == "" && addr == "" {
			addr, _ = startServer(t)
		}
		t.Run(e.name, func(t *testing.T) {
			if why != "" {
				t.Skip(why)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, e.args[0], append(e.args[1:], addr)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// lastLine is the end of what a failed program wrote.
func lastLine(out []byte, err error) string {
	text := strings.TrimSpace(string(out))
	if text == "" {
		return err.Error()
	}
	return text[strings.LastIndexByte(text, '\n')+1:]
}
