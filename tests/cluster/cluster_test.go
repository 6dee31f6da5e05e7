// Package cluster shows what three ingesters promise together: one of them may die,
// freeze or restart, and nobody notices; two may, and what then cannot be promised is
// refused.
package cluster

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// maxGap returns the longest time that pushes may fail when one ingester does:
// WEIR_MAX_GAP, or twelve seconds. The promise is two; a machine that is busy with other
// tests may make pushes wait longer than that with nothing wrong.
func maxGap(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("WEIR_MAX_GAP")
	if s == "" {
		return 12 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("WEIR_MAX_GAP: %v", err)
	}
	return d
}

// some is how much of a scenario is played: few, or all of it if WEIR_SCENARIOS is set.
func some(few, all int) int {
	if os.Getenv("WEIR_SCENARIOS") != "" {
		return all
	}
	return few
}

// TestMain lets more tests run side by side than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

type scenario struct {
	*harness.Cluster
	t      *testing.T
	client *client.Client
	load   *checker.Load
	stop   func()

	mu     sync.Mutex
	failed error // the last push that failed
}

// start starts a cluster under load. Each change is made to it before it starts.
func start(t *testing.T, change ...func(*harness.Cluster)) *scenario {
	t.Helper()
	return startWith(t, &checker.Load{Seed: rand.Uint64(), Batch: 20, Pause: 20 * time.Millisecond}, change...)
}

// startWith starts a cluster under the given load.
func startWith(t *testing.T, load *checker.Load, change ...func(*harness.Cluster)) *scenario {
	t.Helper()
	s := &scenario{Cluster: harness.NewCluster(t, 3), t: t}
	for _, f := range change {
		f(s.Cluster)
	}
	s.Cluster.Start()
	s.begin(load)
	return s
}

// begin puts a cluster that was started under load.
func (s *scenario) begin(load *checker.Load) {
	s.t.Helper()
	s.client = s.Client()
	s.load = load
	s.load.Sink, s.load.History = s.client, &checker.History{}
	s.load.Failed = func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = err
	}
	s.stop = s.load.Start()
	s.t.Cleanup(s.stop)
	s.stored(50)
}

// stored waits until n more requests are stored.
func (s *scenario) stored(n int) {
	s.t.Helper()
	n += s.load.Pushes().Stored
	harness.Until(s.t, func() error {
		if got := s.load.Pushes().Stored; got < n {
			s.mu.Lock()
			defer s.mu.Unlock()
			return fmt.Errorf("%d of %d requests stored; the last failure: %w", got, n, s.failed)
		}
		return nil
	})
}

// readUnderLoad reads everything; all that was acknowledged before must be in it.
func (s *scenario) readUnderLoad() {
	s.t.Helper()
	mark := s.load.History.Mark()
	r, err := harness.Read(harness.Context(s.t), s.client, false, 5000)
	if err != nil {
		s.t.Fatalf("read under load: %v", err)
	}
	if err := s.load.History.Judge(mark, r, nil).Err(); err != nil {
		s.t.Fatalf("read under load: %v", err)
	}
}

// noGap checks that pushes went on all the time since the last call.
func (s *scenario) noGap(what string) {
	s.t.Helper()
	gap := s.load.Pushes().LongestGap
	s.t.Logf("%s: the longest time without a stored request was %s", what, gap.Round(time.Millisecond))
	if gap > maxGap(s.t) {
		s.t.Errorf("%s: no request was stored for %s", what, gap)
	}
	s.load.ResetGap()
}

// check ends the load and judges everything.
func (s *scenario) check() checker.Verdict {
	s.t.Helper()
	s.stop()
	if err := s.load.Err(); err != nil {
		s.t.Error(err)
	}
	return s.judge()
}

func (s *scenario) judge() checker.Verdict {
	s.t.Helper()
	v, err := harness.Check(harness.Context(s.t), s.client, s.load.History, nil)
	if err == nil {
		err = v.Err()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// TestKillOne kills one ingester after the other under load: pushes go on, queries
// stay complete, and a tail delivers every entry once.
func TestKillOne(t *testing.T) {
	t.Parallel()
	killOne(t)
}

func killOne(t *testing.T, change ...func(*harness.Cluster)) {
	s := start(t, change...)
	tail := harness.StartTail(t, s.client, s.load.History)
	s.load.ResetGap()
	for _, n := range s.Ingesters {
		n.Kill()
		s.stored(100)
		s.readUnderLoad()
		s.noGap("one killed")
		n.Start()
		n.AwaitReady()
		s.AwaitHealthy(3)
		s.allStore() // or there would be two to which nothing is written
		s.readUnderLoad()
		s.noGap("it comes back")
	}
	v := s.check()
	p := s.load.Pushes()
	t.Logf("3 kills, %d requests stored, %d failed: %s", p.Stored, p.Failed, v)
	tail.Check(t)
}

// TestRollingRestart restarts all ingesters one by one with SIGTERM under load.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	rollingRestart(t)
}

func rollingRestart(t *testing.T, change ...func(*harness.Cluster)) {
	s := start(t, change...)
	tail := harness.StartTail(t, s.client, s.load.History)
	s.load.ResetGap()
	for _, n := range s.Ingesters {
		n.Terminate()
		n.Start()
		n.AwaitReady()
		s.AwaitHealthy(3)
		s.allStore()
		s.readUnderLoad()
	}
	s.noGap("rolling restart")
	v := s.check()
	p := s.load.Pushes()
	t.Logf("3 restarts, %d requests stored, %d failed: %s", p.Stored, p.Failed, v)
	tail.Check(t)
}

// TestFreezeOne stops one ingester with SIGSTOP: its connections stay open and nothing
// answers on them.
func TestFreezeOne(t *testing.T) {
	t.Parallel()
	s := start(t)
	tail := harness.StartTail(t, s.client, s.load.History)
	s.load.ResetGap()
	n := s.Ingesters[1]
	n.Freeze()
	s.stored(200)
	s.noGap("one frozen")
	s.readUnderLoad() // as soon as the members take it for dead
	time.Sleep(time.Duration(some(0, 60)) * time.Second)
	n.Thaw()
	s.AwaitHealthy(3)
	s.stored(50)
	s.noGap("it thaws")
	v := s.check()
	p := s.load.Pushes()
	t.Logf("%d requests stored, %d failed: %s", p.Stored, p.Failed, v)
	tail.Check(t)
}

// TestDiskFullOne fills the disk of one ingester: pushes go on with the other two, and
// nothing is lost when one of these restarts.
func TestDiskFullOne(t *testing.T) {
	t.Parallel()
	disk := harness.Mount(t, "-t", "tmpfs", "-o", "size=12m", "weir-test")
	s := start(t, func(c *harness.Cluster) {
		c.Ingesters[0].Dir = filepath.Join(disk, "data")
		c.Ingesters[0].Args = append(c.Ingesters[0].Args, "--ingester.disk-min-free=10MiB", "--ingester.disk-reserve=0", "--ingester.disk-max-used-percent=100")
	})
	s.load.ResetGap()
	harness.Until(t, func() error {
		if s.Ingesters[0].Metric("weir_wal_disk_full_total") == 0 {
			return errors.New("the disk is not full yet")
		}
		return nil
	})
	s.stored(100)
	s.noGap("one disk full")
	s.readUnderLoad()
	v := s.check()
	p := s.load.Pushes()
	t.Logf("%d requests stored, %d failed: %s", p.Stored, p.Failed, v)
}

// TestKillTwo kills two of three: nothing is acknowledged and nothing is answered that
// could not be kept or might be short, unless the caller asked for it.
func TestKillTwo(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Ingesters[0].Kill()
	s.Ingesters[2].Kill()

	// Pushes fail with NO_QUORUM, those after the members are known to be dead too.
	s.AwaitHealthy(1)
	harness.Until(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if client.Reason(s.failed) != "NO_QUORUM" {
			return fmt.Errorf("pushes fail with %w", s.failed)
		}
		return nil
	})
	s.stop()
	if c := status.Code(s.failed); c != codes.Unavailable || client.AsError(s.failed).RetryAfter == 0 {
		t.Errorf("a push fails with %v", s.failed)
	}

	// Queries fail with INCOMPLETE.
	_, err := harness.Read(harness.Context(t), s.client, false, 100)
	if client.Reason(err) != "INCOMPLETE" || status.Code(errors.Unwrap(err)) != codes.Unavailable {
		t.Errorf("a query answers %v", err)
	}
	query := url.Values{"query": {harness.Selector}}.Encode()
	for _, path := range []string{"/api/v1/query_range?", "/loki/api/v1/query_range?"} {
		code, body, err := s.Front.Get(path + query)
		if err != nil || code != http.StatusServiceUnavailable {
			t.Errorf("GET %s: %d %s %v", path, code, body, err)
		}
	}
	// With partial=true they say what is missing.
	warnings, err := harness.Warnings(harness.Context(t), s.client)
	if err != nil || len(warnings) == 0 {
		t.Errorf("a partial query answers %q, %v", warnings, err)
	}
	for _, name := range []string{"ingester-0", "ingester-2"} {
		if !strings.Contains(strings.Join(warnings, "\n"), name) {
			t.Errorf("the warnings %q do not name %s", warnings, name)
		}
	}

	s.Ingesters[0].Start()
	s.Ingesters[0].AwaitReady()
	s.AwaitHealthy(2)
	// Two are enough, once they are connected again.
	harness.Until(t, func() error {
		_, err := harness.Read(harness.Context(t), s.client, false, 5000)
		return err
	})
	s.judge()
	s.Ingesters[2].Start()
	s.Ingesters[2].AwaitReady()
	s.AwaitHealthy(3)
	v := s.judge()
	p := s.load.Pushes()
	t.Logf("%d requests stored, %d failed: %s", p.Stored, p.Failed, v)
}

// TestTooFew starts a front that knows a single ingester of those that must be there.
func TestTooFew(t *testing.T) {
	t.Parallel()
	ctx := harness.Context(t)
	c := harness.NewCluster(t, 1)
	c.Start()
	cl := c.Client()
	_, err := cl.Push(ctx, &pushv1.PushRequest{Streams: []*pushv1.Stream{{
		Labels: map[string]string{"service_name": "x"}, Entries: []*pushv1.Entry{{Line: &pushv1.Entry_Text{Text: "x"}}},
	}}})
	if client.Reason(err) != "NO_QUORUM" {
		t.Errorf("a push answers %v", err)
	}
	if _, err := harness.Read(ctx, cl, false, 100); client.Reason(err) != "INCOMPLETE" {
		t.Errorf("a query answers %v", err)
	}
	if _, err := cl.Labels(ctx, &queryv1.LabelsRequest{}); client.Reason(err) != "INCOMPLETE" {
		t.Errorf("labels answers %v", err)
	}
	if warnings, err := harness.Warnings(ctx, cl); err != nil || len(warnings) == 0 {
		t.Errorf("a partial query answers %q, %v", warnings, err)
	}
	var tail checker.Tail
	if err := tail.Follow(ctx, cl, "x", func() { t.Error("a tail begins") }); client.Reason(err) != "INCOMPLETE" {
		t.Errorf("a tail answers %v", err)
	}
}

// TestKillAll kills all ingesters at once under load, again and again.
func TestKillAll(t *testing.T) {
	t.Parallel()
	killAll(t)
}

func killAll(t *testing.T, change ...func(*harness.Cluster)) {
	s := start(t, change...)
	for range 2 {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		for _, n := range s.Ingesters {
			n.Kill()
		}
		for _, n := range s.Ingesters {
			n.Start()
		}
		for _, n := range s.Ingesters {
			n.AwaitReady()
		}
		s.AwaitHealthy(3)
		s.stored(50)
		s.readUnderLoad()
	}
	v := s.check()
	p := s.load.Pushes()
	t.Logf("2 times all killed, %d requests stored, %d failed: %s", p.Stored, p.Failed, v)
}
