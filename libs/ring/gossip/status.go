package gossip

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/ring"
)

// RingStatus is what a /ring page shows.
type RingStatus struct {
	// TableDigest is the ring.Table's, in hexadecimal.
	TableDigest       string `json:"table_digest"`
	ReplicationFactor int    `json:"replication_factor"`
	Quorum            int    `json:"quorum"`
	// Factors are all by which entries may have been placed that are not in the store
	// yet. There are several while the replication factor is being changed.
	Factors   []int `json:"factors"`
	ZoneAware bool  `json:"zone_aware"`
	// Warnings name what keeps the ring from working as configured.
	Warnings []string       `json:"warnings,omitempty"`
	Members  []MemberStatus `json:"members"`
	// Missing is what members have lost and is not made up for.
	Missing []MissingStatus `json:"missing"`
}

// MissingStatus is a past data directory, or a part of one, that is missing.
type MissingStatus struct {
	Name        string     `json:"name"`
	Incarnation string     `json:"incarnation"`
	State       ring.State `json:"state"`
	Changed     time.Time  `json:"changed"`
	// Lost is whether nobody else has it, until that is acknowledged.
	Lost bool `json:"lost"`
}

// MemberStatus is one row of RingStatus.
type MemberStatus struct {
	ring.Member
	Changed time.Time `json:"changed"`
	// Self marks the process that answers.
	Self    bool `json:"self"`
	Healthy bool `json:"healthy"`
	// Since and LastSeen are by the clock of the process that answers, absent
	// where the member is away or is that process.
	Since    *time.Time `json:"since,omitempty"`
	LastSeen *time.Time `json:"last_seen,omitempty"`
	// Share is the part of all streams that the member is an owner of, 0 to 1.
	Share float64 `json:"share"`
}

// RingStatus describes the current view.
func (c *core) RingStatus() RingStatus {
	v, self, peers := c.View(), c.Self(), c.peers()
	cfg := v.Config()
	s := RingStatus{
		TableDigest:       fmt.Sprintf("%016x", v.Table().Digest()),
		ReplicationFactor: cfg.ReplicationFactor,
		Quorum:            v.Quorum(),
		Factors:           v.Factors().Slice(),
		ZoneAware:         cfg.ZoneAware,
		Members:           []MemberStatus{},
		Missing:           []MissingStatus{},
	}
	for m := range v.Table().Past() {
		if m.Missing() {
			s.Missing = append(s.Missing, MissingStatus{m.Name, m.Incarnation, m.State, m.Changed().UTC(), m.State == ring.Lost})
		}
	}
	shares := map[string]float64{}
	zones, writable := map[string]bool{}, 0
	for _, sh := range v.Shares() {
		shares[sh.Member.Name] = sh.Fraction
		zones[sh.Member.Zone] = true
		if sh.Member.State == ring.Active && v.Healthy(sh.Member.Name) {
			writable++
		}
	}
	if writable < v.Quorum() {
		s.Warnings = append(s.Warnings, fmt.Sprintf("%d ingesters are active and healthy, %d are needed to accept writes", writable, v.Quorum()))
	}
	if n := len(shares); n > 0 && n < cfg.ReplicationFactor {
		s.Warnings = append(s.Warnings, fmt.Sprintf("%d ingesters for a replication factor of %d", n, cfg.ReplicationFactor))
	}
	if n := len(zones); cfg.ZoneAware && n > 1 && n < cfg.ReplicationFactor {
		s.Warnings = append(s.Warnings, fmt.Sprintf("%d zones for a replication factor of %d: some replicas share a zone", n, cfg.ReplicationFactor))
	}
	if list := v.Mismatched(); len(list) > 0 {
		s.Warnings = append(s.Warnings, mismatchText(v, list))
	}
	if len(s.Factors) > 1 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("the replication factor is being changed: answers must be complete by each of %v until all ingesters have flushed", s.Factors))
	}
	for m := range v.Table().All() {
		row := MemberStatus{
			Member: *m, Changed: m.Changed().UTC(), Self: m.Name == self.Name,
			Healthy: v.Healthy(m.Name), Share: shares[m.Name],
		}
		if p, ok := peers[m.Name]; ok {
			row.Since, row.LastSeen = &p.since, &p.lastSeen
		}
		s.Members = append(s.Members, row)
	}
	return s
}

// GossipStatus is what a /memberlist page shows.
type GossipStatus struct {
	// Enabled is false where the process is alone.
	Enabled   bool   `json:"enabled"`
	Name      string `json:"name"`
	Addr      string `json:"addr,omitempty"`
	Label     string `json:"label,omitempty"`
	Encrypted bool   `json:"encrypted"`
	// HealthScore is 0 where this node keeps its deadlines, and grows as it
	// misses them.
	HealthScore int `json:"health_score"`
	// Queued is the number of records waiting to be sent in packets.
	Queued int          `json:"queued"`
	Nodes  []GossipPeer `json:"nodes"`
	Join   []JoinStatus `json:"join"`
}

// GossipPeer is another process that memberlist holds alive.
type GossipPeer struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
	// Since and LastSeen are by the clock of the process that answers.
	Since    time.Time `json:"since"`
	LastSeen time.Time `json:"last_seen"`
	// Acknowledged is whether it told us that it holds us alive.
	Acknowledged bool `json:"acknowledged"`
}

// JoinStatus is what became of one address of a join name, in the last round.
type JoinStatus struct {
	Name   string `json:"name"`
	Addr   string `json:"addr,omitempty"`
	Result string `json:"result"` // self, member, joined, error
	Err    string `json:"error,omitempty"`
}

// GossipStatus describes the gossip itself.
func (n *Node) GossipStatus() GossipStatus {
	s := GossipStatus{
		Enabled: true, Name: n.cfg.Self.Name, Label: n.cfg.Label, Encrypted: len(n.cfg.SecretKey) > 0,
		Addr: n.GossipAddr(), Nodes: []GossipPeer{}, Join: []JoinStatus{},
	}
	if s.Addr == "" {
		return s
	}
	s.HealthScore = n.list.GetHealthScore()
	s.Queued = n.queue.NumQueued()
	peers := n.peers()
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	s.Join = append(s.Join, n.tries...)
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		p := peers[name]
		s.Nodes = append(s.Nodes, GossipPeer{
			Name: name, Addr: p.addr(), Since: p.since, LastSeen: p.lastSeen, Acknowledged: n.knownAt[name],
		})
	}
	return s
}
