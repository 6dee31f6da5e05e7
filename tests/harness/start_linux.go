package harness

import (
	"os/exec"
	"runtime"
)

// startLocked starts a command from a thread that lives as long as this process: the
// kernel sends the signal of Pdeathsig when the thread that started it ends.
func startLocked(cmd *exec.Cmd) error {
	result := make(chan error)
	starts <- start{cmd, result}
	return <-result
}

type start struct {
	cmd    *exec.Cmd
	result chan error
}

var starts = make(chan start)

func init() {
	go func() {
		runtime.LockOSThread()
		for s := range starts {
			s.result <- s.cmd.Start()
		}
	}()
}
