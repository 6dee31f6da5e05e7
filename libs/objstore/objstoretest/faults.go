package objstoretest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/objstore"
)

// ErrSlowDown is what a failing store says: 503.
var ErrSlowDown = errors.New("503 SlowDown: please reduce your request rate")

// Faults is a bucket around another that fails as told. Its fields are set before it is used, Fail and
// Hang at any time. Functions are called concurrently. op is put, put_new, get, stat, list or delete.
type Faults struct {
	objstore.Bucket

	// Before, if set, is called before an operation, which fails with its error. It may wait, as a
	// slow store does, until ctx ends.
	Before func(ctx context.Context, op, key string) error
	// After, if set, is called after an operation that succeeded, which then fails with its error: it
	// is done, and its caller does not know.
	After func(op, key string) error
	// HalfPut: puts of keys for which it is true store the first half and report success.
	HalfPut func(key string) bool
	// Truncate: gets of keys for which it is true break off in the middle.
	Truncate func(key string) bool
	// Flip: gets of keys for which it is true have a bit wrong.
	Flip func(key string) bool
	// Stale: listings show what is there as of the last call of Freeze.
	Stale bool

	calls  atomic.Int64
	mu     sync.Mutex // guards frozen
	frozen []objstore.Object
}

var _ objstore.Bucket = (*Faults)(nil)

// Failing returns a Before that fails the first n operations for which of returns true; n < 0: all.
func Failing(n int, of func(op, key string) bool) func(context.Context, string, string) error {
	var left atomic.Int64
	left.Store(int64(n))
	return func(_ context.Context, op, key string) error {
		if of(op, key) && (n < 0 || left.Add(-1) >= 0) {
			return ErrSlowDown
		}
		return nil
	}
}

// Hanging is a Before that lasts until the context ends: a half-open connection.
func Hanging(ctx context.Context, _, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// Calls returns how many operations there were.
func (f *Faults) Calls() int { return int(f.calls.Load()) }

// Freeze takes the listing that stale ones show.
func (f *Faults) Freeze(ctx context.Context) error {
	var all []objstore.Object
	err := f.Bucket.List(ctx, "", func(o objstore.Object) error { all = append(all, o); return nil })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = all
	return err
}

func (f *Faults) around(ctx context.Context, op, key string, run func() error) error {
	f.calls.Add(1)
	if f.Before != nil {
		if err := f.Before(ctx, op, key); err != nil {
			return err
		}
	}
	if err := run(); err != nil {
		return err
	}
	if f.After != nil {
		return f.After(op, key)
	}
	return nil
}

// Put implements objstore.Bucket.
func (f *Faults) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	return f.around(ctx, "put", key, func() error {
		if f.HalfPut != nil && f.HalfPut(key) {
			size /= 2
		}
		return f.Bucket.Put(ctx, key, body, size)
	})
}

// PutNew implements objstore.Bucket.
func (f *Faults) PutNew(ctx context.Context, key string, body []byte) error {
	return f.around(ctx, "put_new", key, func() error {
		if f.HalfPut != nil && f.HalfPut(key) {
			body = body[:len(body)/2]
		}
		return f.Bucket.PutNew(ctx, key, body)
	})
}

// Get implements objstore.Bucket.
func (f *Faults) Get(ctx context.Context, key string, off int64, n int) (b []byte, err error) {
	err = f.around(ctx, "get", key, func() error {
		if b, err = f.Bucket.Get(ctx, key, off, n); err != nil {
			return err
		}
		if f.Truncate != nil && f.Truncate(key) {
			return fmt.Errorf("%s: the answer ended after %d of %d bytes: %w", key, n/2, n, io.ErrUnexpectedEOF)
		}
		if f.Flip != nil && f.Flip(key) && n > 0 {
			b[n/2] ^= 0x10
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Stat implements objstore.Bucket.
func (f *Faults) Stat(ctx context.Context, key string) (o objstore.Object, err error) {
	err = f.around(ctx, "stat", key, func() error {
		o, err = f.Bucket.Stat(ctx, key)
		return err
	})
	return o, err
}

// List implements objstore.Bucket.
func (f *Faults) List(ctx context.Context, prefix string, yield func(objstore.Object) error) error {
	return f.around(ctx, "list", prefix, func() error {
		if !f.Stale {
			return f.Bucket.List(ctx, prefix, yield)
		}
		f.mu.Lock()
		frozen := slices.Clone(f.frozen)
		f.mu.Unlock()
		for _, o := range frozen {
			if strings.HasPrefix(o.Key, prefix) {
				if err := yield(o); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Delete implements objstore.Bucket.
func (f *Faults) Delete(ctx context.Context, key string) error {
	return f.around(ctx, "delete", key, func() error { return f.Bucket.Delete(ctx, key) })
}

// Vanish removes the object behind everyone's back.
func (f *Faults) Vanish(ctx context.Context, key string) error { return f.Bucket.Delete(ctx, key) }
