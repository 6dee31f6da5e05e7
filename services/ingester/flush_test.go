package ingester

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/objstore"
)

// contents returns all entries of the tenant t, "time stream line" each, sorted. It
// fails if one is there twice, a run counts other than there is, or the order is wrong.
func contents(t interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}, svc *Service) []string {
	t.Helper()
	expr, err := syntax.ParseExpr(`{s=~".+"}`)
	if err != nil {
		t.Fatal(err)
	}
	sel := expr.(*syntax.LogSelector)
	session, err := source{svc, "t"}.Open(context.Background(), sel.Matchers, -1<<61, 1<<61)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var out []string
	last := int64(-1 << 62)
	streams := session.Streams()
	_, err = session.Scan(context.Background(), engine.ScanRequest{Query: expr, Start: -1 << 61, End: 1 << 61}, func(r *engine.ScanRows) error {
		for i, tm := range r.Times {
			if tm < last {
				return fmt.Errorf("time %d comes after %d", tm, last)
			}
			last = tm
			out = append(out, fmt.Sprintf("%d %s %s", tm, streams[r.Labels[r.Sets[i]].Stream].Labels.Get("s"), r.Lines.At(i)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if gaps := session.Gaps(); len(gaps) > 0 {
		t.Fatalf("gaps %v", gaps)
	}
	slices.Sort(out)
	for i := 1; i < len(out); i++ {
		if out[i] == out[i-1] {
			t.Fatalf("%q is there twice", out[i])
		}
	}
	return out
}

func (n *node) flush() error {
	_, err := n.client.Flush(ctx(n.t), &ingestv1.FlushRequest{})
	return err
}

func (n *node) compact() error {
	_, err := n.client.Compact(ctx(n.t), &ingestv1.CompactRequest{})
	return err
}

// TestAgainstTwin pushes, flushes, compacts and restarts at random: what is read is
// the set of all that was acknowledged.
func TestAgainstTwin(t *testing.T) {
	base := rand.Uint64()
	for i := range uint64(12) {
		t.Run(fmt.Sprint("seed ", base+i), func(t *testing.T) { againstTwin(t, rand.New(rand.NewPCG(base+i, 1))) })
	}
}

func againstTwin(t *testing.T, rnd *rand.Rand) {
	dir, store := t.TempDir(), objstore.NewMemory(nil)
	var now atomic.Int64
	now.Store(1e18)
	change := func(c *Config, d *Deps) {
		if rnd.IntN(2) == 0 {
			d.Bucket = store
		}
		d.Now = func() time.Time { return time.Unix(0, now.Load()) }
		c.UploadSize = 1 << 20
	}
	n := startWith(t, dir, 1<<20, change, nil)
	twin := map[string]bool{}
	check := func(what string) {
		t.Helper()
		want := slices.Sorted(maps.Keys(twin))
		if got := contents(t, n.svc); !slices.Equal(got, want) {
			t.Fatalf("after %s\ngot  %q\nwant %q", what, got, want)
		}
	}
	for batch := range int64(40) {
		switch rnd.IntN(10) {
		case 0:
			if err := n.flush(); err != nil {
				t.Fatal(err)
			}
			check("a flush")
		case 1:
			if err := n.compact(); err != nil {
				t.Fatal(err)
			}
			check("a merge")
		case 2:
			n.close()
			n = startWith(t, dir, 1<<20, change, nil)
			check("a restart")
		case 3:
			now.Add(int64(time.Hour))
		default:
			stream := []string{"a", "b"}[rnd.IntN(2)]
			var times []int64
			var lines []string
			for range 1 + rnd.IntN(20) {
				times = append(times, int64(rnd.IntN(24)-3)*dayLength+int64(rnd.IntN(4)))
				lines = append(lines, fmt.Sprint("line ", rnd.IntN(3)))
			}
			if _, err := n.ingest(batch+1, stream, times, lines...); err != nil {
				t.Fatal(err)
			}
			for i := range times {
				twin[fmt.Sprintf("%d %s %s", times[i], stream, lines[i])] = true
			}
		}
	}
	check("all")
}

// Pushes go on while heads are cut by size, and nothing is lost between two heads, nor
// by a restart, which finds more than fits into memory.
func TestCutBySizeWhilePushesGoOn(t *testing.T) {
	dir := t.TempDir()
	const limit = 512 << 10
	n := startWith(t, dir, limit, nil, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var want []string
	for w := range 4 {
		wg.Go(func() {
			for i := range 60 {
				stream, tm := fmt.Sprint("s", w), int64(i+1)*int64(time.Hour)
				line := fmt.Sprintf("%d %s", i, strings.Repeat("x", 5000))
				for {
					_, err := n.ingest(int64(w*1000+i+1), stream, []int64{tm}, line)
					if err == nil {
						break
					}
					if !strings.Contains(err.Error(), "memory") {
						t.Error(err)
						return
					}
				}
				mu.Lock()
				want = append(want, fmt.Sprintf("%d %s %s", tm, stream, line))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	if got := contents(t, n.svc); !slices.Equal(got, want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	if containers, _, _ := n.svc.blocks.count(); containers == 0 {
		t.Error("nothing was cut")
	}
	n.close()
	n = startWith(t, dir, limit, nil, nil)
	if got := contents(t, n.svc); !slices.Equal(got, want) {
		t.Fatalf("%d entries after a restart, want %d", len(got), len(want))
	}
	n.close()
	n = startWith(t, dir, 8<<10, nil, nil) // replay has to cut
	if got := contents(t, n.svc); !slices.Equal(got, want) {
		t.Fatalf("%d entries after a restart with less memory, want %d", len(got), len(want))
	}
}

func TestFlushLeavesNothingInTheLog(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, 1<<30)
	for i := range 10 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i + 1)}, "line"); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if segments, bytes := n.svc.log.Size(); segments != 0 || bytes != 0 {
		t.Errorf("%d segments, %d bytes", segments, bytes)
	}
	next := n.svc.log.NextLSN()
	n.close()
	n = start(t, dir, 1<<30)
	if got := n.svc.log.NextLSN(); got != next {
		t.Errorf("the log goes on at %d, not at %d", got, next)
	}
	if st := n.svc.gens.stats(); st.Rows != 0 {
		t.Errorf("%d rows in memory", st.Rows)
	}
	if got := contents(t, n.svc); len(got) != 10 {
		t.Errorf("%d entries, want 10", len(got))
	}
}

// A thousand small tenants are one file.
func TestManyTenantsAreOneContainer(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	for i := range 100 {
		req := &ingestv1.IngestRequest{Tenant: fmt.Sprint("tenant", i), BatchTimeUnixNano: 1, Streams: []*ingestv1.StreamBlock{{Labels: `{s="a"}`, Times: []int64{1}, LineEnds: []uint32{1}, Slab: []byte("x")}}}
		if _, err := n.client.Ingest(ctx(t), req); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if containers, blocks, _ := n.svc.blocks.count(); containers != 1 || blocks != 100 {
		t.Errorf("%d containers, %d blocks", containers, blocks)
	}
}

func TestSmallContainersAreBounded(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	for i := range 40 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, fmt.Sprint("line ", i)); err != nil {
			t.Fatal(err)
		}
		if err := n.flush(); err != nil {
			t.Fatal(err)
		}
		if containers, _, _ := n.svc.blocks.count(); containers > 16 {
			t.Fatalf("%d containers", containers)
		}
	}
	if got := contents(t, n.svc); len(got) != 40 {
		t.Errorf("%d entries, want 40", len(got))
	}
	if err := n.compact(); err != nil {
		t.Fatal(err)
	}
	if containers, blocks, _ := n.svc.blocks.count(); containers != 1 || blocks != 1 {
		t.Errorf("%d containers, %d blocks after compact", containers, blocks)
	}
	files, err := filepath.Glob(filepath.Join(n.svc.blocksDir(), "*.blocks*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
}

// errCrash ends a step where a crash would.
var errCrash = errors.New("crash")

// copyDir copies a data directory as a killed process leaves it.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestCrashAtEveryStep: at each step of cut, merge and upload the data directory is
// copied, which is what kill -9 leaves. A process that starts on the copy has
// everything, once, and so has what the object store holds with it.
func TestCrashAtEveryStep(t *testing.T) {
	dir := t.TempDir()
	copies := map[string]string{}
	steps := 0
	var armed atomic.Bool
	var mu sync.Mutex // held while a copy is made
	n := startWith(t, dir, 1<<30, func(c *Config, d *Deps) { d.Bucket = objstore.NewMemory(nil) }, func(s *Service) {
		s.testHook = func(step string) error {
			if !armed.Load() {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			steps++
			name := fmt.Sprintf("%03d %s", steps, step)
			copies[name] = filepath.Join(t.TempDir(), "copy")
			copyDir(t, dir, copies[name])
			return nil
		}
	})
	push := func(i int) {
		t.Helper()
		if _, err := n.ingest(int64(i+1), fmt.Sprint("s", i%2), []int64{int64(i%3) * dayLength}, fmt.Sprint("line ", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 12 {
		push(i)
		if i == 5 {
			if err := n.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := contents(t, n.svc)
	armed.Store(true)
	if err := n.compact(); err != nil {
		t.Fatal(err)
	}
	armed.Store(false)
	seen := map[string]bool{}
	for name, d := range copies {
		seen[strings.Fields(name)[1]] = true
		again := start(t, d, 1<<30)
		if got := contents(t, again.svc); !slices.Equal(got, want) {
			t.Errorf("after a crash at %s: %q\nwant %q", name, got, want)
		}
		// What is in a block is not read from the log again.
		if st := again.svc.gens.stats(); strings.HasSuffix(name, "cut.truncate") && st.Rows != 0 {
			t.Errorf("after a crash at %s: %d rows in memory", name, st.Rows)
		}
		if err := again.compact(); err != nil {
			t.Errorf("after a crash at %s: %v", name, err)
		}
		if got := contents(t, again.svc); !slices.Equal(got, want) {
			t.Errorf("after a crash at %s, compacted: %q\nwant %q", name, got, want)
		}
		again.close()
	}
	for _, step := range []string{
		"cut.create", "cut.block", "cut.sync", "cut.verify", "cut.rename", "cut.syncdir", "cut.publish", "cut.truncate", "cut.done",
		"merge.create", "merge.block", "merge.sync", "merge.verify", "merge.rename", "merge.syncdir", "merge.publish", "merge.done",
		"upload.put", "upload.verify", "upload.note",
	} {
		if !seen[step] {
			t.Errorf("step %s was not seen", step)
		}
	}
}

// TestCrashWhileCopiesGo: at each step of what drops local copies of uploaded blocks the
// data directory is copied. A process that starts on the copy, and the object store, have
// everything.
func TestCrashWhileCopiesGo(t *testing.T) {
	dir, bucket := t.TempDir(), objstore.NewMemory(nil)
	var now atomic.Int64
	now.Store(1e18)
	change := func(c *Config, d *Deps) {
		d.Bucket, c.KeepUploaded = bucket, time.Hour
		d.Now = func() time.Time { return time.Unix(0, now.Load()) }
	}
	var mu sync.Mutex // guards copies
	copies := map[string]string{}
	n := startWith(t, dir, 1<<30, change, func(s *Service) {
		s.testHook = func(step string) error {
			if strings.HasPrefix(step, "drop") {
				mu.Lock()
				defer mu.Unlock()
				if copies[step] == "" {
					copies[step] = filepath.Join(t.TempDir(), "copy")
					copyDir(t, dir, copies[step])
				}
			}
			return nil
		}
	})
	for i := range 6 {
		if _, err := n.ingest(int64(i+1), fmt.Sprint("s", i%2), []int64{int64(i%3) * dayLength}, fmt.Sprint("line ", i)); err != nil {
			t.Fatal(err)
		}
	}
	want := contents(t, n.svc)
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	now.Add(int64(2 * time.Hour))
	until(t, func() bool { containers, _, _ := n.svc.blocks.count(); return containers == 0 })
	n.close()
	mu.Lock()
	defer mu.Unlock()
	for _, step := range []string{"drop", "drop.log", "drop.publish"} {
		if copies[step] == "" {
			t.Errorf("step %s was not seen", step)
			continue
		}
		again := startWith(t, copies[step], 1<<30, change, nil)
		local := contents(t, again.svc)
		for _, line := range local {
			if !slices.Contains(want, line) {
				t.Errorf("after a crash at %s: %q", step, line)
			}
		}
		until(t, func() bool { containers, _, _ := again.svc.blocks.count(); return containers == 0 })
		if err := again.flush(); err != nil {
			t.Errorf("after a crash at %s: %v", step, err)
		}
		again.close()
		if got, _ := stored(t, bucket); !slices.Equal(got, want) {
			t.Errorf("after a crash at %s the bucket has %q, want %q", step, got, want)
		}
	}
}

// TestFailureAtEveryStep: a step that fails leaves everything as it was, and is done
// again.
func TestFailureAtEveryStep(t *testing.T) {
	for _, step := range []string{"cut.create", "cut.block", "cut.sync", "cut.verify", "cut.rename", "cut.syncdir", "cut.publish", "merge.create", "merge.block", "merge.rename", "upload.put", "upload.verify", "upload.note"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			var fail atomic.Value
			fail.Store("")
			n := startWith(t, dir, 1<<30, func(c *Config, d *Deps) {
				if !strings.HasPrefix(step, "merge") { // what is uploaded is not merged
					d.Bucket = objstore.NewMemory(nil)
				}
			}, func(s *Service) {
				s.testHook = func(at string) error {
					if at == fail.Load() {
						return errCrash
					}
					return nil
				}
			})
			for i := range 3 {
				if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, "line"); err != nil {
					t.Fatal(err)
				}
				if i == 1 {
					if err := n.flush(); err != nil {
						t.Fatal(err)
					}
				}
			}
			want := contents(t, n.svc)
			fail.Store(step)
			if err := n.compact(); err == nil {
				t.Error("no error")
			}
			if got := contents(t, n.svc); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			fail.Store("")
			if err := n.compact(); err != nil {
				t.Error(err)
			}
			if got := contents(t, n.svc); !slices.Equal(got, want) {
				t.Errorf("at last got %q, want %q", got, want)
			}
			if containers, _, _ := n.svc.blocks.count(); containers != 1 {
				t.Errorf("%d containers", containers)
			}
			if temps, _ := filepath.Glob(filepath.Join(n.svc.blocksDir(), "*.tmp")); len(temps) > 0 {
				t.Errorf("left over: %v", temps)
			}
		})
	}
}
