package lines

import "testing"

// A body that somebody's panic ended with is there for others, who do not wait for ever.
func TestPanicLocksNobodyOut(t *testing.T) {
	for name, f := range map[string]func(*Body){
		"find":  func(b *Body) { _ = b.Find(0, nil, nil) },
		"steps": func(b *Body) { (&Printer{body: b, pieces: make([][]piece, 1)}).steps(0) },
	} {
		b := &Body{}
		func() {
			defer func() {
				if recover() == nil {
					t.Error(name, "does not panic")
				}
			}()
			f(b)
		}()
		if !b.mu.TryLock() {
			t.Error(name, "leaves it locked")
		}
		if b.moves != nil {
			t.Error(name, "leaves steps that are not all known")
		}
	}
}

// A panic while something is worked out of a section leaves nothing behind that the next who
// asks would take for it.
func TestDerivedAfterAPanic(t *testing.T) {
	var s Section
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		s.Derived(func() (any, int) { panic("a bug") })
	}()
	for range 2 {
		if got := s.Derived(func() (any, int) { return "derived", 7 }); got != "derived" || s.MemorySize() != 7 {
			t.Errorf("%v, of %d bytes", got, s.MemorySize())
		}
	}
}
