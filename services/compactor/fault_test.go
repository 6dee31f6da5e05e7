package compactor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/objstore"
)

// twoBlocks is a store whose day is over and waits for its merge.
func twoBlocks(t *testing.T, change ...func(*Config, *Deps)) (*env, []entry) {
	e := start(t, change...)
	e.put(day, some("x", 0, 100)...)
	e.put(day, some("x", 50, 100)...)
	e.pass(24 * time.Hour)
	return e, some("x", 0, 150)
}

func isBlock(key string) bool {
	_, err := catalog.ParseKey(key)
	return err == nil
}

// TestR14HalfStoredPut: a put that reports success and has stored half is found by
// reading back; its block is nobody's, and goes.
func TestR14HalfStoredPut(t *testing.T) {
	e, all := twoBlocks(t)
	e.bucket.set(func() { e.bucket.cut = isBlock })
	if err := e.service.Cycle(t.Context()); !errors.Is(err, objstore.ErrDamaged) {
		t.Fatal(err)
	}
	e.bucket.set(func() { e.bucket.cut = nil })
	e.wantEntries(all...)
	if n := len(e.objects()); n != 3 {
		t.Fatalf("%d objects", n)
	}
	e.cycle()
	e.wantEntries(all...)
	if live := e.live(); len(live) != 1 {
		t.Fatalf("%d live blocks", len(live))
	}
	for range 2 {
		e.pass(25 * time.Hour)
		e.cycle()
	}
	if n := len(e.objects()); n != 1 {
		t.Errorf("%d objects, half a block among them", n)
	}
	e.wantEntries(all...)
}

// TestPutFailsButStored: a put that reports failure and has stored all is no harm.
func TestPutFailsButStored(t *testing.T) {
	e, all := twoBlocks(t)
	e.bucket.set(func() {
		e.bucket.before = func(op, key string) error {
			if op == "after put" && isBlock(key) {
				return errFault
			}
			return nil
		}
	})
	if err := e.service.Cycle(t.Context()); !errors.Is(err, objstore.ErrUnavailable) {
		t.Fatal(err)
	}
	e.bucket.set(func() { e.bucket.before = nil })
	e.wantEntries(all...)
	for range 3 {
		e.cycle()
		e.pass(25 * time.Hour)
	}
	e.cycle()
	e.wantEntries(all...)
	if n := len(e.objects()); n != 1 {
		t.Errorf("%d objects", n)
	}
}

// TestStoreFails: whichever call to the store fails, for a while, entries stay and the
// work is done in the end.
func TestStoreFails(t *testing.T) {
	for _, op := range []string{"put", "after put", "get", "stat", "delete", "list"} {
		for _, after := range []int{0, 1, 2, 5} {
			e, all := twoBlocks(t)
			var n atomic.Int64
			e.bucket.set(func() {
				e.bucket.before = func(o, _ string) error {
					if o == op && n.Add(1) > int64(after) {
						return errFault
					}
					return nil
				}
			})
			for range 3 {
				_ = e.service.Cycle(t.Context())
				e.wantEntries(all...)
				e.mu.Lock()
				e.time, e.store = e.time.Add(25*time.Hour), e.store.Add(25*time.Hour)
				e.mu.Unlock()
			}
			e.bucket.set(func() { e.bucket.before = nil })
			for range 4 {
				e.pass(25 * time.Hour)
				e.cycle()
				e.wantEntries(all...)
			}
			if live, keys := e.live(), e.objects(); len(live) != 1 || len(keys) != 1 {
				t.Errorf("%s fails after %d: %d live blocks, %d objects", op, after, len(live), len(keys))
			}
		}
	}
}

// TestR14DamagedSuccessor: sources stay for as long as the block that replaces them
// cannot be read whole, also if it was damaged after the process that made it had read it back.
func TestR14DamagedSuccessor(t *testing.T) {
	for _, made := range []bool{false, true} {
		e, all := twoBlocks(t)
		sources := e.objects()
		e.cycle()
		live := e.live()
		if len(live) != 1 {
			t.Fatalf("%d live blocks", len(live))
		}
		key := catalog.Key(live[0])
		whole, err := objstore.ReadAll(t.Context(), e.bucket, key, 1<<30)
		e.must(err)
		broken := append([]byte(nil), whole...)
		broken[40] ^= 0x10
		e.must(objstore.PutBytes(t.Context(), e.bucket, key, broken))
		e.pass(25 * time.Hour)
		next, _, reg := e.compactor()
		if made {
			next = e.service
		}
		if err := next.Cycle(t.Context()); err == nil || !strings.Contains(err.Error(), string(live[0].ID)) {
			t.Fatal(made, err)
		}
		if keys := e.objects(); !contains(keys, sources...) {
			t.Fatalf("made %v: sources are gone: %v", made, keys)
		}
		if !made && value(t, reg, "weir_compactor_damaged_blocks_total") == 0 {
			t.Error("damage was not counted")
		}
		e.must(objstore.PutBytes(t.Context(), e.bucket, key, whole))
		e.pass(25 * time.Hour)
		e.must(next.Cycle(t.Context()))
		if n := len(e.objects()); n != 1 {
			t.Errorf("made %v: %d objects", made, n)
		}
		e.wantEntries(all...)
	}
}

func contains(keys []string, want ...string) bool {
	all := strings.Join(keys, " ")
	for _, k := range want {
		if !strings.Contains(all, k) {
			return false
		}
	}
	return true
}

// TestR13AllPartsBeforeASourceGoes: of a merge with several results some are there.
// Its sources are live, and stay.
func TestR13AllPartsBeforeASourceGoes(t *testing.T) {
	puts := 0
	e, all := twoBlocks(t, func(c *Config, d *Deps) {
		c.MaxBlockSize = 1 * conf.KiB / 2
		d.Step = func(name string) error {
			if name == "put" {
				if puts++; puts > 1 {
					return errCrash
				}
			}
			if name == "write" && puts > 0 {
				return errCrash // no other merge does the work
			}
			return nil
		}
	})
	sources := e.objects()
	for i := range 4 {
		// What the first cycle put is a source of the next: that merge fails twice, and waits.
		if err := e.service.Cycle(t.Context()); !errors.Is(err, errCrash) {
			t.Fatal(i, err)
		}
		e.pass(25 * time.Hour)
	}
	if keys := e.objects(); len(keys) != 3 || !contains(keys, sources...) {
		t.Fatalf("objects: %v", keys)
	}
	if n := len(e.live()); n != 3 {
		t.Errorf("%d live blocks", n)
	}
	e.wantEntries(all...)
}

// TestStaleListing: listings that do not show new blocks, or still show deleted ones,
// lose nothing.
func TestStaleListing(t *testing.T) {
	e, all := twoBlocks(t)
	sources := e.objects()
	e.bucket.set(func() { e.bucket.stale = func(key string) bool { return isBlock(key) && !contains(sources, key) } })
	for range 3 {
		_ = e.service.Cycle(t.Context())
		e.wantEntries(all...)
	}
	e.bucket.set(func() { e.bucket.stale = nil })
	for range 4 {
		e.cycle()
		e.wantEntries(all...)
		e.pass(25 * time.Hour)
	}
	e.cycle()
	if live, keys := e.live(), e.objects(); len(live) != 1 || len(keys) != 1 {
		t.Errorf("%d live blocks, %d objects", len(live), len(keys))
	}
	e.wantEntries(all...)
}

// TestDamagedSource: a block that cannot be read is not merged, and stays; others are.
func TestDamagedSource(t *testing.T) {
	e := start(t)
	bad := e.put(day, some("x", 0, 100)...)
	e.put(day, some("y", 0, 100)...)
	other := day.AddDate(0, 0, -1)
	e.put(other, some("z", -24*60, 50)...)
	key := catalog.Key(bad)
	body, err := objstore.ReadAll(t.Context(), e.bucket, key, 1<<30)
	e.must(err)
	body[30] ^= 1
	e.must(objstore.PutBytes(t.Context(), e.bucket, key, body))
	e.pass(24 * time.Hour)
	if err := e.service.Cycle(t.Context()); err == nil || !strings.Contains(err.Error(), string(bad.ID)) {
		t.Fatal(err)
	}
	if keys := e.objects(); !contains(keys, key) {
		t.Error("the damaged block is gone")
	}
	merged := 0
	for _, b := range e.live() {
		if compact.NewBlock(b).Ordered {
			merged++
		}
	}
	if merged != 1 {
		t.Errorf("%d days were merged, one is whole", merged)
	}
}

// TestDescendantsOutliveAncestors: a chain of merges goes from its oldest end.
func TestDescendantsOutliveAncestors(t *testing.T) {
	e := start(t, func(c *Config, _ *Deps) { c.MaxSources = 2; c.DeleteDelay = 10 * time.Hour })
	e.put(day, some("x", 0, 50)...)
	e.put(day, some("x", 50, 50)...)
	e.cycle() // a and b into c
	e.pass(13 * time.Hour)
	e.put(day, some("x", 100, 5)...)
	e.pass(2*time.Hour + time.Minute)
	seen := len(e.objects())
	for range 10 {
		e.bucket.set(func() {
			e.bucket.before = func(op, key string) error {
				if op != "delete" {
					return nil
				}
				b, err := catalog.ParseKey(key)
				if err != nil {
					return nil
				}
				for _, k := range e.objects() {
					o, _ := catalog.ParseKey(k)
					if o.Level < b.Level && o.ID != b.ID && o.MinTime >= b.MinTime && o.MaxTime <= b.MaxTime {
						t.Errorf("%s goes before %s", key, k)
					}
				}
				return nil
			}
		})
		e.cycle()
		e.wantEntries(some("x", 0, 105)...)
		e.pass(5 * time.Hour)
	}
	if n := len(e.objects()); n != 1 || seen < 2 {
		t.Errorf("%d objects", n)
	}
}

// TestR14DamagedBeforeThePut: what was written is read back before it is stored: a
// writer that has damaged a row stores nothing.
func TestR14DamagedBeforeThePut(t *testing.T) {
	dir := ""
	e, all := twoBlocks(t, func(_ *Config, d *Deps) {
		dir = d.TempDir
		d.Step = func(name string) error {
			if name != "prove" {
				return nil
			}
			files, err := os.ReadDir(dir)
			if err != nil || len(files) != 1 {
				return fmt.Errorf("%d files, %w", len(files), err)
			}
			f, err := os.OpenFile(filepath.Join(dir, files[0].Name()), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			b := make([]byte, 1)
			_, err1 := f.ReadAt(b, 60)
			b[0] ^= 4
			_, err2 := f.WriteAt(b, 60)
			return errors.Join(err1, err2, f.Close())
		}
	})
	if err := e.service.Cycle(t.Context()); err == nil || !strings.Contains(err.Error(), "read back what was written") {
		t.Fatal(err)
	}
	if n := len(e.objects()); n != 2 {
		t.Errorf("%d objects", n)
	}
	e.wantEntries(all...)
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
}

// TestR14ChangedByThePut: a put that stores another byte than it was given, in the
// middle of a block whose footer is whole, is found; the sources stay.
func TestR14ChangedByThePut(t *testing.T) {
	e, all := twoBlocks(t)
	sources := e.objects()
	e.bucket.set(func() {
		e.bucket.before = func(op, key string) error {
			if op != "after put" || !isBlock(key) {
				return nil
			}
			body, err := objstore.ReadAll(t.Context(), e.bucket.Bucket, key, 1<<30)
			if err != nil {
				return err
			}
			body[40] ^= 0x10
			return objstore.PutBytes(t.Context(), e.bucket.Bucket, key, body)
		}
	})
	if err := e.service.Cycle(t.Context()); !errors.Is(err, objstore.ErrDamaged) {
		t.Fatal(err)
	}
	e.bucket.set(func() { e.bucket.before = nil })
	for _, key := range e.objects() { // the damaged block goes, as an operator would have it
		if !contains(sources, key) {
			e.must(e.bucket.Delete(t.Context(), key))
		}
	}
	if keys := e.objects(); !contains(keys, sources...) {
		t.Fatalf("sources are gone: %v", keys)
	}
	e.wantEntries(all...)
}

// A block whose index tells other lengths of its streams' lines than they have, though they
// add up, can be merged only until that is proved. It is named, counted, and nothing is
// stored of it.
func TestIndexThatLies(t *testing.T) {
	e := start(t)
	yesterday := day.Add(-24 * time.Hour)
	var all []entry
	for i := range 300 {
		at := time.Duration(i)*time.Second - 24*time.Hour
		all = append(all, entry{app: "a", at: at, line: fmt.Sprint("a ", i)}, entry{app: "b", at: at, line: fmt.Sprint("b ", i)})
	}
	whole, _ := e.build(block.Meta{ID: "x", Tenant: "t", Partition: yesterday}, slices.Clone(all)...)
	r, err := block.Open(t.Context(), fileRangeOf(whole), int64(len(whole)))
	e.must(err)
	section, err := r.ReadSection(t.Context(), 0)
	e.must(err)
	id, err := catalog.NewID(e.now(), e.rand)
	e.must(err)
	var body bytes.Buffer
	w := block.NewWriter(&body, block.Meta{ID: id, Tenant: "t", Partition: yesterday, Ordered: true}, block.Options{})
	group, err := r.ReadRowGroup(t.Context(), section, 0)
	e.must(err)
	for i := range 2 {
		runs := slices.Clone(r.Runs(i, compact.MinTime, compact.MaxTime))
		runs[0].Bytes += uint64(1 - 2*i)
		size := 0
		for _, run := range runs {
			size += int(run.Bytes)
		}
		e.must(w.CarryRuns(r.Labels(i), runs))
		from, to := r.RowsOf(i, 0)
		e.must(w.Carry(r.Labels(i), r.Carry(group), from, to, size))
	}
	info, err := w.Close()
	e.must(err)
	bad := info.Catalog()
	e.must(objstore.PutBytes(t.Context(), e.bucket, catalog.Key(bad), body.Bytes()))
	good := e.put(yesterday, entry{app: "c", at: -20 * time.Hour, line: "c"})
	e.pass(25 * time.Hour)
	err = e.service.Cycle(t.Context())
	if err == nil || !strings.Contains(err.Error(), string(bad.ID)) || strings.Contains(err.Error(), string(good.ID)) {
		t.Error(err)
	}
	if got := value(t, e.reg, "weir_compactor_damaged_blocks_total"); got != 1 {
		t.Errorf("%v damaged blocks are counted", got)
	}
	if keys := e.objects(); len(keys) != 2 {
		t.Error(keys)
	}
}

// fileRangeOf is a block in memory.
type fileRangeOf []byte

// ReadRange implements block.RangeReader.
func (b fileRangeOf) ReadRange(_ context.Context, off int64, n int) ([]byte, error) {
	return b[off : off+int64(n)], nil
}

// A panic in a merge ends that merge alone: others go on, nothing of it is left, and the next
// cycle tries again.
func TestPanicInAMerge(t *testing.T) {
	for _, step := range []string{"write", "prove"} {
		armed := true
		e := start(t, func(_ *Config, d *Deps) {
			d.Step = func(name string) error {
				if name == step && armed {
					armed = false
					panic("in a step")
				}
				return nil
			}
		})
		next := day.Add(24 * time.Hour)
		other := some("y", 24*60, 100)
		e.put(day, some("x", 0, 100)...)
		e.put(day, some("x", 50, 100)...)
		e.put(next, other...)
		e.put(next, some("y", 24*60+50, 100)...)
		all := join(some("x", 0, 150), some("y", 24*60, 150))
		e.pass(48 * time.Hour)
		if err := e.service.Cycle(t.Context()); !errors.Is(err, bug.ErrPanic) {
			t.Fatal(step, err)
		}
		e.wantEntries(all...)
		if n := len(e.live()); n != 3 {
			t.Errorf("%s: %d live blocks, want two sources and another day's merge", step, n)
		}
		if list, _ := os.ReadDir(e.dir); len(list) != 0 {
			t.Errorf("%s: temporary files are left: %v", step, list)
		}
		if n := testutil.ToFloat64(e.service.metrics.panics); n != 1 {
			t.Errorf("%s: %v panics are counted", step, n)
		}
		e.cycle()
		e.wantEntries(all...)
		if n := len(e.live()); n != 2 {
			t.Errorf("%s: %d live blocks in the end", step, n)
		}
	}
}

// A panic while a block is read leaves that block out, as damage does, and is not counted as
// damage.
func TestPanicInABlock(t *testing.T) {
	e := start(t, func(c *Config, _ *Deps) { c.RetentionShare = 1 })
	e.limits.RetentionPeriod = 30 * 24 * time.Hour
	bad := e.put(day, some("x", 0, 100)...)
	good := e.put(day, some("x", 100, 100)...)
	young := some("x", 24*60, 100)
	e.put(day.Add(24*time.Hour), young...)
	e.pass(30 * 24 * time.Hour)
	e.bucket.set(func() {
		var mu sync.Mutex // blocks are read at once
		reads := map[string]int{}
		e.bucket.before = func(op, key string) error {
			mu.Lock()
			defer mu.Unlock()
			if reads[key]++; op == "get" && key == catalog.Key(bad) && reads[key] > 1 { // the first lists it
				panic("in a read")
			}
			return nil
		}
	})
	if err := e.service.Cycle(t.Context()); !errors.Is(err, bug.ErrPanic) {
		t.Fatal(err)
	}
	if keys := e.objects(); !contains(keys, catalog.Key(bad)) || contains(keys, catalog.Key(good)) {
		t.Errorf("objects %v: want the block that could not be read, and not the other one that has expired", keys)
	}
	if damaged, panics := testutil.ToFloat64(e.service.metrics.damaged), testutil.ToFloat64(e.service.metrics.panics); damaged != 0 || panics == 0 {
		t.Errorf("%v blocks are held for damaged, %v panics are counted", damaged, panics)
	}
	e.bucket.set(func() { e.bucket.before = nil })
	e.pass(2 * time.Hour)
	e.cycle()
	e.wantEntries(young...)
}
