package follow

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/services/agent/lines"
	"github.com/weir-logs/weir/services/agent/positions"
)

// rotator writes numbered lines to a file and rotates it.
type rotator struct {
	t    *testing.T
	path string
	keep int
	next int // line
}

func (r *rotator) name(n int) string {
	if n == 0 {
		return r.path
	}
	return r.path + "." + strconv.Itoa(n)
}

func (r *rotator) write(lines int) {
	r.t.Helper()
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	var b bytes.Buffer
	for range lines {
		fmt.Fprintln(&b, r.next)
		r.next++
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rotator) rotate() {
	r.t.Helper()
	for n := r.keep - 1; n >= 0; n-- {
		if err := os.Rename(r.name(n), r.name(n+1)); err != nil && !os.IsNotExist(err) {
			r.t.Fatal(err)
		}
	}
}

// Files are rotated while the follower looks which there are, also so that no file
// bears the path when it looks. All lines come, in order.
func TestRotatedWhileLooking(t *testing.T) {
	for round := range 4 {
		h := newHarness(t, quick("*.log"))
		h.start()
		rng := rand.New(rand.NewPCG(uint64(round), 0))
		var all []*rotator
		for i := range 8 {
			r := &rotator{t: t, path: h.path(fmt.Sprintf("f%d.log", i)), keep: 150} // none is deleted
			all = append(all, r)
			r.write(1)
		}
		for _, r := range all {
			h.want(filepath.Base(r.path), "0")
		}
		for range 150 {
			r := all[rng.IntN(len(all))]
			r.write(1 + rng.IntN(3))
			r.rotate()
			if rng.IntN(2) == 0 {
				r.write(1 + rng.IntN(3))
			}
			// Not at an even pace: some of this comes amid a look.
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
		}
		for _, r := range all {
			h.want(filepath.Base(r.path), numbers(r.next))
		}
		h.stop()
	}
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// stepper is a follower that looks and reads when it is told to.
type stepper struct {
	*Follower
	*rotator
	rec *recorder
}

func newStepper(t *testing.T, known ...positions.Position) *stepper {
	t.Helper()
	cfg := quick("*.log")
	cfg.Groups[0].Paths[0] = filepath.Join(t.TempDir(), "*.log")
	rec := newRecorder()
	fw := New(cfg, rec, known, nil, nil)
	fw.watch = newWatcher(true, fw.log)
	t.Cleanup(func() {
		fw.watch.close()
		for _, f := range fw.order {
			_ = f.f.Close()
		}
	})
	return &stepper{fw, &rotator{t: t, path: filepath.Join(filepath.Dir(cfg.Groups[0].Paths[0]), "app.log"), keep: 100}, rec}
}

// look lets it look once and read all, and then close what was rotated if it may.
func (s *stepper) look(closing bool) {
	s.scan(time.Now())
	if closing {
		for _, f := range s.order {
			f.lastRead = time.Time{}
		}
	}
	for progress := true; progress; {
		for _, f := range s.order {
			f.due = time.Time{}
		}
		progress, _ = s.round(context.Background(), time.Now())
	}
}

func (s *stepper) want(text string) {
	s.t.Helper()
	if got, want := s.rec.lines(s.path), strings.Fields(text); !slices.Equal(got, want) {
		s.t.Fatalf("got %q, want %q", got, want)
	}
}

// age sets the time of a generation back.
func (s *stepper) age(n int, by time.Duration) {
	s.t.Helper()
	at := time.Now().Add(-by)
	if err := os.Chtimes(s.name(n), at, at); err != nil {
		s.t.Fatal(err)
	}
}

// More files between two looks than may be open: those that are left are read when
// others are closed.
func TestManyBetween(t *testing.T) {
	s := newStepper(t)
	s.write(1)
	s.look(false)
	for range 3*maxGenerations + 1 {
		s.rotate()
		s.write(1)
	}
	for range 8 {
		s.look(true)
		if n := len(s.order); n > maxGenerations {
			t.Errorf("%d files are open", n)
		}
	}
	s.want(numbers(s.next))
}

// Files of one time are told apart by their numbers.
func TestOneTime(t *testing.T) {
	s := newStepper(t)
	s.write(1)
	s.age(0, time.Hour)
	s.look(false)
	for range 12 {
		s.rotate()
		s.write(1)
	}
	at := time.Now()
	for n := range 12 {
		if err := os.Chtimes(s.name(n), at, at); err != nil {
			t.Fatal(err)
		}
	}
	s.look(false)
	s.want(numbers(s.next))
}

// No file bears the path at any look after the first, and the first is closed.
func TestNoneBears(t *testing.T) {
	s := newStepper(t)
	s.write(1)
	s.look(false)
	s.rotate()
	s.look(true)
	s.look(true)
	if len(s.order) > 0 {
		t.Fatalf("%d files are open", len(s.order))
	}
	for range 3 {
		s.write(1)
		s.rotate()
		s.look(false)
	}
	s.want(numbers(s.next))
}

// A file is rotated before it was seen at all.
func TestRotatedUnseen(t *testing.T) {
	s := newStepper(t)
	s.look(false)
	s.write(1)
	s.rotate()
	s.write(1)
	s.look(false)
	s.want(numbers(s.next))
}

// What was there before the first look is not read.
func TestOldUnread(t *testing.T) {
	s := newStepper(t)
	s.write(1)
	s.rotate()
	s.write(1)
	s.look(false)
	s.look(false)
	s.want("1")
}

// Equal files are not copies where they are renamed: each is read.
func TestEqualFiles(t *testing.T) {
	s := newStepper(t)
	s.write(1)
	s.look(false)
	for range 3 {
		s.rotate()
		s.next = 0
		s.write(1)
	}
	s.write(1)
	s.look(false)
	s.want("0 0 0 0 1")
}

// A renamed file is written to after the ones that follow it.
func TestLateWriter(t *testing.T) {
	s := newStepper(t)
	s.write(1)
	s.look(false)
	for range 2 {
		s.rotate()
		s.write(1)
	}
	f, err := os.OpenFile(s.name(2), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("late\n"); err != nil {
		t.Fatal(err)
	}
	s.age(2, -time.Minute)
	s.look(false)
	s.want("0 late 1 2")
}

// The inode of a file that was deleted is that of a new one that was rotated.
func TestInodeOfAnotherPath(t *testing.T) {
	s := newStepper(t)
	s.write(1)
	s.look(false)
	s.rotate()
	s.write(1)
	st, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.known[idOf(st)] = positions.Position{
		ID: idOf(st), Path: filepath.Join(filepath.Dir(s.path), "other.log"), Offset: 2,
		Head: positions.PrintOf([]byte("x\n")), Tail: positions.PrintOf([]byte("x\n")), Gen: 1,
	}
	s.rotate()
	s.write(1)
	s.look(false)
	s.want("0 1 2")
}

// Files that may have been deleted unread are told of.
func TestRotationGaps(t *testing.T) {
	for _, c := range []struct{ keep, times, gaps int }{{2, 2, 0}, {2, 3, 1}, {2, 9, 1}, {1, 1, 0}} {
		s := newStepper(t)
		s.keep = c.keep
		s.write(1)
		s.look(false)
		for range c.times {
			s.rotate()
			s.write(1)
		}
		s.look(false)
		s.look(false)
		if got := int(testutil.ToFloat64(s.m.gaps)); got != c.gaps {
			t.Errorf("%d kept, rotated %d times: %d gaps, want %d", c.keep, c.times, got, c.gaps)
		}
	}
	// Deleted and made anew is no rotation.
	s := newStepper(t)
	s.write(1)
	s.look(false)
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	s.write(1)
	s.look(false)
	if got := testutil.ToFloat64(s.m.gaps); got != 0 {
		t.Errorf("%v gaps", got)
	}
	s.want("0 1")
}

// A renamed file that ends amid a character is closed for good where no file bears its
// path any more.
func TestRestNeverRead(t *testing.T) {
	s := newStepper(t)
	enc, err := lines.NewEncoding("utf-16le")
	if err != nil {
		t.Fatal(err)
	}
	s.groups[0].Encoding = enc
	s.cfg.Partial = time.Nanosecond
	if err := os.WriteFile(s.path, []byte("0\x00\n\x00x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.look(false)
	s.rotate()
	for range 3 {
		s.look(true)
	}
	if len(s.order) > 0 {
		t.Fatalf("%d files are open", len(s.order))
	}
	found := testutil.ToFloat64(s.m.found)
	s.look(false)
	if len(s.order) > 0 || testutil.ToFloat64(s.m.found) != found {
		t.Errorf("it is open again")
	}
	// More of it is read.
	f, err := os.OpenFile(s.name(1), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\x00\n\x00"); err != nil {
		t.Fatal(err)
	}
	s.look(false)
	s.want("0 x")
}

// A file that was seen under its path at the first look, and was renamed before it was
// opened, is read.
func TestRotatedBeforeOpened(t *testing.T) {
	s := newStepper(t)
	s.write(1)
	st, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.rotate()
	s.write(1)
	s.lastScan = time.Now()
	s.meet(s.path, s.groups[0], idOf(st))
	s.look(false)
	s.want(numbers(s.next))
}

// A renamed file that has to wait for an older one is not closed unread.
func TestWaitsForOlder(t *testing.T) {
	s := newStepper(t)
	s.cfg.Partial = time.Hour
	s.look(false)
	if err := os.WriteFile(s.path, []byte("no-end"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.look(false)
	for range 2 {
		s.rotate()
		s.write(1)
		s.look(false)
	}
	s.look(true)
	if err := os.Remove(s.name(1)); err != nil {
		t.Fatal(err)
	}
	s.cfg.Partial = time.Nanosecond
	s.look(true)
	s.want("no-end 0 1")
}

// A renamed file whose unfinished line cannot be read any more does not hold up others.
func TestUnreadableRest(t *testing.T) {
	s := newStepper(t)
	s.cfg.Partial = time.Hour
	s.look(false)
	if err := os.WriteFile(s.path, []byte("no-end"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.look(false)
	s.rotate()
	f, err := os.OpenFile(s.name(1), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.order[0].f.Close()
	s.order[0].f = f
	s.write(1)
	s.cfg.Partial = time.Nanosecond
	s.look(false)
	s.want("0")
	s.look(true)
	if len(s.order) != 1 {
		t.Errorf("%d files are open", len(s.order))
	}
}
