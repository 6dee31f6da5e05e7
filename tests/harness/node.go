package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-logs/weir/libs/client"
)

// Patience is how long a condition may take to come true. It is long, because
// machines that run tests are busy; nothing waits longer than it has to.
const Patience = time.Minute

// Node is a server process, which may be started, ended and started again under the
// same addresses and with the same data. Not safe for concurrent use.
type Node struct {
	Name   string
	Dir    string // its data directory
	HTTP   string // host:port
	GRPC   string
	Gossip string
	Args   []string // of the command line, beside addresses and directory

	t       testing.TB
	logPath string
	cmd     *exec.Cmd
	exited  chan struct{}
	stopped bool // by SIGSTOP
}

// New returns a node that is not started, with a data directory in dir, or a
// temporary one if dir is empty. The end of its log is shown if the test fails; all of
// it is kept in the directory WEIR_TEST_LOGS, if that is set.
func New(t testing.TB, name, dir string, args ...string) *Node {
	t.Helper()
	scratch := t.TempDir()
	if dir == "" {
		dir = filepath.Join(scratch, "data")
	}
	n := &Node{
		Name: name, Dir: dir, HTTP: FreeAddr(t), GRPC: FreeAddr(t), Gossip: FreeAddr(t), Args: args,
		t: t, logPath: filepath.Join(scratch, name+".log"),
	}
	t.Cleanup(func() {
		n.Kill()
		if keep := os.Getenv("WEIR_TEST_LOGS"); keep != "" {
			path := filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "-")+"-"+name+".log")
			if err := os.WriteFile(path, []byte(n.Log()), 0o644); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, n.tail(60))
		}
	})
	return n
}

// Start starts an all-in-one process and waits until it is ready.
func Start(t testing.TB, args ...string) *Node {
	t.Helper()
	n := New(t, "all", "", args...)
	n.Start()
	n.AwaitReady()
	return n
}

// Start starts the process and does not wait for it.
func (n *Node) Start() {
	n.t.Helper()
	if n.cmd != nil {
		n.t.Fatalf("%s runs already", n.Name)
	}
	log, err := os.OpenFile(n.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	args := slices.Concat([]string{
		"--data-dir=" + n.Dir, "--listen=" + n.HTTP, "--grpc-listen=" + n.GRPC, "--gossip-listen=" + n.Gossip,
	}, n.Args)
	cmd := exec.Command(Binary(n.t), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "WEIR") })
	// It must not outlive a test that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startLocked(cmd); err != nil {
		n.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it returns is in ProcessState
		close(exited)
	}()
	n.cmd, n.exited = cmd, exited
}

// PID is the process' id.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Kill ends the process at once with SIGKILL and waits until it is gone. Killing a
// process that does not run does nothing.
func (n *Node) Kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill() // it may have ended by itself
	<-n.exited
	n.cmd, n.stopped = nil, false
}

// Terminate ends the process with SIGTERM; it must exit with status 0.
func (n *Node) Terminate() {
	n.t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	if code := n.AwaitExit(); code != 0 {
		n.t.Fatalf("%s exits with status %d after SIGTERM", n.Name, code)
	}
}

// AwaitExit waits until the process has ended by itself and returns its status.
func (n *Node) AwaitExit() int {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(Patience):
		n.t.Fatalf("%s does not end", n.Name)
	}
	code := n.cmd.ProcessState.ExitCode()
	n.cmd, n.stopped = nil, false
	return code
}

// Exited is closed when the process has ended.
func (n *Node) Exited() <-chan struct{} { return n.exited }

// Freeze stops the process with SIGSTOP; its connections stay open.
func (n *Node) Freeze() { n.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (n *Node) Thaw() { n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// AwaitReady waits until /ready answers 200.
func (n *Node) AwaitReady() {
	n.t.Helper()
	if err := n.tryReady(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *Node) tryReady() error {
	var last string
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-n.exited:
			return fmt.Errorf("%s ended with status %d while it was started:\n%s", n.Name, n.cmd.ProcessState.ExitCode(), n.tail(20))
		default:
		}
		code, body, err := n.Get("/ready")
		if err == nil && code == http.StatusOK {
			return nil
		}
		last = fmt.Sprint(code, " ", strings.TrimSpace(body), " ", err)
	}
	return fmt.Errorf("%s does not become ready: %s", n.Name, last)
}

// Get returns the answer to a GET request.
func (n *Node) Get(path string) (int, string, error) {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get("http://" + n.HTTP + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp.StatusCode, string(body), err
}

// Metric returns the sum of all series of a metric whose line has all of the given
// parts.
func (n *Node) Metric(name string, parts ...string) float64 {
	n.t.Helper()
	_, body, err := n.Get("/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	sum := 0.0
lines:
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			n.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// RSS returns the memory that the process has resident, in bytes.
func (n *Node) RSS() int64 { return n.statusBytes("VmRSS:") }

// ResetPeak makes Peak start again from the present.
func (n *Node) ResetPeak() {
	n.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.PID()), []byte("5"), 0o200); err != nil {
		n.t.Fatal(err)
	}
}

// Peak returns the most memory that the process had resident, in bytes.
func (n *Node) Peak() int64 { return n.statusBytes("VmHWM:") }

func (n *Node) statusBytes(key string) int64 {
	n.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return kib << 10
		}
	}
	n.t.Fatalf("/proc/%d/status has no %s", n.PID(), key)
	return 0
}

// Log returns all that the process and its predecessors have logged.
func (n *Node) Log() string {
	b, err := os.ReadFile(n.logPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.t.Error(err)
	}
	return string(b)
}

func (n *Node) tail(lines int) string {
	all := bytes.SplitAfter([]byte(n.Log()), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], nil))
}

// DialOptions make connections that come back quickly after a restart.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
	}
}

// Client returns a client of the process' gRPC port.
func (n *Node) Client() *client.Client {
	n.t.Helper()
	c, err := client.Dial(n.GRPC, client.WithInsecure(), client.WithDialOptions(DialOptions()...),
		client.WithBackoff(client.Backoff{Min: 20 * time.Millisecond, Max: 200 * time.Millisecond}))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Context returns a context that ends with the test, or after Patience.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// FreeAddr returns a loopback address whose port is free. Ports are below those that
// the system gives to outgoing connections, so that it stays free.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", addr)
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = u.Close()
		return addr
	}
	t.Fatal("no port is free")
	return ""
}

// Until waits until cond returns nil.
func Until(t testing.TB, cond func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = cond(); err == nil {
			return
		}
	}
	t.Fatalf("after %s: %v", Patience, err)
}
