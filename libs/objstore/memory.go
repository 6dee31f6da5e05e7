package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Bucket that lasts as long as the process. Make one with NewMemory.
type Memory struct {
	now func() time.Time

	mu      sync.RWMutex // guards objects
	objects map[string]memoryObject
}

type memoryObject struct {
	body     []byte // never written to
	modified time.Time
}

var _ Bucket = (*Memory)(nil)

// NewMemory returns an empty bucket. now dates its objects; nil: time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, objects: map[string]memoryObject{}}
}

// Put implements Bucket.
func (m *Memory) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := errors.Join(ctx.Err(), validatePut(key, size)); err != nil {
		return err
	}
	b, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	if err != nil {
		return err
	}
	if int64(len(b)) != size {
		return fmt.Errorf("object %s: the body ended after %d of %d bytes: %w", key, len(b), size, io.ErrUnexpectedEOF)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = memoryObject{b, m.now()}
	return nil
}

// PutNew implements Bucket.
func (m *Memory) PutNew(ctx context.Context, key string, body []byte) error {
	if err := errors.Join(ctx.Err(), validatePut(key, int64(len(body)))); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; ok {
		return fmt.Errorf("%w: %s", ErrExists, key)
	}
	m.objects[key] = memoryObject{bytes.Clone(body), m.now()}
	return nil
}

func (m *Memory) object(ctx context.Context, key string) (memoryObject, error) {
	if err := ctx.Err(); err != nil {
		return memoryObject{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[key]
	if !ok {
		return o, fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	return o, nil
}

// Get implements Bucket.
func (m *Memory) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if err := validateRange(key, off, n); err != nil {
		return nil, err
	}
	o, err := m.object(ctx, key)
	if err != nil {
		return nil, err
	}
	if off+int64(n) > int64(len(o.body)) {
		return nil, fmt.Errorf("%w: %s has %d bytes, not %d from %d", ErrRange, key, len(o.body), n, off)
	}
	out := make([]byte, n)
	copy(out, o.body[off:])
	return out, nil
}

// Stat implements Bucket.
func (m *Memory) Stat(ctx context.Context, key string) (Object, error) {
	if err := ValidateKey(key); err != nil {
		return Object{}, err
	}
	o, err := m.object(ctx, key)
	if err != nil {
		return Object{}, err
	}
	return Object{key, int64(len(o.body)), o.modified}, nil
}

// List implements Bucket. yield may use the bucket.
func (m *Memory) List(ctx context.Context, prefix string, yield func(Object) error) error {
	if err := validatePrefix(prefix); err != nil {
		return err
	}
	m.mu.RLock()
	objects := maps.Clone(m.objects)
	m.mu.RUnlock()
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		o := objects[key]
		if err := yield(Object{key, int64(len(o.body)), o.modified}); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements Bucket.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}
