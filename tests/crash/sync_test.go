package crash

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// TestSyncFails takes the room from under a disk, which then says that it has room and
// cannot write: fsync fails with EIO. The process acknowledges nothing more, ends with
// status 75, and started again on a disk that works it has all that was acknowledged.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("there is no mkfs.ext4")
	}
	below := harness.Mount(t, "-t", "tmpfs", "-o", "size=64m", "weir-test")
	image := filepath.Join(below, "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 256<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", image)
	disk := harness.Mount(t, "-o", "loop,errors=continue", image)
	node := harness.New(t, "all", filepath.Join(disk, "data"), "--ingester.wal-segment-size=1MiB",
		"--ingester.disk-reserve=1MiB", "--ingester.disk-min-free=1MiB", "--ingester.disk-max-used-percent=100")
	node.Start()
	node.AwaitReady()
	load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: seed(t), Resend: true}
	stop := load.Start()
	defer stop()
	harness.Until(t, func() error { return short(load, 50) })
	ballast := filepath.Join(below, "ballast")
	fillDisk(t, ballast)
	if code := node.AwaitExit(); code != 75 {
		t.Errorf("it ends with status %d", code)
	}
	if !strings.Contains(node.Log(), "fdatasync") {
		t.Error("it has ended, but not as fsync failed")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	harness.Until(t, func() error { // the one that it did not sync may hear of it a moment later
		if load.Pushes().Failed == 0 {
			return errors.New("no push failed")
		}
		return nil
	})
	before := load.Pushes()
	node.Start()
	node.AwaitReady()
	harness.Until(t, func() error { return short(load, before.Stored+50) })
	stop()
	if err := load.Err(); err != nil {
		t.Error(err)
	}
	v := check(t, node, load.History, nil)
	t.Logf("%d of %d pushes failed: %s", before.Failed, before.Failed+before.Stored, v)
}
