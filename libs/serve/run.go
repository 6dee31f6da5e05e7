package serve

import (
	"context"
	"errors"
	"time"
)

// Run is the life of a process: it opens the doors, starts the modules, lets requests in once all
// of them run, and waits until ctx is done, a module or a door fails, or a module asks to stop
// (ErrStop). Then it lets no more requests in, waits for those that are there, stops the modules
// and closes the doors, all within the drain timeout.
//
// It returns nil after a stop that was asked for and went well, else all that went wrong.
func Run(ctx context.Context, s *Server, m *Modules) error {
	m.Listen(func(c Change) {
		// One that was stopped while it started, or failed because of another, says nothing new.
		if c.Err != nil && !errors.Is(c.Err, ErrStop) && !errors.Is(c.Err, context.Canceled) && !m.follows(c.Module) {
			s.log.Error("module failed", "module", c.Module, "err", c.Err.Error())
		}
	})
	s.handleServices(m)
	if err := s.Start(); err != nil {
		return errors.Join(err, m.Stop(ctx), s.Close())
	}
	started := time.Now()
	failure := m.Start(ctx)
	if failure == nil {
		s.SetReady()
		s.log.Info("ready", "took", time.Since(started).Round(time.Millisecond))
		select {
		case <-ctx.Done():
		case <-m.Ended():
			failure = m.Err()
		case failure = <-s.Failures():
		}
	} else if ctx.Err() != nil || errors.Is(failure, ErrStop) {
		failure = nil // stopped while it started
	}
	s.log.Info("stopping", "drain_timeout", s.cfg.DrainTimeout)

	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	// Requests get two thirds of the time, so that modules have the rest to sync and close.
	requests, done := context.WithTimeout(bound, s.cfg.DrainTimeout*2/3)
	defer done()
	if err := s.Drain(requests); err != nil {
		s.log.Warn("not all requests were done in time", "err", err)
	}
	failure = errors.Join(failure, m.Stop(bound), s.Close())
	s.log.Info("stopped")
	return failure
}
