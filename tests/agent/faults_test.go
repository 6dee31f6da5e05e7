package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-logs/weir/tests/harness"
)

// TestRotation: rename under 10,000 lines a second.
func TestRotation(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 100 * time.Millisecond} {
		t.Run(every.String(), func(t *testing.T) {
			r := newRig(t)
			r.started()
			w := &writer{path: filepath.Join(r.dir, "app.log"), rate: 10_000, rotate: every}
			w.during(t, func() { time.Sleep(4 * time.Second) })
			r.await(w.n)
			r.check(w.n, nil)
			r.agent.Terminate()
		})
	}
}

// TestKilled: the agent is killed at random moments, while its file is written and
// renamed.
func TestKilled(t *testing.T) {
	r := newRig(t)
	r.started()
	kills := env(t, "WEIR_AGENT_KILLS", 10)
	w := &writer{path: filepath.Join(r.dir, "app.log"), rate: 5000, rotate: 700 * time.Millisecond}
	w.during(t, func() {
		for range kills {
			time.Sleep(time.Duration(50+rand.IntN(500)) * time.Millisecond)
			r.agent.Kill()
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			r.start()
		}
	})
	r.await(w.n)
	r.check(w.n, nil)
	r.agent.Terminate()
}

// TestKilledWhenFound: the agent is killed when it has just begun to read a file that
// it did not know, before anything of it is in the queue; then the file is renamed
// out of the pattern.
func TestKilledWhenFound(t *testing.T) {
	r := newRig(t)
	r.configure()
	b, err := os.ReadFile(filepath.Join(r.dir, "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	slow := strings.Replace(string(b), "max_wait: 50ms", "max_wait: 1h", 1)
	r.raw = slow
	r.start()
	up := func() {
		harness.Until(t, func() error {
			if r.metric("weir_agent_open_files") < 0 {
				return errors.New("the agent is not up yet")
			}
			return nil
		})
	}
	n := 0
	for round := range 5 {
		up()
		path := filepath.Join(r.dir, "app.log")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := f.WriteString(line(n) + "\n"); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		harness.Until(t, func() error {
			if r.metric("weir_agent_read_lines_total") <= 0 {
				return errors.New("nothing is read yet")
			}
			return nil
		})
		r.agent.Kill()
		if err := os.Rename(path, filepath.Join(r.dir, fmt.Sprintf("gone-%d.txt", round))); err != nil {
			t.Fatal(err)
		}
		r.raw = string(b) // delivers
		r.start()
		r.await(n)
		r.agent.Kill()
		r.raw = slow
		r.start()
	}
	up()
	r.check(n, nil)
	r.agent.Terminate()
}

// TestServerAway: the server is killed and comes back later; reading goes on into
// the queue meanwhile.
func TestServerAway(t *testing.T) {
	r := newRig(t)
	r.started()
	away := envTime(t, "WEIR_AGENT_AWAY", 5*time.Second)
	var gone atomic.Int32
	w := &writer{path: filepath.Join(r.dir, "app.log"), rate: 5000, rotate: time.Second, keep: 1, may: func(path string) bool {
		ok := r.queued(path)
		if ok {
			gone.Add(1)
		}
		return ok
	}}
	w.during(t, func() {
		time.Sleep(time.Second)
		r.server.Kill()
		before := gone.Load()
		time.Sleep(away / 2)
		harness.Until(t, func() error {
			if gone.Load() < before+2 {
				return errors.New("no files are gone that were written since")
			}
			return nil
		})
		r.agent.Kill() // what it has read is in the queue, though its files are gone
		r.start()
		time.Sleep(away / 2)
		r.server.Start()
		r.server.AwaitReady()
	})
	r.await(w.n)
	r.check(w.n, nil)
	r.agent.Terminate()
}

// TestRateLimited: the server refuses more than so much a second.
func TestRateLimited(t *testing.T) {
	r := newRig(t, "--limits.ingestion-rate=100kB", "--limits.ingestion-burst=300kB")
	r.started()
	w := &writer{path: filepath.Join(r.dir, "app.log"), rate: 8000, rotate: time.Second}
	w.during(t, func() {
		time.Sleep(envTime(t, "WEIR_AGENT_LIMITED", 3*time.Second))
		harness.Until(t, func() error {
			if n := r.metric("weir_agent_retries_total"); n <= 0 {
				return fmt.Errorf("%v retries: the server was to refuse", n)
			}
			return nil
		})
	})
	r.await(w.n)
	r.check(w.n, nil)
	r.agent.Terminate()
}

// TestQueueDiskFull: the disk under the queue is full while the server is away;
// reading stops, and goes on when there is room.
func TestQueueDiskFull(t *testing.T) {
	disk := harness.Mount(t, "-t", "tmpfs", "-o", "size=3m", "tmpfs")
	r := newRig(t)
	r.state = disk
	r.started()
	w := &writer{path: filepath.Join(r.dir, "app.log"), rate: 20_000, rotate: 2 * time.Second}
	w.during(t, func() {
		time.Sleep(500 * time.Millisecond)
		r.server.Kill()
		harness.Until(t, func() error {
			if r.metric("weir_agent_queue_errors_total") < 2 {
				return errors.New("the disk is not full yet")
			}
			return nil
		})
		r.agent.Kill() // also with a full disk it may die
		r.start()
		time.Sleep(500 * time.Millisecond)
		r.server.Start()
		r.server.AwaitReady()
	})
	r.await(w.n)
	r.check(w.n, nil)
	r.agent.Terminate()
}

// TestPositionsTorn: the agent is killed, and its positions file is torn, or filled
// with zeros, or gone.
func TestPositionsTorn(t *testing.T) {
	r := newRig(t)
	r.started()
	damages := []func(string) error{
		func(f string) error { return os.Truncate(f, 40) },
		func(f string) error { return os.WriteFile(f, make([]byte, 700), 0o600) },
		os.Remove,
		func(f string) error { return errors.Join(os.Truncate(f, 3), os.WriteFile(f+".old", nil, 0o600)) },
	}
	w := &writer{path: filepath.Join(r.dir, "app.log"), rate: 5000, rotate: 700 * time.Millisecond}
	w.during(t, func() {
		for _, damage := range damages {
			time.Sleep(800 * time.Millisecond)
			r.known() // there is something to damage
			r.agent.Kill()
			if err := damage(r.positions()); err != nil {
				t.Fatal(err)
			}
			r.start()
		}
		time.Sleep(300 * time.Millisecond)
	})
	r.await(w.n)
	r.check(w.n, nil)
	r.agent.Terminate()
}

// TestCopyTruncate: at most what was written between copy and truncation is lost,
// and the agent says that there were truncations.
func TestCopyTruncate(t *testing.T) {
	r := newRig(t)
	r.started()
	path := filepath.Join(r.dir, "app.log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, lost, rounds := 0, map[int]bool{}, 6
	put := func(lines int) {
		for range lines {
			if _, err := f.WriteString(line(n) + "\n"); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	for round := range rounds {
		for range 20 {
			put(100)
			time.Sleep(10 * time.Millisecond)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s.%d", path, round+1), data, 0o644); err != nil {
			t.Fatal(err)
		}
		from := n
		put(round) // after the copy: these may be lost
		for i := from; i < n; i++ {
			lost[i] = true
		}
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
	}
	put(500)
	r.await(n - len(lost))
	r.check(n, lost)
	if got := r.metric("weir_agent_truncations_total"); got < 1 {
		t.Errorf("%v truncations are counted", got)
	}
	if got := r.metric("weir_agent_truncated_unread_bytes_total"); got < 0 {
		t.Error("the bytes lost are not counted")
	}
	r.agent.Terminate()
	if !strings.Contains(r.agent.Log(), "bytes_lost=") {
		t.Error("the log does not tell of truncations")
	}
}
