package gossip

import (
	"context"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/ring"
)

// word is what a peer said of whom it holds alive, and when by the local clock.
type word struct {
	peers map[string]string
	table uint64 // digest of its table
	knows bool   // this member's record was in it
	// merged is whether the own table has all that was in it: false where that was full.
	merged bool
	at     time.Time
}

// Sync exchanges tables with another member, and reports whether that succeeded
// before ctx was done. The exchange may go on afterwards.
func (n *Node) Sync(ctx context.Context, name string) bool {
	n.mu.Lock()
	p, ok := n.alive[name]
	n.mu.Unlock()
	if !ok || n.list == nil {
		return false
	}
	done := make(chan bool, 1)
	if !n.work(func() {
		_, err := n.list.Join([]string{p.addr()})
		done <- err == nil && n.refresh() == nil
	}) {
		return false
	}
	select {
	case ok := <-done:
		return ok
	case <-ctx.Done():
		return false
	}
}

// work runs f in a goroutine that Stop waits for. It is false if the node stops.
func (n *Node) work(f func()) bool {
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	if n.stopping {
		return false
	}
	n.wg.Go(f)
	return true
}

// Agree asks the other ingesters whether they hold an ingester for dead, and returns
// how many do, this one included, and how many must for it to be forgotten: more than
// half of all, those that are away too.
func (n *Node) Agree(ctx context.Context, name string) (votes, needed int) {
	began := n.now()
	var wg sync.WaitGroup
	var voters []string
	for _, voter := range n.ingesters() {
		if voter != name && voter != n.cfg.Self.Name {
			voters = append(voters, voter)
			wg.Go(func() { n.Sync(ctx, voter) })
		}
	}
	wg.Wait()
	all := len(n.ingesters()) // those too of whom the voters told
	n.mu.Lock()
	_, alive := n.alive[name]
	if n.self.Stores() && !alive && n.self.Name != name {
		votes++
	}
	n.mu.Unlock()
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	for _, v := range voters {
		w, ok := n.words[v]
		if _, holds := w.peers[name]; ok && !holds && !w.at.Before(began) {
			votes++
		}
	}
	return votes, all/2 + 1
}

// Agree has nobody to ask.
func (s *Static) Agree(context.Context, string) (votes, needed int) { return 0, 1 }

// Sync has nobody to talk to.
func (s *Static) Sync(context.Context, string) bool { return false }

// GiveUp forgets a member without asking anyone. If it is an ingester, what only it
// held is recorded as lost. It refuses as Forget does.
func (c *core) GiveUp(name string) error {
	c.mu.Lock()
	m, ok := c.table.Get(name)
	_, alive := c.alive[name]
	c.mu.Unlock()
	if ok && m.Stores() && !m.State.Gone() && !alive && name != c.self.Name {
		const what = "given up before its entries were known to be elsewhere"
		err := c.change(func(t ring.Table) (ring.Table, ring.Member, error) {
			now := c.now().UnixMilli()
			t, noted, took, err := t.NoteGap(name, what, now)
			if err != nil || !took {
				return t, noted, err
			}
			return t.Settle(name, noted.Incarnation, ring.Lost, now)
		})
		if err != nil {
			return err
		}
	}
	return c.Forget(name)
}
