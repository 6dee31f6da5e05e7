package follow

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/positions"
)

// crowd is a follower of several files.
type crowd struct {
	*stepper
	all  []*rotator
	seed int
}

func newCrowd(t *testing.T, files, most int) *crowd {
	t.Helper()
	c := &crowd{stepper: newStepper(t)}
	c.budget = NewBudget(most)
	c.cfg.Poll = time.Nanosecond // nothing has to wait before it rests
	for i := range files {
		r := &rotator{t: t, path: filepath.Join(filepath.Dir(c.path), fmt.Sprintf("f%d.log", i)), keep: 60}
		r.write(1)
		c.all = append(c.all, r)
	}
	return c
}

// step lets it look, read what it can, and take turns, a few times.
func (c *crowd) step(times int) {
	c.t.Helper()
	for range times {
		c.look(false)
		c.turns(time.Now())
		c.bounded()
	}
}

func (c *crowd) bounded() {
	c.t.Helper()
	open := 0
	for _, f := range c.order {
		if f.f != nil {
			open++
		} else if f.rotated || f.pos.Offset > f.seen {
			c.t.Fatalf("%s rests", f.pos.Path)
		}
	}
	if int64(open) != c.budget.open || open > c.budget.Max() {
		c.t.Fatalf("%d are open, %d counted, of %d", open, c.budget.open, c.budget.Max())
	}
}

// settle goes on until all is read.
func (c *crowd) settle() {
	c.t.Helper()
	for range 200 * len(c.all) {
		c.step(1)
		c.look(true)
		if !slices.ContainsFunc(c.all, func(r *rotator) bool { return len(c.rec.lines(r.path)) < r.next }) {
			break
		}
	}
	for _, r := range c.all {
		if got, want := c.rec.lines(r.path), strings.Fields(numbers(r.next)); !slices.Equal(got, want) {
			for _, f := range c.order {
				c.t.Logf("%s %v open %v rotated %v after %v wants %v size %d off %d", f.pos.Path, f.pos.ID, f.f != nil, f.rotated, f.after != nil, f.wants, f.size, f.pos.Offset)
			}
			c.t.Logf("lack %v %+v", c.lack, c.budget)
			c.t.Fatalf("%s: got %q, want %q (seed %v)", filepath.Base(r.path), got, want, c.seed)
		}
	}
}

// at gives the file that is followed as a path.
func (c *crowd) at(path string) *File { return c.newest[path] }

// However many files there are, and however few may be open, each line comes once and in order,
// also where files are renamed while they rest, read slowly, and the follower is killed.
func TestCrowd(t *testing.T) {
	for seed := range 25 {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		c := newCrowd(t, 2+rng.IntN(6), 1+rng.IntN(4))
		most := c.budget.Max()
		c.seed = seed
		c.step(1) // what was renamed before nobody asks for
		for range 25 {
			for range rng.IntN(5) {
				r := c.all[rng.IntN(len(c.all))]
				switch rng.IntN(6) {
				case 0:
					r.rotate()
				case 1:
					r.rotate()
					r.write(1)
				default:
					r.write(1 + rng.IntN(3))
				}
			}
			if rng.IntN(12) == 0 && len(c.awaited) == 0 { // what never had a descriptor is not noted
				c.restart()
				c.cfg.Poll, c.budget = time.Nanosecond, NewBudget(most)
			}
			c.rec.limit = rng.IntN(9) // lines until it is full
			c.look(rng.IntN(3) == 0)
			c.turns(time.Now())
			c.bounded()
			c.full, c.rec.limit = false, 0
		}
		c.settle()
	}
}

// Files that rest do not hold up each other: those that grow are read in turn, also where all do.
func TestTurnsOfAll(t *testing.T) {
	c := newCrowd(t, 12, 2)
	c.settle()
	if n, all := testutil.ToFloat64(c.m.resting), len(c.order); all != 12 || int(n) != 10 || testutil.ToFloat64(c.m.active) != 2 {
		t.Fatalf("%d files are followed, %v rest", all, n)
	}
	for range 3 {
		for _, r := range c.all {
			r.write(2)
		}
		c.settle()
	}
	for range 40 { // none is ever read to its end for long
		for _, r := range c.all {
			r.write(1)
		}
		c.step(1)
	}
	for _, r := range c.all {
		if n := len(c.rec.lines(r.path)); r.next-n > 30 {
			t.Errorf("%d of %d lines of %s are read", n, r.next, filepath.Base(r.path))
		}
	}
	c.settle()
}

// What rests and is renamed is open again before what took its place is read, whatever its name
// is then, and is read on.
func TestRenamedWhileResting(t *testing.T) {
	for _, to := range []string{"f0.log.1", "f0-old.txt", "f9.log"} {
		c := newCrowd(t, 1, 1)
		c.settle()
		r := c.all[0]
		if !c.rest(c.at(r.path), time.Now()) {
			t.Fatal("it does not rest")
		}
		name := filepath.Join(filepath.Dir(r.path), to)
		late, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer late.Close()
		r.write(1) // "1"
		if err := os.Rename(r.path, name); err != nil {
			t.Fatal(err)
		}
		c.before = func(name string) error {
			if name == filepath.Dir(r.path) {
				return nil
			}
			return syscall.EMFILE
		}
		c.look(false)
		if f := c.at(r.path); f == nil || f.f != nil || c.lack == nil {
			t.Errorf("it does not wait for a descriptor: %+v", f)
		}
		c.before = nil
		c.look(false)
		r.next++
		if _, err := late.WriteString("2\n"); err != nil { // its writer has not noticed
			t.Fatal(err)
		}
		r.write(1)
		c.look(false)
		c.settle()
		if n := testutil.ToFloat64(c.m.goneResting); n != 0 {
			t.Errorf("%s: %v files are gone", to, n)
		}
	}
}

// A path that is a link rests, and what it links to is renamed, or it links to another file.
func TestLinkedWhileResting(t *testing.T) {
	for _, relinked := range []bool{false, true} {
		c := newCrowd(t, 0, 1)
		dir := t.TempDir()
		r := &rotator{t: t, path: filepath.Join(filepath.Dir(c.path), "link.log"), keep: 9}
		link := func(to string) {
			_ = os.Remove(r.path)
			if err := os.Symlink(filepath.Join(dir, to), r.path); err != nil {
				t.Fatal(err)
			}
		}
		link("0.log")
		r.write(1)
		c.all = append(c.all, r)
		c.settle()
		if !c.rest(c.at(r.path), time.Now()) {
			t.Fatal("it does not rest")
		}
		r.write(1)
		if relinked {
			link("1.log")
		} else if err := os.Rename(filepath.Join(dir, "0.log"), filepath.Join(dir, "0.log.old")); err != nil {
			t.Fatal(err)
		}
		r.write(1)
		c.settle()
		if n := testutil.ToFloat64(c.m.goneResting); n != 0 {
			t.Errorf("%v files are gone", n)
		}
	}
}

// What is deleted while it rests is told of, with what is known to be lost, and is no concern of
// the file that gets its inode.
func TestDeletedWhileResting(t *testing.T) {
	for _, seen := range []bool{false, true} {
		c := newCrowd(t, 2, 9)
		c.settle()
		r, f := c.all[0], c.at(c.all[0].path)
		if !c.rest(f, time.Now()) {
			t.Fatal("it does not rest")
		}
		lost := 0.
		r.write(1)
		if seen {
			lost = 2
			c.glance(f, time.Now())
			if !f.wants {
				t.Error("it was not seen to grow")
			}
		}
		if err := os.Remove(r.path); err != nil {
			t.Fatal(err)
		}
		other := &rotator{t: t, path: filepath.Join(filepath.Dir(r.path), "g.log"), next: 7}
		other.write(1) // of the same size and time
		if err := os.Chtimes(other.path, time.Unix(0, f.checked), time.Unix(0, f.checked)); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(other.path)
		if err != nil {
			t.Fatal(err)
		}
		delete(c.files, f.pos.ID)
		f.pos.ID = idOf(st)
		c.files[f.pos.ID] = f
		c.step(3)
		if files, bytes := testutil.ToFloat64(c.m.goneResting), testutil.ToFloat64(c.m.goneBytes); files != 1 || bytes != lost {
			t.Errorf("seen %v: %v files and %v bytes are counted", seen, files, bytes)
		}
		if got := c.rec.lines(other.path); !slices.Equal(got, []string{"7"}) {
			t.Errorf("of the other file came %q", got)
		}
		if n := testutil.ToFloat64(c.m.resting); n != 0 || len(c.order) != 2 {
			t.Errorf("%v rest, %d are followed", n, len(c.order))
		}
	}
}

// A file that rests and is truncated, or replaced by one of its inode, is read from its start; one
// that only has another time is not read again.
func TestReplacedWhileResting(t *testing.T) {
	for text, want := range map[string]string{"a\n": "0 a", "0\n": "0", "0\nb\n": "0 b", "c\nd\n": "0 c d"} {
		c := newCrowd(t, 1, 1)
		c.settle()
		f := c.at(c.all[0].path)
		if !c.rest(f, time.Now()) {
			t.Fatal("it does not rest")
		}
		if err := os.WriteFile(f.pos.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Minute)
		if err := os.Chtimes(f.pos.Path, later, later); err != nil {
			t.Fatal(err)
		}
		c.step(3)
		if got := c.rec.lines(f.pos.Path); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

// Only what is read to its end, given out and alone under its path rests; of that the one that has
// had nothing new for the longest time, and none that was opened a moment ago and grows.
func TestWhoRests(t *testing.T) {
	now := time.Now()
	c := newCrowd(t, 3, 9)
	for i, r := range c.all {
		at := now.Add(-[]time.Duration{time.Hour, 3 * time.Hour, 2 * time.Hour}[i])
		if err := os.Chtimes(r.path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	c.look(false)
	c.cfg.Poll = time.Minute
	for _, want := range []int{1, 2, 0} {
		if n := c.relieve(1, now); n != 1 || c.at(c.all[want].path).f != nil {
			t.Errorf("%d rest, not %d", n, want)
		}
	}
	for name, change := range map[string]func(f *File){
		"moved away":         func(f *File) { f.rotated = true },
		"behind another":     func(f *File) { f.after = &File{} },
		"with held lines":    func(f *File) { f.held = []entry.Span{{Start: 0, End: 2}} },
		"to be read again":   func(f *File) { f.redo = []entry.Span{{Start: 0, End: 2}} },
		"unfinished":         func(f *File) { f.partial = 1 },
		"before its copy":    func(f *File) { f.torn = true },
		"not compared":       func(f *File) { f.checked-- },
		"behind":             func(f *File) { f.size++ },
		"opened just now":    func(f *File) { f.opened, f.pos.Mtime, f.checked = now, now.UnixNano(), now.UnixNano() },
		"grown since":        func(f *File) { c.all[0].write(1) },
		"renamed since":      func(f *File) { c.all[0].rotate() },
		"replaced since":     func(f *File) { c.all[0].rotate(); c.all[0].write(1) },
		"":                   func(f *File) {},
		"grows, opened long": func(f *File) { f.opened = now.Add(-time.Hour) },
	} {
		c = newCrowd(t, 1, 9)
		c.look(false)
		if strings.HasPrefix(name, "opened") || strings.HasPrefix(name, "grows") {
			c.cfg.Poll = time.Minute
		}
		f := c.at(c.all[0].path)
		change(f)
		if got, want := c.relieve(9, time.Now().Add(time.Second)), map[string]int{"": 1, "grows, opened long": 1}[name]; got != want {
			t.Errorf("%q: %d rest", name, got)
		}
	}
}

// Where files that were never open wait too, those that grow get half of what is given up.
func TestTurnsOfNewAndOld(t *testing.T) {
	c := newCrowd(t, 20, 4)
	c.settle()
	for _, r := range c.all {
		if f := c.at(r.path); f.f == nil {
			r.write(1)
			f.wants = true
		}
	}
	for i := range 8 {
		r := &rotator{t: t, path: filepath.Join(filepath.Dir(c.path), fmt.Sprintf("new%d.log", i))}
		r.write(1)
		c.all = append(c.all, r)
	}
	c.scan(time.Now())
	if c.lack == nil {
		t.Fatal("none waits")
	}
	open := func() (n int) {
		for _, f := range c.order {
			if f.f != nil {
				n++
			}
		}
		return n
	}
	before := open()
	if !c.turns(time.Now()) {
		t.Fatal("none was opened")
	}
	if got := open(); before != 4 || got != 2 {
		t.Errorf("%d are open, %d were", got, before)
	}
	c.settle()
}

// A demand for descriptors ends when nobody repeats it, and by what is given back.
func TestAsked(t *testing.T) {
	now := time.Now()
	b := NewBudget(9)
	for range 3 {
		b.take(true)
	}
	freed := b.ask(2, now.Add(time.Second))
	b.ask(1, now.Add(time.Second))
	if n := b.asked(now); n != 2 {
		t.Errorf("%d are asked for", n)
	}
	b.give()
	select {
	case <-freed:
	default:
		t.Error("it is not told")
	}
	if n := b.asked(now); n != 1 {
		t.Errorf("%d are asked for", n)
	}
	if n := b.asked(now.Add(2 * time.Second)); n != 0 {
		t.Errorf("%d are asked for", n)
	}
}

// Two followers with one budget: the idle files of one rest for those of the other, all of both
// are read, and all is given back at the end.
func TestCrowdsShareABudget(t *testing.T) {
	budget, m := NewBudget(4), NewMetrics(nil)
	var hs []*harness
	var stops []func()
	for range 2 {
		h := newHarness(t, quick("*.log"))
		h.cfg.Budget = budget
		for i := range 15 {
			h.write(fmt.Sprintf("%d.log", i), "1\n")
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		fw := New(h.cfg, h.rec, nil, nil, m)
		go func() { defer close(done); fw.Run(ctx) }()
		stops = append(stops, func() { cancel(); <-done })
		hs = append(hs, h)
	}
	for i := range 15 {
		for _, h := range hs {
			h.want(fmt.Sprintf("%d.log", i), "1")
			h.write(fmt.Sprintf("%d.log", i), "2\n")
		}
	}
	for i := range 15 {
		for _, h := range hs {
			h.want(fmt.Sprintf("%d.log", i), "1 2")
		}
	}
	for _, stop := range stops {
		stop()
	}
	if n, resting := testutil.ToFloat64(m.active), testutil.ToFloat64(m.resting); n != 0 || resting != 0 || budget.open != 0 {
		t.Errorf("%v files are open, %d counted, %v rest", n, budget.open, resting)
	}
	var all []positions.ID
	for _, h := range hs {
		for _, p := range h.rec.positions() {
			all = append(all, p.ID)
		}
	}
	if len(all) != 30 {
		t.Errorf("%d positions", len(all))
	}
}

// What was there at the first look and is renamed before it has a descriptor comes first.
func TestRenamedWhileAwaited(t *testing.T) {
	for _, empty := range []bool{false, true} {
		c := newCrowd(t, 3, 1)
		old := &rotator{t: t, path: c.all[2].path + ".9", next: 7}
		old.write(1) // is none of ours
		at := time.Now().Add(-time.Hour)
		if err := os.Chtimes(old.path, at, at); err != nil {
			t.Fatal(err)
		}
		c.look(false)
		if len(c.awaited) != 2 {
			t.Fatalf("%d are awaited", len(c.awaited))
		}
		r := c.all[2]
		at = at.Add(time.Minute)
		if err := os.Chtimes(r.path, at, at); err != nil {
			t.Fatal(err)
		}
		c.awaited[r.path].mtime = at.UnixNano()
		r.rotate()
		if !empty {
			r.write(2)
		}
		c.settle()
		if len(c.awaited) != 0 {
			t.Errorf("%d are awaited", len(c.awaited))
		}
	}
}
