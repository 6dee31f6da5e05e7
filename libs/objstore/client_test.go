package objstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClient(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Bucket {
		return objstore.NewClient(objstore.NewMemory(nil), objstore.ClientOptions{MinBackoff: time.Millisecond})
	})
}

// TestClientOverFailures: the suite passes over a store of which half of the calls fail.
func TestClientOverFailures(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Bucket {
		var mu sync.Mutex
		// Half of the calls fail, at random: of those that alternate, callers that go in step
		// may only ever get the ones that fail.
		rnd := rand.New(rand.NewPCG(1, 2))
		f := &objstoretest.Faults{Bucket: objstore.NewMemory(nil)}
		f.Before = func(context.Context, string, string) error {
			mu.Lock()
			defer mu.Unlock()
			if rnd.IntN(2) == 0 {
				return objstoretest.ErrSlowDown
			}
			return nil
		}
		return objstore.NewClient(f, objstore.ClientOptions{MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond, Attempts: 60})
	})
}

func always(string, string) bool { return true }

func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		f := &objstoretest.Faults{Bucket: objstore.NewMemory(nil), Before: objstoretest.Failing(3, always)}
		c := objstore.NewClient(f, objstore.ClientOptions{Jitter: func() float64 { return 0 }, Reg: reg})
		start := time.Now()
		if err := objstore.PutBytes(t.Context(), c, "a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != (200+400+800)*time.Millisecond {
			t.Errorf("paused for %v", took)
		}
		f.Before = objstoretest.Failing(-1, always)
		n := f.Calls()
		_, err := c.Get(t.Context(), "a", 0, 1)
		if !errors.Is(err, objstore.ErrUnavailable) || !errors.Is(err, objstoretest.ErrSlowDown) || f.Calls()-n != 4 {
			t.Errorf("%v after %d calls", err, f.Calls()-n)
		}
		f.Before = nil
		n = f.Calls()
		if _, err := c.Get(t.Context(), "b", 0, 1); !errors.Is(err, objstore.ErrNotFound) || errors.Is(err, objstore.ErrUnavailable) || f.Calls()-n != 1 {
			t.Errorf("a missing object: %v after %d calls", err, f.Calls()-n)
		}
		if n, err := testutil.GatherAndCount(reg); err != nil || n == 0 {
			t.Error(n, err)
		}
		problems, err := testutil.GatherAndLint(reg)
		if err != nil || len(problems) > 0 {
			t.Error(problems, err)
		}
	})
}

// TestHangingStore: a connection that says nothing ends with the attempt's timeout, for larger objects later.
func TestHangingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &objstoretest.Faults{Bucket: objstore.NewMemory(nil), Before: objstoretest.Hanging}
		c := objstore.NewClient(f, objstore.ClientOptions{Attempts: 1})
		for what, want := range map[string]time.Duration{"get": 30 * time.Second, "get more": 40 * time.Second, "list": 30 * time.Second} {
			start := time.Now()
			var err error
			switch what {
			case "get":
				_, err = c.Get(t.Context(), "a", 0, 1)
			case "get more":
				_, err = c.Get(t.Context(), "a", 0, 10<<20)
			case "list":
				err = c.List(t.Context(), "", func(objstore.Object) error { return nil })
			}
			if took := time.Since(start); !errors.Is(err, objstore.ErrUnavailable) || took != want {
				t.Errorf("%s: %v after %v", what, err, took)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Stat(ctx, "a")
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, objstore.ErrUnavailable) {
			t.Errorf("the caller's own timeout: %v", err)
		}
	})
}

// TestUploadsAreFew: more uploads than allowed wait.
func TestUploadsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		f := &objstoretest.Faults{Bucket: objstore.NewMemory(nil)}
		f.Before = func(context.Context, string, string) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		}
		c := objstore.NewClient(f, objstore.ClientOptions{})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := objstore.PutBytes(t.Context(), c, fmt.Sprint("k", i), nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most != 4 {
			t.Errorf("%d uploads at a time", most)
		}
	})
}

// TestPutNewAnswerLost: a put whose answer was lost is known for one's own at the next attempt, another's is not.
func TestPutNewAnswerLost(t *testing.T) {
	lost := true
	f := &objstoretest.Faults{Bucket: objstore.NewMemory(nil)}
	f.After = func(op, _ string) error {
		if op == "put_new" && lost {
			lost = false
			return objstoretest.ErrSlowDown
		}
		return nil
	}
	c := objstore.NewClient(f, objstore.ClientOptions{MinBackoff: time.Microsecond})
	if err := c.PutNew(t.Context(), "a", []byte("mine")); err != nil {
		t.Error(err)
	}
	f.After, f.Before = nil, objstoretest.Failing(1, always)
	if err := c.PutNew(t.Context(), "a", []byte("other")); !errors.Is(err, objstore.ErrExists) {
		t.Error(err)
	}
}

// TestListBrokenOff: objects are yielded once though the listing had to be begun anew.
func TestListBrokenOff(t *testing.T) {
	m := objstore.NewMemory(nil)
	for i := range 10 {
		if err := objstore.PutBytes(t.Context(), m, fmt.Sprint("k", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	c := objstore.NewClient(&breaking{Bucket: m}, objstore.ClientOptions{MinBackoff: time.Microsecond})
	var keys string
	if err := c.List(t.Context(), "k", func(o objstore.Object) error { keys += o.Key; return nil }); err != nil {
		t.Fatal(err)
	}
	if keys != "k0k1k2k3k4k5k6k7k8k9" {
		t.Error(keys)
	}
}

// breaking breaks each listing off later than the one before.
type breaking struct {
	objstore.Bucket
	n int
}

func (b *breaking) List(ctx context.Context, prefix string, yield func(objstore.Object) error) error {
	b.n += 4
	left := b.n
	return b.Bucket.List(ctx, prefix, func(o objstore.Object) error {
		if left--; left < 0 {
			return io.ErrUnexpectedEOF
		}
		return yield(o)
	})
}

// TestRule14HalfStored: a put that reports success and stored half, or whose bytes are wrong, is found by
// reading it back.
func TestRule14HalfStored(t *testing.T) {
	body := bytes.Repeat([]byte("weir"), 1000)
	sum, err := objstore.Sum(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	on := func(string) bool { return true }
	for name, c := range map[string]struct {
		faults *objstoretest.Faults
		want   error
	}{
		"whole":     {&objstoretest.Faults{}, nil},
		"half":      {&objstoretest.Faults{HalfPut: on}, objstore.ErrDamaged},
		"flipped":   {&objstoretest.Faults{Flip: on}, objstore.ErrDamaged},
		"truncated": {&objstoretest.Faults{Truncate: on}, objstore.ErrUnavailable},
	} {
		c.faults.Bucket = objstore.NewMemory(nil)
		b := objstore.NewClient(c.faults, objstore.ClientOptions{MinBackoff: time.Microsecond})
		if err := objstore.PutBytes(t.Context(), b, "a", body); err != nil {
			t.Fatal(err)
		}
		if err := objstore.Verify(t.Context(), b, "a", int64(len(body)), sum); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestProbe(t *testing.T) {
	m := objstore.NewMemory(nil)
	if err := objstore.Probe(t.Context(), m); err != nil {
		t.Error(err)
	}
	if err := objstore.Probe(t.Context(), forgiving{m}); err == nil {
		t.Error("a store that ignores conditions passes")
	}
	if err := m.List(t.Context(), "", func(o objstore.Object) error { return fmt.Errorf("left: %s", o.Key) }); err != nil {
		t.Error(err)
	}
}

// forgiving is a store that ignores conditions.
type forgiving struct{ objstore.Bucket }

func (f forgiving) PutNew(ctx context.Context, key string, body []byte) error {
	return objstore.PutBytes(ctx, f.Bucket, key, body)
}
