package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/services/agent/config"
)

// A block of lines that is held when the configuration is reloaded, or when the
// agent ends, comes out whole afterwards.
func TestHeldOverReloadAndRestart(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	log := filepath.Join(dir, "app.log")
	load := func() (*config.Config, error) {
		cfg, ps := config.Load(fmt.Appendf(nil, `
server: {address: "%s", insecure: true}
positions: {file: "%s/state/positions"}
listen: ""
batch: {max_wait: 20ms}
read: {poll_interval: 5ms}
files:
  - paths: ["%s"]
    stages: [{multiline: {firstline: '^N', max_wait_time: 1h}}]
`, s.addr, dir, log), config.Options{})
		return cfg, ps.Err()
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	begin := func() (*Agent, context.Context, func()) {
		a, err := Open(cfg, Deps{Load: load})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		return a, ctx, func() {
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	size := int64(0)
	write := func(a *Agent, text string) {
		appendTo(t, log, text)
		size += int64(len(text))
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			if ts := a.Status().Targets; len(ts) == 1 && ts[0].Read == size {
				return
			}
			if time.Since(start) > 20*time.Second {
				t.Fatalf("not read: %+v", a.Status().Targets)
			}
		}
	}
	appendTo(t, log, "")
	a, ctx, end := begin()
	write(a, "N1\n one\n")
	if err := a.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	write(a, " two\nN2\n three\n")
	end()
	a, _, end = begin()
	write(a, " four\nN3\n five\nN4\n")
	s.await(t, 3)
	end()
	if got, want := s.lines("app.log"), []string{"N1\n one\n two", "N2\n three\n four", "N3\n five"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
