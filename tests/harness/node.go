package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/harness/ports"
)

// Patience is how long a condition may take to come true. It is long, because
// machines that run tests are busy; nothing waits longer than it has to.
const Patience = 2 * time.Minute

// Node is a server, mostly a process of its own, which may be started, ended and started again under the
// same addresses and with the same data. Not safe for concurrent use.
type Node struct {
	*Process
	Dir    string // its data directory
	HTTP   string // host:port
	GRPC   string
	Gossip string
	Args   []string // of the command line, beside addresses and directory

	Descriptors int // file descriptors that it may have open; 0: as many as this process

	netns, ip string  // see Network
	inside    *inside // see Cluster.InProcess; nil: it is a process
}

// New returns a node that is not started, with a data directory in dir, or a
// temporary one if dir is empty. See NewProcess for its log.
func New(t testing.TB, name, dir string, args ...string) *Node {
	t.Helper()
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "data")
	}
	return &Node{
		Process: NewProcess(t, name),
		Dir:     dir, HTTP: FreeAddr(t), GRPC: FreeAddr(t), Gossip: FreeAddr(t), Args: args,
	}
}

// Start starts an all-in-one process and waits until it is ready.
func Start(t testing.TB, args ...string) *Node {
	t.Helper()
	n := New(t, "all", "", args...)
	n.Start()
	n.AwaitReady()
	return n
}

// Start starts the server and does not wait for it.
func (n *Node) Start() {
	n.t.Helper()
	if n.inside != nil {
		n.startInside(n.arguments())
		return
	}
	command := append([]string{Binary(n.t)}, n.arguments()...)
	if n.Descriptors > 0 {
		command = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, n.Descriptors)}, command...)
	}
	if n.netns != "" {
		command = slices.Concat([]string{"ip", "netns", "exec", n.netns}, command)
	}
	n.Process.Start(command[0], command[1:]...)
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
			return fmt.Errorf("%s ended while it was started: %v\n%s", n.Name, n.ended(), n.tail(20))
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
	c := http.Client{Timeout: 30 * time.Second}
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

// FreeAddr returns a loopback address that is this process' own. See ports.Free.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return ports.Free(t)
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
