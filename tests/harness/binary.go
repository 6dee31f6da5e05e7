// Package harness runs the real binary: it builds it, starts processes on loopback
// with directories of their own, kills, freezes and restarts them, and reads all
// that they hold. Whatever it starts ends with the test.
//
// Variables of the environment that tests heed:
//
//	WEIR            the server's binary; otherwise one is built from the working tree
//	WEIR_CRASHES    how often the crash tests kill; power is cut a quarter as often
//	WEIR_SEED       the seed that a crash test has printed
//	WEIR_TEST_LOGS  a directory that keeps all logs of all processes
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	// What the binary is made of, so that a change to it makes cached results stale.
	_ "github.com/weir-logs/weir/services/weir"
)

// Binary returns the path of the server's binary: $WEIR, or one built from the
// working tree.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("WEIR"); path != "" {
		path, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	return Program(t, "services/cmd/weir")
}

// Program builds the program of a package, a path from the repository's root, and
// returns the path of the binary.
func Program(t testing.TB, pkg string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if programs.built[pkg] == "" {
		path, err := build(pkg)
		if err != nil {
			t.Fatal(err)
		}
		programs.built[pkg] = path
	}
	return programs.built[pkg]
}

var programs = struct {
	sync.Mutex
	built map[string]string // paths by package
}{built: map[string]string{}}

func build(pkg string) (string, error) {
	root := Root()
	dir := filepath.Join(root, ".cache", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Test packages run side by side; the second finds the binary up to date.
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", path, "./"+pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// Root is the root of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
