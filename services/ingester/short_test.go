package ingester

import (
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

// A write to the log that is cut short, whatever the disk says, is not acknowledged: the
// process is asked to restart, and then has what was acknowledged and takes more.
func TestShortWriteIsNotAcknowledged(t *testing.T) {
	for _, bytes := range []int{0, 1, 20, 40} {
		fs := waltest.New()
		dir := t.TempDir()
		var short atomic.Bool
		fs.SetHook(func(op waltest.Op) error {
			if op.Kind == "write" && strings.HasSuffix(op.Name, ".wal") && short.Load() {
				return &waltest.Partial{N: bytes, Err: io.ErrShortWrite}
			}
			return nil
		})
		n := startWith(t, dir, 1<<30, nil, func(s *Service) { s.walFS = fs })
		if _, err := n.ingest(1, "a", []int64{1}, "acked"); err != nil {
			t.Fatal(err)
		}
		short.Store(true)
		if _, err := n.ingest(2, "a", []int64{2}, "pending"); err == nil {
			t.Errorf("%d bytes were written, and acknowledged", bytes)
		}
		short.Store(false)
		if _, err := n.ingest(3, "a", []int64{3}, "later"); !rpcerr.Is(err, rpcerr.NotReady) {
			t.Errorf("error %v, want NOT_READY", err)
		}
		<-n.svc.Failed()
		if got := contents(t, n.svc); !slices.Equal(got, []string{"1 a acked"}) {
			t.Errorf("%q is visible", got)
		}
		n.close()
		n = startWith(t, dir, 1<<30, nil, func(s *Service) { s.walFS = fs })
		if _, err := n.ingest(4, "a", []int64{4}, "again"); err != nil {
			t.Error(err)
		}
		if got := contents(t, n.svc); !slices.Equal(got, []string{"1 a acked", "4 a again"}) {
			t.Errorf("after a restart: %q", got)
		}
		n.close()
	}
}
