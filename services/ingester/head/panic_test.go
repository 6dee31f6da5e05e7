package head

import (
	"testing"

	"github.com/weir-logs/weir/libs/model"
)

// A read that a panic ends leaves nothing locked: rows come on.
func TestPanicLeavesHeadUnlocked(t *testing.T) {
	for name, read := range map[string]func(s *stream){
		"each": func(s *stream) {
			_ = s.each(t.Context(), &model.Rows{}, []*record{nil}, Span{0, 10}, func(model.Labels, *model.Rows, int, int) error { return nil })
		},
		"days": func(s *stream) { s.days(nil) },
	} {
		h := New()
		h.Append("t", []Block{block(model.Labels{{Name: "s", Value: "x"}}, []entry{{key: model.OrderKey{Time: 7}, line: "line"}}, 0)}, 1, 1)
		s := h.tenant("t", false).list()[0]
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			read(s)
		}()
		for what, locked := range map[string]interface{ TryLock() bool }{"stream": &s.mu, "arena": &s.few.arena.mu} {
			if !locked.TryLock() {
				t.Errorf("%s: the %s is locked", name, what)
			}
		}
	}
}
