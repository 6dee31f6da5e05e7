package ingester

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

// TestRule9PendingIsBehindTheCut: a record that is in the log and not yet in the head
// when that is cut stays in the log until it is in a block too.
func TestRule9PendingIsBehindTheCut(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, 1<<30)
	if _, err := n.ingest(1, "a", []int64{1}, "first"); err != nil {
		t.Fatal(err)
	}
	// A durable record that has not reached the head: finish is not called yet.
	req := &ingestv1.IngestRequest{Tenant: "t", BatchTimeUnixNano: 2, Streams: []*ingestv1.StreamBlock{{Labels: `{s="a"}`, Times: []int64{2}, LineEnds: []uint32{7}, Slab: []byte("pending")}}}
	rows, err := n.svc.rows(req, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.svc.sequence.begin(t.Context(), n.svc.log, nil, recordIngest, payload)
	if err != nil {
		t.Fatal(err)
	}
	p.tenant, p.blocks, p.batchTime = "t", rows, 2
	if err := p.ticket.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	// Killed now, nothing may be missing.
	crashed := filepath.Join(t.TempDir(), "copy")
	copyDir(t, dir, crashed)
	again := start(t, crashed, 1<<30)
	if got := contents(t, again.svc); !slices.Equal(got, []string{"1 a first", "2 a pending"}) {
		t.Errorf("after a crash: %q", got)
	}
	n.svc.sequence.finish(p, nil, n.svc.apply)
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, n.svc); !slices.Equal(got, []string{"1 a first", "2 a pending"}) {
		t.Errorf("got %q", got)
	}
	if segments, _ := n.svc.log.Size(); segments != 0 {
		t.Errorf("%d segments are left", segments)
	}
}

// TestRule9FrozenHeadsKeepTheirRecords: of two heads that are to be written the second
// one's records stay when the first is in a block.
func TestRule9FrozenHeadsKeepTheirRecords(t *testing.T) {
	dir := t.TempDir()
	var cuts atomic.Int32
	broken := errors.New("no more cuts")
	n := startWith(t, dir, 1<<30, nil, func(s *Service) {
		s.testHook = func(step string) error {
			if step == "cut.create" && cuts.Add(1) > 1 {
				return broken
			}
			return nil
		}
	})
	var want []string
	for i := range 2 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, "line"); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("%d a line", i))
		n.svc.freeze()
	}
	if err := n.flush(); err == nil {
		t.Fatal("the second head was written")
	}
	crashed := filepath.Join(t.TempDir(), "copy")
	copyDir(t, dir, crashed)
	again := start(t, crashed, 1<<30)
	if got := contents(t, again.svc); !slices.Equal(got, want) {
		t.Errorf("after a crash: %q, want %q", got, want)
	}
}

// TestRule9DuplicatesDoNotPinTheLog: records that bring nothing new do not fill the head,
// so the size of the log is reason enough to cut.
func TestRule9DuplicatesDoNotPinTheLog(t *testing.T) {
	n := startWith(t, t.TempDir(), 64<<10, func(c *Config, _ *Deps) { c.WALSegmentSize = 64 << 10 }, nil)
	line := strings.Repeat("x", 8<<10)
	for i := range 60 {
		if _, err := n.ingest(1, "a", []int64{1}, line); err != nil {
			t.Fatal(i, err)
		}
	}
	until(t, func() bool { _, bytes := n.svc.log.Size(); return bytes <= 4*64<<10 })
	if got := contents(t, n.svc); len(got) != 1 {
		t.Errorf("%d entries", len(got))
	}
}

// until waits for a condition.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not come true")
}

// TestRule10FailedFsyncIsFinal: after a failed fsync nothing is acknowledged any more, and
// a new process has what was.
func TestRule10FailedFsyncIsFinal(t *testing.T) {
	fs := waltest.New()
	dir := t.TempDir()
	var broken atomic.Bool
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "sync" && strings.HasSuffix(op.Name, ".wal") && broken.Load() {
			return errors.New("input/output error")
		}
		return nil
	})
	n := startWith(t, dir, 1<<30, nil, func(s *Service) { s.walFS = fs })
	for i := range 3 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, "acked"); err != nil {
			t.Fatal(err)
		}
	}
	broken.Store(true)
	if _, err := n.ingest(4, "a", []int64{4}, "pending"); err == nil {
		t.Error("acknowledged without a sync")
	}
	broken.Store(false) // what the kernel says now is a lie
	if _, err := n.ingest(5, "a", []int64{5}, "later"); !rpcerr.Is(err, rpcerr.NotReady) {
		t.Errorf("error %v, want NOT_READY", err)
	}
	select {
	case <-n.svc.Failed():
	default:
		t.Error("the process is not asked to restart")
	}
	if got := contents(t, n.svc); len(got) != 3 {
		t.Errorf("%q is visible", got)
	}
	n.close()
	n = startWith(t, dir, 1<<30, nil, func(s *Service) { s.walFS = fs })
	got := contents(t, n.svc)
	if len(got) < 3 || len(got) > 4 || !slices.Equal(got[:3], []string{"0 a acked", "1 a acked", "2 a acked"}) {
		t.Errorf("after a restart: %q", got)
	}
}

// read opens all of a tenant's contents over the wire and returns what the answer names.
func (n *node) uploadedNames(start, end int64) []string {
	n.t.Helper()
	expr, err := syntax.ParseExpr(`{s=~".+"}`)
	if err != nil {
		n.t.Fatal(err)
	}
	session, err := remote.NewSource("x", n.client).Open(ctx(n.t), expr.(*syntax.LogSelector).Matchers, start, end)
	if err != nil {
		n.t.Fatal(err)
	}
	defer session.Close()
	return session.(interface{ Opened() *ingestv1.Opened }).Opened().GetUploadedBlocks()
}

// stored returns the entries that the bucket holds, sorted, as contents does.
func stored(t *testing.T, b objstore.Bucket) (out, keys []string) {
	t.Helper()
	err := b.List(t.Context(), "", func(o objstore.Object) error {
		if o.Key == catalog.IndexKey("t") {
			return nil
		}
		keys = append(keys, o.Key)
		if _, err := catalog.ParseKey(o.Key); err != nil {
			t.Error(err)
		}
		r, err := block.Open(t.Context(), objectReader{b, o.Key}, o.Size)
		if err != nil {
			return err
		}
		if err := r.Verify(t.Context()); err != nil {
			return err
		}
		return r.Each(t.Context(), func(ls model.Labels, rows *model.Rows) error {
			for i := range rows.Times {
				out = append(out, fmt.Sprintf("%d %s %s", rows.Times[i], ls.Get("s"), rows.Lines.At(i)))
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out, keys
}

type objectReader struct {
	bucket objstore.Bucket
	key    string
}

func (o objectReader) ReadRange(ctx context.Context, off int64, n int) ([]byte, error) {
	return o.bucket.Get(ctx, o.key, off, n)
}

// TestRule11UploadedBlocksAreNamed: answers name the blocks uploaded in the last 24 h
// that the range touches, over restarts and beyond the local copy, which stays until it
// is old enough.
func TestRule11UploadedBlocksAreNamed(t *testing.T) {
	dir, store := t.TempDir(), objstore.NewMemory(nil)
	var now atomic.Int64
	now.Store(1e18)
	change := func(c *Config, d *Deps) {
		d.Bucket = store
		d.Now = func() time.Time { return time.Unix(0, now.Load()) }
		c.KeepUploaded = time.Hour
	}
	n := startWith(t, dir, 1<<30, change, nil)
	for i := range 4 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i) * dayLength}, fmt.Sprint("line ", i)); err != nil {
			t.Fatal(err)
		}
	}
	want := contents(t, n.svc)
	if names := n.uploadedNames(0, 1<<60); len(names) != 0 {
		t.Errorf("named before they are uploaded: %q", names)
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	got, keys := stored(t, store)
	if !slices.Equal(got, want) {
		t.Errorf("the bucket holds %q, want %q", got, want)
	}
	named := n.uploadedNames(0, 1<<60)
	slices.Sort(named)
	if !slices.Equal(named, keys) || len(keys) != 4 {
		t.Errorf("named %q, there are %q", named, keys)
	}
	if named := n.uploadedNames(dayLength, 2*dayLength); len(named) != 1 || !strings.Contains(named[0], "1970-01-02") {
		t.Errorf("of one day: %q", named)
	}
	if got := contents(t, n.svc); !slices.Equal(got, want) {
		t.Errorf("after the upload: %q", got)
	}
	n.close()
	n = startWith(t, dir, 1<<30, change, nil)
	if again := n.uploadedNames(0, 1<<60); len(again) != 4 {
		t.Errorf("after a restart: %q", again)
	}
	now.Add(int64(2 * time.Hour))
	until(t, func() bool { containers, _, _ := n.svc.blocks.count(); return containers == 0 })
	if got := contents(t, n.svc); len(got) != 0 {
		t.Errorf("local copies are left: %q", got)
	}
	if names := n.uploadedNames(0, 1<<60); len(names) != 4 {
		t.Errorf("without the local copy: %q", names)
	}
	if files, _ := filepath.Glob(filepath.Join(n.svc.blocksDir(), "*.blocks")); len(files) > 0 {
		t.Errorf("left over: %v", files)
	}
	now.Add(int64(24 * time.Hour))
	if names := n.uploadedNames(0, 1<<60); len(names) != 0 {
		t.Errorf("after a day: %q", names)
	}
}

// TestRule11VanishedIsUploadedAgain: a block that the object store loses before anybody
// has listed it is missed by no catalog. The local copy does not go before it was looked
// for, and is uploaded again; one that the catalog knows to have been removed is not.
func TestRule11VanishedIsUploadedAgain(t *testing.T) {
	for _, removed := range []bool{false, true} {
		store := objstore.NewMemory(nil)
		var now atomic.Int64
		now.Store(1e18)
		n := startWith(t, t.TempDir(), 1<<30, func(c *Config, d *Deps) {
			d.Bucket = store
			d.Now = func() time.Time { return time.Unix(0, now.Load()) }
			c.KeepUploaded = time.Hour
		}, nil)
		if _, err := n.ingest(1, "a", []int64{1}, "line"); err != nil {
			t.Fatal(err)
		}
		want := contents(t, n.svc)
		if err := n.flush(); err != nil {
			t.Fatal(err)
		}
		_, keys := stored(t, store)
		if len(keys) != 1 {
			t.Fatalf("the bucket has %q", keys)
		}
		if removed {
			loader := catalog.NewLoader(catalog.LoaderOptions{Bucket: store, Now: n.svc.now,
				Footer: func(_ context.Context, key string, _ int64) (catalog.Block, error) { return catalog.ParseKey(key) }})
			if err := loader.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			b, _ := catalog.ParseKey(keys[0])
			if err := loader.Removing(t.Context(), b.Tenant, b.ID); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.Delete(t.Context(), keys[0]); err != nil {
			t.Fatal(err)
		}
		now.Add(int64(2 * time.Hour))
		until(t, func() bool {
			_, up := stored(t, store)
			containers, _, _ := n.svc.blocks.count()
			return containers == 0 || len(up) > 0
		})
		got, _ := stored(t, store)
		if removed {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("removed %t: the bucket has %q, want %q", removed, got, want)
		}
	}
}

// Blocks go at once where all queriers know them.
func TestKnownBlocksGoAtOnce(t *testing.T) {
	store := objstore.NewMemory(nil)
	var known sync.Map
	n := startWith(t, t.TempDir(), 1<<30, func(_ *Config, d *Deps) {
		d.Bucket = store
		d.Known = func(key string) bool { _, ok := known.Load(key); return ok }
	}, nil)
	if _, err := n.ingest(1, "a", []int64{1}, "line"); err != nil {
		t.Fatal(err)
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if containers, _, _ := n.svc.blocks.count(); containers != 1 {
		t.Fatalf("%d containers", containers)
	}
	_, keys := stored(t, store)
	known.Store(keys[0], true)
	until(t, func() bool { containers, _, _ := n.svc.blocks.count(); return containers == 0 })
}

// away is a bucket that can be away, or store less than it says.
type away struct {
	objstore.Bucket
	gone, half atomic.Bool
}

func (a *away) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	switch {
	case a.gone.Load():
		return objstore.ErrUnavailable
	case a.half.Load():
		size /= 2
	}
	return a.Bucket.Put(ctx, key, body, size)
}

// While the object store is away, or stores what cannot be read back, everything stays
// on the local disk and pushes go on; when it is back everything is uploaded, once.
func TestObjectStoreAway(t *testing.T) {
	mem := objstore.NewMemory(nil)
	store := &away{Bucket: mem}
	dir := t.TempDir()
	n := startWith(t, dir, 1<<30, func(c *Config, d *Deps) { d.Bucket, c.KeepUploaded = store, 0 }, nil)
	var want []string
	push := func(i int) {
		t.Helper()
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, "line"); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("%d a line", i))
	}
	for i, fail := range []*atomic.Bool{&store.gone, &store.half} {
		fail.Store(true)
		push(2 * i)
		if err := n.flush(); !rpcerr.Is(err, rpcerr.Unavailable) {
			t.Errorf("error %v, want UNAVAILABLE", err)
		}
		push(2*i + 1)
		if got := contents(t, n.svc); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if names := n.uploadedNames(0, 1<<60); len(names) != 0 {
			t.Errorf("named: %q", names)
		}
		if bytes, oldest := n.svc.backlog(); bytes == 0 || oldest.IsZero() {
			t.Error("there is no backlog")
		}
		fail.Store(false)
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if bytes, _ := n.svc.backlog(); bytes != 0 {
		t.Errorf("%d bytes wait", bytes)
	}
	names := n.uploadedNames(0, 1<<60)
	var got []string
	all, _ := stored(t, subset{mem, names})
	got = append(got, all...)
	if !slices.Equal(got, want) {
		t.Errorf("the object store holds %q, want %q", got, want)
	}
}

// subset is those objects of a bucket that have names.
type subset struct {
	objstore.Bucket
	names []string
}

func (n subset) List(ctx context.Context, prefix string, yield func(objstore.Object) error) error {
	return n.Bucket.List(ctx, prefix, func(o objstore.Object) error {
		if slices.Contains(n.names, o.Key) {
			return yield(o)
		}
		return nil
	})
}

// TestRule20DamagedLocalBlocksAreAGap: every byte of a container flipped in turn: a read
// gives everything, or an error, or less and says so; never something else. Whatever reads a
// damaged block first, it is not asked again.
func TestRule20DamagedLocalBlocksAreAGap(t *testing.T) {
	t.Run("lines", func(t *testing.T) { damagedLocalBlocks(t, (*node).tryRead) })
	t.Run("patterns", func(t *testing.T) { damagedLocalBlocks(t, (*node).tryPatterns) })
}

// tryPatterns returns the patterns of all lines, with how many there are.
func (n *node) tryPatterns() (list []string, gaps []string, err error) {
	n.t.Helper()
	sel, err := syntax.ParseLogQuery(`{s=~".+"}`)
	if err != nil {
		n.t.Fatal(err)
	}
	session, err := remote.NewSource("x", n.client).Open(ctx(n.t), sel.Matchers, 0, 1<<60)
	if err != nil {
		return nil, nil, err
	}
	defer session.Close()
	found, _, err := session.Patterns(ctx(n.t), engine.PatternsRequest{Query: sel, Start: 0, End: 1 << 60, Width: 1 << 60})
	for _, p := range found {
		list = append(list, fmt.Sprint(p.Text, " ", p.Lines))
	}
	return list, session.Gaps(), err
}

func damagedLocalBlocks(t *testing.T, read func(*node) (found, gaps []string, _ error)) {
	dir := t.TempDir()
	n := start(t, dir, 1<<30)
	for i := range 3 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, fmt.Sprint("this is line number ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	want, _, err := read(n)
	if err != nil || len(want) == 0 {
		t.Fatal(want, err)
	}
	n.close()
	files, err := filepath.Glob(filepath.Join(dir, "blocks", "*.blocks"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	step := max(1, len(good)/60)
	for i := 0; i < len(good); i += step {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		copied := filepath.Join(t.TempDir(), "copy")
		copyDir(t, dir, copied)
		if err := os.WriteFile(filepath.Join(copied, "blocks", filepath.Base(files[0])), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		n := start(t, copied, 1<<30)
		for try := range 3 {
			lines, gaps, err := read(n)
			switch {
			case err != nil && try == 0 && rpcerr.Is(err, rpcerr.DataLoss):
				continue // found out now
			case err != nil:
				t.Errorf("byte %d, try %d: %v", i, try, err)
			case len(gaps) > 0 && len(lines) == 0:
			case len(gaps) == 0 && slices.Equal(lines, want):
			default:
				t.Errorf("byte %d: %q, gaps %q", i, lines, gaps)
			}
			break
		}
		n.close()
	}
}

// A disk that is full for blocks keeps everything in memory and in the log; pushes are
// refused once memory is full, and all is well when there is room again.
func TestNoRoomForBlocks(t *testing.T) {
	var full atomic.Bool
	n := startWith(t, t.TempDir(), 256<<10, nil, func(s *Service) {
		s.testHook = func(step string) error {
			if full.Load() && step == "cut.sync" {
				return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
			}
			return nil
		}
	})
	full.Store(true)
	var want []string
	for i := 0; ; i++ {
		line := fmt.Sprintf("%d %s", i, strings.Repeat("x", 4000))
		_, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, line)
		if rpcerr.Is(err, rpcerr.Overloaded) && i > 0 {
			break
		}
		if err != nil || i > 1000 {
			t.Fatal(i, err)
		}
		want = append(want, fmt.Sprintf("%d a %s", i, line))
	}
	if err := n.flush(); !rpcerr.Is(err, rpcerr.DiskFull) {
		t.Errorf("error %v, want DISK_FULL", err)
	}
	slices.Sort(want)
	if got := contents(t, n.svc); !slices.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	full.Store(false)
	if err := n.flush(); err != nil {
		t.Error(err)
	}
	if _, err := n.ingest(5000, "a", []int64{5000}, "again"); err != nil {
		t.Error(err)
	}
	if got := contents(t, n.svc); len(got) != len(want)+1 {
		t.Errorf("%d entries, want %d", len(got), len(want)+1)
	}
}
