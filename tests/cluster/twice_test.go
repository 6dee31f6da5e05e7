package cluster

import (
	"testing"
	"time"

	"github.com/weir-logs/weir/tests/harness"
)

// TestNameTwice starts a second ingester, with a data directory of its own, under the name of
// one that runs: it is refused and ends, or, should it not hear of the other in time, one of the
// two does. Nothing is lost.
func TestNameTwice(t *testing.T) {
	t.Parallel()
	s := start(t)
	first, second := s.Ingesters[1], harness.New(t, "second", "")
	second.Args = first.Args
	second.Start()
	stays, ended := first, second
	select {
	case <-second.Exited():
	case <-first.Exited():
		stays, ended = second, first
	case <-time.After(harness.Patience):
		t.Fatal("both go on")
	}
	if code := ended.AwaitExit(); code == 0 || code == 75 {
		t.Errorf("%s ends with status %d, as if it was to be started again", ended.Name, code)
	}
	stays.AwaitReady()
	s.AwaitHealthy(3)
	s.stored(50)
	s.answered() // once the others have flushed, if the first has ended
	select {
	case <-stays.Exited():
		t.Error("both have ended")
	default:
	}
	t.Logf("%s has ended: %s", ended.Name, s.check())
}
