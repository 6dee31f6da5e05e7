package weir

import (
	"errors"
	"time"

	"github.com/weir-logs/weir/libs/wal"
)

// Option puts something in the place of the operating system's, which is what a Process
// has without. Options are for tests that run several processes in one.
type Option func(*Process)

// WithClock gives the process' services another clock than time.Now. Deadlines of calls,
// timers, and the times of the process' own log stay the operating system's. now may be
// called by several goroutines.
func WithClock(now func() time.Time) Option { return func(p *Process) { p.now = now } }

// WithLogFS gives the ingester's write-ahead log another file system than the operating
// system's. Local blocks and all other files do not go through it.
func WithLogFS(fs wal.FS) Option { return func(p *Process) { p.logFS = fs } }

// Abort closes all ports with the calls on them, and leaves the cluster without a word,
// as a crash would. Then the context of Run is to end: Run closes the rest, and what it
// returns says nothing. It may be called once Run has been, and once.
func (p *Process) Abort() error {
	left := make(chan error, 1)
	go func() {
		if m := p.member.Load(); m != nil {
			if m, ok := (*m).(interface{ Abandon() error }); ok {
				left <- m.Abandon()
				return
			}
		}
		left <- nil
	}()
	return errors.Join(p.server.Close(), <-left)
}
