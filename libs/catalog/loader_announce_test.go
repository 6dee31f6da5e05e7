package catalog

import (
	"math"
	"testing"
)

// TestRule11Announce: blocks that an ingester names are loaded before the next listing, unless they or
// their successors are known.
func TestRule11Announce(t *testing.T) {
	s := newStore(t)
	l := s.loader()
	a, b := s.put(1), s.put(2)
	s.refresh(l)
	c := s.put(3)
	s.reads = 0
	if err := l.Announce(t.Context(), Key(a), Key(c)); err != nil {
		t.Fatal(err)
	}
	snap, err := l.Snapshot("t")
	if err != nil || s.reads != 1 {
		t.Errorf("%v, %d footers read", err, s.reads)
	}
	s.live(snap, a, b, c)
	// A successor that no listing has shown yet, of a block that has gone.
	d := s.put(4)
	e := s.put(5, d, c)
	s.delete(d)
	if err := l.Announce(t.Context(), Key(d)); err != nil {
		t.Fatal(err)
	}
	if snap, err = l.Snapshot("t"); err != nil {
		t.Fatal(err)
	}
	s.live(snap, a, b, e)
	nothing := e
	nothing.ID = testID(99)
	if err := l.Announce(t.Context(), Key(nothing)); err != nil {
		t.Errorf("neither it nor a successor is there: %v", err)
	}
	if snap, err = l.Snapshot("t"); err != nil {
		t.Fatal(err)
	}
	if p := snap.Problems("t", math.MinInt64, math.MaxInt64); len(p) != 1 || p[0].Kind != Vanished || p[0].Block.ID != nothing.ID {
		t.Errorf("neither it nor a successor is there: %v", p)
	}
	if err := l.Announce(t.Context(), "../x"); err == nil {
		t.Error("a bad key is taken")
	}
}

// TestRule16AnnouncedAndRemoved: a block of which no listing and no index has told yet, and that an
// ingester names, has vanished; one that a compactor has removed meanwhile has not.
func TestRule16AnnouncedAndRemoved(t *testing.T) {
	s := newStore(t)
	a, b := s.put(1), s.put(2)
	compactor := s.loader()
	s.refresh(compactor)
	if err := compactor.Removing(t.Context(), "t", b.ID); err != nil {
		t.Fatal(err)
	}
	s.delete(b)
	s.save(compactor)
	late := s.put(3)
	s.delete(late)

	l := s.loader()
	s.refresh(l)
	for range 2 { // and again, at no cost
		if err := l.Announce(t.Context(), Key(a), Key(b), Key(late)); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := l.Snapshot("t")
	if err != nil {
		t.Fatal(err)
	}
	s.live(snap, a)
	if p := snap.Problems("t", math.MinInt64, math.MaxInt64); len(p) != 1 || p[0].Kind != Vanished || p[0].Block.ID != late.ID {
		t.Errorf("problems: %v", p)
	}
}
