package gossip

import "context"

// Learn takes notice that a member's answer carried the digest of its table. If that
// is neither this process's own nor one that was merged already, it fetches the table.
// It reports whether this process now has all that was in it.
func (n *Node) Learn(ctx context.Context, name string, digest uint64) bool {
	if digest == 0 || digest == n.View().Table().Digest() || name == n.cfg.Self.Name {
		return true
	}
	if w := n.word(name); w.merged && w.table == digest {
		return n.catchUp() == nil
	}
	return n.Sync(ctx, name) && n.word(name).merged
}

// word returns what a peer said last. A table that was merged may go on being different
// from the own one: old tombstones are not taken over.
func (n *Node) word(name string) word {
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	return n.words[name]
}

// catchUp makes View show the present table, if loop has not come to it yet.
func (n *Node) catchUp() error {
	n.mu.Lock()
	digest := n.table.Digest()
	n.mu.Unlock()
	if digest == n.View().Table().Digest() {
		return nil
	}
	return n.refresh()
}

// Learn has nothing to learn.
func (s *Static) Learn(context.Context, string, uint64) bool { return true }
