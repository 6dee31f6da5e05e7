package ring

import (
	"fmt"
	"math"
	"slices"
)

// Config is the part of the cluster's configuration that placement follows
// from. All members must have the same, but for a replication factor that is
// being changed (see Table.ReplicationFactor).
type Config struct {
	// ReplicationFactor is the number of ingesters that store a stream, 1 to 15.
	ReplicationFactor int
	// ZoneAware places replicas in distinct zones.
	ZoneAware bool
}

// Validate returns everything that is wrong with c, or nil.
func (c Config) Validate() error {
	if c.ReplicationFactor < 1 || c.ReplicationFactor > MaxReplicationFactor {
		return fmt.Errorf("ring: replication factor %d: want 1 to %d", c.ReplicationFactor, MaxReplicationFactor)
	}
	return nil
}

// Quorum returns the number of replicas that must store an entry before it is
// acknowledged: more than half of ReplicationFactor.
func (c Config) Quorum() int { return c.ReplicationFactor/2 + 1 }

// View is an immutable snapshot of the cluster that answers where streams are
// written and read. It may be used by several goroutines. Members that it
// returns must not be changed.
type View struct {
	table   Table
	flags   Config // as configured
	cfg     Config // as most ingesters have it
	healthy map[string]bool
	layout  *layout
	factors Factors
	others  []placement     // by the other factors
	gaps    map[string]bool // by name

	members   []*Member // of the layout, by index
	ingesters []*Member // members, and those joining
	writable  []bool    // by index
	// targets are the members to write to, layout.width per token, padded with
	// none; from[i] is the owner in whose place targets[i] is. Where all
	// members are writable both are layout.owners.
	targets, from []uint16

	shards shards
}

// NewView returns the view of a table. Members that healthy does not hold, or
// holds as false, are unhealthy. The view keeps the map: the caller must not
// change it any more. cfg must be valid; its replication factor is used where the
// table's ingesters announce none.
func NewView(table Table, healthy map[string]bool, cfg Config) *View {
	return (&View{flags: cfg}).Next(table, healthy)
}

// Next is NewView with the configuration of v, and cheaper where the same
// members own tokens in both.
func (v *View) Next(table Table, healthy map[string]bool) *View {
	n := &View{table: table, flags: v.flags, healthy: healthy}
	n.gaps = map[string]bool{}
	for _, m := range n.Gaps() {
		n.gaps[m.Name] = true
	}
	var places []place
	for m := range table.All() {
		if !m.Stores() || m.State.Gone() && !n.gaps[m.Name] {
			continue
		}
		if !m.State.Gone() {
			n.ingesters = append(n.ingesters, m)
		}
		// A name keeps its place with another data directory: readers must miss
		// what was in the old one.
		if m.inRing() || n.gaps[m.Name] {
			n.members = append(n.members, m)
			n.writable = append(n.writable, m.State == Active && healthy[m.Name])
			places = append(places, place{m.Name, m.Zone})
		}
	}
	n.place(places, v)
	n.aim()
	return n
}

// aim fills targets and from. Where a quorum of writable members is not left, those
// that are active take the places that stay empty: that they are not heard of may say more
// about the gossip than about them, and who acknowledges decides. They are holders like any
// other, so readers ask them.
func (v *View) aim() {
	l := v.layout
	v.targets, v.from = l.owners, l.owners
	if !slices.Contains(v.writable, false) {
		return
	}
	active := make([]bool, len(v.members))
	for i, m := range v.members {
		active[i] = m.State == Active
	}
	v.targets = make([]uint16, 0, len(l.owners))
	v.from = make([]uint16, 0, len(l.owners))
	used := make([]bool, l.width)
	for row := 0; row < len(l.owners); row += l.width {
		if v.aimAt(row, used, v.writable); len(v.targets)-row < v.Quorum() {
			v.targets, v.from = v.targets[:row], v.from[:row]
			v.aimAt(row, used, v.writable, active)
		}
		for len(v.targets) < row+l.width {
			v.targets, v.from = append(v.targets, none), append(v.from, none)
		}
	}
}

// aimAt appends the targets of one row: for each owner itself or the first of its next
// members, by the first of oks that has one.
func (v *View) aimAt(row int, used []bool, oks ...[]bool) {
	l := v.layout
	owners, nexts := l.owners[row:row+l.width], l.nexts[row:row+l.width]
	clear(used)
	target := func(o uint16, ok []bool) uint16 {
		if ok[o] {
			return o
		}
		for k, n := range nexts {
			if n != none && !used[k] && ok[n] && (!l.zoned || l.members[n].zone == l.members[o].zone) {
				used[k] = true
				return n
			}
		}
		return none
	}
	for _, o := range owners {
		for _, ok := range oks {
			if m := target(o, ok); m != none {
				v.targets, v.from = append(v.targets, m), append(v.from, o)
				break
			}
		}
	}
}

// Table returns the table that the view was made of.
func (v *View) Table() Table { return v.table }

// Config returns the configuration that placement follows from.
func (v *View) Config() Config { return v.cfg }

// Quorum is Config.Quorum: it follows from the replication factor only, never
// from the members seen.
func (v *View) Quorum() int { return v.cfg.Quorum() }

// Healthy reports whether the member called name is healthy.
func (v *View) Healthy(name string) bool { return v.healthy[name] }

// Ingesters returns all members that may hold entries, by name, healthy or
// not: those that own tokens and those about to. The slice must not be changed.
func (v *View) Ingesters() []*Member { return v.ingesters }

// With returns the healthy members that have all of the given roles and are
// joining, active or leaving, by name.
func (v *View) With(roles Role) []*Member {
	var out []*Member
	for m := range v.table.All() {
		if m.Roles.Has(roles) && !m.State.Gone() && v.healthy[m.Name] {
			out = append(out, m)
		}
	}
	return out
}

// Replica is one member that a stream is to be written to.
type Replica struct {
	Member *Member
	// Owner is the owner in whose place Member is; usually Member itself.
	Owner *Member
}

// Replicas returns the members to write a token's stream to: at most
// ReplicationFactor, distinct, all active. They are healthy too, unless fewer than
// Quorum would be left then. If there are fewer than Quorum all the same the write
// cannot be acknowledged.
func (v *View) Replicas(token uint64) []Replica {
	l := v.layout
	if l.width == 0 {
		return nil
	}
	row := l.position(token) * l.width
	out := make([]Replica, 0, l.width)
	for i := row; i < row+l.width && v.targets[i] != none; i++ {
		out = append(out, Replica{Member: v.members[v.targets[i]], Owner: v.members[v.from[i]]})
	}
	return out
}

// Owners returns the members that the token belongs to, in ring order and
// whatever their health.
func (v *View) Owners(token uint64) []*Member {
	l := v.layout
	if l.width == 0 {
		return nil
	}
	row := l.position(token) * l.width
	return v.pick(nil, l.owners[row:row+l.width])
}

// Holders returns all members that may hold entries of the token: its owners,
// in ring order, then their next members. It does not depend on health.
func (v *View) Holders(token uint64) []*Member {
	l := v.layout
	if l.width == 0 {
		return nil
	}
	row := l.position(token) * l.width
	out := v.pick(make([]*Member, 0, 2*l.width), l.owners[row:row+l.width])
	return v.pick(out, l.nexts[row:row+l.width])
}

func (v *View) pick(dst []*Member, row []uint16) []*Member {
	for _, m := range row {
		if m == none {
			break
		}
		dst = append(dst, v.members[m])
	}
	return dst
}

// Complete reports whether the answers of the members for which answered is
// true hold every acknowledged entry of the whole ring: in every token range
// fewer than Quorum holders are missing. Those with a gap are missing, whatever they
// answer. If not, missing are the holders of the incomplete ranges that did not
// answer or have a gap, by name. A view with fewer than Quorum
// ingesters is never complete: nothing can have been acknowledged by those it
// knows alone. While the replication factor is being changed this must hold for each
// of Factors.
//
// answered is called once per ingester that owns tokens; it decides by
// incarnation where an answer came from another one than the record's.
func (v *View) Complete(answered func(*Member) bool) (complete bool, missing []*Member) {
	gone := make([]bool, len(v.members))
	var absent []*Member
	for i, m := range v.members {
		if v.gaps[m.Name] || !answered(m) {
			gone[i] = true
			absent = append(absent, m)
		}
	}
	if len(v.members) < v.largestQuorum() {
		return false, absent
	}
	guilty := make([]bool, len(v.members))
	complete = v.layout.complete(gone, len(absent), v.Quorum(), guilty)
	for _, o := range v.others {
		complete = o.layout.complete(gone, len(absent), o.quorum, guilty) && complete
	}
	for i, m := range v.members {
		if guilty[i] && gone[i] {
			missing = append(missing, m)
		}
	}
	return complete, missing
}

// complete reports whether fewer than quorum holders of each range are gone, of which
// there are absent in all. It marks those of ranges where there are more.
func (l *layout) complete(gone []bool, absent, quorum int, guilty []bool) bool {
	if absent < quorum {
		return true
	}
	complete := true
	for row := 0; row < len(l.owners); row += l.width {
		n := 0
		for i := row; i < row+l.width; i++ {
			if gone[l.owners[i]] {
				n++
			}
			if m := l.nexts[i]; m != none && gone[m] {
				n++
			}
		}
		if n < quorum {
			continue
		}
		complete = false
		for i := row; i < row+l.width; i++ {
			guilty[l.owners[i]] = true
			if m := l.nexts[i]; m != none {
				guilty[m] = true
			}
		}
	}
	return complete
}

// Share is what an ingester owns.
type Share struct {
	Member *Member
	// Fraction is the part of all streams that it is an owner of, 0 to 1.
	Fraction float64
}

// Shares returns what each member with tokens owns, by name. The fractions add
// up to the number of owners that a token has.
func (v *View) Shares() []Share {
	l := v.layout
	out := make([]Share, len(v.members))
	for i, m := range v.members {
		out[i].Member = m
	}
	for i, t := range l.tokens {
		// The distance to the token before, around the circle.
		before := l.tokens[(i+len(l.tokens)-1)%len(l.tokens)]
		part := float64(t-before) / math.MaxUint64
		for _, m := range l.owners[i*l.width : (i+1)*l.width] {
			out[m].Fraction += part
		}
	}
	return out
}
