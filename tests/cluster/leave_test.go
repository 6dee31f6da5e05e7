package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// TestLeave takes one of four ingesters out under load and with queries: every answer is
// complete at every moment, and nothing is lost when the directory of the one that left is
// not there any more. A tail lacks nothing, either.
func TestLeave(t *testing.T) {
	t.Parallel()
	s := &scenario{Cluster: harness.NewCluster(t, 4), t: t}
	s.Start()
	s.begin(&checker.Load{Seed: rand.Uint64(), Batch: 20, Pause: 20 * time.Millisecond})
	tail := harness.StartTail(t, s.client, s.load.History)
	stop := s.reading()
	gone := s.Ingesters[1]
	harness.Until(t, func() error {
		_, err := gone.Client().Admin().Leave(harness.Context(t), &adminv1.LeaveRequest{})
		return err
	})
	gone.Terminate()
	if err := os.RemoveAll(gone.Dir); err != nil {
		t.Fatal(err)
	}
	s.AwaitHealthy(3)
	s.stored(50)
	s.readUnderLoad()
	reads := stop()
	p := s.load.Pushes()
	t.Logf("one of four left, %d requests stored, %d failed, %d times read meanwhile: %s", p.Stored, p.Failed, reads, s.check())
	tail.Check(t)
}

// TestTailComesBackForWhatIsInBlocks ends a tail, has all that came behind it put into
// blocks and all ingesters killed, and goes on by its cursor: nothing is left out, and
// nothing comes twice.
func TestTailComesBackForWhatIsInBlocks(t *testing.T) {
	t.Parallel()
	tailComesBack(t)
}

func tailComesBack(t *testing.T, change ...func(*harness.Cluster)) {
	s := start(t, change...)
	got, cursor := map[checker.ID]int{}, ""
	// follow takes responses until enough says so.
	follow := func(enough func() bool) {
		t.Helper()
		for resp, err := range s.client.Tail(harness.Context(t), &tailv1.TailRequest{Query: checker.Selector(checker.Service), Cursor: cursor}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range resp.GetDropped() {
				t.Errorf("left out: %s", d.GetReason())
			}
			for _, e := range client.Entries(resp) {
				line, err := checker.ParseLine(client.Line(e))
				if err != nil {
					t.Fatal(err)
				}
				got[line.ID]++
			}
			if cursor = resp.GetCursor(); cursor != "" && enough() {
				return
			}
		}
		t.Fatal("the tail has ended")
	}
	follow(func() bool { return len(got) > 0 })
	begun := s.load.History.Numbers()
	s.stored(50)
	v := s.check() // and no more is pushed
	if _, err := s.client.Admin().Flush(harness.Context(t), &adminv1.FlushRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Ingesters {
		n.Kill()
		n.Start()
	}
	for _, n := range s.Ingesters {
		n.AwaitReady()
	}
	s.AwaitHealthy(3)
	acked := s.load.History.Acknowledged(begun)
	follow(func() bool { return !slices.ContainsFunc(acked, func(id checker.ID) bool { return got[id] == 0 }) })
	for id, n := range got {
		if n > 1 {
			t.Errorf("%+v was delivered %d times", id, n)
		}
	}
	reads := 0.0
	for _, n := range s.Ingesters {
		reads += n.Metric("weir_ingester_log_reads_total")
	}
	if reads == 0 {
		t.Error("no log was read")
	}
	t.Logf("%d entries came behind the tail, %v readings of logs: %s", len(acked), reads, v)
}

// TestFactorIsChanged goes from a replication factor of 3 to 1 and back by rolling restarts
// under load: nothing is lost, and when the old factor is given up the answers are complete
// by the new one.
func TestFactorIsChanged(t *testing.T) {
	if os.Getenv("WEIR_SCENARIOS") == "" {
		t.Skip("it takes two minutes: set WEIR_SCENARIOS")
	}
	t.Parallel()
	s := start(t)
	change := func(factor int) {
		for _, n := range append(slices.Clone(s.Ingesters), s.Front) {
			n.Terminate()
			n.Args = append(n.Args, fmt.Sprint("--cluster.replication-factor=", factor))
			n.Start()
			n.AwaitReady()
			if n != s.Front {
				s.AwaitHealthy(3)
			}
			s.stored(30)
			s.readUnderLoad()
		}
		s.AwaitHealthy(3)
		for _, n := range append(slices.Clone(s.Ingesters), s.Front) {
			harness.Until(t, func() error {
				if f := n.Metric("weir_ring_replication_factor"); f != float64(factor) {
					return fmt.Errorf("%s uses the factor %v", n.Name, f)
				}
				if f := n.Metric("weir_ring_replication_factors"); f != 1 {
					return fmt.Errorf("%s holds answers to %v factors", n.Name, f)
				}
				return nil
			})
		}
		s.stored(50)
		s.readUnderLoad()
	}
	change(1)
	change(3)
	n := s.Ingesters[2]
	n.Kill()
	s.stored(50)
	s.readUnderLoad()
	n.Start()
	n.AwaitReady()
	s.AwaitHealthy(3)
	p := s.load.Pushes()
	t.Logf("the factor was changed twice, %d requests stored, %d failed: %s", p.Stored, p.Failed, s.check())
}
