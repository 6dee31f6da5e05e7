package harness

import (
	"os"
	"os/exec"
	"testing"
)

// Mount mounts what args say on a new directory, until the test ends. It skips the
// test where that is not possible.
func Mount(t testing.TB, args ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Skipf("this machine does not mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		Until(t, func() error { return exec.Command("umount", dir).Run() })
	})
	return dir
}
