// Package crash shows what one process with a disk promises: SIGKILL, a cut of the
// power, damage to its files and a full disk cost nothing that was acknowledged, or
// exactly what was damaged.
package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// crashes is how often TestKill kills: WEIR_CRASHES, or n.
func crashes(t *testing.T, n int) int {
	if s := os.Getenv("WEIR_CRASHES"); s != "" {
		v, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("WEIR_CRASHES: %v", err)
		}
		return v
	}
	return n
}

// seed returns the seed of a test: WEIR_SEED, or a new one.
func seed(t *testing.T) uint64 {
	s := rand.Uint64() >> 1
	if env := os.Getenv("WEIR_SEED"); env != "" {
		v, err := strconv.ParseUint(env, 10, 64)
		if err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
		s = v
	}
	t.Logf("WEIR_SEED=%d", s)
	return s
}

// check judges all that node holds.
func check(t *testing.T, node *harness.Node, h *checker.History, gone map[checker.ID]bool) checker.Verdict {
	t.Helper()
	v, err := harness.Check(harness.Context(t), node.Client(), h, gone)
	if err == nil {
		err = v.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fill pushes to a node for as long as it takes to store n requests.
func fill(t *testing.T, node *harness.Node, load *checker.Load, n int) {
	t.Helper()
	if load.Sink == nil {
		load.Sink = node.Client()
	}
	if load.History == nil {
		load.History = &checker.History{}
	}
	stop := load.Start()
	defer stop()
	n += load.Pushes().Stored
	harness.Until(t, func() error { return short(load, n) })
	stop()
	if err := load.Err(); err != nil {
		t.Fatal(err)
	}
}

// short returns an error until a load has stored n requests.
func short(load *checker.Load, n int) error {
	if got := load.Pushes().Stored; got < n {
		return fmt.Errorf("%d of %d requests stored", got, n)
	}
	return nil
}

// TestKill kills a process under load with SIGKILL, at random moments, some of them
// while it replays, and starts it again.
func TestKill(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	n := crashes(t, 12)
	// Small segments, so that kills meet their changes too.
	node := harness.New(t, "all", "", "--ingester.wal-segment-size=1MiB")
	load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: rng.Uint64(), Resend: true, Batch: 20, Pause: 20 * time.Millisecond}
	stop := load.Start()
	defer stop()
	early := 0
	for i := range n {
		node.Start()
		if i%5 == 4 {
			early++ // before it is ready, most likely
			time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
		} else {
			node.AwaitReady()
			if i == 0 {
				harness.Until(t, func() error { return short(load, 1) })
			}
			time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
		}
		if i%10 == 7 { // what is there now, while pushes go on
			mark := load.History.Mark()
			r, err := harness.Read(harness.Context(t), node.Client(), i%20 == 7, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if err := load.History.Judge(mark, r, nil).Err(); err != nil {
				t.Fatalf("after %d kills, under load: %v", i, err)
			}
		}
		node.Kill()
	}
	stop()
	if err := load.Err(); err != nil {
		t.Error(err)
	}
	node.Start()
	node.AwaitReady()
	v := check(t, node, load.History, nil)
	if got := node.Metric("weir_wal_corrupt_ranges_total"); got != 0 {
		t.Errorf("%v ranges are reported as damaged", got)
	}
	p := load.Pushes()
	if v.Acked == 0 || p.Failed == 0 {
		t.Errorf("no load: %+v", p)
	}
	t.Logf("%d kills (%d early), %d requests stored, %d failed, %d sent again: %s", n, early, p.Stored, p.Failed, p.Resent, v)
}

// TestKillWhileBlocksMove kills a process that moves what it has to local blocks, merges
// these, uploads them and drops the local copies, all the time.
func TestKillWhileBlocksMove(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	n := crashes(t, 5)
	node := harness.New(t, "all", "", "--ingester.wal-segment-size=1MiB", "--ingester.cut-interval=1s",
		"--ingester.cut-size=256KiB", "--ingester.upload-interval=2s", "--ingester.keep-uploaded=3s")
	load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: rng.Uint64(), Resend: true, Batch: 20, Pause: 20 * time.Millisecond}
	stop := load.Start()
	defer stop()
	cuts, uploads := 0.0, 0.0
	for i := range n {
		node.Start()
		node.AwaitReady()
		if i == 0 {
			grown(t, node, "weir_ingester_cuts_total", "weir_ingester_uploads_total")
		}
		time.Sleep(time.Duration(500+rng.IntN(1500)) * time.Millisecond)
		mark := load.History.Mark()
		r, err := harness.Read(harness.Context(t), node.Client(), rng.IntN(2) == 0, 5000)
		if err != nil {
			t.Fatal(err)
		}
		if err := load.History.Judge(mark, r, nil).Err(); err != nil {
			t.Fatalf("under load: %v", err)
		}
		cuts += node.Metric("weir_ingester_cuts_total")
		uploads += node.Metric("weir_ingester_uploads_total")
		node.Kill()
	}
	stop()
	if err := load.Err(); err != nil {
		t.Error(err)
	}
	node.Start()
	node.AwaitReady()
	v := check(t, node, load.History, nil)
	if v.Acked == 0 || cuts == 0 || uploads == 0 {
		t.Errorf("%d acknowledged, %v cuts, %v uploads", v.Acked, cuts, uploads)
	}
	t.Logf("%d kills, %v cuts, %v uploads: %s", n, cuts, uploads, v)
}

// grown waits until each of some metrics is above zero: on a busy machine it may take
// longer than a test lets a process live.
func grown(t *testing.T, node *harness.Node, metrics ...string) {
	t.Helper()
	for _, m := range metrics {
		harness.Until(t, func() error {
			if node.Metric(m) == 0 {
				return fmt.Errorf("%s is 0", m)
			}
			return nil
		})
	}
}

// TestTerminate ends a process under load with SIGTERM: it ends with status 0, and
// nothing is lost.
func TestTerminate(t *testing.T) {
	node := harness.Start(t)
	load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: seed(t)}
	stop := load.Start()
	defer stop()
	for range 3 {
		before := load.Pushes().Stored
		harness.Until(t, func() error { return short(load, before+50) })
		node.Terminate()
		node.Start()
		node.AwaitReady()
	}
	stop()
	if err := load.Err(); err != nil {
		t.Error(err)
	}
	t.Log(check(t, node, load.History, nil))
}

// TestSecondProcess starts a process on a data directory that is in use.
func TestSecondProcess(t *testing.T) {
	first := harness.Start(t)
	second := harness.New(t, "second", first.Dir)
	second.Start()
	if code := second.AwaitExit(); code == 0 {
		t.Errorf("status %d", code)
	}
	if want := strconv.Itoa(first.PID()); !strings.Contains(second.Log(), "locked by") || !strings.Contains(second.Log(), want) {
		t.Errorf("the log does not say that process %s has the directory:\n%s", want, second.Log())
	}
	load := &checker.Load{}
	fill(t, first, load, 20)
	check(t, first, load.History, nil)
}
