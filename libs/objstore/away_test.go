package objstore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

// TestAway: a store that does not answer is away since its first attempt failed, reads and
// writes apart; any answer, that there is nothing too, ends that; a caller that gives up
// says nothing about the store, and what nobody tries any more is not told for ever.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Pointer[func(ctx context.Context, op string) error]
		set := func(f func(ctx context.Context, op string) error) { fail.Store(&f) }
		f := &objstoretest.Faults{Bucket: objstore.NewMemory(nil), Before: func(ctx context.Context, op, _ string) error {
			if f := fail.Load(); f != nil && *f != nil {
				return (*f)(ctx, op)
			}
			return nil
		}}
		c := objstore.NewClient(f, objstore.ClientOptions{Jitter: func() float64 { return 0 }})
		want := func(what, want string) {
			t.Helper()
			if got := c.Away(); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		get := func() error { _, err := c.Get(t.Context(), "a", 0, 1); return err }
		put := func() error { return objstore.PutBytes(t.Context(), c, "a", []byte("x")) }
		slow := func(context.Context, string) error { return objstoretest.ErrSlowDown }
		want("at first", "")

		set(slow)
		since := time.Now().UTC().Format(time.RFC3339)
		if err := get(); !errors.Is(err, objstore.ErrUnavailable) {
			t.Fatal(err)
		}
		want("a read failed", "reads fail since "+since)
		time.Sleep(time.Minute)
		_ = get()
		want("another one", "reads fail since "+since)
		later := time.Now().UTC().Format(time.RFC3339)
		_ = put()
		want("a write failed", "reads fail since "+since+", writes fail since "+later)
		set(nil)
		if err := get(); !errors.Is(err, objstore.ErrNotFound) {
			t.Fatal(err)
		}
		want("an answer", "writes fail since "+later)
		if err := put(); err != nil {
			t.Fatal(err)
		}
		want("all answers", "")

		// It hangs: told while attempts are still made.
		set(func(ctx context.Context, op string) error { return objstoretest.Hanging(ctx, op, "") })
		since = time.Now().UTC().Format(time.RFC3339)
		done := make(chan error)
		go func() { done <- get() }()
		time.Sleep(45 * time.Second)
		want("it hangs", "reads fail since "+since)
		<-done
		time.Sleep(11 * time.Minute)
		want("nobody tries", "")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		set(nil)
		_ = get()
		set(func(ctx context.Context, op string) error { return objstoretest.Hanging(ctx, op, "") })
		_, _ = c.Get(ctx, "a", 0, 1)
		want("a caller that gave up", "")

		// Not allowed, at once.
		set(func(context.Context, string) error { return objstore.ErrDenied })
		since = time.Now().UTC().Format(time.RFC3339)
		_ = put()
		want("denied", "writes fail since "+since)
	})
}
