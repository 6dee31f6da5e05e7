package gossip

import (
	"errors"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weir-logs/weir/libs/ring"
)

// delegate is the Node as memberlist sees it. Its methods are called from
// memberlist's goroutines, some of them inside its locks: they take core.mu and
// Node.joinMu, and call nothing of memberlist but the broadcast queue.
type delegate struct{ n *Node }

// broadcast is one record on its way; a newer one of the same incarnation replaces
// it, so the queue holds at most as many as there are records.
type broadcast struct {
	name string // and incarnation
	msg  []byte
}

func (b broadcast) Invalidates(o memberlist.Broadcast) bool {
	other, ok := o.(broadcast)
	return ok && other.name == b.name
}
func (b broadcast) Name() string    { return b.name }
func (b broadcast) Message() []byte { return b.msg }
func (b broadcast) Finished()       {}

// NodeMeta implements memberlist.Delegate: records travel by themselves.
func (d *delegate) NodeMeta(int) []byte { return nil }

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg(b []byte) {
	if len(b) > 0 && b[0] == tellFormat {
		if err := d.n.listeners.heard(b); err != nil {
			d.count("message", false, err)
		}
		return
	}
	m, err := decodePacket(b)
	if err != nil {
		d.count("record", false, err)
		return
	}
	t, _, err := (ring.Table{}).Put(m)
	if err == nil {
		var news bool
		news, err = d.n.merge(t)
		d.count("record", news, err)
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.n.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte {
	n := d.n
	n.mu.Lock()
	s := state{sender: n.self.Name, table: n.table, peers: make(map[string]string, len(n.alive))}
	if n.yields { // to others a record that is not the newest of its name is of something lost
		s.table = s.table.WithoutIncarnation(n.self.Name, n.self.Incarnation)
	}
	for name, p := range n.alive {
		s.peers[name] = p.addr()
	}
	n.mu.Unlock()
	return s.encode()
}

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	s, err := decodeState(b)
	if err != nil {
		d.count("table", false, err)
		return
	}
	news, err := d.n.merge(s.table)
	d.count("table", news, err)
	d.n.heard(s, err == nil)
}

// heard notes whether the sender has us alive, at our present address. A sender whose table
// was not merged has not been met: of whom it told is not known.
func (n *Node) heard(s state, merged bool) {
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	self, knows := s.table.Incarnation(n.cfg.Self.Name, n.cfg.Self.Incarnation)
	if s.sender == n.cfg.Self.Name {
		n.namesake(s)
		n.joined = n.joined || merged // this process, at another address
		return
	}
	n.words[s.sender] = word{s.peers, s.table.Digest(), merged && knows && !self.State.Gone(), merged, n.now()}
	n.joined = n.joined || merged // having been found is as good as having found
	if n.selfAddr != "" && s.peers[n.cfg.Self.Name] == n.selfAddr {
		n.knownAt[s.sender] = true
	} else {
		delete(n.knownAt, s.sender)
	}
}

func (d *delegate) count(kind string, news bool, err error) {
	result := "known"
	switch {
	case errors.Is(err, ring.ErrFull):
		result = "full"
	case err != nil:
		result = "corrupt"
	case news:
		result = "new"
	}
	d.n.metrics.received.WithLabelValues(kind, result).Inc()
	if err != nil {
		d.n.log.Warn("gossip was refused", "kind", kind, "err", err)
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(node *memberlist.Node) {
	if node.Name == d.n.cfg.Self.Name {
		return
	}
	now := d.n.now()
	d.n.mu.Lock()
	d.n.alive[node.Name] = peer{node: *node, since: now, lastSeen: now}
	d.n.others.Store(int64(len(d.n.alive)))
	d.n.mu.Unlock()
	d.n.log.Info("member is healthy", "member", node.Name, "addr", node.Address())
	d.n.touch()
}

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(node *memberlist.Node) {
	if node.Name == d.n.cfg.Self.Name {
		return
	}
	d.n.mu.Lock()
	delete(d.n.alive, node.Name)
	d.n.others.Store(int64(len(d.n.alive)))
	d.n.mu.Unlock()
	d.n.joinMu.Lock()
	delete(d.n.knownAt, node.Name)
	delete(d.n.words, node.Name)
	d.n.joinMu.Unlock()
	d.n.log.Info("member is away", "member", node.Name, "addr", node.Address())
	d.n.touch()
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(*memberlist.Node) {}

// NotifyConflict implements memberlist.ConflictDelegate: one name, two
// addresses. It passes when one is a process that is no more.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name == d.n.cfg.Self.Name {
		d.n.doubt(other.Address())
	}
	d.n.metrics.conflicts.Inc()
	d.n.log.Warn("two addresses claim one member name", "member", existing.Name, "known", existing.Address(), "claims", other.Address())
}

// AckPayload implements memberlist.PingDelegate.
func (d *delegate) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate.
func (d *delegate) NotifyPingComplete(node *memberlist.Node, _ time.Duration, _ []byte) {
	now := d.n.now()
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	if p, ok := d.n.alive[node.Name]; ok {
		p.lastSeen = now
		d.n.alive[node.Name] = p
	}
}
