package compactor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/conf"
)

// some returns n entries of an app, from a minute of the day on.
func some(app string, from, n int) (list []entry) {
	for i := range n {
		list = append(list, entry{app: app, at: time.Duration(from+i) * time.Minute, line: fmt.Sprintf("request %d of %s took %dms", from+i, app, 7*(from+i))})
	}
	return list
}

func join(lists ...[]entry) (out []entry) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

func TestMergeOfDay(t *testing.T) {
	e := start(t)
	a, b := join(some("x", 0, 300), some("y", 0, 20)), join(some("x", 200, 300), some("z", 5, 3))
	e.put(day, a...)
	e.put(day, b...)
	e.cycle()
	if n := len(e.live()); n != 2 {
		t.Fatalf("%d live blocks, the day is not over", n)
	}
	e.pass(16 * time.Hour)
	e.cycle()
	live := e.live()
	if len(live) != 1 || live[0].Level != 1 || live[0].Rows != 523 {
		t.Fatalf("live: %+v", live)
	}
	r, err := OpenBlock(t.Context(), e.bucket, live[0])
	e.must(err)
	if !r.Info().Ordered || !compact.NewBlock(live[0]).Ordered {
		t.Error("the full merge did not fix the order")
	}
	e.wantEntries(join(a, b)...)
	// The sources stay for a day, and then go.
	if n := len(e.objects()); n != 3 {
		t.Errorf("%d objects", n)
	}
	e.pass(23 * time.Hour)
	e.cycle()
	if n := len(e.objects()); n != 3 {
		t.Errorf("%d objects", n)
	}
	e.pass(2 * time.Hour)
	e.cycle()
	if n := len(e.objects()); n != 1 {
		t.Errorf("%d objects", n)
	}
	e.wantEntries(join(a, b)...)
	// And it never is merged again.
	before := e.objects()[0]
	e.pass(1000 * time.Hour)
	e.cycle()
	if after := e.objects(); len(after) != 1 || after[0] != before {
		t.Errorf("%s became %s", before, after)
	}
	if list, _ := os.ReadDir(e.dir); len(list) != 0 {
		t.Errorf("temporary files are left: %v", list)
	}
}

func TestAloneSourcesGoAtOnce(t *testing.T) {
	held := map[catalog.ID]bool{}
	e := start(t, func(_ *Config, d *Deps) {
		d.Alone = true
		d.InUse = func(id catalog.ID) bool { return held[id] }
	})
	a := e.put(day, some("x", 0, 9)...)
	e.put(day, some("x", 5, 9)...)
	held[a.ID] = true
	e.pass(24 * time.Hour)
	e.cycle()
	if keys := e.objects(); len(keys) != 2 || !strings.Contains(strings.Join(keys, " "), string(a.ID)) {
		t.Errorf("objects: %v", keys)
	}
	clear(held)
	e.cycle()
	if n := len(e.objects()); n != 1 {
		t.Errorf("%d objects", n)
	}
	e.wantEntries(some("x", 0, 14)...)
}

func TestAnyTimeBlockIsCut(t *testing.T) {
	e := start(t)
	var list []entry
	for d := range 5 {
		if d != 2 {
			list = append(list, some("x", d*24*60, 50)...)
			list = append(list, some("y", d*24*60+70, 50)...)
		}
	}
	src := e.put(time.Time{}, list...)
	e.must(e.service.Compact(e.Context()))
	e.wantEntries(list...)
	live := e.live()
	if len(live) != 4 {
		t.Fatalf("%d live blocks", len(live))
	}
	for _, b := range live {
		if b.Partition.IsZero() || !compact.Day(b.MinTime).Equal(b.Partition) || !compact.Day(b.MaxTime).Equal(b.Partition) {
			t.Errorf("%s in %s", catalog.Key(b), b.Partition)
		}
	}
	e.pass(25 * time.Hour)
	e.cycle()
	for _, key := range e.objects() {
		if strings.Contains(key, string(src.ID)) {
			t.Error("the source is still there")
		}
	}
	e.wantEntries(list...)
}

func TestLargeResultIsCut(t *testing.T) {
	e := start(t, func(c *Config, _ *Deps) { c.MaxBlockSize = 1 * conf.KiB })
	a, b := some("x", 0, 700), some("y", 300, 900)
	e.put(day, a...)
	e.put(day, b...)
	e.pass(24 * time.Hour)
	e.cycle()
	live := e.live()
	if len(live) < 2 {
		t.Fatalf("%d live blocks", len(live))
	}
	for i := range live {
		if i > 0 && live[i].MinTime <= live[i-1].MaxTime {
			t.Errorf("%s and %s share times", catalog.Key(live[i-1]), catalog.Key(live[i]))
		}
	}
	e.wantEntries(join(a, b)...)
	e.pass(25 * time.Hour)
	e.cycle()
	if len(e.objects()) != len(live) {
		t.Errorf("%d objects, %d live blocks", len(e.objects()), len(live))
	}
	e.wantEntries(join(a, b)...)
}

func TestLateBlocks(t *testing.T) {
	e := start(t)
	a := some("x", 0, 1000)
	e.put(day, a...)
	e.pass(24 * time.Hour)
	e.cycle()
	late := some("y", 0, 400)
	e.put(day, late...)
	e.cycle()
	if n := len(e.live()); n != 2 {
		t.Fatalf("%d live blocks", n)
	}
	e.pass(3 * time.Hour)
	e.cycle()
	if live := e.live(); len(live) != 1 || live[0].Level != 2 {
		t.Fatalf("live: %+v", live)
	}
	e.wantEntries(join(a, late)...)
}

// TestManyStreams: blocks of many streams are merged a few at a time, and the order is
// fixed by the merge that has all of them.
func TestManyStreams(t *testing.T) {
	e := start(t)
	e.service.maxStreams = 5
	var all []entry
	for i := range 5 {
		list := join(some("x", 10*i, 10), some("y", 10*i, 10))
		all = append(all, list...)
		e.put(day, list...)
	}
	e.pass(24 * time.Hour)
	for n := 5; n > 1; {
		e.cycle()
		live := e.live()
		if len(live) >= n {
			t.Fatalf("%d live blocks after %d", len(live), n)
		}
		n = len(live)
		for _, b := range live {
			if compact.NewBlock(b).Ordered && n > 1 {
				t.Error("the order was fixed by a merge of some blocks")
			}
		}
		e.wantEntries(all...)
	}
	e.pass(3 * time.Hour)
	e.cycle()
	if live := e.live(); len(live) != 1 || !compact.NewBlock(live[0]).Ordered {
		t.Errorf("%+v", live)
	}
	e.wantEntries(all...)
}

// TestR5OnlyTheFullMergeFixesTheOrder: before the day is over blocks keep what tells
// the order of equal times.
func TestR5OnlyTheFullMergeFixesTheOrder(t *testing.T) {
	e := start(t, func(c *Config, _ *Deps) { c.MaxSources = 2 })
	at := time.Hour
	// The first batch comes last: its line is first all the same.
	e.put(day, entry{app: "x", at: at, line: "second", batch: 20})
	e.put(day, entry{app: "x", at: at, line: "third", batch: 30})
	e.cycle()
	live := e.live()
	if len(live) != 1 {
		t.Fatalf("%d live blocks", len(live))
	}
	if compact.NewBlock(live[0]).Ordered {
		t.Error("the order was fixed before the day was over")
	}
	e.put(day, entry{app: "x", at: at, line: "first", batch: 10})
	e.pass(24 * time.Hour)
	e.cycle()
	if live = e.live(); len(live) != 1 || !compact.NewBlock(live[0]).Ordered {
		t.Fatalf("live: %+v", live)
	}
	r, err := OpenBlock(t.Context(), e.bucket, live[0])
	e.must(err)
	src, err := compact.NewBlockSource(r)
	e.must(err)
	if got := lines(t, src); got != "first second third" {
		t.Error(got)
	}
}

// errCrash is the error of a process that is killed.
var errCrash = errors.New("killed")

// TestCrashAtEveryStep: whatever step of a merge, of storing and of deleting is the
// last, nothing is lost or doubled, and the next compactor finishes the work.
func TestCrashAtEveryStep(t *testing.T) {
	all := join(some("x", 0, 200), some("y", 0, 40), some("z", 7, 5))
	seen := map[string]bool{}
	for n := 1; ; n++ {
		e := start(t, func(c *Config, _ *Deps) { c.MaxBlockSize = 1 * conf.KiB })
		e.put(day, some("x", 0, 150)...)
		e.put(day, join(some("x", 100, 100), some("y", 0, 40))...)
		e.put(day, some("z", 7, 5)...)
		e.pass(24 * time.Hour)
		left := n
		killed, _, _ := e.compactor(func(c *Config, d *Deps) {
			c.MaxBlockSize = 1 * conf.KiB
			d.Step = func(step string) error {
				if left--; left <= 0 {
					seen[step] = true
					return errCrash
				}
				return nil
			}
		})
		err := killed.Cycle(e.Context())
		e.wantEntries(all...)
		if err == nil { // and on to the deletion
			e.pass(25 * time.Hour)
			err = killed.Cycle(e.Context())
			e.wantEntries(all...)
		}
		if err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		// The next one finishes it.
		e.service, _, _ = e.compactor(func(c *Config, _ *Deps) { c.MaxBlockSize = 1 * conf.KiB })
		e.cycle()
		e.wantEntries(all...)
		for range 3 {
			e.pass(25 * time.Hour)
			e.cycle()
			e.wantEntries(all...)
		}
		live := e.live()
		if keys := e.objects(); len(keys) != len(live) {
			t.Fatalf("crash at step %d: %d objects, %d live blocks", n, len(keys), len(live))
		}
		for _, b := range live {
			if !compact.NewBlock(b).Ordered {
				t.Fatalf("crash at step %d: %+v is not merged", n, b)
			}
		}
		if err == nil {
			wantSteps(t, seen, "write", "prove", "put", "read back", "announce", "removing", "delete")
			return
		}
	}
}

// wantSteps fails if a step was never the last before a crash.
func wantSteps(t *testing.T, seen map[string]bool, steps ...string) {
	t.Helper()
	for _, step := range steps {
		if !seen[step] {
			t.Errorf("no crash at step %q, only at %q", step, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// TestR12TwoCompactorsAtOnce: both make the same merges, and delete each other's
// sources; entries stay, each once.
func TestR12TwoCompactorsAtOnce(t *testing.T) {
	e := start(t)
	all := join(some("x", 0, 400), some("y", 50, 300))
	for i := range 4 {
		e.put(day, some("x", 100*i, 100)...)
		e.put(day, some("y", 50+60*i, 120)...)
	}
	e.pass(24 * time.Hour)
	other, _, _ := e.compactor(func(_ *Config, d *Deps) { d.TempDir = t.TempDir() })
	for range 5 {
		done := make(chan error, 2)
		for _, s := range []*Service{e.service, other} {
			go func() { done <- s.Cycle(e.Context()) }()
		}
		for range 2 {
			// One may find that the other has deleted what it was about to read.
			if err := <-done; err != nil {
				t.Log(err)
			}
		}
		e.wantEntries(all...)
		e.pass(25 * time.Hour)
	}
	for range 3 {
		e.cycle()
		e.pass(25 * time.Hour)
	}
	e.cycle()
	e.wantEntries(all...)
	if live, keys := e.live(), e.objects(); len(live) != 1 || len(keys) != 1 {
		t.Errorf("%d live blocks, %d objects", len(live), len(keys))
	}
}

// TestTwiceIsHarmless: a compactor that has an old view merges again what was merged.
func TestTwiceIsHarmless(t *testing.T) {
	e := start(t)
	all := join(some("x", 0, 100), some("y", 0, 100))
	e.put(day, some("x", 0, 100)...)
	e.put(day, some("y", 0, 100)...)
	e.pass(24 * time.Hour)
	other, _, _ := e.compactor()
	// Between the other's listing and its merge this one does all.
	once := false
	other.deps.Step = func(string) error {
		if !once {
			once = true
			return e.service.Cycle(e.Context())
		}
		return nil
	}
	e.must(other.Cycle(e.Context()))
	e.wantEntries(all...)
	if n := len(e.live()); n != 2 {
		t.Fatalf("%d live blocks", n)
	}
	e.cycle()
	if n := len(e.live()); n != 1 {
		t.Fatalf("%d live blocks", n)
	}
	e.wantEntries(all...)
}
