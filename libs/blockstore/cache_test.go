package blockstore

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/block"
)

type sized struct {
	mu sync.Mutex
	n  int
}

func (s *sized) MemorySize() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *sized) grow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n = n
}

// emptying is a part of which n - of bytes go.
type emptying struct {
	*sized
	of int
}

func (e emptying) EmptiedSize() int { return e.of }

func (e emptying) emptied() part {
	if e.of == 0 {
		return nil
	}
	return emptying{&sized{n: e.of}, e.of}
}

// sectioned is a section of row groups.
type sectioned struct {
	*sized
	first, n int
}

func (s sectioned) Groups() (first, n int) { return s.first, s.n }

func TestCacheIsBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := NewCache(100, reg)
	loads := 0
	get := func(n, size int) *sized {
		p, err := c.get(context.Background(), key{n: n}, func() (part, error) {
			loads++
			return &sized{n: size}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return p.(*sized)
	}
	one := get(1, 40)
	get(2, 40)
	get(1, 40) // now 2 is the oldest
	get(3, 40)
	if c.Size() != 80 || loads != 3 {
		t.Fatal(c.Size(), loads)
	}
	if get(1, 40) != one || loads != 3 {
		t.Fatal("the part that was used last is gone")
	}
	one.grow(70)
	c.measure(key{n: 1})
	if c.Size() != 70 {
		t.Fatal(c.Size())
	}
	get(4, 1000) // larger than all; it is used and goes next
	if c.Size() != 1000 {
		t.Fatal(c.Size())
	}
	get(5, 10)
	if c.Size() != 10 {
		t.Fatal(c.Size())
	}
	c.forget([]key{{n: 5}, {n: 4}})
	if c.Size() != 0 || len(c.entries) != 0 {
		t.Fatal(c.Size(), c.entries)
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n < 4 {
		t.Fatal(n, err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
}

func TestCacheLoadsOnce(t *testing.T) {
	c := NewCache(100, nil)
	begun, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if i > 0 {
				<-begun
			}
			_, err := c.get(context.Background(), key{n: 1}, func() (part, error) {
				close(begun) // panics the second time
				<-release
				return &sized{n: 1}, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	<-begun
	close(release)
	wg.Wait()
}

// That the query that loads a part ends is no failure of those that wait for it.
func TestCacheOutlivesQueries(t *testing.T) {
	c := NewCache(100, nil)
	begun, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.get(context.Background(), key{n: 1}, func() (part, error) {
			close(begun)
			<-release
			return nil, context.Canceled
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	<-begun
	wg.Go(func() {
		if p, err := c.get(context.Background(), key{n: 1}, func() (part, error) { return &sized{n: 1}, nil }); err != nil || p == nil {
			t.Error(p, err)
		}
	})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.get(ended, key{n: 1}, func() (part, error) { return nil, nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	wg.Wait()
	failed := errors.New("no disk")
	if _, err := c.get(context.Background(), key{n: 2}, func() (part, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	if _, err := c.get(context.Background(), key{n: 2}, func() (part, error) { return &sized{n: 1}, nil }); err != nil {
		t.Error("the failure was kept", err)
	}
}

// TestForgottenWhileLoaded: the parts of a block that is forgotten do not stay, those either
// that are being loaded meanwhile.
func TestForgottenWhileLoaded(t *testing.T) {
	c, r, other := NewCache(1000, nil), new(block.Reader), new(block.Reader)
	get := func(r *block.Reader, n int, load func()) {
		t.Helper()
		if _, err := c.get(t.Context(), key{block: r, kind: kindBody, n: n}, func() (part, error) { load(); return &sized{n: 10}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	get(r, 1, func() {})
	get(other, 1, func() {})
	get(r, 2, func() { c.Forget(r) })
	if len(c.entries) != 1 || c.entries[key{block: other, kind: kindBody, n: 1}] == nil {
		t.Errorf("%d parts are left", len(c.entries))
	}
}
