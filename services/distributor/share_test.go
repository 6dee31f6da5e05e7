package distributor

import (
	"math"
	"testing"
	"time"
)

// wires connects shares.
type wires map[string]*shares

func (w wires) second() {
	for from, s := range w {
		b := s.tick()
		for to, o := range w {
			if to != from {
				o.hear(from, b)
			}
		}
	}
}

func newWires(clock *time.Time, names ...string) wires {
	w := wires{}
	for _, n := range names {
		w[n] = newShares(func() time.Time { return *clock })
	}
	return w
}

// A tenant's rate is divided by where it sends to, whatever the number of distributors.
func TestRatesAreSharedByTraffic(t *testing.T) {
	clock := now
	w := newWires(&clock, "a", "b", "c")
	for range 30 {
		w["a"].of("t", 9000, 3)
		w["b"].of("t", 3000, 3)
		w["a"].of("alone", 5, 3)
		w.second()
		clock = clock.Add(time.Second)
	}
	for name, want := range map[string]float64{"a": 0.75, "b": 1. / 3, "c": 1. / 3} {
		if got := w[name].of("t", 0, 3); math.Abs(got-want) > 0.01 {
			t.Errorf("%s may let through %.3f, want %.3f", name, got, want)
		}
	}
	if got := w["a"].of("alone", 0, 3); got != 1 {
		t.Errorf("a tenant that sends to one distributor has %.3f of its rate there", got)
	}
	// What was told long ago means nothing.
	clock = clock.Add(tellAge)
	if got := w["b"].of("t", 0, 3); got != 1 {
		t.Errorf("the others are silent, and it is %.3f", got)
	}
	if got := newShares(time.Now).of("t", 1, 1); got != 1 {
		t.Error("a distributor that is alone shares", got)
	}
}

func TestSharesAreBounded(t *testing.T) {
	clock := now
	s := newShares(func() time.Time { return clock })
	for i := range 1000 {
		s.of(string(rune('a'+i)), int64(10+i), 2)
	}
	if b := s.tick(); len(b) != 12*maxTold {
		t.Errorf("a message of %d bytes", len(b))
	}
	for range 100 {
		s.tick()
	}
	if len(s.own) != 0 {
		t.Errorf("%d idle tenants are remembered", len(s.own))
	}
	for _, b := range [][]byte{make([]byte, 11), make([]byte, 12*maxTold+12)} {
		s.hear("x", b)
	}
	if len(s.others) != 0 {
		t.Error("nonsense was taken in")
	}
	for i := range 2 * maxTellers {
		s.hear(string(rune(i+1000)), nil)
	}
	if len(s.others) > maxTellers {
		t.Error(len(s.others))
	}
	clock = clock.Add(tellAge)
	s.tick()
	if len(s.others) != 0 {
		t.Error("the silent are remembered")
	}
}

func FuzzHear(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 24))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newShares(time.Now)
		s.hear("x", b)
		if got := s.of("t", 1, 2); math.IsNaN(got) || got < 0.5 || got > 1 {
			t.Fatal(got)
		}
	})
}
