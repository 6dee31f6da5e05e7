package diskcache

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

// env is a cache before a store that counts what it is asked.
type env struct {
	testing.TB
	dir   string
	store *objstoretest.Faults
	now   time.Time
	free  int64
	cache *Cache
}

func start(t *testing.T, size int64) *env {
	e := &env{TB: t, dir: filepath.Join(t.TempDir(), "cache"), now: time.Now(), free: 1 << 40}
	e.store = &objstoretest.Faults{Bucket: objstore.NewMemory(time.Now)}
	for i := range 20 {
		if err := objstore.PutBytes(t.Context(), e.store, fmt.Sprint("k", i), bytes.Repeat([]byte{byte(i)}, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	e.open(size)
	return e
}

func (e *env) open(size int64) {
	c, err := New(e.store, Options{
		Dir: e.dir, Size: size, Now: func() time.Time { return e.now }, Reserve: 1000, Free: func() (int64, error) { return e.free, nil },
		Keep: func(key string) bool { return !strings.HasPrefix(key, "changes") },
	})
	if err != nil {
		e.Fatal(err)
	}
	e.cache = c
}

// get reads and reports whether the store was asked.
func (e *env) get(i int, off int64, n int) (asked bool) {
	e.Helper()
	before := e.store.Calls()
	b, err := e.cache.Get(context.WithoutCancel(e.Context()), fmt.Sprint("k", i), off, n)
	if err != nil || !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, n)) {
		e.Fatalf("got %d bytes, %v", len(b), err)
	}
	return e.store.Calls() > before
}

// used is what the files take.
func (e *env) used() (n int64) {
	_ = filepath.WalkDir(e.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, _ := d.Info()
			n += space(info.Size())
		}
		return nil
	})
	return n
}

func TestCache(t *testing.T) {
	e := start(t, 200<<10)
	for _, again := range []bool{false, true} {
		for i := range 3 {
			if e.get(i, 100, 5000) == again || e.get(i, 101, 5000) == again || e.get(i, 0, 0) == again {
				t.Errorf("%d again %v: asked the wrong time", i, again)
			}
		}
	}
	// It is there after a restart, and what is not the cache's is not.
	if err := os.WriteFile(filepath.Join(e.dir, "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.open(200 << 10)
	if e.get(1, 100, 5000) || e.used() != e.cache.bytes {
		t.Errorf("%d bytes of files, %d are known", e.used(), e.cache.bytes)
	}
	// Errors are the store's, and are not kept.
	for range 2 {
		if _, err := e.cache.Get(t.Context(), "none", 0, 1); err == nil {
			t.Error("no error")
		}
	}
	// What changes, and what is too large, is not kept.
	if err := objstore.PutBytes(t.Context(), e.store, "changes", []byte("a")); err != nil {
		t.Fatal(err)
	}
	if b, err := e.cache.Get(t.Context(), "changes", 0, 1); err != nil || string(b) != "a" || e.used() != e.cache.bytes {
		t.Error(b, err)
	}
	e.open(40 << 10)
	for range 2 {
		if !e.get(1, 0, 10_000) {
			t.Error("too large, and kept")
		}
	}
}

// Whatever the disk does to a file, what is read is right.
func TestDamageAndCrashes(t *testing.T) {
	e := start(t, 200<<10)
	e.get(1, 0, 3000)
	var path string
	for name := range e.cache.files {
		path = e.cache.path(name)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[7] ^= 1
	for what, b := range map[string][]byte{"flipped": flipped, "cut": whole[:100], "empty": {}, "longer": append(bytes.Clone(whole), 0)} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if e.open(200 << 10); !e.get(1, 0, 3000) || e.get(1, 0, 3000) {
			t.Errorf("%s: it was believed, or not written again", what)
		}
	}
	if err := os.Remove(path); err != nil || !e.get(1, 0, 3000) {
		t.Error("what is gone was there")
	}
	// A write that was interrupted leaves nothing.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), tempPrefix+"1"), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if e.open(200 << 10); e.used() != e.cache.bytes || e.get(1, 0, 3000) {
		t.Errorf("%d bytes of files, %d are known", e.used(), e.cache.bytes)
	}
}

func TestItIsBounded(t *testing.T) {
	e := start(t, 64<<10)
	for i := range 20 {
		e.get(0, 0, 5000) // stays in use
		e.get(i, 0, 5000)
		if u := e.used(); u > 64<<10 || u != e.cache.bytes {
			t.Fatalf("%d bytes of files, %d are known", u, e.cache.bytes)
		}
	}
	if e.get(0, 0, 5000) || e.get(19, 0, 5000) || !e.get(2, 0, 5000) {
		t.Error("not those that were used last are there")
	}
	// The order outlives a restart; a smaller limit holds at once.
	e.now = e.now.Add(time.Hour)
	e.get(0, 0, 5000)
	e.open(3 * 8 << 10)
	if e.used() > 24<<10 || e.cache.order.Len() == 0 {
		t.Errorf("%d bytes", e.used())
	}
	// A disk that is nearly full is not filled: the cache gives way.
	e.open(64 << 10)
	e.free = 2000
	before := e.used()
	if e.get(7, 0, 5000); e.used() >= before {
		t.Errorf("%d bytes, before %d", e.used(), before)
	}
	// One that cannot be written to is no error.
	e.free = 1 << 40
	e.open(64 << 10)
	if err := os.RemoveAll(e.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.get(8, 0, 5000)
	e.get(8, 0, 5000)
}

func TestConcurrently(t *testing.T) {
	e := start(t, 64<<10)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				k := (i*7 + g) % 20
				b, err := e.cache.Get(t.Context(), fmt.Sprint("k", k), int64(i%3), 4000)
				if err != nil || !bytes.Equal(b, bytes.Repeat([]byte{byte(k)}, 4000)) {
					t.Errorf("got %d bytes, %v", len(b), err)
				}
			}
		})
	}
	wg.Wait()
	if u := e.used(); u != e.cache.bytes || u > 64<<10 {
		t.Errorf("%d bytes of files, %d are known", u, e.cache.bytes)
	}
}
