package ring

import (
	"cmp"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// maxShards bounds the shards that a view remembers.
const maxShards = 1024

// shards remembers the shards of a view.
type shards struct {
	mu sync.Mutex // guards of
	of map[shardKey]*View
}

type shardKey struct {
	tenant string
	size   int
}

// Shard returns the view to write a tenant's streams by, if these are to be on so many
// ingesters only: ones that follow from the tenant's name, spread over the zones. When
// one ingester joins or leaves at most one of them is another. It is v itself where
// size is 0 or there are no more. A size below the replication factor is that.
//
// What a shard stores does not follow from the token alone: whether answers are
// complete is to be asked by CompleteAnywhere.
func (v *View) Shard(tenant string, size int) *View {
	if size <= 0 || max(size, v.cfg.ReplicationFactor) >= len(v.members) {
		return v
	}
	key := shardKey{tenant, max(size, v.cfg.ReplicationFactor)}
	v.shards.mu.Lock()
	defer v.shards.mu.Unlock()
	if s := v.shards.of[key]; s != nil {
		return s
	}
	if v.shards.of == nil || len(v.shards.of) >= maxShards {
		v.shards.of = map[shardKey]*View{}
	}
	s := v.shard(key)
	v.shards.of[key] = s
	return s
}

func (v *View) shard(key shardKey) *View {
	n := &View{table: v.table, flags: v.flags, cfg: v.cfg, factors: v.factors, healthy: v.healthy, gaps: v.gaps, ingesters: v.ingesters}
	chosen := v.choose(key)
	var places []place
	for i, m := range v.members {
		if chosen[i] {
			n.members = append(n.members, m)
			n.writable = append(n.writable, v.writable[i])
			places = append(places, place{m.Name, m.Zone})
		}
	}
	n.layout = newLayout(places, n.cfg)
	n.aim()
	return n
}

// choose marks members by index: the best of each zone, then the second best, and so on.
func (v *View) choose(key shardKey) []bool {
	type candidate struct {
		index int
		round int // its place within its zone
		rank  uint64
	}
	seed := xxhash.Sum64String(key.tenant)
	rank := func(name string) uint64 { return mix(seed ^ mix(xxhash.Sum64String(name)+golden)) }
	all := make([]candidate, len(v.members))
	for i, m := range v.members {
		all[i] = candidate{index: i, rank: rank(m.Name)}
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	rounds := map[string]int{}
	for i := range all {
		zone := ""
		if v.cfg.ZoneAware {
			zone = v.members[all[i].index].Zone
		}
		all[i].round = rounds[zone]
		rounds[zone]++
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		// Within a round the zones have an order of their own, or a joining member
		// could push several others out.
		za, zb := v.members[a.index].Zone, v.members[b.index].Zone
		return cmp.Or(cmp.Compare(a.round, b.round), cmp.Compare(rank("zone "+za), rank("zone "+zb)))
	})
	chosen := make([]bool, len(v.members))
	for _, c := range all[:key.size] {
		chosen[c.index] = true
	}
	return chosen
}

// CompleteAnywhere is Complete wherever streams were placed, such as in shards: fewer
// than Quorum of all ingesters are missing, by the smallest of Factors.
func (v *View) CompleteAnywhere(answered func(*Member) bool) (complete bool, missing []*Member) {
	for _, m := range v.members {
		if v.gaps[m.Name] || !answered(m) {
			missing = append(missing, m)
		}
	}
	if len(v.members) >= v.largestQuorum() && len(missing) < v.smallestQuorum() {
		return true, nil
	}
	return false, missing
}
