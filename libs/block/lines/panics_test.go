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
