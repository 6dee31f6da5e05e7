package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a program that may be started, ended and started again. Not safe for
// concurrent use.
type Process struct {
	Name string

	t       testing.TB
	logPath string
	cmd     *exec.Cmd
	exited  chan struct{}
}

// NewProcess returns a process that is not started. The end of its output is shown if
// the test fails; all of it is kept in the directory WEIR_TEST_LOGS, if that is set.
func NewProcess(t testing.TB, name string) *Process {
	t.Helper()
	p := &Process{Name: name, t: t, logPath: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(func() {
		p.Kill()
		if keep := os.Getenv("WEIR_TEST_LOGS"); keep != "" {
			path := filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "-")+"-"+name+".log")
			if err := os.WriteFile(path, []byte(p.Log()), 0o644); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, p.tail(60))
		}
	})
	return p
}

// Start starts the process and does not wait for it. Its environment has none of this
// project's variables.
func (p *Process) Start(path string, args ...string) {
	p.t.Helper()
	if p.cmd != nil {
		p.t.Fatalf("%s runs already", p.Name)
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "WEIR") })
	// It must not outlive a test that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startLocked(cmd); err != nil {
		p.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it returns is in ProcessState
		close(exited)
	}()
	p.cmd, p.exited = cmd, exited
}

// Running says whether the process was started and not ended since by a method.
func (p *Process) Running() bool { return p.cmd != nil }

// PID is the process' id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process at once with SIGKILL and waits until it is gone. Killing a
// process that does not run does nothing.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
	p.cmd = nil
}

// Terminate ends the process with SIGTERM; it must exit with status 0.
func (p *Process) Terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if code := p.AwaitExit(); code != 0 {
		p.t.Fatalf("%s exits with status %d after SIGTERM", p.Name, code)
	}
}

// Interrupt sends SIGINT. Interrupting a process that does not run does nothing.
func (p *Process) Interrupt() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGINT) // it may have ended by itself
	}
}

// AwaitExit waits until the process has ended by itself and returns its status.
func (p *Process) AwaitExit() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(Patience):
		p.t.Fatalf("%s does not end", p.Name)
	}
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Freeze stops the process with SIGSTOP; its connections stay open.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Log returns all that the process and its predecessors have put out.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.logPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Error(err)
	}
	return string(b)
}

func (p *Process) tail(lines int) string {
	all := bytes.SplitAfter([]byte(p.Log()), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], nil))
}
