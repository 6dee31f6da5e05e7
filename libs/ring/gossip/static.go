package gossip

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/ring"
)

// Static is the membership of a process that is alone: a table of itself, and
// no network. Its methods may be called by several goroutines.
type Static struct {
	*core
	running atomic.Bool
}

// NewStatic returns the membership of self. The file at path keeps what is known to
// be missing over restarts; it may be empty. d.Resolver is not used.
func NewStatic(self ring.Member, cfg ring.Config, path string, d Deps) (*Static, error) {
	if err := errors.Join(self.Validate(), cfg.Validate()); err != nil {
		return nil, err
	}
	c := newCore(self, cfg, d)
	c.path, c.alone = path, true
	return &Static{core: c}, nil
}

// Start makes View hold the member.
func (s *Static) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	s.running.Store(true)
	return nil
}

// Stop closes the watchers' channels.
func (s *Static) Stop() error {
	s.running.Store(false)
	s.end()
	return nil
}

// Ready is nil between Start and Stop.
func (s *Static) Ready() error {
	if !s.running.Load() {
		return ErrNotRunning
	}
	return nil
}

// Leave makes the member a tombstone, so that its View is without it.
func (s *Static) Leave(context.Context) error { return s.setState(ring.Left) }

// GossipStatus is all but empty: there is no gossip.
func (s *Static) GossipStatus() GossipStatus {
	return GossipStatus{Enabled: false, Name: s.Self().Name}
}
