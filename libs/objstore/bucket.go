// Package objstore keeps immutable objects: in a directory, in S3, in Google Cloud Storage, in
// Azure Blob Storage, or in memory for tests. All of them are a [Bucket] and pass the suite of
// package objstoretest.
package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Errors that every Bucket returns, wrapped, and that errors.Is finds.
var (
	// ErrNotFound: there is no object under the key.
	ErrNotFound = errors.New("object not found")
	// ErrExists: PutNew found an object under the key.
	ErrExists = errors.New("object exists already")
	// ErrRange: the object is shorter than the range that was asked for.
	ErrRange = errors.New("object is shorter than expected")
	// ErrInvalidKey: the key breaks the rules of ValidateKey.
	ErrInvalidKey = errors.New("invalid object key")
	// ErrDenied: the store knows who asks and refuses; to try again is of no use.
	ErrDenied = errors.New("access denied by the object store")
	// ErrUnavailable: the store could not be reached or failed, as often as it was tried. Nothing is
	// known about the object.
	ErrUnavailable = errors.New("object store unavailable")
	// ErrDamaged: the object is not what was stored.
	ErrDamaged = errors.New("object is damaged")
)

// Object describes an object.
type Object struct {
	Key      string
	Size     int64 // bytes
	Modified time.Time
}

// Bucket is a set of objects under keys. Objects appear whole or not at all, and are seen by a Get,
// Stat or List that begins after Put or PutNew returned. Implementations are safe for concurrent
// use; errors are those of this package, or of the context.
type Bucket interface {
	// Put stores size bytes of body under key, in place of what is there. When it returns nil they
	// are durable. When it returns an error the object is the old one or the new one. body is not
	// read after the return.
	Put(ctx context.Context, key string, body io.ReaderAt, size int64) error
	// PutNew stores body under key, durably, or returns ErrExists if an object is there. Of several
	// concurrent callers one succeeds.
	PutNew(ctx context.Context, key string, body []byte) error
	// Get returns the n bytes from off on, never fewer: ErrRange if the object ends before. The
	// caller owns the result.
	Get(ctx context.Context, key string, off int64, n int) ([]byte, error)
	Stat(ctx context.Context, key string) (Object, error)
	// List yields all objects whose keys begin with prefix, ascending by key, and stops at the first
	// error of yield, which it returns. Objects that come or go meanwhile may be among them or not.
	List(ctx context.Context, prefix string, yield func(Object) error) error
	// Delete removes the object. That it is not there is no error.
	Delete(ctx context.Context, key string) error
}

// MaxKey is the longest key in bytes, prefix included. S3 and GCS take 1024.
const MaxKey = 900

// maxObject is the largest object in bytes: what Azure and S3 take in parts of 64 MiB and more.
const maxObject = 5 << 40

// ValidateKey returns an error unless key is path elements joined by "/", of 1 to 255 bytes each,
// made of letters, digits and !_.*'()=+- and neither beginning nor ending with a dot. So no key has a
// meaning of its own in a file system, a URL or a shell's history.
func ValidateKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%w: %d bytes long, want 1 to %d", ErrInvalidKey, len(key), MaxKey)
	}
	start := 0
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			if !keyByte(key[i]) {
				return fmt.Errorf("%w %q: byte %d is not allowed", ErrInvalidKey, key, i)
			}
			continue
		}
		if n := i - start; n == 0 || n > 255 || key[start] == '.' || key[i-1] == '.' {
			return fmt.Errorf("%w %q: an element is empty, longer than 255 bytes, or begins or ends with a dot", ErrInvalidKey, key)
		}
		start = i + 1
	}
	return nil
}

func keyByte(c byte) bool {
	switch c {
	case '!', '_', '.', '*', '\'', '(', ')', '-', '=', '+':
		return true
	}
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// validatePrefix is ValidateKey for what a key may begin with: "" and the start of an element too.
func validatePrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return ValidateKey(prefix + "x")
}

func validateRange(key string, off int64, n int) error {
	if err := ValidateKey(key); err != nil {
		return err
	}
	if off < 0 || n < 0 || off > maxObject-int64(n) {
		return fmt.Errorf("%w: %s: %d bytes from %d", ErrRange, key, n, off)
	}
	return nil
}

func validatePut(key string, size int64) error {
	if err := ValidateKey(key); err != nil {
		return err
	}
	if size < 0 || size > maxObject {
		return fmt.Errorf("object %s of %d bytes: want 0 to %d", key, size, int64(maxObject))
	}
	return nil
}

// PutBytes is b.Put of a slice.
func PutBytes(ctx context.Context, b Bucket, key string, body []byte) error {
	return b.Put(ctx, key, bytes.NewReader(body), int64(len(body)))
}

// ReadAll returns the object under key, which must have at most limit bytes.
func ReadAll(ctx context.Context, b Bucket, key string, limit int64) ([]byte, error) {
	o, err := b.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if o.Size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are expected", ErrDamaged, key, o.Size, limit)
	}
	return b.Get(ctx, key, 0, int(o.Size))
}

// Reader reads one object of a bucket. Its methods are safe for concurrent use.
type Reader struct {
	Bucket Bucket
	Key    string
}

// ReadRange returns the n bytes from off on.
func (r Reader) ReadRange(ctx context.Context, off int64, n int) ([]byte, error) {
	return r.Bucket.Get(ctx, r.Key, off, n)
}

// verifyChunk is how much Verify reads at a time.
const verifyChunk = 4 << 20

// Verify reads the object under key back as a whole and returns ErrDamaged unless it has size bytes
// whose XXH64 with seed 0 is sum. A put that was reported done may have stored half of it: only after
// Verify may anything be dropped in the object's favour.
func Verify(ctx context.Context, b Bucket, key string, size int64, sum uint64) error {
	o, err := b.Stat(ctx, key)
	if err != nil {
		return err
	}
	if o.Size != size {
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrDamaged, key, o.Size, size)
	}
	h := xxhash.New()
	for off := int64(0); off < size; {
		part, err := b.Get(ctx, key, off, int(min(verifyChunk, size-off)))
		if errors.Is(err, ErrRange) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if err != nil {
			return err
		}
		_, _ = h.Write(part)
		off += int64(len(part))
	}
	if got := h.Sum64(); got != sum {
		return fmt.Errorf("%w: %s has the checksum %016x, not %016x", ErrDamaged, key, got, sum)
	}
	return nil
}

// Sum returns the XXH64 with seed 0 of the size bytes of body, as Verify wants it.
func Sum(body io.ReaderAt, size int64) (uint64, error) {
	h := xxhash.New()
	if _, err := io.CopyN(h, io.NewSectionReader(body, 0, size), size); err != nil {
		return 0, err
	}
	return h.Sum64(), nil
}

// readExact reads n bytes of body, which a store sends as the answer to a Get.
func readExact(key string, body io.Reader, n int) ([]byte, error) {
	out := make([]byte, n)
	got, err := io.ReadFull(body, out)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%s: the answer ended after %d of %d bytes: %w", key, got, n, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}
