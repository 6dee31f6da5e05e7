package gossip

import (
	"fmt"

	"github.com/weir-logs/weir/libs/ring"
)

// Taken returns a channel on which comes why this member's name is not its own, if it began to
// take part while another process of that name, with another data directory, did already.
func (c *core) Taken() <-chan error { return c.taken }

// insist ends that the own record gives way to one of another data directory.
func (c *core) insist() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given {
		return ring.ErrForgotten // which is known, and must not be found out again
	}
	if !c.yields {
		return nil
	}
	c.yields = false
	if current, ok := c.table.Get(c.self.Name); ok && current != c.self {
		if err := c.defend(current); err != nil {
			c.yields = true
			return err
		}
		c.touch()
	}
	return nil
}

// sure reports whether this member has met others, and whether those had no living process
// under its name.
func (n *Node) sure() bool {
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	return (len(n.cfg.Join) == 0 || n.joined) && n.doubts == 0 && !n.refused
}

// doubt looks who is at an address that has this member's name, if this one is new to the
// cluster: mostly nobody, since that was an earlier process at another address.
func (n *Node) doubt(addr string) {
	n.joinMu.Lock()
	if n.joined && n.doubted == "" || n.doubted == addr || n.selfAddr == "" {
		n.joinMu.Unlock()
		return
	}
	n.doubted = addr
	n.doubts++
	n.joinMu.Unlock()
	n.work(func() {
		// Its table comes, or nothing.
		if _, err := n.list.Join([]string{addr}); err != nil {
			n.log.Debug("nobody answers where the own name was last", "addr", addr, "err", err)
		}
		n.joinMu.Lock()
		defer n.joinMu.Unlock()
		n.doubts--
	})
}

// namesake judges the table of who has this member's name, which may be this process under
// another address. joinMu is held.
func (n *Node) namesake(s state) {
	m, ok := s.table.Get(n.cfg.Self.Name)
	if n.doubted == "" || !ok || m.Incarnation == n.cfg.Self.Incarnation || m.State.Gone() {
		return
	}
	n.refused = true
	select {
	case n.taken <- takenError(m, n.doubted):
	default: // it was said
	}
}

func takenError(m ring.Member, addr string) error {
	return fmt.Errorf("gossip: another process is the member %q, at %s (gossip at %s) and with another data directory: give this one a name of its own, or stop that one", m.Name, m.GRPCAddr, addr)
}
