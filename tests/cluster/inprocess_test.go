package cluster

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	"github.com/weir-logs/weir/tests/harness"
)

// TestInProcess plays scenarios with all servers within this process, and those that need
// a clock of each server's own, and sees that nothing goes on when all have ended. See
// harness.Cluster.InProcess for what that does not show and the other tests do.
//
// It runs before the parallel tests of this package, so that what goes on is its own.
func TestInProcess(t *testing.T) {
	harness.CollectAsBefore(t)
	before := goleak.IgnoreCurrent()
	t.Run("scenarios", func(t *testing.T) {
		scenarios := []struct {
			name string
			play func(*testing.T, ...func(*harness.Cluster))
		}{ // the longest first
			{"KillOne", killOne},
			{"RollingRestart", rollingRestart},
			{"ClockFarAhead", clockFarAhead},
			{"ClocksDiffer", clocksDiffer},
			{"KillAll", killAll},
			{"TailComesBack", tailComesBack},
			{"Scale", scale},
		}
		for _, s := range scenarios[:some(len(scenarios)-1, len(scenarios))] {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.play(t, (*harness.Cluster).InProcess)
			})
		}
	})
	http.DefaultClient.CloseIdleConnections()
	harness.Until(t, func() error { return goleak.Find(before) })
}

// clocksDiffer has clocks that are five minutes ahead and behind, that jump by an hour while
// their processes run (the front's by as much as leaves it of one mind with the load about
// what is too far in the future), and one that goes back by an hour over a crash. All three ingesters
// store every request all the time.
func clocksDiffer(t *testing.T, change ...func(*harness.Cluster)) {
	s := start(t, append(slices.Clone(change), func(c *harness.Cluster) {
		c.Ingesters[0].SetClock(5 * time.Minute)
		c.Ingesters[1].SetClock(-5 * time.Minute)
		c.Front.SetClock(5 * time.Minute)
	})...)
	s.readUnderLoad()
	s.allStore()
	for _, jump := range []struct {
		node  *harness.Node
		ahead time.Duration
	}{
		{s.Front, -5 * time.Minute}, {s.Ingesters[2], 5 * time.Minute}, {s.Ingesters[1], time.Hour},
		{s.Ingesters[2], -55 * time.Minute}, {s.Front, 49 * time.Minute}, {s.Front, -9 * time.Minute},
	} {
		jump.node.SetClock(jump.ahead)
		s.allStore()
		s.readUnderLoad()
	}
	if skew := s.Front.Metric("weir_distributor_clock_skew_seconds"); skew < 4000 || skew > 5000 {
		t.Errorf("the front tells of clocks that differ by %v s", skew)
	}
	back := func(n *harness.Node, ahead time.Duration) {
		t.Helper()
		n.Kill()
		n.SetClock(ahead)
		n.Start()
		n.AwaitReady()
		s.AwaitHealthy(3)
		s.stored(30)
		s.readUnderLoad()
	}
	back(s.Ingesters[0], -55*time.Minute)
	back(s.Front, 0)
	if _, err := s.client.Admin().Flush(harness.Context(t), &adminv1.FlushRequest{}); err != nil {
		t.Fatal(err)
	}
	s.stored(10)
	back(s.Ingesters[0], 5*time.Minute) // with what is in blocks and what is in its log
	s.allStore()
	p := s.load.Pushes()
	t.Logf("%d requests stored, %d failed: %s", p.Stored, p.Failed, s.check())
}

// allStore waits for a number of requests in a row that all three ingesters stored.
func (s *scenario) allStore() {
	s.t.Helper()
	writes := func(outcome string) float64 {
		return s.Front.Metric("weir_distributor_replica_duration_seconds_count", `outcome="`+outcome+`"`)
	}
	harness.Until(s.t, func() error {
		failed, stored := writes("failed"), writes("stored")
		s.stored(20)
		// Those that another is still at may be missing.
		if failed, stored = writes("failed")-failed, writes("stored")-stored; failed > 0 || stored < 50 {
			return fmt.Errorf("of 20 requests %v copies were stored, %v were not", stored, failed)
		}
		return nil
	})
}

// clockFarAhead has members whose clocks are ten years ahead: the others find that one is
// dead as of any, take it back with the right time, and forget one that stays away.
func clockFarAhead(t *testing.T, change ...func(*harness.Cluster)) {
	s := start(t, append(slices.Clone(change), func(c *harness.Cluster) {
		c.Ingesters[1].SetClock(10 * 365 * 24 * time.Hour)
		c.Ingesters[2].SetClock(10 * 365 * 24 * time.Hour)
	})...)
	s.readUnderLoad()
	n := s.Ingesters[1]
	n.Kill()
	s.AwaitHealthy(2)
	s.stored(50)
	s.readUnderLoad()
	n.SetClock(0)
	n.Start()
	n.AwaitReady()
	s.AwaitHealthy(3)
	s.stored(50)
	s.Ingesters[2].Kill()
	s.forget(s.Ingesters[2])
	s.stored(50)
	p := s.load.Pushes()
	t.Logf("%d requests stored, %d failed: %s", p.Stored, p.Failed, s.check())
}
