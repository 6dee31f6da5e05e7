// Package ports gives tests addresses to listen on.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// Ports are below those that the system gives to outgoing connections, so that none of
// these takes one while a process is restarted.
const (
	first = 12000
	count = 20000
)

// taken holds what this process has taken, locked, until it ends.
var taken struct {
	sync.Mutex
	files []*os.File
}

// Free returns a loopback address whose port nobody listens on and that no other test,
// of this process or of another that runs at the same time, is given: it belongs to this
// process until it ends.
func Free(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("weir-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	taken.Lock()
	defer taken.Unlock()
	for range 1000 {
		port := first + rand.IntN(count)
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(port)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		// The lock goes with the process, however it ends.
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil || !free(addr) {
			_ = f.Close() // nothing was written
			continue
		}
		taken.files = append(taken.files, f)
		return addr
	}
	t.Fatal("no port is free")
	return ""
}

// free says whether nobody listens on an address.
func free(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	u, err := net.ListenPacket("udp", addr)
	_ = l.Close()
	if err != nil {
		return false
	}
	return u.Close() == nil
}
