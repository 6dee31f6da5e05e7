package ingester

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// A read that a panic ends holds no block: its file could not be removed any more.
func TestPanicReleasesLocalBlocks(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	if _, err := n.ingest(1, "a", []int64{1}, "line"); err != nil {
		t.Fatal(err)
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_, _ = source{n.svc, "t"}.Open(t.Context(), []*syntax.Matcher{nil}, 0, 10)
	}()
	held := n.svc.blocks.view("t", 0, 10, n.svc.now(), func() {})
	if len(held.holds) != 1 {
		t.Fatalf("%d containers", len(held.holds))
	}
	c := held.holds[0]
	held.release()
	c.Drop()
	if _, err := os.Stat(c.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}
