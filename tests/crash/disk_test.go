package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// TestPowerCut takes a disk image away from a running process, as a cut of the power
// would leave it: what the process or the kernel had not written is not in it. A
// process that starts on the image must have all that was acknowledged before.
func TestPowerCut(t *testing.T) {
	cuts := max(1, crashes(t, 12)/4)
	acked, rows := 0, 0
	powerCuts(t, cuts, nil, func(v checker.Verdict) bool {
		if err := v.Err(); err != nil {
			t.Fatal(err)
		}
		acked += v.Acked
		rows += v.Rows
		return true
	})
	t.Logf("%d cuts, %d acked entries checked, %d others there, none lost", cuts, acked, rows-acked)
}

// TestPowerCutIsFelt shows that TestPowerCut could fail: where the log is not synced
// before the acknowledgement, entries are lost.
func TestPowerCutIsFelt(t *testing.T) {
	lost := 0
	// A cut right after something else made the kernel write costs nothing.
	powerCuts(t, 10, []string{"--ingester.wal-sync-interval=1m"}, func(v checker.Verdict) bool {
		lost += v.Lost
		return lost == 0
	})
	if lost == 0 {
		t.Error("nothing was lost")
	}
	t.Logf("%d acked entries lost, as configured", lost)
}

// TestPowerCutWhileBlocksMove is the same while heads are cut, and blocks uploaded, merged
// and removed, all the time: a record of the log goes only when a block that has its rows
// is durable, a block only when the one that replaces it is.
func TestPowerCutWhileBlocksMove(t *testing.T) {
	for name, args := range map[string][]string{
		"on the local disk": {"--ingester.cut-interval=1s", "--ingester.cut-size=64KiB", "--ingester.tail-log=0"},
		"in the store": {"--ingester.keep-uploaded=1s", "--compactor.merge-size=1", "--compactor.max-wait=1s", "--compactor.max-sources=4",
			"--compactor.delete-delay=0s"},
	} {
		t.Run(name, func(t *testing.T) {
			cuts := max(2, crashes(t, 12)/6)
			acked := 0
			powerCuts(t, cuts, args, func(v checker.Verdict) bool {
				if err := v.Err(); err != nil {
					t.Error(err)
					return false
				}
				acked += v.Acked
				return true
			}, func(node *harness.Node) (stop func()) {
				if name == "on the local disk" {
					grown(t, node, "weir_ingester_cuts_total")
					return func() {}
				}
				pressed := press(node.HTTP)
				grown(t, node, "weir_compactor_merges_total", "weir_compactor_deleted_blocks_total")
				return pressed
			})
			t.Logf("%d cuts, %d acked entries checked, none lost", cuts, acked)
		})
	}
}

// powerCuts cuts the power as often as told, or until judge returns false. What else is to
// go on meanwhile, under begins and what it returns ends.
func powerCuts(t *testing.T, cuts int, extra []string, judge func(checker.Verdict) bool, under ...func(*harness.Node) (stop func())) {
	t.Helper()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("there is no mkfs.ext4")
	}
	rng := rand.New(rand.NewPCG(seed(t), 1))
	scratch := t.TempDir()
	image := filepath.Join(scratch, "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 192<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", image)
	disk := harness.Mount(t, "-o", "loop", image)

	args := append([]string{"--ingester.disk-reserve=1MiB", "--ingester.disk-min-free=1MiB", "--ingester.wal-segment-size=1MiB"}, extra...)
	node := harness.New(t, "all", filepath.Join(disk, "data"), args...)
	node.Start()
	node.AwaitReady()
	load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: rng.Uint64(), Resend: true}
	stop := load.Start()
	defer stop()
	for _, begin := range under {
		defer begin(node)()
	}
	alarms, more := 0, true
	for i := 0; i < cuts && more; i++ {
		before := load.Pushes().Stored
		harness.Until(t, func() error { return short(load, before+20) })
		time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
		node.Freeze()
		mark := load.History.Mark()
		copied := filepath.Join(scratch, "cut.img")
		run(t, "cp", "--sparse=always", image, copied)
		node.Thaw()
		t.Run("cut", func(t *testing.T) {
			after := harness.New(t, "after", filepath.Join(harness.Mount(t, "-o", "loop", copied), "data"), args...)
			after.Start()
			after.AwaitReady()
			r, err := harness.Read(harness.Context(t), after.Client(), i%2 == 1, 5000)
			if err != nil {
				t.Fatal(err)
			}
			more = judge(load.History.Judge(mark, r, nil))
			// The last append, not acknowledged, may have left the file its new size and
			// not its bytes. The log cannot tell that from bytes that were there.
			if got := after.Metric("weir_wal_corrupt_ranges_total"); got != 0 {
				alarms++
			}
		})
	}
	stop()
	if err := load.Err(); err != nil {
		t.Error(err)
	}
	t.Logf("after %d of %d cuts the log reports damage although nothing is lost", alarms, cuts)
}

// TestDiskFull fills the disk: pushes fail with DISK_FULL, nothing is acknowledged that
// is not durable, reads go on, a restart succeeds, and room makes pushes work again.
func TestDiskFull(t *testing.T) {
	for name, args := range map[string][]string{
		"watermark": {"--ingester.disk-min-free=4MiB", "--ingester.disk-reserve=1MiB"},
		"no room":   {"--ingester.disk-min-free=0", "--ingester.disk-reserve=0"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := harness.Mount(t, "-t", "tmpfs", "-o", "size=12m", "weir-test")
			ballast := filepath.Join(disk, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			node := harness.New(t, "all", filepath.Join(disk, "data"),
				append(args, "--ingester.wal-segment-size=1MiB", "--ingester.disk-max-used-percent=100")...)
			node.Start()
			node.AwaitReady()
			var mu sync.Mutex
			var failures []error
			load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: seed(t), Pause: time.Millisecond, Batch: 100,
				Failed: func(err error) {
					mu.Lock()
					defer mu.Unlock()
					failures = append(failures, err)
				}}
			stop := load.Start()
			defer stop()
			full := func(n int) {
				t.Helper()
				mu.Lock()
				failures = nil
				mu.Unlock()
				harness.Until(t, func() error {
					mu.Lock()
					defer mu.Unlock()
					if len(failures) < n {
						return fmt.Errorf("%d of %d pushes failed", len(failures), n)
					}
					return nil
				})
			}
			full(30)
			mark := load.History.Mark()
			r, err := harness.Read(harness.Context(t), node.Client(), false, 5000)
			if err != nil {
				t.Fatalf("a full disk ends reads: %v", err)
			}
			if err := load.History.Judge(mark, r, nil).Err(); err != nil {
				t.Fatal(err)
			}
			stop()
			for _, err := range failures {
				if client.Reason(err) != "DISK_FULL" || status.Code(err) != codes.Unavailable || client.AsError(err).RetryAfter == 0 {
					t.Fatalf("a push fails with %v", err)
				}
			}
			check(t, node, load.History, nil)

			node.Kill() // and starts on the full disk
			node.Start()
			node.AwaitReady()
			v := check(t, node, load.History, nil)

			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			fill(t, node, load, 20)
			check(t, node, load.History, nil)
			if strings.Contains(node.Log(), "panic") {
				t.Error("it panicked")
			}
			t.Logf("%d pushes failed; %s", load.Pushes().Failed, v)
		})
	}
}
