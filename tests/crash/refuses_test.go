package crash

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// TestSystemRefuses takes from a process under load what it needs of the system: names for
// files, descriptors. It does not panic, acknowledges nothing that is not kept, answers
// queries, and goes on when it has what it needs.
func TestSystemRefuses(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name  string
		take  func(node *harness.Node, disk string) (give func())
		reads bool // while it lasts
	}{
		{"inodes", func(_ *harness.Node, disk string) func() {
			var files []string
			for {
				f, err := os.Create(filepath.Join(disk, fmt.Sprint("ballast-", len(files))))
				if err != nil {
					break
				}
				files = append(files, f.Name())
				_ = f.Close()
			}
			return func() {
				for _, f := range files {
					_ = os.Remove(f)
				}
			}
		}, true},
		{"descriptors", func(node *harness.Node, _ string) func() {
			var conns []net.Conn
			for range 400 {
				c, err := net.DialTimeout("tcp", node.HTTP, 2*time.Second)
				if err != nil {
					break
				}
				conns = append(conns, c)
			}
			return func() {
				for _, c := range conns {
					_ = c.Close()
				}
			}
		}, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			scratch := t.TempDir()
			image := filepath.Join(scratch, "disk.img")
			if err := os.WriteFile(image, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(image, 128<<20); err != nil {
				t.Fatal(err)
			}
			if _, err := exec.LookPath("mkfs.ext4"); err != nil {
				t.Skip("there is no mkfs.ext4")
			}
			run(t, "mkfs.ext4", "-q", "-F", "-N", "128", image)
			disk := harness.Mount(t, "-o", "loop", image)
			node := harness.New(t, "all", filepath.Join(disk, "data"), "--ingester.wal-segment-size=1MiB", "--ingester.cut-interval=1s",
				"--ingester.cut-size=256KiB", "--ingester.upload-interval=2s", "--ingester.keep-uploaded=1s", "--compactor.interval=2s", "--compactor.delete-delay=0s",
				"--ingester.disk-reserve=1MiB", "--ingester.disk-min-free=1MiB", "--ingester.disk-max-used-percent=100")
			node.Descriptors = 100
			node.Start()
			node.AwaitReady()
			load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: seed(t), Resend: true}
			stop := load.Start()
			defer stop()
			harness.Until(t, func() error { return short(load, 20) })
			give := x.take(node, disk)
			before := load.Pushes()
			harness.Until(t, func() error { // until it has met what is missing
				if n := load.Pushes(); n.Stored+n.Failed < before.Stored+before.Failed+100 {
					return fmt.Errorf("%d requests were answered", n.Stored+n.Failed-before.Stored-before.Failed)
				}
				return nil
			})
			if x.reads {
				mark := load.History.Mark()
				r, err := harness.Read(harness.Context(t), node.Client(), false, 5000)
				if err != nil {
					t.Errorf("a query answers %v", err)
				} else if err := load.History.Judge(mark, r, nil).Err(); err != nil {
					t.Error(err)
				}
			}
			give()
			select {
			case <-node.Exited():
				t.Fatal("it has ended")
			default:
			}
			harness.Until(t, func() error { return short(load, before.Stored+50) })
			stop()
			node.Kill()
			node.Start()
			node.AwaitReady()
			v := check(t, node, load.History, nil)
			if strings.Contains(node.Log(), "panic") {
				t.Error("it panicked")
			}
			t.Logf("%d of %d pushes failed: %s", load.Pushes().Failed, load.Pushes().Failed+load.Pushes().Stored, v)
		})
	}
}
