package ring

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func shardNames(v *View) (out []string) {
	for _, m := range v.members {
		out = append(out, m.Name)
	}
	return out
}

// A tenant's streams are on its shard only, placed like any others, and the shard moves
// by one member at most when one joins.
func TestShards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, zones := rapid.IntRange(1, 20).Draw(t, "n"), rapid.IntRange(1, 4).Draw(t, "zones")
		cfg := Config{ReplicationFactor: rapid.IntRange(1, 3).Draw(t, "rf"), ZoneAware: rapid.Bool().Draw(t, "zoned")}
		var members []Member
		for i := range n + 1 {
			members = append(members, ingester(fmt.Sprint("ing-", i), fmt.Sprint("z", i%zones), Active))
		}
		table := tableOf(t, members[:n]...)
		v := NewView(table, allHealthy(table), cfg)
		tenant, size := rapid.StringMatching("[a-z]{1,5}").Draw(t, "tenant"), rapid.IntRange(0, 25).Draw(t, "size")
		s := v.Shard(tenant, size)
		want := max(size, cfg.ReplicationFactor)
		if size == 0 || want >= n {
			if s != v {
				t.Fatal("a shard that is not all")
			}
			return
		}
		if len(s.members) != want || v.Shard(tenant, size) != s {
			t.Fatalf("%d of %d", len(s.members), want)
		}
		token := rapid.Uint64().Draw(t, "token")
		in := shardNames(s)
		for _, h := range s.Holders(token) {
			if !slices.Contains(in, h.Name) {
				t.Fatalf("%s is outside of %v", h.Name, in)
			}
		}
		// The naive twin: the same placement as in a ring of the shard's members alone.
		var alone Table
		for _, m := range members[:n] {
			if slices.Contains(in, m.Name) {
				alone, _, _ = alone.Put(m)
			}
		}
		twin := NewView(alone, allHealthy(alone), cfg)
		if a, b := names(s.Holders(token)), names(twin.Holders(token)); !slices.Equal(a, b) || len(s.Replicas(token)) != len(twin.Replicas(token)) {
			t.Fatalf("holders %v, want %v", a, b)
		}
		if cfg.ZoneAware {
			count := map[string]int{}
			for _, m := range s.members {
				count[m.Zone]++
			}
			// Each zone gives its share, or all that it has.
			for z := range zones {
				zone, has := fmt.Sprint("z", z), 0
				for _, m := range members[:n] {
					if m.Zone == zone {
						has++
					}
				}
				if count[zone] < min(has, want/zones) {
					t.Fatalf("zone %s has %d of %v", zone, count[zone], count)
				}
			}
		}
		table, _, err := table.Put(members[n])
		if err != nil {
			t.Fatal(err)
		}
		after := shardNames(v.Next(table, allHealthy(table)).Shard(tenant, size))
		gone := 0
		for _, name := range in {
			if !slices.Contains(after, name) {
				gone++
			}
		}
		if gone > 1 && n >= zones { // a zone that is new changes more
			t.Fatalf("one joins, and %v becomes %v", in, after)
		}
	})
}

// Tenants' shards differ, so that one tenant's trouble is not everybody's.
func TestShardsDiffer(t *testing.T) {
	var members []Member
	for i := range 12 {
		members = append(members, ingester(fmt.Sprint("ing-", i), fmt.Sprint("z", i%3), Active))
	}
	table := tableOf(t, members...)
	v := NewView(table, allHealthy(table), Config{ReplicationFactor: 3, ZoneAware: true})
	load, sets := map[string]int{}, map[string]bool{}
	for i := range 600 {
		in := shardNames(v.Shard(fmt.Sprint("tenant-", i), 3))
		sets[fmt.Sprint(in)] = true
		for _, name := range in {
			load[name]++
		}
	}
	if len(sets) < 60 { // of 64
		t.Errorf("%d different shards", len(sets))
	}
	for name, n := range load {
		if n < 100 || n > 200 {
			t.Errorf("%s is in %d of 600 shards, want about 150", name, n)
		}
	}
}

func TestCompleteAnywhere(t *testing.T) {
	for _, c := range []struct {
		lost, absent int
		want         bool
	}{{0, 0, true}, {0, 1, true}, {0, 2, false}, {1, 0, true}, {1, 1, false}} {
		v, _ := wiped(t, 6, 3, c.lost)
		got, missing := v.CompleteAnywhere(func(m *Member) bool { return int(m.Name[0]-'a') < 6-c.absent })
		if got != c.want || !got && len(missing) != c.lost+c.absent {
			t.Errorf("%+v: %v, %v", c, got, names(missing))
		}
	}
}
