package agent

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// child is an agent in a process of its own.
type child struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

func startChild(t *testing.T, config string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+config)
	c.cmd.Stderr = &c.out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// kill ends it as a crash does.
func (c *child) kill(t *testing.T) {
	t.Helper()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	if strings.Contains(c.out.String(), "panic") {
		t.Fatal(c.out.String())
	}
}

func writeConfig(t *testing.T, dir string, cfg Config) string {
	t.Helper()
	data, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// The agent is killed at random moments while a writer writes, and the server
// fails now and then, before and after it has stored: every line is there once
// and in order.
func TestKilled(t *testing.T) {
	for name, rotate := range map[string]time.Duration{"one file": 0, "rotating": 150 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s, dir := newServer(t), t.TempDir()
			s.flaky()
			cfg := quickConfig(s, dir, "app.log")
			config := writeConfig(t, dir, cfg)
			kills := 10
			if testing.Short() {
				kills = 3
			}
			type result struct {
				n   int
				err error
			}
			written := make(chan result, 1)
			lifetime := 300 * time.Millisecond
			// Once the agent knows the file, it may be killed, and the file renamed.
			appendTo(t, filepath.Join(dir, "app.log"), "")
			first := startChild(t, config)
			for deadline := time.Now().Add(patience); ; {
				if b, err := os.ReadFile(cfg.Positions.File); err == nil && bytes.Contains(b, []byte("app.log")) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("no positions are saved:", first.out.String())
				}
				time.Sleep(time.Millisecond)
			}
			first.kill(t)
			go func() {
				n, err := writer{path: filepath.Join(dir, "app.log"), rate: 5000, rotate: rotate}.run(time.Duration(kills) * lifetime)
				written <- result{n, err}
			}()
			for i := range kills {
				c := startChild(t, config)
				defer func() {
					if t.Failed() {
						t.Logf("agent %d:\n%s", i, c.out.String())
					}
				}()
				time.Sleep(time.Duration(rand.Int64N(int64(2*lifetime-100*time.Millisecond))) + 50*time.Millisecond)
				c.kill(t)
			}
			r := <-written
			if r.err != nil {
				t.Fatal(r.err)
			}
			c := startChild(t, config)
			s.await(t, r.n)
			c.kill(t)
			s.checkNumbered(t, "app.log", r.n)
			t.Logf("%d lines, %d kills, %d entries sent again", r.n, kills, s.again)
		})
	}
}
