package ring

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func ingester(name, zone string, s State) Member {
	return Member{Name: name, Incarnation: "i-" + name, Roles: Ingester, GRPCAddr: "127.0.0.1:1", Zone: zone,
		State: s, MinVersion: 1, MaxVersion: 1, Version: 1}
}

func tableOf(t interface{ Fatal(...any) }, members ...Member) Table {
	var table Table
	for _, m := range members {
		var err error
		if table, _, err = table.Put(m); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

func allHealthy(table Table) map[string]bool {
	h := map[string]bool{}
	for m := range table.All() {
		h[m.Name] = true
	}
	return h
}

func names(members []*Member) []string {
	out := []string{}
	for _, m := range members {
		out = append(out, m.Name)
	}
	return out
}

// The naive twin: for one token it measures every distance and
// follows the words of the package documentation.
type naive struct {
	members []Member // in the ring
	healthy map[string]bool
	cfg     Config
}

// order returns the members by the distance from token to their nearest point.
func (n naive) order(token uint64) []Member {
	distance := map[string]uint64{}
	for _, m := range n.members {
		nearest := ^uint64(0)
		for _, t := range AppendTokens(nil, m.Name) {
			nearest = min(nearest, t-token)
		}
		distance[m.Name] = nearest
	}
	out := slices.Clone(n.members)
	slices.SortFunc(out, func(a, b Member) int {
		return cmp.Or(cmp.Compare(distance[a.Name], distance[b.Name]), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (n naive) zone(m Member) string {
	if n.cfg.ZoneAware {
		return m.Zone
	}
	return ""
}

// place returns owners and next members.
func (n naive) place(token uint64) (owners, nexts []Member) {
	order := n.order(token)
	count := map[string]int{}
	size := map[string]int{}
	for _, m := range order {
		size[n.zone(m)]++
	}
	// How many of its members each zone gives: repeatedly one more to every zone
	// that has one left; the last round goes by ring order.
	width := min(n.cfg.ReplicationFactor, len(order))
	full, given := map[string]int{}, 0
	for {
		round := []string{}
		for z := range size {
			if full[z] < size[z] {
				round = append(round, z)
			}
		}
		if given+len(round) > width || len(round) == 0 {
			break
		}
		for _, z := range round {
			full[z]++
			given++
		}
	}
	extra := map[string]bool{}
	for _, m := range order {
		z := n.zone(m)
		switch {
		case len(owners) == width:
		case count[z] < full[z]:
			count[z]++
			owners = append(owners, m)
		case !extra[z] && len(extra) < width-given:
			extra[z] = true
			count[z]++
			owners = append(owners, m)
		}
	}
	found := map[string]int{}
	for _, m := range order {
		z := n.zone(m)
		if !slices.Contains(owners, m) && found[z] < count[z] {
			found[z]++
			nexts = append(nexts, m)
		}
	}
	return owners, nexts
}

// writable says whether writes go to a member whatever the others are like.
func (n naive) writable(m Member) bool { return m.State == Active && n.healthy[m.Name] }

// replicas tries with writable members alone, then with others in the places that none
// of these takes.
func (n naive) replicas(token uint64) (out []string) {
	owners, nexts := n.place(token)
	choice := make([]string, len(owners))
	free := func(name string) bool { return !slices.Contains(choice, name) }
	fill := func(ok func(Member) bool) (filled int) {
		for i, o := range owners {
			if choice[i] == "" && ok(o) {
				choice[i] = o.Name
			}
			for _, m := range nexts {
				if choice[i] == "" && ok(m) && n.zone(m) == n.zone(o) && free(m.Name) {
					choice[i] = m.Name
				}
			}
			if choice[i] != "" {
				filled++
			}
		}
		return filled
	}
	if fill(n.writable) < n.cfg.Quorum() {
		fill(func(m Member) bool { return m.State == Active })
	}
	for i, name := range choice {
		if name != "" {
			out = append(out, owners[i].Name+"="+name)
		}
	}
	return out
}

type cluster struct {
	table   Table
	healthy map[string]bool
	cfg     Config
}

func drawCluster(t *rapid.T) cluster {
	n := rapid.IntRange(0, 9).Draw(t, "n")
	zones := rapid.IntRange(1, 4).Draw(t, "zones")
	c := cluster{healthy: map[string]bool{}, cfg: Config{
		ReplicationFactor: rapid.IntRange(1, 5).Draw(t, "rf"),
		ZoneAware:         rapid.Bool().Draw(t, "zoned"),
	}}
	seed := rapid.IntRange(0, 1000).Draw(t, "seed")
	var members []Member
	for i := range n {
		state := rapid.SampledFrom([]State{Active, Active, Active, Joining, Leaving, Left, Forgotten}).Draw(t, "state")
		zone := rapid.IntRange(0, zones-1).Draw(t, "zone")
		m := ingester(fmt.Sprintf("ing-%d-%d", seed, i), fmt.Sprint("z", zone), state)
		if rapid.IntRange(0, 9).Draw(t, "role") == 0 {
			m.Roles = Querier
		}
		members = append(members, m)
		c.healthy[m.Name] = rapid.IntRange(0, 2).Draw(t, "health") > 0
	}
	c.table = tableOf(t, members...)
	return c
}

func (c cluster) twin() naive {
	n := naive{healthy: c.healthy, cfg: c.cfg}
	for m := range c.table.All() {
		if m.Roles.Has(Ingester) && (m.State == Active || m.State == Leaving) {
			n.members = append(n.members, *m)
		}
	}
	return n
}

func TestViewAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		v, twin := NewView(c.table, c.healthy, c.cfg), c.twin()
		for range 3 {
			token := rapid.Uint64().Draw(t, "token")
			if len(v.layout.tokens) > 0 && rapid.Bool().Draw(t, "exact") {
				token = rapid.SampledFrom(v.layout.tokens).Draw(t, "on")
			}
			owners, nexts := twin.place(token)
			var want []string
			for _, m := range slices.Concat(owners, nexts) {
				want = append(want, m.Name)
			}
			if got := names(v.Holders(token)); !slices.Equal(got, want) {
				t.Fatalf("holders of %x: %v, want %v", token, got, want)
			}
			if got := names(v.Owners(token)); !slices.Equal(got, want[:len(owners)]) {
				t.Fatalf("owners of %x: %v, want %v", token, got, want[:len(owners)])
			}
			var got []string
			for _, r := range v.Replicas(token) {
				got = append(got, r.Owner.Name+"="+r.Member.Name)
			}
			if want := twin.replicas(token); !slices.Equal(got, want) {
				t.Fatalf("replicas of %x: %v, want %v", token, got, want)
			}
		}
	})
}

// What holds for every view, said without any twin.
func TestViewProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		v := NewView(c.table, c.healthy, c.cfg)
		calm := NewView(c.table, allHealthy(c.table), c.cfg)
		token := rapid.Uint64().Draw(t, "token")
		owners, holders := names(v.Owners(token)), names(v.Holders(token))
		if rf := c.cfg.ReplicationFactor; len(owners) > rf || len(holders) > 2*rf {
			t.Fatalf("%d owners, %d holders at RF %d", len(owners), len(holders), rf)
		}
		if got := names(calm.Holders(token)); !slices.Equal(got, holders) {
			t.Fatalf("holders depend on health: %v and %v", holders, got)
		}
		zones, perZone := map[string]bool{}, map[string]int{}
		for _, m := range c.twin().members {
			zones[m.Zone] = true
		}
		seen := map[string]bool{}
		for _, m := range v.Owners(token) {
			perZone[m.Zone]++
		}
		if c.cfg.ZoneAware && len(zones) >= c.cfg.ReplicationFactor {
			for z, n := range perZone {
				if n > 1 {
					t.Fatalf("zone %s holds %d owners, with %d zones for RF %d", z, n, len(zones), c.cfg.ReplicationFactor)
				}
			}
		}
		replicas, writable := v.Replicas(token), 0
		for _, r := range replicas {
			if c.twin().writable(*r.Member) {
				writable++
			}
		}
		// Nobody's silence alone refuses a write: a quorum of active owners is enough.
		active := 0
		for _, m := range v.Owners(token) {
			if m.State == Active {
				active++
			}
		}
		if len(replicas) < min(active, v.Quorum()) {
			t.Fatalf("%d replicas, %d owners are active", len(replicas), active)
		}
		for _, r := range replicas {
			m := r.Member
			if seen[m.Name] {
				t.Fatalf("%s twice", m.Name)
			}
			seen[m.Name] = true
			if m.State != Active || !c.healthy[m.Name] && writable >= v.Quorum() {
				t.Fatalf("write to %s: %s, healthy %v, with %d others", m.Name, m.State, c.healthy[m.Name], writable)
			}
			if !slices.Contains(holders, m.Name) {
				t.Fatalf("write to %s, no holder %v", m.Name, holders)
			}
			if m != r.Owner {
				if c.twin().writable(*r.Owner) || r.Owner.State == Active && !c.healthy[m.Name] || slices.Contains(owners, m.Name) {
					t.Fatalf("%s stands in for %s", m.Name, r.Owner.Name)
				}
				if c.cfg.ZoneAware && m.Zone != r.Owner.Zone {
					t.Fatalf("%s in zone %s stands in for zone %s", m.Name, m.Zone, r.Owner.Zone)
				}
			}
		}
	})
}

// One more or one less member moves only that member's share, and the owners of
// before stay holders, so that readers find what was written a moment ago.
func TestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rf := rapid.IntRange(1, 3).Draw(t, "rf")
		zones := rapid.IntRange(1, rf).Draw(t, "zones")
		cfg := Config{ReplicationFactor: rf, ZoneAware: zones > 1}
		n := rapid.IntRange(2*rf, 10).Draw(t, "n")
		seed := rapid.IntRange(0, 1000).Draw(t, "seed")
		var members []Member
		for i := range n {
			members = append(members, ingester(fmt.Sprint("m", seed, "-", i), fmt.Sprint("z", i%zones), Active))
		}
		// At least two members per zone, so that no zone vanishes.
		gone := members[rapid.IntRange(0, n-1).Draw(t, "gone")]
		all := tableOf(t, members...)
		with := NewView(all, allHealthy(all), cfg)
		less := all.Without(gone.Name)
		without := NewView(less, allHealthy(less), cfg)
		for range 20 {
			token := rapid.Uint64().Draw(t, "token")
			a, b := names(with.Owners(token)), names(without.Owners(token))
			holders := names(with.Holders(token))
			kept := slices.DeleteFunc(slices.Clone(a), func(s string) bool { return s == gone.Name })
			if len(kept) == len(a) && !slices.Equal(a, b) {
				t.Fatalf("%s left, owners went from %v to %v", gone.Name, a, b)
			}
			for _, m := range kept {
				if !slices.Contains(b, m) {
					t.Fatalf("%s left, and took %s along: %v to %v", gone.Name, m, a, b)
				}
			}
			// Read backwards: gone joins, b are the owners of before. Read
			// forwards: the new owners were holders already.
			for _, m := range b {
				if !slices.Contains(holders, m) {
					t.Fatalf("owner %s without %s is no holder with it: %v", m, gone.Name, holders)
				}
			}
		}
	})
}

func TestBalance(t *testing.T) {
	worst := func(cfg Config, zones int) float64 {
		worst := 0.0
		formats := []string{"ingester-%d", "weir-ingester-%02d.weir.svc", "10.0.0.%d:9095", "%d", "node%c"}
		for i := range 20 {
			formats = append(formats, fmt.Sprint("cluster", i, "-%d"))
		}
		for _, format := range formats {
			var members []Member
			for i := range 30 {
				members = append(members, ingester(fmt.Sprintf(format, i+'A'), fmt.Sprint("z", i%zones), Active))
			}
			table := tableOf(t, members...)
			most, sum := 0.0, 0.0
			for _, s := range NewView(table, nil, cfg).Shares() {
				most, sum = max(most, s.Fraction), sum+s.Fraction
			}
			if want := float64(cfg.ReplicationFactor); sum < want-1e-6 || sum > want+1e-6 {
				t.Fatalf("shares add up to %v", sum)
			}
			worst = max(worst, most/(sum/30))
		}
		return worst
	}
	flat := worst(Config{ReplicationFactor: 3}, 1)
	zoned := worst(Config{ReplicationFactor: 3, ZoneAware: true}, 3)
	t.Logf("max/mean of the load at RF 3, 30 members: %.3f, in three zones %.3f", flat, zoned)
	if flat > 1.15 {
		t.Errorf("max/mean %.3f, want 1.15 at most", flat)
	}
	if zoned > 1.15 {
		t.Errorf("max/mean in zones %.3f, want 1.15 at most", zoned)
	}
}

func TestSplitIsReplicas(t *testing.T) {
	var s Split // used again and again
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		v := NewView(c.table, c.healthy, c.cfg)
		tokens := rapid.SliceOfN(rapid.Uint64(), 0, 50).Draw(t, "tokens")
		v.Split(tokens, &s)
		want := map[string][]uint32{}
		for i, token := range tokens {
			replicas := v.Replicas(token)
			if len(replicas) != int(s.Copies[i]) {
				t.Fatalf("token %d: %d copies, want %d", i, s.Copies[i], len(replicas))
			}
			for _, r := range replicas {
				want[r.Member.Name] = append(want[r.Member.Name], uint32(i))
			}
		}
		got := map[string][]uint32{}
		for _, target := range s.Targets {
			got[target.Member.Name] = target.Index
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestSplitDoesNotAllocate(t *testing.T) {
	table := tableOf(t, ingester("a", "", Active), ingester("b", "", Active), ingester("c", "", Active), ingester("d", "", Active))
	v := NewView(table, allHealthy(table), Config{ReplicationFactor: 3})
	tokens := make([]uint64, 1000)
	for i := range tokens {
		tokens[i] = Token("t", uint64(i))
	}
	var s Split
	v.Split(tokens, &s)
	if n := testing.AllocsPerRun(10, func() { v.Split(tokens, &s) }); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestCompleteAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		v, twin := NewView(c.table, c.healthy, c.cfg), c.twin()
		answered := func(m *Member) bool { return c.healthy[m.Name] }
		got, missing := v.Complete(answered)
		want, bad := len(twin.members) >= c.cfg.Quorum(), map[string]bool{}
		if !want {
			for _, m := range twin.members {
				if !c.healthy[m.Name] {
					bad[m.Name] = true
				}
			}
		}
		for _, token := range v.layout.tokens {
			if !want && len(bad) > 0 && len(twin.members) < c.cfg.Quorum() {
				break
			}
			var absent []string
			for _, m := range v.Holders(token) {
				if !c.healthy[m.Name] {
					absent = append(absent, m.Name)
				}
			}
			if len(absent) >= c.cfg.Quorum() {
				want = false
				for _, name := range absent {
					bad[name] = true
				}
			}
		}
		if got != want || !slices.Equal(names(missing), append([]string{}, slices.Sorted(maps.Keys(bad))...)) {
			t.Fatalf("complete %v missing %v, want %v %v", got, names(missing), want, bad)
		}
	})
}

func TestEmptyRing(t *testing.T) {
	v := NewView(Table{}, nil, Config{ReplicationFactor: 3})
	if got := v.Replicas(1); len(got) != 0 || len(v.Holders(1)) != 0 {
		t.Fatalf("replicas %v", got)
	}
	if ok, _ := v.Complete(func(*Member) bool { return true }); ok {
		t.Fatal("an empty view cannot vouch for anything")
	}
}

func TestQuorum(t *testing.T) {
	for rf, want := range map[int]int{1: 1, 2: 2, 3: 2, 5: 3} {
		if got := (Config{ReplicationFactor: rf}).Quorum(); got != want {
			t.Errorf("RF %d: quorum %d, want %d", rf, got, want)
		}
	}
}

// Every process of a cluster, whatever its version, must agree on these.
func TestPlacementIsForEver(t *testing.T) {
	if got, want := Token("acme", 0x1234567890abcdef), uint64(0xe44e4bbc61be4f9b); got != want {
		t.Errorf("Token = %#x, want %#x", got, want)
	}
	tokens := AppendTokens(nil, "ingester-1")
	if got, want := [2]uint64{tokens[0], tokens[255]}, [2]uint64{0x75cc6ac3056c784e, 0xb1a300a42b136309}; got != want {
		t.Errorf("tokens = %#x, want %#x", got, want)
	}
}
