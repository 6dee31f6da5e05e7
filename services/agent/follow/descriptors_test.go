package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// prefix checks that what was read are the first lines, in order.
func (s *stepper) prefix() {
	s.t.Helper()
	got, all := s.rec.lines(s.path), strings.Fields(numbers(s.next))
	if len(got) > len(all) || !slices.Equal(got, all[:len(got)]) {
		s.t.Fatalf("got %q", got)
	}
}

// Files and folders cannot be opened at random, for want of a descriptor, also amid starts: all
// lines come once and in order, when they can.
func TestOrderWithoutDescriptors(t *testing.T) {
	for seed := range 150 {
		rng := rand.New(rand.NewPCG(uint64(seed), 0))
		s := newStepper(t)
		s.keep = 60
		s.write(1)
		s.look(false)
		did, short := "", false
		restarted := func() {
			s.before = func(string) error {
				if short && rng.IntN(4) == 0 {
					return syscall.EMFILE
				}
				return nil
			}
		}
		restarted()
		for range 14 {
			for range rng.IntN(4) {
				if rng.IntN(3) == 0 {
					did += " rotate"
					s.rotate()
				} else {
					did += " write"
					s.write(1 + rng.IntN(3))
				}
			}
			if rng.IntN(4) == 0 {
				did += " restart"
				s.restart()
				restarted()
			}
			if short = rng.IntN(3) > 0; rng.IntN(8) == 0 {
				s.lastPrune = time.Now().Add(-time.Hour)
			}
			s.rec.limit = rng.IntN(6) // lines until it is full
			s.look(rng.IntN(3) == 0)
			s.full, s.rec.limit = false, 0
			did += fmt.Sprintf(" (look, %v)", s.lack)
			s.prefix()
		}
		short = false
		s.look(false)
		s.look(rng.IntN(2) == 0)
		s.look(false)
		if got, want := s.rec.lines(s.path), strings.Fields(numbers(s.next)); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q, after%s (seed %d)", got, want, did, seed)
		}
	}
}

// A file is truncated after it was copied, and the copy cannot be opened, or found, at once:
// what is in the file now waits for what is in the copy.
func TestCopyWithoutDescriptor(t *testing.T) {
	for _, rest := range []int{0, 1, 5} { // lines of the copy that were not read
		for _, then := range []int{0, 1, 4, 30} { // lines written since
			for _, what := range []string{"app.log.1", ""} {
				s := newStepper(t)
				s.write(4)
				s.look(false)
				if rest > 0 {
					s.write(rest)
				}
				body, err := os.ReadFile(s.path)
				if err == nil {
					err = os.WriteFile(s.name(1), body, 0o600)
				}
				if err == nil {
					err = os.Truncate(s.path, 0)
				}
				if err != nil {
					t.Fatal(err)
				}
				if then > 0 {
					s.write(then)
				}
				s.before = func(name string) error {
					if filepath.Base(name) == what || what == "" && filepath.Clean(name) == filepath.Dir(s.path) {
						return syscall.ENFILE
					}
					return nil
				}
				for range 3 {
					s.look(true)
					if got := s.rec.lines(s.path); len(got) != 4 {
						t.Fatalf("rest %d, then %d, %q: got %q", rest, then, what, got)
					}
				}
				if n := testutil.ToFloat64(s.m.postponed); n == 0 {
					t.Error("it is not told")
				}
				s.before = nil
				s.write(1)
				s.look(false)
				s.look(false)
				s.want(numbers(s.next))
				if n := testutil.ToFloat64(s.m.lost); n != 0 && then < 30 { // what has grown past the old end may count
					t.Errorf("%d not read, %d since: %v bytes lost", rest, then, n)
				}
			}
		}
	}
}

// As many files are open as may be. Those that do not fit come in their order when others are
// closed, and no more than these are ever open.
func TestBudget(t *testing.T) {
	for _, most := range []int{1, 2, 3} {
		s := newStepper(t)
		s.budget = NewBudget(most)
		s.write(1)
		s.look(false)
		for range 7 {
			s.rotate()
			s.write(2)
		}
		for range 20 {
			s.look(true)
			s.prefix()
			if n, open := len(s.order), s.budget.open; n > most || int(open) != n {
				t.Fatalf("%d files are open, %d counted, of %d", n, open, most)
			}
		}
		s.want(numbers(s.next))
		if n := testutil.ToFloat64(s.m.postponed); n == 0 {
			t.Error("it is not told")
		}
	}
}

// New files take all but an eighth of what may be open; the rest is for those that go on with a
// file that is followed.
func TestBudgetForSuccessors(t *testing.T) {
	s := newStepper(t)
	s.budget = NewBudget(8)
	dir := filepath.Dir(s.path)
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("z%d.log", i)), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.write(1)
	s.look(false)
	s.look(false)
	if len(s.order) != 7 {
		t.Errorf("%d files are open", len(s.order))
	}
	s.rotate()
	s.write(1)
	s.lacked = "" // its turn
	s.look(false)
	s.want("0 1")
	if len(s.order) != 8 {
		t.Errorf("%d files are open", len(s.order))
	}
}

// What was left for want of a descriptor has its turn before what comes before it by name.
func TestTurnWithoutDescriptors(t *testing.T) {
	s := newStepper(t)
	s.budget = NewBudget(1)
	other := filepath.Join(filepath.Dir(s.path), "b.log")
	s.write(1)
	s.look(false)
	if err := os.WriteFile(other, []byte("b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.look(false)
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	s.look(true)
	s.write(1) // anew
	s.look(false)
	if got := s.rec.lines(other); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q", got)
	}
}

// What could not be opened at the start is no less there from the start later.
func TestStartWithoutDescriptors(t *testing.T) {
	s := newStepper(t)
	s.groups[0].FromEnd = true
	s.write(3)
	s.before = func(name string) error {
		if name == s.path {
			return syscall.EMFILE
		}
		return nil
	}
	s.look(false)
	s.before = nil
	s.look(false)
	s.write(1)
	s.look(false)
	s.want("3")
}

// A new file that cannot be opened is renamed meanwhile.
func TestNewWithoutDescriptor(t *testing.T) {
	s := newStepper(t)
	s.look(false)
	s.lastScan = time.Now().Add(-time.Hour)
	s.write(1)
	s.age(0, time.Minute)
	s.before = func(name string) error {
		if name == s.path {
			return syscall.EMFILE
		}
		return nil
	}
	s.look(false)
	s.look(false)
	s.rotate()
	s.write(1)
	s.look(false)
	s.before = nil
	s.look(false)
	s.want("0 1")
}

// Renamed files were closed, and are written to again: where the oldest cannot be opened, the
// younger ones wait.
func TestClosedWithoutDescriptor(t *testing.T) {
	s := newStepper(t)
	for range 2 {
		s.write(1)
		s.look(false)
		s.rotate()
		s.look(true)
		s.look(true)
	}
	if len(s.order) > 0 {
		t.Fatalf("%d files are open", len(s.order))
	}
	for _, n := range []int{2, 1} {
		f, err := os.OpenFile(s.name(n), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(f, "late%d\n", n); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	s.write(1)
	s.before = func(name string) error {
		if name == s.name(2) {
			return syscall.EMFILE
		}
		return nil
	}
	s.look(false)
	s.look(false)
	s.want("0 1")
	s.before = nil
	s.look(false)
	s.want("0 1 late2 late1 2")
}

// A folder that cannot be listed takes nobody's position away.
func TestPruneUnlisted(t *testing.T) {
	for _, failure := range []error{syscall.EMFILE, syscall.EIO} {
		s := newStepper(t)
		s.write(1)
		s.look(false)
		s.rotate()
		s.look(true)
		s.look(true)
		if len(s.known) != 1 {
			t.Fatalf("%d known", len(s.known))
		}
		s.before = func(string) error { return failure }
		s.prune(time.Now())
		if len(s.known) != 1 || len(s.rec.forgot) > 0 {
			t.Errorf("%v: forgotten: %v", failure, s.rec.forgot)
		}
	}
}

// Where descriptors are short the next look comes after ever longer, at most Config.Scan, and
// soon after one is free; the log tells once.
func TestWaitsForDescriptors(t *testing.T) {
	s := newStepper(t)
	s.cfg.Scan = time.Second
	s.write(1)
	s.before = func(string) error { return &os.PathError{Err: syscall.EMFILE} }
	now := time.Now()
	for _, want := range []int{100, 200, 400, 800, 1000, 1000} {
		s.scan(now)
		s.dirty = true
		if got := s.scanDue(now); got != time.Duration(want)*time.Millisecond {
			t.Errorf("the next look is after %v, want %d ms", got, want)
		}
	}
	if n := testutil.ToFloat64(s.m.postponed); n != 6 {
		t.Errorf("%v looks are counted", n)
	}
	s.before = nil
	s.scan(now)
	if got := s.scanDue(now); got != s.cfg.Scan || len(s.order) != 1 {
		t.Errorf("%d files are followed, the next look is after %v", len(s.order), got)
	}
	s.before = func(string) error { return &os.PathError{Err: syscall.EMFILE} }
	s.scan(now)
	s.close(s.order[0])
	if got := s.scanDue(now); got != scanGap {
		t.Errorf("after a file was closed, the next look is after %v", got)
	}
}

// A Follower gives back what it took, and several share one budget.
func TestBudgetIsShared(t *testing.T) {
	budget, m := NewBudget(3), NewMetrics(nil)
	var stops []func()
	for i := range 2 {
		h := newHarness(t, quick("*.log"))
		h.cfg.Budget = budget
		h.write("a.log", "1\n2\n")
		h.write("b.log", "1\n")
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		fw := New(h.cfg, h.rec, nil, nil, m)
		go func() { defer close(done); fw.Run(ctx) }()
		stops = append(stops, func() { cancel(); <-done })
		h.want("a.log", "1 2")
		if i == 0 {
			h.want("b.log", "1")
		}
	}
	// One may just have been given up for the other follower, which does not have it yet.
	for deadline := time.Now().Add(patience); testutil.ToFloat64(m.active) != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v files are open of %v", testutil.ToFloat64(m.active), testutil.ToFloat64(m.most))
		}
	}
	if n := testutil.ToFloat64(m.most); n != 3 {
		t.Errorf("%v files may be open", n)
	}
	for _, stop := range stops {
		stop()
	}
	if n, left, lag := testutil.ToFloat64(m.active), budget.open, testutil.ToFloat64(m.lag); n != 0 || left != 0 || lag != 0 {
		t.Errorf("%v files are open, %d counted, %v bytes behind", n, left, lag)
	}
}

const childEnv = "WEIR_TEST_DESCRIPTORS"

// A process whose descriptors are all taken but for a few, in truth: whatever can be opened is
// read, and nothing before what comes before it.
func TestProcessWithoutDescriptors(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe, "-test.run=^TestProcessWithoutDescriptors$")
		cmd.Env = append(os.Environ(), childEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, c := range []struct{ limit, max, want int }{{200, 0, 150}, {200, 1000, 150}, {200, 5, 5}, {64, 0, 32}, {20, 0, 1}, {64, 5, 5}} {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(c.limit), Max: 200}); err != nil {
			t.Fatal(err)
		}
		if got := NewBudget(c.max).Max(); got != c.want {
			t.Errorf("%+v: %d files may be open", c, got)
		}
	}
	for free := range 8 {
		s := newStepper(t)
		s.write(1)
		s.look(false)
		for range 4 {
			s.rotate()
			s.write(2)
		}
		var held []*os.File
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				if !errors.Is(err, syscall.EMFILE) {
					t.Fatal(err)
				}
				break
			}
			held = append(held, f)
		}
		for range free {
			_ = held[0].Close()
			held = held[1:]
		}
		if _, err := s.groups[0].Files(); (err != nil) != (free == 0) {
			t.Errorf("%d descriptors are free, and files are listed with: %v", free, err)
		}
		for range 12 {
			s.look(true)
			s.prefix()
		}
		if n := len(s.rec.lines(s.path)); n > 1 != (free > 0) {
			t.Errorf("%d lines are read where %d descriptors are free", n, free)
		}
		for _, f := range held {
			_ = f.Close()
		}
		s.look(false)
		s.look(true)
		s.want(numbers(s.next))
		for _, f := range s.order {
			_ = f.f.Close()
		}
		s.order = nil
	}
}
