package wal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

// history is what a client knows across crashes.
type history struct {
	acked     map[string]bool
	begun     map[string]bool
	truncated map[string]bool // may be gone
	n         int
}

// live is the workload: two runs of a log with rolls, batches, a cut and truncations. It returns at
// the first error.
func (h *history) live(fs wal.FS, runs int) error {
	for range runs {
		opts := options(fs)
		opts.SegmentBytes = 250
		opts.Preallocate = true
		log, err := wal.Open(dir, opts)
		if err != nil {
			return err
		}
		err = h.run(log)
		if closeErr := log.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *history) run(log *wal.Log) error {
	for i := range 9 {
		var tickets []*wal.Ticket
		var names []string
		for range 1 + i%3 {
			h.n++
			name := fmt.Sprintf("record %d", h.n)
			h.begun[name] = true
			ticket, err := log.Begin(context.Background(), 1, []byte(name), make([]byte, h.n*7%50))
			if err != nil {
				return err
			}
			tickets, names = append(tickets, ticket), append(names, name)
		}
		for j, ticket := range tickets {
			if err := ticket.Wait(context.Background()); err != nil {
				return err
			}
			h.acked[names[j]] = true
		}
		if i == 4 {
			for name := range h.acked { // this run's and those before it
				h.truncated[name] = true
			}
			if err := log.TruncateBefore(log.NextLSN()); err != nil {
				return err
			}
		}
		if i == 6 {
			if err := log.Cut(context.Background()); err != nil {
				return err
			}
		}
	}
	return nil
}

// check replays and returns the first broken promise.
func (h *history) check(fs wal.FS, context_ string) error {
	log, err := wal.Open(dir, options(fs))
	if err != nil {
		return fmt.Errorf("%s: open: %w", context_, err)
	}
	defer log.Close()
	seen := map[string]bool{}
	var last uint64
	report, err := log.Replay(context.Background(), func(lsn uint64, typ byte, payload []byte) error {
		var n int
		_, _ = fmt.Sscanf(string(payload), "record %d", &n)
		name := fmt.Sprintf("record %d", n)
		switch {
		case !h.begun[name] || typ != 1 || len(payload) != len(name)+n*7%50:
			return fmt.Errorf("invented %q", payload)
		case lsn <= last:
			return fmt.Errorf("record %d after %d", lsn, last)
		case seen[name]:
			return fmt.Errorf("%s twice", name)
		}
		seen[name], last = true, lsn
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", context_, err)
	}
	for name := range h.acked {
		if !seen[name] && !h.truncated[name] {
			return fmt.Errorf("%s: lost %s; %+v", context_, name, report)
		}
	}
	if len(report.Damage) > 0 {
		return fmt.Errorf("%s: false alarm: %v", context_, report.Damage)
	}
	if log.NextLSN() <= last {
		return fmt.Errorf("%s: next LSN %d after %d", context_, log.NextLSN(), last)
	}
	return nil
}

func newHistory() *history {
	return &history{acked: map[string]bool{}, begun: map[string]bool{}, truncated: map[string]bool{}}
}

// A crash at every operation, with every kind of loss, then a second life that crashes too.
func TestCrashAtEveryOperation(t *testing.T) {
	for n := 1; ; n++ {
		for _, loss := range []waltest.Loss{waltest.LoseAll, waltest.LoseNone, waltest.LoseSome, waltest.LoseSome + 1} {
			rng := rand.New(rand.NewPCG(uint64(n), uint64(loss)))
			loss = min(loss, waltest.LoseSome)
			h := newHistory()
			fs := waltest.New()
			for life := range 3 {
				at := n
				if life > 0 {
					at = 1 + rng.IntN(150)
				}
				fs.SetHook(func(op waltest.Op) error {
					if op.N != at {
						return nil
					}
					if op.Kind == "write" {
						return &waltest.Partial{N: rng.IntN(op.Len + 1), Err: waltest.ErrCrashed}
					}
					return waltest.ErrCrashed
				})
				err := h.live(fs, 2)
				if life == 0 && err == nil {
					t.Logf("%d operations", n)
					if n < 150 {
						t.Fatal("the workload is too small to mean anything")
					}
					return
				}
				fs.Crash()
				fs = fs.Reboot(loss, rng)
				// The check itself must leave the next life a sound log, so it works on it.
				if err := h.check(fs, fmt.Sprintf("crash at operation %d, life %d, loss %d (%v)", at, life, loss, err)); err != nil {
					t.Fatal(err)
				}
				fs = fs.Reboot(waltest.LoseAll, rng)
			}
		}
	}
}

// An error at every operation instead of a crash: what was acknowledged is there after a power cut.
func TestErrorAtEveryOperation(t *testing.T) {
	eio := errors.New("input/output error")
	for n := 1; ; n++ {
		h := newHistory()
		fs := waltest.New()
		fs.SetHook(func(op waltest.Op) error {
			if op.N != n {
				return nil
			}
			if op.Kind == "write" {
				return &waltest.Partial{N: op.Len / 2, Err: eio}
			}
			return eio
		})
		hit := false
		err := h.live(fs, 2)
		for range 3 { // whatever was refused: restart on it
			if hit = fs.Ops() >= n; err == nil {
				break
			}
			err = h.live(fs, 1)
		}
		if err != nil {
			t.Fatalf("operation %d: does not recover: %v", n, err)
		}
		if !hit {
			return
		}
		for _, loss := range []waltest.Loss{waltest.LoseAll, waltest.LoseNone} {
			if err := h.check(fs.Reboot(loss, nil), fmt.Sprintf("error at operation %d, loss %d", n, loss)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A log that is killed when all its segments were removed does not give their records'
// numbers out again: whoever made them durable elsewhere knows them by these.
func TestKilledWhenEmptyGoesOn(t *testing.T) {
	fs := waltest.New()
	log := open(t, options(fs))
	for range 5 {
		appendOK(t, log, "x")
	}
	if err := log.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := log.TruncateBefore(6); err != nil {
		t.Fatal(err)
	}
	fs.Crash()
	again := open(t, options(fs.Reboot(waltest.LoseAll, rand.New(rand.NewPCG(1, 2)))))
	if got := again.NextLSN(); got != 6 {
		t.Errorf("the log goes on at %d, not at 6", got)
	}
	if lsn := appendOK(t, again, "y"); lsn != 6 {
		t.Errorf("record %d, want 6", lsn)
	}
}
