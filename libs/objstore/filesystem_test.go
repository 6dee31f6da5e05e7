package objstore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

func openDir(t testing.TB, dir string, now time.Time) *objstore.Filesystem {
	t.Helper()
	f, err := objstore.OpenFilesystem(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFilesystem(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Bucket { return openDir(t, t.TempDir(), time.Now()) })
}

func TestMemory(t *testing.T) {
	objstoretest.Run(t, func(*testing.T) objstore.Bucket { return objstore.NewMemory(nil) })
}

var errCrash = errors.New("crash")

// TestRule17InterruptedPut: a put that is interrupted before any of its steps leaves the old object
// or the new one, never half of one, and nothing else that is listed.
func TestRule17InterruptedPut(t *testing.T) {
	body := strings.Repeat("new", 3<<20) // three writes
	for _, old := range []string{"", "old"} {
		for _, kind := range []string{"put", "put new", "delete"} {
			for crash := 0; ; crash++ {
				dir := t.TempDir()
				f := openDir(t, dir, time.Now())
				if old != "" {
					if err := objstore.PutBytes(t.Context(), f, "t/p/key", []byte(old)); err != nil {
						t.Fatal(err)
					}
				}
				var steps []string
				f.SetStep(func(step string) error {
					if len(steps) == crash {
						return errCrash
					}
					steps = append(steps, step)
					return nil
				})
				var err error
				switch kind {
				case "put":
					err = objstore.PutBytes(t.Context(), f, "t/p/key", []byte(body))
				case "put new":
					err = f.PutNew(t.Context(), "t/p/key", []byte(body))
				case "delete":
					err = f.Delete(t.Context(), "t/p/key")
				}
				after := openDir(t, dir, time.Now()) // the next process
				got, getErr := objstore.ReadAll(t.Context(), after, "t/p/key", 1<<30)
				there := "nothing"
				if getErr == nil {
					there = map[string]string{old: "old", body: "new"}[string(got)]
				} else if !errors.Is(getErr, objstore.ErrNotFound) {
					t.Fatal(getErr)
				}
				allowed := map[string][]string{"put": {"new"}, "put new": {"new"}, "delete": {"nothing"}}[kind]
				if old != "" && kind == "put new" {
					allowed = nil
				}
				if before := map[bool]string{true: "nothing", false: "old"}[old == ""]; err != nil {
					allowed = append(allowed, before)
				}
				if !slices.Contains(allowed, there) {
					t.Errorf("%s over %q, interrupted after %q: error %v, there is %s", kind, old, steps, err, there)
				}
				n := 0
				if err := after.List(t.Context(), "", func(o objstore.Object) error {
					if n++; o.Key != "t/p/key" {
						t.Errorf("listed: %s", o.Key)
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if len(steps) < crash {
					if got := ran(kind, old, steps); got != "" {
						t.Errorf("%s over %q: %s: steps %q", kind, old, got, steps)
					}
					break // it ran to its end
				}
			}
		}
	}
}

// ran says what is missing in the steps of an operation that ran to its end: the file is synced
// before it gets its name, and each directory after it got a new one.
func ran(kind, old string, steps []string) string {
	at := func(step string) int { return slices.Index(steps, step) }
	if kind == "delete" {
		if old != "" && at("unlink") >= at("sync directory t/p") {
			return "the unlink is not synced"
		}
		return ""
	}
	write, sync, publish := at("write"), at("sync file"), at("publish")
	if write < 0 || sync < write || publish < sync {
		return "the file is not synced before it gets its name"
	}
	if last := len(steps) - 1 - at("remove"); slices.Index(steps[publish:], "sync directory t/p") < 0 && last >= 0 {
		return "the name is not synced"
	}
	if old == "" && (at("make directory t") > at("sync directory .") || at("make directory t/p") > at("sync directory t") || at("sync directory t") > publish) {
		return "the directories are not synced"
	}
	return ""
}

// TestRule17Delete: a delete takes one file and leaves directories, since a put may be about to use them.
func TestRule17Delete(t *testing.T) {
	dir := t.TempDir()
	f := openDir(t, dir, time.Now())
	if err := objstore.PutBytes(t.Context(), f, "t/p/1", nil); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"t/p/1", "t/p", "t"} {
		if err := f.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "t/p")); err != nil || !info.IsDir() {
		t.Errorf("the directory: %v", err)
	}
}

// noSpace is a body whose second half cannot be read, as a disk that is full cannot be
// written; it ends the context if that is set.
type noSpace struct {
	half   int64
	cancel context.CancelFunc
}

func (n noSpace) ReadAt(p []byte, off int64) (int, error) {
	if off >= n.half {
		return 0, syscall.ENOSPC
	}
	if n.cancel != nil {
		n.cancel()
	}
	return int(min(int64(len(p)), n.half-off)), nil
}

// TestFailedPutsLeaveNothing: what a put that failed has written takes no room, least of all on a
// disk that is full, where it is tried again and again.
func TestFailedPutsLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	f := openDir(t, dir, time.Now())
	if err := objstore.PutBytes(t.Context(), f, "there/key", nil); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	for name, put := range map[string]func() error{
		"no space":      func() error { return f.Put(t.Context(), "t/p/key", noSpace{half: 5 << 20}, 10<<20) },
		"cancelled":     func() error { return f.Put(ended, "t/p/key", noSpace{5 << 20, cancel}, 10<<20) },
		"a short body":  func() error { return f.Put(t.Context(), "t/p/key", strings.NewReader("short"), 10) },
		"no such place": func() error { return objstore.PutBytes(t.Context(), f, "there/key/below", []byte("x")) },
		"is there":      func() error { return f.PutNew(t.Context(), "there/key", []byte("x")) },
		"new, no place": func() error { return f.PutNew(t.Context(), "there/key/below", []byte("x")) },
	} {
		if err := put(); err == nil {
			t.Errorf("%s: no error", name)
		}
		left, err := os.ReadDir(filepath.Join(dir, ".incoming"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: %d files are left, %v", name, len(left), err)
		}
	}
}

func TestLeftoversGoWhenOld(t *testing.T) {
	dir := t.TempDir()
	f := openDir(t, dir, time.Now())
	if err := objstore.PutBytes(t.Context(), f, "t/full/1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	interrupted := func(key string) {
		f.SetStep(func(step string) error {
			if step == "publish" {
				return errCrash
			}
			return nil
		})
		defer f.SetStep(nil)
		if err := objstore.PutBytes(t.Context(), f, key, []byte("x")); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
	}
	interrupted("t/empty/1")
	old := time.Now().Add(-48 * time.Hour)
	for _, pattern := range []string{".incoming/*", "t/*", "t"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		for _, name := range names {
			if err := os.Chtimes(name, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	interrupted("t/young/1")
	openDir(t, dir, time.Now())
	count := func(pattern string) int {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	if n := count(".incoming/*"); n != 1 {
		t.Errorf("%d files of interrupted puts, want the young one", n)
	}
	if count("t/empty") != 0 || count("t/young") != 1 || count("t/full/1") != 1 {
		t.Error("an old empty directory stays, or another goes")
	}
	// Who remembers the directory makes it again.
	if err := objstore.PutBytes(t.Context(), f, "t/empty/1", []byte("x")); err != nil {
		t.Error(err)
	}
}

// TestNoWayOut: neither a key nor a link leads out of the directory.
func TestNoWayOut(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := openDir(t, dir, time.Now())
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Get(t.Context(), "link/secret", 0, 6); err == nil {
		t.Errorf("read %q", got)
	}
	if err := objstore.PutBytes(t.Context(), f, "link/new", nil); err == nil {
		t.Error("wrote outside")
	}
	if err := f.Delete(t.Context(), "link/secret"); err == nil {
		t.Error("deleted outside")
	}
	if _, err := os.Stat(filepath.Join(outside, "secret")); err != nil {
		t.Error(err)
	}
}

func FuzzValidateKey(f *testing.F) {
	for _, s := range []string{"", "a", "a/b", "../a", "a/./b", "a//b", "a.", "Ä", "t/2026-11-25/0-1-2-3-x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if objstore.ValidateKey(key) != nil {
			return
		}
		if !filepath.IsLocal(key) || filepath.Clean(key) != key {
			t.Errorf("%q is taken", key)
		}
	})
}
