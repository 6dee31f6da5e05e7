package ring

import (
	"fmt"
	"math/bits"
	"slices"
)

// MaxReplicationFactor is the largest replication factor.
const MaxReplicationFactor = 15

// Factors is a set of replication factors from 1 to MaxReplicationFactor.
type Factors uint16

// FactorsOf returns the set of the given factors. What is none is left out.
func FactorsOf(factors ...int) Factors {
	var f Factors
	for _, rf := range factors {
		if rf >= 1 && rf <= MaxReplicationFactor {
			f |= 1 << (rf - 1)
		}
	}
	return f
}

// Has reports whether rf is in the set.
func (f Factors) Has(rf int) bool { return FactorsOf(rf)&f != 0 }

// Slice returns the factors, ascending.
func (f Factors) Slice() []int {
	var out []int
	for rest := f; rest != 0; rest &= rest - 1 {
		out = append(out, bits.TrailingZeros16(uint16(rest))+1)
	}
	return out
}

// validate returns what is wrong with the set, or nil.
func (f Factors) validate() error {
	if f>>MaxReplicationFactor != 0 {
		return fmt.Errorf("factors %#x: want 1 to %d", uint16(f), MaxReplicationFactor)
	}
	return nil
}

// ReplicationFactor returns the factor that the ingesters with tokens agree upon: the
// smallest for which more than half of them announce it or a smaller one. A member that is
// configured otherwise than most follows them. It is 0 if no ingester announces any.
func (t Table) ReplicationFactor() int {
	var announced []uint32
	for i := range t.members {
		if m := &t.members[i]; m.inRing() && m.ReplicationFactor > 0 {
			announced = append(announced, m.ReplicationFactor)
		}
	}
	if len(announced) == 0 {
		return 0
	}
	slices.Sort(announced)
	return int(announced[len(announced)/2])
}

// Factors returns every factor by which entries may have been placed that are not in the
// store yet: what ingesters say that they hold, those whose data is missing included, and
// what those with tokens announce, of which the agreed one may have been any.
func (t Table) Factors() Factors {
	var f Factors
	for i := range t.members {
		m := &t.members[i]
		if !m.Stores() || m.State.Gone() {
			continue
		}
		f |= m.Factors
		if m.inRing() {
			f |= FactorsOf(int(m.ReplicationFactor))
		}
	}
	for i := range t.past {
		if m := &t.past[i]; m.Missing() {
			f |= m.Factors
		}
	}
	return f
}

// placement is where entries may be that were placed by another factor than the present.
type placement struct {
	layout *layout
	quorum int
}

// place sets the configuration by what the ingesters agree upon, and the placements by the
// other factors that may still matter. last has layouts to use again.
func (v *View) place(places []place, last *View) {
	v.cfg = v.flags
	if rf := v.table.ReplicationFactor(); rf > 0 {
		v.cfg.ReplicationFactor = rf
	}
	v.layout = last.layoutOf(places, v.cfg)
	v.factors = v.table.Factors() | FactorsOf(v.cfg.ReplicationFactor)
	for _, rf := range v.factors.Slice() {
		if rf == v.cfg.ReplicationFactor {
			continue
		}
		cfg := v.cfg
		cfg.ReplicationFactor = rf
		v.others = append(v.others, placement{last.layoutOf(places, cfg), cfg.Quorum()})
	}
}

// layoutOf returns a layout of the places, one that v has if it can.
func (v *View) layoutOf(places []place, cfg Config) *layout {
	same := func(l *layout) bool {
		return l != nil && l.rf == cfg.ReplicationFactor && l.zoned == cfg.ZoneAware && slices.Equal(l.members, places)
	}
	if same(v.layout) {
		return v.layout
	}
	for _, o := range v.others {
		if same(o.layout) {
			return o.layout
		}
	}
	return newLayout(places, cfg)
}

// Configured returns the configuration that the view was made with. Config differs from
// it where most ingesters have another replication factor.
func (v *View) Configured() Config { return v.flags }

// Factors returns the replication factors by which entries may have been placed that are
// not in the store yet, the present one included. Complete holds for all of them.
func (v *View) Factors() Factors { return v.factors }

// Mismatched returns the members, by name, that are configured with another replication
// factor than the one in use.
func (v *View) Mismatched() []*Member {
	var out []*Member
	for m := range v.table.All() {
		if !m.State.Gone() && m.ReplicationFactor > 0 && int(m.ReplicationFactor) != v.cfg.ReplicationFactor {
			out = append(out, m)
		}
	}
	return out
}

// smallestQuorum is the least number of ingesters that an acknowledged entry that is not in
// the store yet may be at.
func (v *View) smallestQuorum() int {
	q := v.Quorum()
	for _, o := range v.others {
		q = min(q, o.quorum)
	}
	return q
}

// largestQuorum is how many ingesters must be known at least for an answer to be complete.
func (v *View) largestQuorum() int {
	q := v.Quorum()
	for _, o := range v.others {
		q = max(q, o.quorum)
	}
	return q
}
