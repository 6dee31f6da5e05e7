package crash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// TestDiskFullWhileBlocksMove fills the disk that local blocks, the object store and
// the compactor's temporary files are on, while blocks are cut, uploaded and merged:
// nothing acknowledged is lost, and with room all goes on.
func TestDiskFullWhileBlocksMove(t *testing.T) {
	t.Parallel()
	disk := harness.Mount(t, "-t", "tmpfs", "-o", "size=24m", "weir-test")
	node := harness.New(t, "all", filepath.Join(disk, "data"), "--ingester.wal-segment-size=1MiB", "--ingester.cut-interval=1s",
		"--ingester.cut-size=256KiB", "--ingester.upload-interval=1s", "--ingester.keep-uploaded=1s", "--compactor.interval=1s",
		"--compactor.merge-size=1", "--compactor.max-wait=1s", "--compactor.delete-delay=0s",
		"--ingester.disk-min-free=2MiB", "--ingester.disk-reserve=1MiB", "--ingester.disk-max-used-percent=100")
	node.Start()
	node.AwaitReady()
	load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: seed(t), Resend: true}
	stop := load.Start()
	defer stop()
	ballast := filepath.Join(disk, "ballast")
	failed := map[string]bool{}
	for range 3 {
		// Room for little, then for nothing, then for all again: whoever writes next fails.
		before := load.Pushes().Stored
		harness.Until(t, func() error { return short(load, before+20) })
		fillDisk(t, ballast)
		for _, path := range []string{"/flush", "/compact"} {
			if err := post(node.HTTP, path); err != nil {
				failed[path] = true
			}
		}
		mark := load.History.Mark()
		r, err := harness.Read(harness.Context(t), node.Client(), false, 5000)
		if err != nil {
			t.Fatalf("a full disk ends reads: %v", err)
		}
		if err := load.History.Judge(mark, r, nil).Err(); err != nil {
			t.Fatal(err)
		}
		node.Kill()
		node.Start() // on the full disk
		node.AwaitReady()
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	before := load.Pushes().Stored
	harness.Until(t, func() error { return short(load, before+20) })
	stop()
	if err := load.Err(); err != nil {
		t.Error(err)
	}
	harness.Until(t, func() error { return post(node.HTTP, "/flush") })
	harness.Until(t, func() error { return post(node.HTTP, "/compact") })
	v := check(t, node, load.History, nil)
	if len(failed) == 0 && load.Pushes().Failed == 0 {
		t.Error("nothing failed")
	}
	if strings.Contains(node.Log(), "panic") {
		t.Error("it panicked")
	}
	t.Logf("failed on the full disk: %v; %d of %d pushes; %s", failed, load.Pushes().Failed, load.Pushes().Failed+load.Pushes().Stored, v)
}

// fillDisk writes a file until there is no room.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
