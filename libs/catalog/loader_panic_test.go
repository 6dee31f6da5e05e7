package catalog

import (
	"errors"
	"testing"
	"time"
)

// A panic in what is called while the loader is locked leaves it unlocked: readers go on.
func TestPanicLeavesLoaderUnlocked(t *testing.T) {
	for _, c := range []struct {
		name string
		call func(s *store, l *Loader, a, lost Block) error
	}{
		{"Removing", func(s *store, l *Loader, a, _ Block) error { return l.Removing(s.t.Context(), "t", a.ID) }},
		{"Acknowledge", func(s *store, l *Loader, _, lost Block) error {
			return l.Acknowledge(s.t.Context(), "t", lost.ID)
		}},
		{"settle", func(s *store, l *Loader, a, _ Block) error {
			return l.settle(s.t.Context(), "t", map[ID]Block{a.ID: a}, map[ID]Block{}, nil, s.now)
		}},
		{"locked", func(_ *store, l *Loader, _, _ Block) error {
			l.locked(func() { panic("in a look") })
			return nil
		}},
	} {
		s := newStore(t)
		a, lost := s.put(1), s.put(2)
		l := s.loader()
		s.refresh(l)
		s.delete(lost)
		s.refresh(l)
		now := l.o.Now
		l.o.Now = func() time.Time { panic("in a look") }
		l.o.Expired = func(Block) bool { panic("in a look") }
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", c.name)
				}
			}()
			_ = c.call(s, l, a, lost)
		}()
		if l.o.Now = now; !l.mu.TryLock() {
			t.Errorf("%s: it is locked", c.name)
			continue
		}
		l.mu.Unlock()
		if _, err := l.Snapshot("t"); err != nil && !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
