package harness

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/services/weir"
)

// inside is a server within the process of the test.
type inside struct {
	ahead atomic.Int64 // nanoseconds, of its clock

	// Of the one that runs, nil if none does:
	process *weir.Process
	disk    *disk
	end     context.CancelFunc
	done    chan struct{} // closed when it has ended
	err     error         // why, after that
}

// InProcess makes all nodes run within the process of the test, each with its own ports,
// directory, log, metrics and clock. It is called before they start. What they have in
// common is the process: its memory and collector, its file descriptors, its death.
//
// Kill comes as near to SIGKILL as that allows: the write-ahead log changes no more from
// one moment on, but for a part of the write that comes next; ports and calls are cut
// without an answer that the caller could wait for; no other member is told. Not covered
// are:
//
//   - files other than those of the write-ahead log: a block or a member table whose
//     writing has begun is finished, or given up in order, before Kill returns;
//   - goroutines: they end by cancellation, so one that would hang for ever makes Kill
//     hang, and one that runs on a little may still upload a block or call another member;
//   - what a process leaves behind in the system, such as locks and listening ports:
//     they are given back in order.
//
// Methods of Process that need a process of the node's own, such as Freeze, are not
// there: they panic.
func (c *Cluster) InProcess() {
	for _, n := range c.nodes() {
		n.inside = &inside{}
		c.t.Cleanup(n.Kill)
	}
}

// CollectAsBefore undoes what servers within this process have told its garbage collector.
func CollectAsBefore(t testing.TB) {
	t.Helper()
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(math.MaxInt64)
	})
}

// SetClock sets how far the clock of a node of InProcess is ahead of the true time: a jump
// if it runs. What a process measures by two readings of it jumps too, which it would not
// by the operating system's clock.
func (n *Node) SetClock(ahead time.Duration) { n.inside.ahead.Store(int64(ahead)) }

func (n *Node) startInside(args []string) {
	n.t.Helper()
	i := n.inside
	if i.process != nil {
		n.t.Fatalf("%s runs already", n.Name)
	}
	cfg := weir.DefaultConfig()
	set, err := weir.Settings(&cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	if action, err := set.Load(args, nil); err != nil || action != conf.Run {
		n.t.Fatalf("%s is started with %q: %v", n.Name, args, err)
	}
	log, err := os.OpenFile(n.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	disk := &disk{}
	p, err := weir.NewProcess(context.Background(), cfg, weir.CurrentBuild(), set.Print, log,
		weir.WithClock(func() time.Time { return time.Now().Add(time.Duration(i.ahead.Load())) }), weir.WithLogFS(disk))
	if err != nil {
		n.t.Fatal(errors.Join(err, log.Close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	i.process, i.disk, i.end, i.done, i.err = p, disk, cancel, make(chan struct{}), nil
	go func() {
		defer close(i.done)
		i.err = errors.Join(p.Run(ctx), log.Close())
	}()
	n.exited = i.done
}

// Running says whether the node was started and not ended since by a method.
func (n *Node) Running() bool {
	if n.inside != nil {
		return n.inside.process != nil
	}
	return n.Process.Running()
}

// Kill ends the node at once with SIGKILL, or as InProcess says, and waits until it is
// gone. Killing a node that does not run does nothing.
func (n *Node) Kill() {
	i := n.inside
	switch {
	case i == nil:
		n.Process.Kill()
	case i.process != nil:
		i.disk.cut()
		_ = i.process.Abort() // it is dead: what went wrong does not count
		i.end()
		<-i.done
		i.process = nil
	}
}

// Terminate ends the node as SIGTERM does; nothing must go wrong.
func (n *Node) Terminate() {
	n.t.Helper()
	i := n.inside
	if i == nil {
		n.Process.Terminate()
		return
	}
	i.end()
	select {
	case <-i.done:
	case <-time.After(Patience):
		n.t.Fatalf("%s does not end", n.Name)
	}
	i.process = nil
	if i.err != nil {
		n.t.Fatalf("%s ends with %v", n.Name, i.err)
	}
}

// ended says how the node has ended by itself.
func (n *Node) ended() any {
	if n.inside != nil {
		return n.inside.err
	}
	return n.cmd.ProcessState
}

// arguments are those of the node's command line. How full this machine's disk is does
// not matter to tests; those that fill one say how much is to stay free.
func (n *Node) arguments() []string {
	return slices.Concat([]string{
		"--data-dir=" + n.Dir, "--listen=" + n.HTTP, "--grpc-listen=" + n.GRPC, "--gossip-listen=" + n.Gossip,
		"--ingester.disk-max-used-percent=100",
	}, n.Args)
}
