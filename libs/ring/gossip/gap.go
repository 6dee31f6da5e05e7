package gossip

import "github.com/weir-logs/weir/libs/ring"

// NoteGap records that this ingester's data directory misses a part of what it
// stored; what says which, for people. It counts as missing until it is settled.
// Noting the same again changes nothing.
func (c *core) NoteGap(what string) error {
	return c.change(func(t ring.Table) (ring.Table, ring.Member, error) {
		t, m, _, err := t.NoteGap(c.self.Name, what, c.now().UnixMilli())
		return t, m, err
	})
}

// Settle makes a past incarnation or noted gap of a member ring.Lost or
// ring.Forgotten, and tells the others. Whether it is true is for the caller to make
// sure.
func (c *core) Settle(name, incarnation string, s ring.State) error {
	return c.change(func(t ring.Table) (ring.Table, ring.Member, error) {
		return t.Settle(name, incarnation, s, c.now().UnixMilli())
	})
}

// change makes a change of one record. f is called with mu held.
func (c *core) change(f func(ring.Table) (ring.Table, ring.Member, error)) error {
	c.mu.Lock()
	t, m, err := f(c.table)
	changed := err == nil && t.Digest() != c.table.Digest()
	if changed {
		c.table = t
	}
	c.mu.Unlock()
	if !changed {
		return err
	}
	c.log.Info("member table changed", "member", m.Name, "incarnation", m.Incarnation, "state", m.State.String())
	c.spread(m)
	return c.refresh()
}
