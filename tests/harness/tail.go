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
	history *checker.History
	begun   checker.Numbers // when it followed
	cancel  context.CancelFunc
	done    chan error
}

// StartTail begins a tail and waits until it follows. h is what the load notes.
func StartTail(t testing.TB, c *client.Client, h *checker.History) *Tail {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tail := &Tail{history: h, cancel: cancel, done: make(chan error, 1)}
	following := make(chan struct{})
	go func() {
		tail.done <- tail.Follow(ctx, c, checker.Service, func() {
			tail.begun = h.Numbers()
			close(following)
		})
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

// Due returns the entries that the tail owes: those that were first sent when it followed,
// and are acknowledged.
func (tl *Tail) Due() []checker.ID { return tl.history.Acknowledged(tl.begun) }

// Check waits until the tail has delivered what it owes, ends it, and reports what it did
// wrong. Entries that were not acknowledged, or earlier, may be delivered too.
func (tl *Tail) Check(t testing.TB) {
	t.Helper()
	due := tl.Due()
	Until(t, func() error {
		select {
		case err := <-tl.done:
			t.Fatal(err)
		default:
		}
		return tl.Missing(due)
	})
	tl.cancel()
	<-tl.done
	var v checker.Verdict
	tl.Judge(&v, tl.history)
	if err := v.Err(); err != nil {
		t.Error(err)
	}
	t.Logf("the tail delivered %d entries, %d of them due, each once", tl.Len(), len(due))
}
