package ingester

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// awaitWaiting waits until writes of that many bytes, or any, wait.
func awaitWaiting(t *testing.T, r *room, enough func(bytes int64) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if bytes, _ := r.stats(); enough(bytes) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nobody waits")
		}
	}
}

func TestRoom(t *testing.T) {
	stop := make(chan struct{})
	r := newRoom(100, stop)
	full := func() (int64, bool) { return 60, false }
	for streams, want := range map[int]time.Duration{0: 0, 10: 2 * time.Millisecond, 5000: time.Second, 1 << 20: time.Second} {
		if got := r.patience(time.Second, streams); got != want {
			t.Errorf("%d streams wait for %v", streams, got)
		}
	}
	if n, ok := r.take(t.Context(), time.Hour, func() (int64, bool) { return 7, true }); n != 7 || !ok {
		t.Errorf("%d, %v where there is room", n, ok)
	}
	if _, ok := r.take(t.Context(), 0, full); ok {
		t.Error("room where there is none, for who does not wait")
	}
	if _, ok := r.take(t.Context(), time.Millisecond, full); ok {
		t.Error("room where there is none")
	}
	if _, ok := r.take(t.Context(), time.Hour, func() (int64, bool) { return 101, false }); ok {
		t.Error("more waits than may")
	}
	// One waits, of a size that changes; who does not fit beside it is refused at once.
	need, got := int64(60), make(chan int64)
	var mu sync.Mutex
	go func() {
		n, _ := r.take(context.Background(), time.Hour, func() (int64, bool) {
			mu.Lock()
			defer mu.Unlock()
			return need, need == 50
		})
		got <- n
	}()
	awaitWaiting(t, r, func(n int64) bool { return n == 60 })
	if _, ok := r.take(t.Context(), time.Hour, func() (int64, bool) { return 41, false }); ok {
		t.Error("more waits than may")
	}
	r.free(1000) // not enough
	mu.Lock()
	need = 50
	mu.Unlock()
	r.free(1000)
	if n := <-got; n != 50 {
		t.Errorf("%d bytes were taken", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan bool)
	wait := func(ctx context.Context) {
		_, ok := r.take(ctx, time.Hour, full)
		refused <- !ok
	}
	go wait(ctx)
	awaitWaiting(t, r, func(n int64) bool { return n == 60 })
	cancel()
	if !<-refused {
		t.Error("room for who has gone")
	}
	go wait(context.Background())
	awaitWaiting(t, r, func(n int64) bool { return n == 60 })
	close(stop)
	if !<-refused {
		t.Error("room in what is stopping")
	}
	if bytes, waits := r.stats(); bytes != 0 || waits != 4 {
		t.Errorf("%d bytes wait, %d have waited", bytes, waits)
	}
}

// What frees room between a try and the wait is not missed.
func TestRoomFreedAtOnce(t *testing.T) {
	r := newRoom(100, nil)
	tries := 0
	_, ok := r.take(t.Context(), time.Hour, func() (int64, bool) {
		if tries++; tries == 1 {
			r.free(1)
			return 1, false
		}
		return 1, true
	})
	if !ok || tries != 2 {
		t.Errorf("%v after %d tries", ok, tries)
	}
}

// Who lacks more than there is does not try again; who lacks no more does, and who may have
// missed it while it tried.
func TestRoomForSome(t *testing.T) {
	r := newRoom(100, nil)
	few, many, trying := r.enter(20), r.enter(60), r.enter(5)
	r.lacks(few, 20)
	r.lacks(many, 60)
	woken := func(when string, want ...*waiter) {
		t.Helper()
		for _, w := range []*waiter{few, many, trying} {
			if is := len(w.woken) > 0; is != slices.Contains(want, w) {
				t.Errorf("%s: the one of %d bytes is woken: %v", when, w.bytes, is)
			}
		}
	}
	r.free(19)
	woken("room for none", trying)
	r.free(30)
	woken("room for few", few, trying)
	r.free(60)
	woken("room for all", few, many, trying)
}

// A push that waits goes on when others give back what they reserved, without a cut.
func TestWaitEndsWithOtherPushes(t *testing.T) {
	n := startWith(t, t.TempDir(), 1<<20, func(c *Config, _ *Deps) { c.FullWait = time.Minute }, func(s *Service) {
		s.room.perStream = time.Hour
		s.testHook = func(step string) error {
			if strings.HasPrefix(step, "cut.") {
				t.Error("there was a cut")
			}
			return nil
		}
	})
	n.svc.reserved.Add(1 << 20) // by another push, which is going to fail
	done := make(chan error)
	go func() {
		_, err := n.ingest(1, "a", []int64{1}, "x")
		done <- err
	}()
	awaitWaiting(t, n.svc.room, func(bytes int64) bool { return bytes > 0 })
	n.svc.release(1 << 20)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFullHeadWaitsForTheCut: pushes that find the head full are taken once what is being
// written gives way, and refused if that takes too long.
func TestFullHeadWaitsForTheCut(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	release := sync.OnceFunc(func() { close(hold) })
	n := startWith(t, t.TempDir(), 1<<20, func(c *Config, _ *Deps) { c.FullWait = time.Minute }, func(s *Service) {
		s.room.perStream = time.Hour
		s.testHook = func(step string) error {
			if step == "cut.sync" {
				once.Do(func() { close(held) })
				<-hold
			}
			return nil
		}
	})
	defer release()
	var mu sync.Mutex
	var want []string
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 60 {
				at, line := int64(i*10+w), fmt.Sprintf("%d %s", i, strings.Repeat("x", 12000))
				stream := fmt.Sprint("s", w)
				if _, err := n.ingest(at+1, stream, []int64{at}, line); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want = append(want, fmt.Sprintf("%d %s %s", at, stream, line))
				mu.Unlock()
			}
		})
	}
	<-held
	awaitWaiting(t, n.svc.room, func(bytes int64) bool { return bytes > 0 })
	release()
	wg.Wait()
	slices.Sort(want)
	if got := contents(t, n.svc); !slices.Equal(got, want) || len(want) != 120 {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	if got := testutil.ToFloat64(n.svc.metrics.refused); got != 0 {
		t.Errorf("%v requests were refused", got)
	}
}

// A push that waits is refused when the service stops.
func TestStopEndsWaits(t *testing.T) {
	n := startWith(t, t.TempDir(), 1<<20, func(c *Config, _ *Deps) { c.FullWait = time.Minute }, func(s *Service) { s.room.perStream = time.Hour })
	n.svc.reserved.Add(1 << 20) // nothing gives way
	done := make(chan error)
	go func() {
		_, err := n.ingest(1, "a", []int64{1}, "x")
		done <- err
	}()
	awaitWaiting(t, n.svc.room, func(bytes int64) bool { return bytes > 0 })
	n.svc.Stop()
	if err := <-done; !rpcerr.Is(err, rpcerr.Overloaded) {
		t.Errorf("error %v, want OVERLOADED", err)
	}
}

// A push that finds no room takes none of another's, not even for as long as it tries.
func TestTryTakesNoRoomOfOthers(t *testing.T) {
	n := start(t, t.TempDir(), 1<<20)
	n.svc.reserved.Add(700 << 10)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if n.svc.reserve(600 << 10) {
					t.Error("there was room for the larger one")
					return
				}
			}
		}
	}()
	for i := range 200_000 {
		if !n.svc.reserve(200 << 10) {
			t.Errorf("push %d found no room while another one tried in vain", i)
			break
		}
		n.svc.release(200 << 10)
	}
	close(stop)
	<-done
	n.svc.release(700 << 10)
}
