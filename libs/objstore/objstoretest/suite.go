// Package objstoretest has the suite that every object store passes, and buckets that fail in the
// ways that object stores do.
package objstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weir-logs/weir/libs/objstore"
)

// Run checks what objstore.Bucket promises. open returns an empty bucket that lasts for the test.
func Run(t *testing.T, open func(t *testing.T) objstore.Bucket) {
	for name, check := range map[string]func(*testing.T, objstore.Bucket){
		"get back":        getBack,
		"replace":         replace,
		"new":             putNew,
		"new is atomic":   putNewAtomic,
		"ranges":          ranges,
		"list":            list,
		"list stops":      listStops,
		"many":            many,
		"delete":          remove,
		"keys":            keys,
		"short body":      shortBody,
		"cancelled":       cancelled,
		"whole or not":    wholeOrNot,
		"list while gone": listWhileGone,
		"verify":          verify,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

func put(t *testing.T, b objstore.Bucket, key, body string) {
	t.Helper()
	if err := objstore.PutBytes(t.Context(), b, key, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, b objstore.Bucket, key, body string) {
	t.Helper()
	got, err := objstore.ReadAll(t.Context(), b, key, 1<<20)
	if err != nil || string(got) != body {
		t.Fatalf("%s is %.40q (%d bytes), %v; want %.40q", key, got, len(got), err, body)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func listing(t *testing.T, b objstore.Bucket, prefix string) []string {
	t.Helper()
	keys := []string{}
	if err := b.List(t.Context(), prefix, func(o objstore.Object) error {
		keys = append(keys, o.Key)
		return nil
	}); err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	return keys
}

func getBack(t *testing.T, b objstore.Bucket) {
	for i, body := range []string{"", "x", "\x00\xff\r\n", string(bytes.Repeat([]byte("0123456789"), 1000))} {
		key := fmt.Sprintf("tenant/2026-11-25/%d-(a)_!'*.=+b", i)
		put(t, b, key, body)
		want(t, b, key, body)
		o, err := b.Stat(t.Context(), key)
		if err != nil || o.Key != key || o.Size != int64(len(body)) || o.Modified.IsZero() {
			t.Errorf("stat %s: %+v, %v", key, o, err)
		}
	}
	_, err := b.Stat(t.Context(), "tenant/missing")
	wantError(t, "stat of nothing", err, objstore.ErrNotFound)
	_, err = b.Stat(t.Context(), "tenant")
	wantError(t, "stat of a prefix", err, objstore.ErrNotFound)
	for _, key := range []string{"tenant/missing", "tenant", "nothing/here"} {
		_, err = b.Get(t.Context(), key, 0, 1)
		wantError(t, "get of "+key, err, objstore.ErrNotFound)
	}
}

func replace(t *testing.T, b objstore.Bucket) {
	put(t, b, "a/b", "a longer first body")
	put(t, b, "a/b", "second")
	want(t, b, "a/b", "second")
}

func putNew(t *testing.T, b objstore.Bucket) {
	body := []byte("first")
	if err := b.PutNew(t.Context(), "a/new", body); err != nil {
		t.Fatal(err)
	}
	body[0] = 'X' // the bucket keeps no slice of its caller's
	wantError(t, "second", b.PutNew(t.Context(), "a/new", []byte("second")), objstore.ErrExists)
	want(t, b, "a/new", "first")
	put(t, b, "a/put", "put")
	wantError(t, "after put", b.PutNew(t.Context(), "a/put", []byte("new")), objstore.ErrExists)
	if err := b.Delete(t.Context(), "a/new"); err != nil {
		t.Fatal(err)
	}
	if err := b.PutNew(t.Context(), "a/new", nil); err != nil {
		t.Errorf("after delete: %v", err)
	}
	want(t, b, "a/new", "")
}

func putNewAtomic(t *testing.T, b objstore.Bucket) {
	const writers = 8
	for round := range 5 {
		key := fmt.Sprint("race/", round)
		var wins atomic.Int32
		var winner atomic.Value
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				body := fmt.Sprint("writer ", w)
				err := b.PutNew(context.WithoutCancel(t.Context()), key, []byte(body))
				switch {
				case err == nil:
					wins.Add(1)
					winner.Store(body)
				case !errors.Is(err, objstore.ErrExists):
					t.Errorf("writer %d: %v", w, err)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d of %d writers were the first", wins.Load(), writers)
		}
		want(t, b, key, winner.Load().(string))
	}
}

func ranges(t *testing.T, b objstore.Bucket) {
	put(t, b, "a/r", "0123456789")
	for _, c := range []struct {
		off  int64
		n    int
		want string
	}{{0, 10, "0123456789"}, {0, 1, "0"}, {9, 1, "9"}, {3, 4, "3456"}, {0, 0, ""}, {10, 0, ""}} {
		got, err := b.Get(t.Context(), "a/r", c.off, c.n)
		if err != nil || string(got) != c.want {
			t.Errorf("%d bytes from %d: %q, %v", c.n, c.off, got, err)
		}
	}
	for _, c := range []struct {
		off int64
		n   int
	}{{0, 11}, {9, 2}, {10, 1}, {11, 1}, {1 << 40, 5}, {-1, 2}, {1, -1}} {
		got, err := b.Get(t.Context(), "a/r", c.off, c.n)
		if !errors.Is(err, objstore.ErrRange) {
			t.Errorf("%d bytes from %d: %q, %v; want ErrRange", c.n, c.off, got, err)
		}
	}
}

func list(t *testing.T, b objstore.Bucket) {
	keys := []string{"a-b/x", "a/1", "a/2/x", "a/20", "a/2a/x", "a0", "b/1", "z"}
	for _, k := range slices.Backward(keys) {
		put(t, b, k, k)
	}
	for prefix, want := range map[string][]string{
		"":     {"a-b/x", "a/1", "a/2/x", "a/20", "a/2a/x", "a0", "b/1", "z"},
		"a":    {"a-b/x", "a/1", "a/2/x", "a/20", "a/2a/x", "a0"},
		"a/":   {"a/1", "a/2/x", "a/20", "a/2a/x"},
		"a/2":  {"a/2/x", "a/20", "a/2a/x"},
		"a/2/": {"a/2/x"},
		"a/1":  {"a/1"},
		"a/1/": {},
		"z":    {"z"},
		"none": {},
		"c/d/": {},
	} {
		if got := listing(t, b, prefix); !slices.Equal(got, want) {
			t.Errorf("list %q: %q, want %q", prefix, got, want)
		}
	}
	err := b.List(t.Context(), "a/1", func(o objstore.Object) error {
		if o.Size != 3 || o.Modified.IsZero() {
			t.Errorf("listed as %+v", o)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func listStops(t *testing.T, b objstore.Bucket) {
	for i := range 5 {
		put(t, b, fmt.Sprint("s/", i), "x")
	}
	stop := errors.New("enough")
	n := 0
	err := b.List(t.Context(), "s/", func(objstore.Object) error {
		if n++; n == 2 {
			return stop
		}
		return nil
	})
	if n != 2 || !errors.Is(err, stop) {
		t.Errorf("%d objects, error %v", n, err)
	}
}

// many objects need several pages of a listing.
func many(t *testing.T, b objstore.Bucket) {
	const n = 1105
	var wg sync.WaitGroup
	for w := range 5 {
		wg.Go(func() {
			for i := w; i < n; i += 5 {
				if err := objstore.PutBytes(t.Context(), b, fmt.Sprintf("m/%d/%04d", i%3, i), nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got := listing(t, b, "m/")
	if len(got) != n || !slices.IsSorted(got) || len(slices.Compact(got)) != n {
		t.Errorf("%d objects, sorted %v; want %d", len(got), slices.IsSorted(got), n)
	}
}

func remove(t *testing.T, b objstore.Bucket) {
	put(t, b, "d/1", "x")
	put(t, b, "d/2", "y")
	for range 2 { // the second finds nothing
		if err := b.Delete(t.Context(), "d/1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(t.Context(), "d"); err != nil {
		t.Errorf("delete of a prefix: %v", err)
	}
	if err := b.Delete(t.Context(), "d/2/below"); err != nil {
		t.Errorf("delete below an object: %v", err)
	}
	if got := listing(t, b, ""); !slices.Equal(got, []string{"d/2"}) {
		t.Errorf("left: %q", got)
	}
	put(t, b, "d/1", "again")
	want(t, b, "d/1", "again")
}

func keys(t *testing.T, b objstore.Bucket) {
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../../b", "a/./b", ".a", "a/.b", "a.", "a./b", "a b", "a\x00", "a\\b", "a%2fb", "a~b", "ä", "a\nb", "a:b", string(bytes.Repeat([]byte("k"), 256)), string(bytes.Repeat([]byte("k/"), 500)) + "k"} {
		wantError(t, fmt.Sprintf("put %q", key), objstore.PutBytes(t.Context(), b, key, nil), objstore.ErrInvalidKey)
		wantError(t, fmt.Sprintf("put new %q", key), b.PutNew(t.Context(), key, nil), objstore.ErrInvalidKey)
		_, err := b.Get(t.Context(), key, 0, 0)
		wantError(t, fmt.Sprintf("get %q", key), err, objstore.ErrInvalidKey)
		_, err = b.Stat(t.Context(), key)
		wantError(t, fmt.Sprintf("stat %q", key), err, objstore.ErrInvalidKey)
		wantError(t, fmt.Sprintf("delete %q", key), b.Delete(t.Context(), key), objstore.ErrInvalidKey)
	}
	for _, prefix := range []string{"/", "../", "a/../", "..", ".incoming/"} {
		err := b.List(t.Context(), prefix, func(objstore.Object) error { return nil })
		wantError(t, fmt.Sprintf("list %q", prefix), err, objstore.ErrInvalidKey)
	}
	if got := listing(t, b, ""); len(got) > 0 {
		t.Errorf("made %q", got)
	}
}

func shortBody(t *testing.T, b objstore.Bucket) {
	if err := b.Put(t.Context(), "s/1", bytes.NewReader([]byte("abc")), 4); err == nil {
		t.Error("a body of 3 bytes is taken for 4")
	}
	if err := b.Put(t.Context(), "s/2", bytes.NewReader(nil), -1); err == nil {
		t.Error("a negative size is taken")
	}
	if got := listing(t, b, ""); len(got) > 0 {
		t.Errorf("made %q", got)
	}
	if err := b.Put(t.Context(), "s/3", bytes.NewReader([]byte("abcdef")), 3); err != nil {
		t.Error(err)
	}
	want(t, b, "s/3", "abc")
}

func cancelled(t *testing.T, b objstore.Bucket) {
	put(t, b, "c/1", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "put", objstore.PutBytes(ctx, b, "c/2", []byte("y")), context.Canceled)
	wantError(t, "put new", b.PutNew(ctx, "c/2", []byte("y")), context.Canceled)
	_, err := b.Get(ctx, "c/1", 0, 1)
	wantError(t, "get", err, context.Canceled)
	_, err = b.Stat(ctx, "c/1")
	wantError(t, "stat", err, context.Canceled)
	wantError(t, "delete", b.Delete(ctx, "c/1"), context.Canceled)
	wantError(t, "list", b.List(ctx, "", func(objstore.Object) error { return nil }), context.Canceled)
	if got := listing(t, b, ""); !slices.Equal(got, []string{"c/1"}) {
		t.Errorf("left: %q", got)
	}
}

// wholeOrNot: whoever reads while others write sees one of the bodies, never a mixture.
func wholeOrNot(t *testing.T, b objstore.Bucket) {
	const size = 64 << 10
	body := func(w int) []byte { return bytes.Repeat([]byte{byte('a' + w)}, size) }
	put(t, b, "w/1", string(body(0)))
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for range 10 {
				if err := objstore.PutBytes(t.Context(), b, "w/1", body(w)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := b.Get(t.Context(), "w/1", 0, size)
				if err != nil || !bytes.Equal(got, bytes.Repeat(got[:1], size)) {
					t.Errorf("a mixture, or %v", err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

// listWhileGone: a listing is complete and without error while other objects come and go.
func listWhileGone(t *testing.T, b objstore.Bucket) {
	for i := range 20 {
		put(t, b, fmt.Sprintf("g/stays-%02d", i), "x")
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			key := fmt.Sprintf("g/goes-%d/x", i%7)
			if err := errors.Join(objstore.PutBytes(t.Context(), b, key, nil), b.Delete(t.Context(), key)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20 {
		if got := listing(t, b, "g/stays"); len(got) != 20 {
			t.Errorf("%d of 20 objects listed", len(got))
		}
		for _, key := range listing(t, b, "g/") {
			if _, err := b.Stat(t.Context(), key); err != nil && !errors.Is(err, objstore.ErrNotFound) {
				t.Error(err)
			}
		}
	}
	close(done)
	wg.Wait()
}

func verify(t *testing.T, b objstore.Bucket) {
	body := bytes.Repeat([]byte("weir"), 2<<20) // more than one read
	sum, err := objstore.Sum(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "v/1", bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	if err := objstore.Verify(t.Context(), b, "v/1", int64(len(body)), sum); err != nil {
		t.Error(err)
	}
	wantError(t, "another size", objstore.Verify(t.Context(), b, "v/1", int64(len(body))-1, sum), objstore.ErrDamaged)
	wantError(t, "another sum", objstore.Verify(t.Context(), b, "v/1", int64(len(body)), sum+1), objstore.ErrDamaged)
	wantError(t, "nothing", objstore.Verify(t.Context(), b, "v/2", 1, sum), objstore.ErrNotFound)
}
