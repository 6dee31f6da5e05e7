package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/services/agent/config"
)

// joiner is an agent that joins lines up to the next that begins with N.
type joiner struct {
	t    *testing.T
	s    *server
	log  string
	load func() (*config.Config, error)
}

func newJoiner(t *testing.T, grace string) *joiner {
	t.Helper()
	s, dir := newServer(t), t.TempDir()
	log := filepath.Join(dir, "app.log")
	return &joiner{t: t, s: s, log: log, load: func() (*config.Config, error) {
		cfg, ps := config.Load(fmt.Appendf(nil, `
server: {address: "%s", insecure: true}
positions: {file: "%s/state/positions"}
listen: ""
batch: {max_wait: 20ms}
read: {poll_interval: 5ms, scan_interval: 50ms, rotate_grace: %s}
files:
  - paths: ["%s"]
    stages: [{multiline: {firstline: '^N', max_wait_time: 1h}}]
`, s.addr, dir, grace, log), config.Options{})
		return cfg, ps.Err()
	}}
}

// begin starts it; end ends it in order.
func (j *joiner) begin() (a *Agent, ctx context.Context, end func()) {
	j.t.Helper()
	cfg, err := j.load()
	if err != nil {
		j.t.Fatal(err)
	}
	if a, err = Open(cfg, Deps{Load: j.load}); err != nil {
		j.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, ctx, func() {
		cancel()
		if err := <-done; err != nil {
			j.t.Fatal(err)
		}
	}
}

// awaitRead waits until the file that bears the path was read that far.
func (j *joiner) awaitRead(a *Agent, size int64) {
	j.t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		ts := a.Status().Targets
		if len(ts) > 0 && ts[len(ts)-1].Read == size {
			return
		}
		if time.Since(start) > patience {
			j.t.Fatalf("not read: %+v", ts)
		}
	}
}

func (j *joiner) want(want ...string) {
	j.t.Helper()
	j.s.await(j.t, len(want))
	if got := j.s.lines("app.log"); !slices.Equal(got, want) {
		j.t.Errorf("got %q, want %q", got, want)
	}
}

// A block of lines that is held when the configuration is reloaded, or when the
// agent ends, comes out whole afterwards.
func TestHeldOverReloadAndRestart(t *testing.T) {
	j := newJoiner(t, "5s")
	size := int64(0)
	write := func(a *Agent, text string) {
		appendTo(t, j.log, text)
		size += int64(len(text))
		j.awaitRead(a, size)
	}
	appendTo(t, j.log, "")
	a, ctx, end := j.begin()
	write(a, "N1\n one\n")
	if err := a.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	write(a, " two\nN2\n three\n")
	end()
	a, _, end = j.begin()
	write(a, " four\nN3\n five\nN4\n")
	j.s.await(t, 3)
	end()
	j.want("N1\n one\n two", "N2\n three\n four", "N3\n five")
}

// What is held of a renamed file comes before what is in the one that took its place.
func TestHeldBeforeNext(t *testing.T) {
	j := newJoiner(t, "200ms")
	a, _, end := j.begin()
	defer func() { end() }()
	appendTo(t, j.log, "N1\n one\n")
	j.awaitRead(a, 8)
	if err := os.Rename(j.log, j.log+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, j.log, "N2\n two\nN3\nN4\n")
	j.want("N1\n one", "N2\n two", "N3")
}

// What is held of a file when it is truncated comes once: with what a copy has, or as
// it is. Nothing of it is in the positions of the file then.
func TestHeldWhenTruncated(t *testing.T) {
	for _, copied := range []bool{true, false} {
		t.Run(fmt.Sprint("copied ", copied), func(t *testing.T) {
			j := newJoiner(t, "200ms")
			a, _, end := j.begin()
			appendTo(t, j.log, "N1\n one\n")
			j.awaitRead(a, 8)
			first := "N1\n one"
			if copied {
				appendTo(t, j.log+".1", "N1\n one\n two\n")
				first += "\n two"
			}
			if err := os.Truncate(j.log, 0); err != nil {
				t.Fatal(err)
			}
			appendTo(t, j.log, " x\nN2\n")
			j.want(first, " x")
			end()
			appendTo(t, j.log, "N3\n")
			_, _, end = j.begin()
			j.want(first, " x", "N2")
			end()
		})
	}
}
