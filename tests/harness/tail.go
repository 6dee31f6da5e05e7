package harness

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/checker"
)

// Tail collects what a live tail of a checker.Load delivers.
type Tail struct {
	mu      sync.Mutex
	got     map[checker.ID]int
	wrong   []string
	dropped []string
	cancel  context.CancelFunc
	done    chan error
}

// StartTail begins a tail and waits until it follows.
func StartTail(t testing.TB, c *client.Client) *Tail {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tail := &Tail{got: map[checker.ID]int{}, cancel: cancel, done: make(chan error, 1)}
	following := make(chan struct{})
	begun := sync.OnceFunc(func() { close(following) })
	go func() {
		for resp, err := range c.Tail(ctx, &tailv1.TailRequest{Query: Selector}) {
			if err != nil {
				tail.done <- err
				return
			}
			tail.take(resp)
			begun()
		}
		tail.done <- errors.New("the tail ended")
	}()
	t.Cleanup(cancel)
	select {
	case <-following:
	case err := <-tail.done:
		t.Fatal(err)
	case <-Context(t).Done():
		t.Fatal("the tail does not begin")
	}
	return tail
}

func (tl *Tail) take(resp *tailv1.TailResponse) {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	for _, d := range resp.GetDropped() {
		tl.dropped = append(tl.dropped, d.GetReason())
	}
	for s, e := range client.Entries(resp) {
		x, err := checker.ParseLine(client.Line(e))
		if err != nil || x.Time != e.GetTimestampUnixNano() || fmt.Sprint(x.Stream) != s.GetLabels()["stream"] {
			tl.wrong = append(tl.wrong, fmt.Sprintf("stream %v, time %d, %+v, %v", s.GetLabels(), e.GetTimestampUnixNano(), x, err))
			continue
		}
		tl.got[x.ID]++
	}
}

// Check waits until the tail has delivered all that was acknowledged since begun, a
// moment at which it followed already, ends it, and reports what it did wrong.
// Entries that were not acknowledged, or earlier, may be delivered too.
func (tl *Tail) Check(t testing.TB, h *checker.History, begun checker.Mark) {
	t.Helper()
	acked := h.Acknowledged(begun)
	Until(t, func() error {
		tl.mu.Lock()
		defer tl.mu.Unlock()
		select {
		case err := <-tl.done:
			t.Fatal(err)
		default:
		}
		missing := 0
		var example checker.ID
		for _, id := range acked {
			if tl.got[id] == 0 {
				missing++
				example = id
			}
		}
		if missing > 0 {
			return fmt.Errorf("the tail misses %d of %d entries, such as %+v; dropped: %q", missing, len(acked), example, tl.dropped)
		}
		return nil
	})
	tl.cancel()
	<-tl.done
	twice := 0
	for id, n := range tl.got {
		if n > 1 {
			if twice++; twice <= 5 {
				t.Errorf("the tail delivered %+v %d times", id, n)
			}
		}
	}
	if twice > 0 || len(tl.wrong) > 0 || len(tl.dropped) > 0 {
		t.Errorf("the tail delivered %d of %d entries more than once; wrong: %q; dropped: %q", twice, len(tl.got), tl.wrong, tl.dropped)
	}
	t.Logf("the tail delivered %d entries, %d of them due, each once", len(tl.got), len(acked))
}
