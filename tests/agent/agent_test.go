package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/services/agent/positions"
	"github.com/weir-logs/weir/tests/harness"

	// What the other programs are made of, so that a change to them makes cached
	// results stale.
	_ "github.com/weir-logs/weir/services/agent"
)

// rig is a server and an agent that follows app.log in a directory.
type rig struct {
	t      *testing.T
	dir    string // where the followed file is
	state  string // where positions and queue are
	server *harness.Node
	client *client.Client
	agent  *harness.Process
	listen string
	raw    string // configuration instead of the common one
	began  time.Time
}

func newRig(t *testing.T, serverArgs ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), state: t.TempDir(), began: time.Now(), listen: harness.FreeAddr(t)}
	r.server = harness.Start(t, serverArgs...)
	r.client = r.server.Client()
	r.agent = harness.NewProcess(t, "agent")
	return r
}

func (r *rig) positions() string { return filepath.Join(r.state, "positions") }

func (r *rig) configure() string {
	r.t.Helper()
	config := fmt.Sprintf(`
server: {address: "%s", min_backoff: 20ms, max_backoff: 500ms}
positions: {file: "%s", save_interval: 500ms}
files:
  - {paths: ["%s/app.log"], labels: {app: numbers}}
batch: {max_wait: 50ms}
read: {poll_interval: 20ms, partial_wait: 10m}
listen: "%s"
`, r.server.GRPC, r.positions(), r.dir, r.listen)
	if r.raw != "" {
		config = r.raw
	}
	name := filepath.Join(r.dir, "agent.yaml")
	if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return name
}

func (r *rig) start() {
	r.t.Helper()
	r.agent.Start(harness.Program(r.t, "services/agent/cmd/weir-agent"), "--config="+r.configure())
}

// started starts the agent and waits until it knows the file, so that it may be
// killed and the file renamed.
func (r *rig) started() {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "app.log"), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.start()
	r.known()
}

// known waits until the agent has saved that it knows the file.
func (r *rig) known() {
	r.t.Helper()
	harness.Until(r.t, func() error {
		b, err := os.ReadFile(r.positions())
		if err == nil && !strings.Contains(string(b), "app.log") {
			err = errors.New("the agent does not know the file yet")
		}
		return err
	})
}

// queued says whether the agent has all of a file in its queue, as far as it has
// saved that.
func (r *rig) queued(path string) bool {
	st, err := os.Stat(path)
	if err != nil {
		return false
	}
	b, err := os.ReadFile(r.positions())
	if err != nil {
		return false
	}
	s, err := positions.Decode(b)
	if err != nil {
		return false
	}
	for _, p := range s.Files {
		if p.Ino == st.Sys().(*syscall.Stat_t).Ino {
			return p.Offset == st.Size()
		}
	}
	return false
}

// metric gives the sum of a metric of the agent; -1 where it does not answer.
func (r *rig) metric(name string) float64 {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get("http://" + r.listen + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	sum := 0.0
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, _ := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			sum += v
		}
	}
	return sum
}

func (r *rig) count() (int, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	resp, err := r.client.Query(ctx, &queryv1.QueryRequest{
		Query: `sum(count_over_time({app="numbers"}[1h]))`, Time: timestamppb.New(time.Now().Add(time.Minute)),
	})
	n := 0.0
	for _, s := range resp.GetVector().GetSamples() {
		n += s.GetSample().GetValue()
	}
	return int(n), err
}

// await waits until the server holds n lines, as long as more come.
func (r *rig) await(n int) {
	r.t.Helper()
	last, since := -1, time.Now()
	for {
		got, err := r.count()
		if err == nil && got >= n {
			return
		}
		if got != last {
			last, since = got, time.Now()
		}
		if time.Since(since) > harness.Patience {
			r.t.Fatalf("%d of %d lines are there, and no more come (%v)", got, n, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// read calls f with each line that the server holds, in order.
func (r *rig) read(f func(string)) {
	r.t.Helper()
	req := &queryv1.QueryRangeRequest{
		Query: `{app="numbers"}`, Limit: 5000, Direction: queryv1.Direction_DIRECTION_FORWARD,
		Start: timestamppb.New(r.began.Add(-time.Minute)), End: timestamppb.New(time.Now().Add(time.Minute)),
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	for resp, err := range r.client.Pages(ctx, req) {
		if err != nil {
			r.t.Fatal(err)
		}
		for _, s := range resp.GetStreams().GetStreams() {
			for _, e := range s.GetEntries() {
				f(string(client.Line(e)))
			}
		}
	}
}

// check compares what the server holds with lines 0 to n-1, of which lost may be
// missing.
func (r *rig) check(n int, lost map[int]bool) {
	r.t.Helper()
	seen := make([]uint8, n)
	prev, missing, doubled, disorder, got := -1, 0, 0, 0, 0
	r.read(func(l string) {
		got++
		num, _, _ := strings.Cut(l, " ")
		i, err := strconv.Atoi(num)
		if err != nil || i >= n || l != line(i) {
			r.t.Fatalf("not a line that was written: %.200q", l)
		}
		if seen[i]++; seen[i] > 1 {
			doubled++
		}
		if i < prev {
			if disorder++; disorder < 4 {
				r.t.Logf("line %d comes after %d", i, prev)
			}
		}
		prev = i
	})
	allowed := 0
	for i, k := range seen {
		switch {
		case k == 0 && lost[i]:
			allowed++
		case k == 0:
			if missing++; missing < 4 {
				r.t.Logf("line %d is lost", i)
			}
		}
	}
	r.t.Logf("%d lines written, %d there: %d lost, %d doubled, %d out of order; %d lost that may be", n, got, missing, doubled, disorder, allowed)
	if missing+doubled+disorder > 0 {
		r.t.Errorf("%d lost, %d doubled, %d out of order", missing, doubled, disorder)
	}
}

// line is a line of a length that varies.
func line(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", i*7%90)) }

// writer writes numbered lines at a rate, about, and renames its file every so often
// (0: never).
type writer struct {
	path   string
	rate   int
	rotate time.Duration
	keep   int                    // renamed files that stay; 0: all
	may    func(path string) bool // says whether another may go
	n      int
}

func (w *writer) run(stop <-chan struct{}) error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	begin, rotated, gen, first := time.Now(), time.Now(), 0, w.n
	oldest := 1 // generation
	for {
		select {
		case <-stop:
			return f.Close()
		default:
		}
		now := time.Now()
		// One write a line, as loggers do.
		for due := first + int(now.Sub(begin).Seconds()*float64(w.rate)); w.n < due; w.n++ {
			if _, err := f.WriteString(line(w.n) + "\n"); err != nil {
				return err
			}
		}
		if w.rotate > 0 && now.Sub(rotated) >= w.rotate {
			gen++
			rotated = now
			if err := os.Rename(w.path, fmt.Sprintf("%s.%d", w.path, gen)); err != nil {
				return err
			}
			for range 3 { // the old file is written to a little longer
				if _, err := f.WriteString(line(w.n) + "\n"); err != nil {
					return err
				}
				w.n++
			}
			if err := f.Close(); err != nil {
				return err
			}
			if f, err = os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
				return err
			}
			for ; w.keep > 0 && oldest <= gen-w.keep; oldest++ {
				name := fmt.Sprintf("%s.%d", w.path, oldest)
				if !w.may(name) {
					break
				}
				if err := os.Remove(name); err != nil {
					return err
				}
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// during runs the writer as long as f runs.
func (w *writer) during(t *testing.T, f func()) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- w.run(stop) }()
	f()
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func env(t *testing.T, name string, def int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func envTime(t *testing.T, name string, def time.Duration) time.Duration {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
