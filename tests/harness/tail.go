package harness

import (
	"context"
	"testing"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/client/checker"
)

// Tail collects what a live tail of a checker.Load delivers.
type Tail struct {
	checker.Tail
	cancel context.CancelFunc
	done   chan error
}

// StartTail begins a tail and waits until it follows.
func StartTail(t testing.TB, c *client.Client) *Tail {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tail := &Tail{cancel: cancel, done: make(chan error, 1)}
	following := make(chan struct{})
	go func() { tail.done <- tail.Follow(ctx, c, checker.Service, func() { close(following) }) }()
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

// Check waits until the tail has delivered all that was acknowledged since begun, a
// moment at which it followed already, ends it, and reports what it did wrong.
// Entries that were not acknowledged, or earlier, may be delivered too.
func (tl *Tail) Check(t testing.TB, h *checker.History, begun checker.Mark) {
	t.Helper()
	acked := h.Acknowledged(begun)
	Until(t, func() error {
		select {
		case err := <-tl.done:
			t.Fatal(err)
		default:
		}
		return tl.Missing(acked)
	})
	tl.cancel()
	<-tl.done
	var v checker.Verdict
	tl.Judge(&v, h)
	if err := v.Err(); err != nil {
		t.Error(err)
	}
	t.Logf("the tail delivered %d entries, %d of them due, each once", tl.Len(), len(acked))
}
