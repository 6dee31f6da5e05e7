package querier

import (
	"testing"

	"github.com/weir-logs/weir/libs/ring"
)

// An ingester that joins while a tail runs is followed from its first entry, one that
// comes back from where the tail was.
func TestTailFollowsLateJoiners(t *testing.T) {
	known := position{"first-a", 7}
	x := &tail{cursor: &tailCursor{Positions: map[string]position{"a": known}}, begun: map[string]bool{"a": true, "b": true}}
	for name, want := range map[string]position{"a": known, "b": {}, "late": {"first-late", 1}} {
		if got := x.from(&ring.Member{Name: name, Incarnation: "first-" + name}); got != want {
			t.Errorf("%s is followed from %+v, want %+v", name, got, want)
		}
	}
}
