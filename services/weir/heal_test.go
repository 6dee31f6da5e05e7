package weir

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/ring"
)

// sick is a healer in a cluster whose table is at hand.
type sick struct {
	*healer
	table   ring.Table
	cfg     ring.Config
	refuses map[string]bool // who cannot flush
	missing []string
	flushes atomic.Int64
	dead    string
	clock   time.Time
}

func newSick(t *testing.T, self string, rf int, names, wiped string) *sick {
	t.Helper()
	s := &sick{refuses: map[string]bool{}, cfg: ring.Config{ReplicationFactor: rf}}
	put := func(name, incarnation string, version uint64) {
		var err error
		if s.table, _, err = s.table.Put(ring.Member{
			Name: name, Incarnation: incarnation, Roles: ring.Ingester, GRPCAddr: "h:1", State: ring.Active, Version: version,
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names {
		put(string(n), "first-"+string(n), 1)
	}
	for _, n := range wiped {
		put(string(n), "second-"+string(n), 2)
	}
	s.healer = &healer{
		log: slog.New(slog.DiscardHandler),
		self: func() ring.Member {
			m, _ := s.table.Get(self)
			return m
		},
		view: s.View, own: func() []string { return s.missing },
		note: func(what string) (err error) {
			s.table, _, _, err = s.table.NoteGap(self, what, 1)
			return err
		},
		settle: func(name, incarnation string, st ring.State) (err error) {
			s.table, _, err = s.table.Settle(name, incarnation, st, 2)
			return err
		},
		now: func() time.Time { return s.clock },
		flush: func(_ context.Context, m *ring.Member) error {
			s.flushes.Add(1)
			if s.refuses[m.Name] {
				return errors.New("cannot flush")
			}
			return nil
		},
	}
	return s
}

func (s *sick) View() *ring.View {
	healthy := map[string]bool{}
	for m := range s.table.All() {
		healthy[m.Name] = m.Name != s.dead
	}
	return ring.NewView(s.table, healthy, s.cfg)
}

func (s *sick) state(name, incarnation string) ring.State {
	m, _ := s.table.Incarnation(name, incarnation)
	return m.State
}

// R 20: a gap heals when the others have flushed, and not before.
func TestRule20GapHealsWhenOthersHaveFlushed(t *testing.T) {
	s := newSick(t, "a", 3, "abc", "b")
	s.refuses["c"] = true
	s.pass(t.Context())
	if got := s.state("b", "first-b"); got != ring.Active {
		t.Fatalf("c has not flushed, and the gap of b is %s", got)
	}
	s.refuses["c"] = false
	s.pass(t.Context())
	if got := s.state("b", "first-b"); got != ring.Forgotten || len(s.View().Gaps()) != 0 {
		t.Fatalf("all have flushed, and the gap of b is %s", got)
	}
}

func TestRule20OnlyOneHeals(t *testing.T) {
	s := newSick(t, "c", 3, "abc", "b")
	s.pass(t.Context())
	if got := s.state("b", "first-b"); got != ring.Active {
		t.Fatalf("c is not the first, and the gap of b is %s", got)
	}
}

// Of one that joins in the place of another data directory the table may tell as of the past, and
// of that as if it were there: it gives up neither.
func TestRule20WhoJoinsDoesNotHeal(t *testing.T) {
	for _, rf := range []int{1, 3} {
		s := newSick(t, "a", rf, "abc", "")
		self := ring.Member{Name: "a", Incarnation: "second-a", Roles: ring.Ingester, GRPCAddr: "h:1", State: ring.Joining, Version: 1}
		for _, m := range []ring.Member{self, {Name: "a", Incarnation: "first-a", Roles: ring.Ingester, GRPCAddr: "h:1", State: ring.Active, Version: 5}} {
			var err error
			if s.table, _, err = s.table.Put(m); err != nil {
				t.Fatal(err)
			}
		}
		s.self = func() ring.Member { return self }
		s.missing = []string{"records 3 to 5"}
		if len(s.View().Gaps()) != 1 {
			t.Fatalf("gaps %v", s.View().Gaps())
		}
		s.begin()
		s.pass(t.Context())
		if first, second := s.state("a", "first-a"), s.state("a", "second-a"); first != ring.Active || second != ring.Joining || len(s.View().Gaps()) != 1 || s.flushes.Load() != 0 {
			t.Errorf("factor %d: %s, %s, gaps %v, %d flushes", rf, first, second, s.View().Gaps(), s.flushes.Load())
		}
	}
}

// What too few still have is a recorded loss at once, so that the rest is served.
func TestRule20LossIsRecorded(t *testing.T) {
	for _, c := range []struct {
		rf           int
		names, wiped string
	}{{3, "abc", "bc"}, {3, "abc", "abc"}, {1, "ab", "b"}} {
		s := newSick(t, "a", c.rf, c.names, c.wiped)
		s.pass(t.Context())
		for _, n := range c.wiped {
			if got := s.state(string(n), "first-"+string(n)); got != ring.Lost {
				t.Errorf("%+v: the gap of %c is %s", c, n, got)
			}
		}
		if ok, _ := s.View().Complete(func(*ring.Member) bool { return true }); !ok {
			t.Errorf("%+v: still not complete", c)
		}
	}
}

func TestRule20OwnGapsAreNoted(t *testing.T) {
	one := newSick(t, "a", 1, "a", "")
	one.missing = []string{"records 3 to 5"}
	one.begin()
	if l := one.View().Losses(); len(l) != 1 || l[0].Incarnation != ring.GapID("first-a", "records 3 to 5") {
		t.Fatalf("losses of a process that is alone: %v", l)
	}
	three := newSick(t, "a", 3, "abc", "")
	three.missing = []string{"records 3 to 5"}
	three.begin()
	if !three.View().HasGap("a") {
		t.Fatal("not noted")
	}
	three.pass(t.Context())
	if three.View().HasGap("a") || three.state("a", ring.GapID("first-a", "records 3 to 5")) != ring.Forgotten {
		t.Fatal("not healed")
	}
	three.pass(t.Context())
	if three.View().HasGap("a") {
		t.Fatal("noted again")
	}
}

func TestOthersFlushForWhoIsAway(t *testing.T) {
	s := newSick(t, "a", 3, "abc", "")
	pass := func(want int) {
		t.Helper()
		s.clock = s.clock.Add(awayWait / 2)
		s.standIn(t.Context())
		if s.flushes.Load() != int64(want) {
			t.Fatalf("%d flushes, want %d", s.flushes.Load(), want)
		}
	}
	pass(0)
	s.dead = "c"
	pass(0) // it may be restarting
	pass(0)
	s.flushes.Store(0)
	s.refuses["b"] = true
	pass(2)
	s.refuses["b"] = false
	pass(4)
	pass(4) // once
	s.dead = ""
	pass(4)
	s.dead = "b"
	pass(4)
	pass(4)
	pass(6)
}
