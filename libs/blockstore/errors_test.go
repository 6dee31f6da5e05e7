package blockstore

import (
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
)

// A limit that is met while a block is read is the query's fault, not the block's: the
// same error as from memory.
func TestQueryErrorsAreNotTheBlocks(t *testing.T) {
	want := engine.Errorf(engine.ErrLimit, "too many series")
	if got := (&selected{}).named(0, want); got != want {
		t.Errorf("%v", got)
	}
}
