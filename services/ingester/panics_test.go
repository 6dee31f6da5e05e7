package ingester

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/services/ingester/local"
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

// panics makes the first n of some steps panic.
func panics(step string, n int32) func(*Service) {
	return func(s *Service) {
		var met atomic.Int32
		s.testHook = func(at string) error {
			if at == step && met.Add(1) <= n {
				panic("in a step")
			}
			return nil
		}
	}
}

// noTemporary fails if a file is left that was being written.
func (n *node) noTemporary() {
	n.t.Helper()
	if left, _ := filepath.Glob(filepath.Join(n.svc.blocksDir(), "*.tmp")); len(left) > 0 {
		n.t.Errorf("%v are left", left)
	}
}

// A panic in a cut loses nothing and ends nobody: the next one keeps the lines of the tenant
// whole with whose rows it happened, and all go on.
func TestPanicInACut(t *testing.T) {
	n := startWith(t, t.TempDir(), 1<<30, nil, panics("cut.block", 1))
	const rows = 30
	for i := range rows {
		for _, tenant := range []string{"other", "t"} {
			line := fmt.Sprintf("request %d of %s took %dms", i, tenant, i*7)
			if _, err := n.client.Ingest(ctx(t), &ingestv1.IngestRequest{Tenant: tenant, BatchTimeUnixNano: int64(i + 1), Streams: []*ingestv1.StreamBlock{
				{Labels: `{s="a"}`, Times: []int64{int64(i)}, LineEnds: []uint32{uint32(len(line))}, Slab: []byte(line)}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := contents(t, n.svc)
	if err := n.flush(); err == nil {
		t.Error("no error")
	}
	n.noTemporary()
	if got := contents(t, n.svc); !slices.Equal(got, want) || len(got) != rows {
		t.Errorf("%d entries of %d", len(got), len(want))
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, n.svc); !slices.Equal(got, want) {
		t.Errorf("%d entries of %d", len(got), len(want))
	}
	if st := n.svc.gens.stats(); st.Rows != 0 {
		t.Errorf("%d rows are in no block", st.Rows)
	}
	if n := testutil.ToFloat64(n.svc.metrics.panics); n != 1 {
		t.Errorf("%v panics are counted", n)
	}
	if n := testutil.ToFloat64(n.svc.metrics.cutWhole); n != rows {
		t.Errorf("%v lines were kept whole, want those of one tenant", n)
	}
	// What comes then is written as ever.
	if _, err := n.ingest(1000, "a", []int64{1000}, "line"); err != nil {
		t.Fatal(err)
	}
	if err := n.flush(); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(n.svc.metrics.cutWhole); n != rows {
		t.Errorf("%v lines were kept whole behind it", n)
	}
}

// If every cut panics, rows stay where they are, more are taken, and it does not spin.
func TestPanicInEveryCut(t *testing.T) {
	dir := t.TempDir()
	n := startWith(t, dir, 1<<30, nil, panics("cut.block", 1<<30))
	for i := range 5 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, "line"); err != nil {
			t.Fatal(err)
		}
		if err := n.flush(); err == nil {
			t.Error("no error")
		}
	}
	if n := testutil.ToFloat64(n.svc.metrics.panics); n != 5 {
		t.Errorf("%v attempts, want those that were asked for", n)
	}
	want := contents(t, n.svc)
	n.close()
	n = start(t, dir, 1<<30)
	if got := contents(t, n.svc); !slices.Equal(got, want) || len(got) != 5 {
		t.Errorf("%d entries of %d after a restart", len(got), len(want))
	}
	if err := n.flush(); err != nil {
		t.Error(err)
	}
}

// A panic in a merge of local blocks loses nothing; the next one leaves these blocks as they
// are, and merges the others.
func TestPanicInAMerge(t *testing.T) {
	n := startWith(t, t.TempDir(), 1<<30, nil, panics("merge.block", 1))
	const day = 86400e9
	for i := range 3 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i), int64(i) + day}, "line", "next day"); err != nil {
			t.Fatal(err)
		}
		if err := n.flush(); err != nil {
			t.Fatal(err)
		}
	}
	want := contents(t, n.svc)
	if err := n.compact(); err == nil {
		t.Error("no error")
	}
	n.noTemporary()
	if got := contents(t, n.svc); !slices.Equal(got, want) || len(got) != 6 {
		t.Errorf("%d entries of %d", len(got), len(want))
	}
	if err := n.compact(); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, n.svc); !slices.Equal(got, want) {
		t.Errorf("%d entries of %d", len(got), len(want))
	}
	if containers, blocks, _ := n.svc.blocks.count(); containers != 1 || blocks != 4 {
		t.Errorf("%d blocks in %d containers, want three that were left alone and one", blocks, containers)
	}
}

// A panic while a tenant's blocks are uploaded does not keep others from it. Those that it
// happened to when they were united go one by one.
func TestPanicInAnUpload(t *testing.T) {
	store := objstore.NewMemory(nil)
	n := startWith(t, t.TempDir(), 1<<30, func(_ *Config, d *Deps) { d.Bucket = store }, panics("upload.put", 1))
	for i, tenant := range []string{"a", "b", "c", "d", "e", "f", "g", "t"} {
		if _, err := n.client.Ingest(ctx(t), &ingestv1.IngestRequest{Tenant: tenant, BatchTimeUnixNano: int64(i + 1), Streams: []*ingestv1.StreamBlock{
			{Labels: `{s="a"}`, Times: []int64{int64(i)}, LineEnds: []uint32{4}, Slab: []byte("line")}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.flush(); err == nil {
		t.Error("no error")
	}
	if _, keys := stored(t, store); len(keys) != 7 {
		t.Errorf("%d blocks are stored, want all but one", len(keys))
	}
	if err := n.flush(); err != nil {
		t.Error(err)
	}
	if _, keys := stored(t, store); len(keys) != 8 {
		t.Errorf("%d blocks are stored", len(keys))
	}
	if n := testutil.ToFloat64(n.svc.metrics.panics); n != 1 {
		t.Errorf("%v panics are counted", n)
	}
}

func TestBlocksLeftAloneAreUploadedOneByOne(t *testing.T) {
	s := &Service{blocks: newBlocks()}
	s.cfg.UploadSize = 1 << 20
	var list []*localBlock
	for _, id := range []string{"a", "b", "c", "d"} {
		list = append(list, &localBlock{Block: &local.Block{ID: catalog.ID(id), Tenant: "t"}})
	}
	s.blocks.leaveAlone(list[1:3])
	var got []string
	for _, job := range s.uploadJobs(list) {
		got = append(got, strings.Join(names(job), "+"))
	}
	if slices.Sort(got); !slices.Equal(got, []string{"a+d", "b", "c"}) {
		t.Errorf("%v", got)
	}
}

// Merges of local blocks that fail are spaced, ever more, also where the flusher is woken
// meanwhile; cuts are not.
func TestFailingMergesAreSpaced(t *testing.T) {
	var now, merges atomic.Int64
	var broken atomic.Bool
	now.Store(1e18)
	n := startWith(t, t.TempDir(), 1<<30, func(_ *Config, d *Deps) {
		d.Now = func() time.Time { return time.Unix(0, now.Load()) }
	}, func(s *Service) {
		s.testHook = func(at string) error {
			if at == "merge.block" && broken.Load() {
				merges.Add(1)
				return errors.New("no room")
			}
			return nil
		}
	})
	cut := func() error {
		b := now.Add(1)
		if _, err := n.ingest(b, "a", []int64{b}, "line"); err != nil {
			t.Fatal(err)
		}
		return n.flush()
	}
	for range maxSmall {
		if err := cut(); err != nil {
			t.Fatal(err)
		}
	}
	broken.Store(true)
	if err := cut(); err == nil || merges.Load() != 1 {
		t.Fatalf("%d merges: %v", merges.Load(), err)
	}
	for _, wait := range []struct {
		d    time.Duration
		want int64
	}{{0, 1}, {minBackoff - 1, 1}, {1, 2}, {minBackoff, 2}, {minBackoff, 3}, {2 * minBackoff, 3}, {2 * minBackoff, 4}} {
		now.Add(int64(wait.d))
		for range 4 { // so that two rounds, at least, have begun and ended since
			n.svc.wake <- struct{}{}
		}
		if got := merges.Load(); got != wait.want {
			t.Fatalf("%d merges after %v, want %d", got, wait.d, wait.want)
		}
	}
	// Who asks for it gets it tried.
	if err := cut(); err == nil || merges.Load() != 5 {
		t.Errorf("%d merges: %v", merges.Load(), err)
	}
	broken.Store(false)
	now.Add(int64(maxBackoff))
	for range 4 {
		n.svc.wake <- struct{}{}
	}
	if containers, _, _ := n.svc.blocks.count(); containers != 1 {
		t.Errorf("%d containers", containers)
	}
}
