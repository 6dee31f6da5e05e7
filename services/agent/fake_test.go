package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/services/agent/config"
)

// childEnv makes the test binary an agent with the configuration in the file that
// it names, so that a test can kill it.
const childEnv = "WEIR_AGENT_TEST_CONFIG"

// patience is how long tests wait for what is to come: long on a machine that has other work.
const patience = time.Minute

func TestMain(m *testing.M) {
	if file := os.Getenv(childEnv); file != "" {
		if err := runChild(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func runChild(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	cfg, ps := config.Load(data, config.Options{})
	if err := ps.Err(); err != nil {
		return err
	}
	a, err := Open(cfg, Deps{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	return a.Run(context.Background()) // until it is killed
}

// stored is what a server stores of one.
type stored struct {
	stream string // the value of the label filename, its base only
	line   string
	t      int64
	batch  int64
	pos    int
}

// server is a push service that stores a set of entries, as the real one does,
// and fails as it is told.
type server struct {
	pushv1.UnimplementedPushServiceServer
	addr string

	mu      sync.Mutex
	entries map[string]stored // by identity
	again   int               // entries that were there already
	labels  map[string]map[string]string
	pushes  int
	// before and after may fail a push, before or after it is stored.
	before, after func(n int, req *pushv1.PushRequest) error
	refuse        func(line string) bool
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{entries: map[string]stored{}, labels: map[string]map[string]string{}}
	s.serve(t, "127.0.0.1:0")
	return s
}

// serve begins to listen; it returns how to end it.
func (s *server) serve(t *testing.T, addr string) (stop func()) {
	t.Helper()
	lis, err := net.Listen("tcp", addr)
	for deadline := time.Now().Add(patience); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		lis, err = net.Listen("tcp", addr) // some client was given the port of a server that is away
	}
	if err != nil {
		t.Fatal(err)
	}
	s.addr = lis.Addr().String()
	srv := grpc.NewServer()
	pushv1.RegisterPushServiceServer(srv, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	var once sync.Once
	stop = func() { once.Do(func() { srv.Stop(); <-done }) }
	t.Cleanup(stop)
	return stop
}

func (s *server) Push(_ context.Context, req *pushv1.PushRequest) (*pushv1.PushResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushes++
	if s.before != nil {
		if err := s.before(s.pushes, req); err != nil {
			return nil, err
		}
	}
	resp := &pushv1.PushResponse{}
	pos := 0
	for i, st := range req.GetStreams() {
		name := filepath.Base(st.GetLabels()["filename"])
		s.labels[name] = st.GetLabels()
		for j, e := range st.GetEntries() {
			pos++
			line := e.GetText() + string(e.GetRaw())
			if s.refuse != nil && s.refuse(line) {
				resp.RejectedEntries++
				resp.Rejections = append(resp.Rejections, &pushv1.Rejection{
					Stream: uint32(i), Entry: uint32(j), Count: 1,
					Reason: pushv1.RejectReason_REJECT_REASON_LINE_TOO_LONG, Message: "no",
				})
				continue
			}
			resp.AcceptedEntries++
			id := fmt.Sprintf("%v|%d|%s", st.GetLabels(), e.GetTimestampUnixNano(), line)
			if _, ok := s.entries[id]; ok {
				s.again++
				continue
			}
			s.entries[id] = stored{name, line, e.GetTimestampUnixNano(), req.GetBatchTimeUnixNano(), pos}
		}
	}
	if s.after != nil {
		if err := s.after(s.pushes, req); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// lines gives what is stored of a stream, in the server's order.
func (s *server) lines(stream string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []stored
	for _, e := range s.entries {
		if e.stream == stream {
			all = append(all, e)
		}
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if a.t != b.t {
			return a.t < b.t
		}
		return a.batch < b.batch || a.batch == b.batch && a.pos < b.pos
	})
	out := make([]string, len(all))
	for i, e := range all {
		out[i] = e.line
	}
	return out
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

func (s *server) failing(before, after func(n int, req *pushv1.PushRequest) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

// flaky fails one push of three, half of them after they were stored.
func (s *server) flaky() {
	fail := func(int, *pushv1.PushRequest) error {
		if rand.IntN(6) == 0 {
			return status.Error(codes.Unavailable, "flaky")
		}
		return nil
	}
	s.failing(fail, fail)
}

// await waits until n entries are stored.
func (s *server) await(t *testing.T, n int) {
	t.Helper()
	last, since := -1, time.Now()
	for {
		c := s.count()
		if c >= n {
			return
		}
		if c != last {
			last, since = c, time.Now()
		}
		if time.Since(since) > patience {
			t.Fatalf("%d entries, want %d; nothing has come for %s", c, n, patience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// checkNumbered checks that a stream has the lines `i padding` for i from 0 to
// n-1, each once, in order.
func (s *server) checkNumbered(t *testing.T, stream string, n int) {
	t.Helper()
	got := s.lines(stream)
	seen := map[int]int{}
	prev, disorder := -1, 0
	for _, l := range got {
		num, _, _ := strings.Cut(l, " ")
		i, err := strconv.Atoi(num)
		if err != nil || l != numbered(i) {
			t.Fatalf("%s: not a line that was written: %q", stream, l)
		}
		if seen[i]++; i < prev {
			if disorder++; disorder < 4 {
				t.Logf("line %d comes after %d", i, prev)
			}
		}
		prev = i
	}
	lost, doubled := 0, 0
	for i := range n {
		switch {
		case seen[i] == 0:
			if lost++; lost < 4 {
				t.Logf("lost line %d", i)
			}
		case seen[i] > 1:
			doubled++
		}
	}
	if lost+doubled+disorder > 0 || len(got) != n {
		t.Errorf("%s: %d lines of %d, %d lost, %d doubled, %d out of order", stream, len(got), n, lost, doubled, disorder)
	}
}

// numbered is a line of a length that varies.
func numbered(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", i*7%90)) }

// quickConfig follows patterns in dir and is in a hurry.
func quickConfig(s *server, dir string, patterns ...string) Config {
	cfg := DefaultConfig()
	cfg.Server.Address, cfg.Listen = s.addr, ""
	cfg.Server.MinBackoff, cfg.Server.MaxBackoff = time.Millisecond, 20*time.Millisecond
	cfg.Positions.File = filepath.Join(dir, "state", "positions")
	cfg.Positions.SaveInterval = 50 * time.Millisecond
	cfg.Batch.MaxBytes, cfg.Batch.MaxWait = 64<<10, 20*time.Millisecond
	cfg.Read.PollInterval, cfg.Read.ScanInterval = 2*time.Millisecond, 100*time.Millisecond
	cfg.Read.RotateGrace, cfg.Read.PartialWait = 300*time.Millisecond, 100*time.Millisecond
	for i, p := range patterns {
		patterns[i] = filepath.Join(dir, p)
	}
	cfg.Files = []FilesConfig{{Paths: patterns, Labels: map[string]string{"app": "test"}}}
	return cfg
}

// running starts an agent; stop ends it as SIGTERM does.
func running(t *testing.T, cfg Config) (a *Agent, stop func()) {
	t.Helper()
	return runningFull(t, cfg.Full())
}

func runningFull(t *testing.T, cfg *config.Config) (a *Agent, stop func()) {
	t.Helper()
	a, err := Open(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return a, stop
}

func appendTo(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// writer writes numbered lines at a rate, about, and replaces its file by
// renaming it every so often (0: never). It stops by itself after a time.
type writer struct {
	path   string
	rate   int
	rotate time.Duration
}

func (w writer) run(d time.Duration) (n int, err error) {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return 0, err
	}
	const step = 5 * time.Millisecond
	begin, rotated, gen := time.Now(), time.Now(), 0
	for now := begin; now.Sub(begin) < d; now = time.Now() {
		// One write a line, as loggers do.
		for due := int(now.Sub(begin).Seconds() * float64(w.rate)); n < due; n++ {
			if _, err := f.WriteString(numbered(n) + "\n"); err != nil {
				return n, err
			}
		}
		if w.rotate > 0 && now.Sub(rotated) >= w.rotate {
			gen++
			rotated = now
			if err := os.Rename(w.path, fmt.Sprintf("%s.%d", w.path, gen)); err != nil {
				return n, err
			}
			// The old file is written to a little longer.
			for range 3 {
				if _, err := f.WriteString(numbered(n) + "\n"); err != nil {
					return n, err
				}
				n++
			}
			if err := f.Close(); err != nil {
				return n, err
			}
			if f, err = os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
				return n, err
			}
		}
		time.Sleep(step)
	}
	return n, f.Close()
}
