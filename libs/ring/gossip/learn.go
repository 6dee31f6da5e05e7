package gossip

import "context"

// Learn takes notice that a member's answer carried the digest of its table. If that
// is neither this process's own nor one that was merged already, it fetches the table.
// It reports whether this process now has all that was in it.
func (n *Node) Learn(ctx context.Context, name string, digest uint64) bool {
	if digest == 0 || digest == n.View().Table().Digest() || name == n.cfg.Self.Name || n.merged(name, digest) {
		return true
	}
	return n.Sync(ctx, name)
}

// merged reports whether the member's table with that digest was merged already. Tables
// that were may go on being different: old tombstones are not taken over.
func (n *Node) merged(name string, digest uint64) bool {
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	return n.words[name].table == digest
}

// Learn has nothing to learn.
func (s *Static) Learn(context.Context, string, uint64) bool { return true }
