package gossip

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/weir-logs/weir/libs/ring"
)

// confirmLoop makes an ingester that is joining active once most ingesters have its
// record and nobody else has its name: before that it owns nothing, so that nobody writes to
// it of whom those who read may not have heard.
func (n *Node) confirmLoop(ctx context.Context) {
	tick := time.NewTicker(n.cfg.Timing.Probe)
	defer tick.Stop()
	for {
		switch self := n.Self(); {
		case !self.Stores() || self.State != ring.Joining:
			return
		case n.sure():
			err := n.insist()
			if err == nil && n.confirmed(ctx) {
				err = n.SetState(ring.Active)
			}
			if err != nil {
				n.log.Warn("cannot become active", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// met reports whether another member was found, or there is none to find.
func (n *Node) met() bool {
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	return len(n.cfg.Join) == 0 || n.joined
}

// confirmed asks the ingesters that have not told that they know of this one, and
// reports whether more than half of all do, this one and those away included.
func (n *Node) confirmed(ctx context.Context) bool {
	have, all := n.confirmations()
	if 2*len(have) > all {
		return true
	}
	for _, name := range n.ingesters() {
		if name != n.cfg.Self.Name && !have[name] {
			n.Sync(ctx, name)
		}
	}
	have, all = n.confirmations()
	return 2*len(have) > all
}

// confirmations returns which ingesters know of this one, itself included, and how many
// there are.
func (n *Node) confirmations() (have map[string]bool, all int) {
	have = map[string]bool{n.cfg.Self.Name: true}
	n.joinMu.Lock()
	words := maps.Clone(n.words)
	n.joinMu.Unlock()
	// Later than the words, so that it has all the ingesters of whom those told.
	names := n.ingesters()
	for _, name := range names {
		if words[name].knows {
			have[name] = true
		}
	}
	return have, len(names)
}

// pending says what a joining ingester waits for, or nil.
func (n *Node) pending() error {
	if self := n.Self(); !self.Stores() || self.State != ring.Joining {
		return nil
	}
	have, all := n.confirmations()
	return fmt.Errorf("gossip: joining: %d of %d ingesters know of this one, more than half must", len(have), all)
}
