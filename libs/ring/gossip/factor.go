package gossip

import (
	"fmt"
	"strings"

	"github.com/weir-logs/weir/libs/ring"
)

// keepFactors takes over what an earlier record of the same data directory says of the
// factors by which its entries were placed. mu is held.
func (c *core) keepFactors(old ring.Member) {
	if old.Name == c.self.Name && old.Incarnation == c.self.Incarnation && c.self.Stores() {
		c.self.Factors |= old.Factors
	}
}

// holdAgreed notes in the own record that entries may come that are placed by the factor
// that most ingesters have. mu is held.
func (c *core) holdAgreed() {
	rf := c.table.ReplicationFactor()
	if rf == 0 || !c.self.Stores() || c.given || c.yields || c.self.Factors.Has(rf) {
		return
	}
	if _, ok := c.table.Get(c.self.Name); !ok {
		return // not opened yet
	}
	c.self.Factors |= ring.FactorsOf(rf)
	if err := c.assert(); err != nil {
		c.log.Error("the replication factor cannot be noted in the member table", "err", err)
		return
	}
	c.spread(c.self)
}

// HoldFactor notes, before this ingester stores them, that it gets entries that were placed
// by a replication factor. When it returns nil, View and the file have it, until DropFactors
// is called.
func (c *core) HoldFactor(rf int) error {
	kept := func() bool { return ring.Factors(c.kept.Load()).Has(rf) }
	if kept() {
		return nil
	}
	if self := c.Self(); !self.Stores() || ring.FactorsOf(rf) == 0 {
		return nil
	}
	if err := c.setFactors(func(f ring.Factors) ring.Factors { return f | ring.FactorsOf(rf) }); err != nil || kept() {
		return err
	}
	// Another call had set it, whose save is going on or has failed.
	if err := c.refresh(); err != nil || kept() {
		return err
	}
	return fmt.Errorf("gossip: replication factor %d was given up while it was noted", rf)
}

// DropFactors says that all entries of this ingester that were placed by other factors than
// those to keep are in the store. The one in use stays.
func (c *core) DropFactors(keep ring.Factors) error {
	return c.setFactors(func(f ring.Factors) ring.Factors {
		return f & (keep | ring.FactorsOf(c.table.ReplicationFactor()))
	})
}

func (c *core) setFactors(change func(ring.Factors) ring.Factors) error {
	c.mu.Lock()
	before := c.self.Factors
	after := change(before)
	if after == before || !c.self.Stores() {
		c.mu.Unlock()
		return nil
	}
	c.self.Factors = after
	if err := c.assert(); err != nil {
		c.self.Factors = before
		c.mu.Unlock()
		return err
	}
	c.kept.Store(c.kept.Load() & uint32(after))
	self := c.self
	c.mu.Unlock()
	c.spread(self)
	return c.refresh()
}

// keptFactors notes which factors View and the file have, which are made of a table, and that
// were not dropped since. refreshMu is held.
func (c *core) keptFactors(table ring.Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own, ok := table.Incarnation(c.self.Name, c.self.Incarnation); ok {
		c.kept.Store(uint32(own.Factors & c.self.Factors))
	}
}

// compareFactors tells of members that are configured otherwise than most ingesters, when
// that changes.
func (c *core) compareFactors(last, next *ring.View) {
	list := next.Mismatched()
	if len(list) == 0 || mismatchText(last, last.Mismatched()) == mismatchText(next, list) {
		return
	}
	c.log.Warn(mismatchText(next, list))
}

func mismatchText(v *ring.View, list []*ring.Member) string {
	var names []string
	for _, m := range list {
		names = append(names, fmt.Sprintf("%s (%d)", m.Name, m.ReplicationFactor))
	}
	return fmt.Sprintf("these members are configured with another replication factor than most ingesters, and use %d all the same: %s", v.Config().ReplicationFactor, strings.Join(names, ", "))
}
