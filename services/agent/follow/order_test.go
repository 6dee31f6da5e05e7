package follow

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/services/agent/entry"
)

// restart ends it as a crash does, and begins anew where its lines and positions are.
func (s *stepper) restart() {
	s.t.Helper()
	for _, f := range s.order {
		_ = f.f.Close()
	}
	s.watch.close()
	s.rec.limit = 0
	s.Follower = New(s.cfg, s.rec, s.rec.positions(), nil, nil)
	s.watch = newWatcher(true, s.log)
}

// A file with a rest that is not read bears the path when a start looks, and is renamed
// before it is opened: its rest comes before what is in the file that takes its place.
func TestRenamedAmidStart(t *testing.T) {
	rotate := func(s *stepper) {
		s.rotate()
		s.write(1)
	}
	for name, start := range map[string]func(s *stepper){
		"before the known ones are looked for": func(s *stepper) {
			m := s.match()
			rotate(s)
			s.take(time.Now(), m)
		},
		"after they were": func(s *stepper) {
			m := s.match()
			s.findKnown(m)
			rotate(s)
			s.meet(s.path, s.groups[0], m[s.path].id)
		},
		"and its place is empty": func(s *stepper) {
			m := s.match()
			s.findKnown(m)
			s.rotate()
			s.meet(s.path, s.groups[0], m[s.path].id)
			s.write(1)
		},
		"twice": func(s *stepper) {
			m := s.match()
			rotate(s)
			s.findKnown(m)
			rotate(s)
			s.meet(s.path, s.groups[0], m[s.path].id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStepper(t)
			s.write(1)
			s.look(false)
			rotate(s)
			s.look(false)
			s.write(1)
			s.restart()
			start(s)
			s.started = true
			s.look(false)
			s.want(numbers(s.next))
			rotate(s)
			s.look(true)
			s.restart()
			s.look(false)
			s.want(numbers(s.next))
		})
	}
}

// Whatever happens, also amid a look and at a start, all lines come once and in order.
func TestOrderOverAll(t *testing.T) {
	for seed := range 100 {
		rng := rand.New(rand.NewPCG(uint64(seed), 0))
		s := newStepper(t)
		s.keep = 40
		s.write(1)
		s.look(false)
		did := ""
		change := func() {
			for range rng.IntN(3) {
				switch rng.IntN(4) {
				case 0:
					did += " rotate"
					s.rotate()
				default:
					did += " write"
					s.write(1 + rng.IntN(3))
				}
			}
		}
		for range 12 {
			change()
			if rng.IntN(3) == 0 {
				did += " restart"
				s.restart()
			}
			s.rec.limit = rng.IntN(4) // lines until it is full
			now := time.Now()
			s.since, s.lastScan, s.dirty, s.short = s.lastScan, now, false, false
			m := s.match()
			did += " (matched)"
			change()
			s.take(now, m)
			did += fmt.Sprint(" (read ", s.rec.limit, ")")
			change()
			for progress := true; progress && !s.full; {
				for _, f := range s.order {
					f.due = time.Time{}
				}
				progress, _ = s.round(context.Background(), time.Now())
			}
			s.full, s.rec.limit = false, 0
		}
		s.look(false)
		s.look(rng.IntN(2) == 0)
		s.look(false)
		if got, want := s.rec.lines(s.path), strings.Fields(numbers(s.next)); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q, after%s (seed %d)", got, want, did, seed)
		}
	}
}

// A file that is renamed while its folder is listed is not missed, though the folder's
// time does not show it.
func TestListedWhileRenamed(t *testing.T) {
	for _, c := range []struct {
		age   time.Duration // of the folder's last change
		lists int
	}{{-time.Hour, 3}, {time.Hour, 1}} {
		dir := t.TempDir()
		name := filepath.Join(dir, "app.log.1")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-c.age)
		if err := os.Chtimes(dir, at, at); err != nil {
			t.Fatal(err)
		}
		lists := 0
		got := settled(dir, func(dir string) []sibling {
			if lists++; lists == 1 && c.lists > 1 {
				return nil // it was app.log when the names were read
			}
			return new(disk).readFolder(dir)
		})
		if len(got) != 1 || got[0].path != name || lists != c.lists {
			t.Errorf("changed %v ago: %v after %d lists", c.age, got, lists)
		}
	}
}

// A file whose lines were held when the agent ended is read again though it was read
// to its end, was renamed since and is old.
func TestHeldInRenamed(t *testing.T) {
	s := newStepper(t)
	s.write(2)
	s.look(false)
	f := s.order[0]
	f.SetHeld([]entry.Span{{Start: 2, End: 4}})
	s.rotate()
	s.age(1, time.Hour)
	s.write(1)
	f.pos.Mtime = time.Now().Add(-time.Hour).UnixNano()
	s.restart()
	s.look(false)
	s.want("0 1 1 2")
}

// What is held of a file that was copied and truncated is read again from the copy, also
// where that has nothing else to give, and is no concern of the file any more.
func TestHeldInCopy(t *testing.T) {
	for _, running := range []bool{true, false} {
		s := newStepper(t)
		s.write(2)
		s.look(false)
		f := s.order[0]
		f.SetHeld([]entry.Span{{Start: 2, End: 4}})
		if err := os.WriteFile(s.name(1), []byte("0\n1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(s.path, 0); err != nil {
			t.Fatal(err)
		}
		if !running {
			s.restart()
		}
		s.look(false)
		if held := f.Position().Held; running && len(held) > 0 {
			t.Errorf("held of what is not there any more: %v", held)
		}
		s.write(1)
		s.look(false)
		s.want("0 1 1 2")
	}
}
