package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What a run of tests left behind that was killed is removed, and nothing else.
func TestNetworksOfTheDeadAreRemoved(t *testing.T) {
	NewNetwork(t) // skips where there are none
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	const number = 60_000 // none that NewNetwork would take
	id := func(pid int) string { return fmt.Sprintf("wt%dp%d", number, pid) }
	for name, stays := range map[string]bool{
		id(dead.Process.Pid): false, id(dead.Process.Pid) + "-3": false,
		id(os.Getpid()): true, fmt.Sprintf("weir-test-%d", dead.Process.Pid): true,
	} {
		if err := ip("netns", "add", name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ip("netns", "del", name) }) // it may be gone
		sweepNetworks()
		if _, err := os.Stat(filepath.Join("/run/netns", name)); stays != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
