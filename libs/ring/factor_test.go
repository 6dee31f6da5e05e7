package ring

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// configured returns the table with all members announcing a replication factor.
func configured(t interface{ Fatal(...any) }, table Table, rf func(*Member) (announced int, held Factors)) Table {
	var members []Member
	for m := range table.All() {
		c := *m
		announced, held := rf(m)
		c.ReplicationFactor, c.Factors = uint32(announced), held
		members = append(members, c)
	}
	return tableOf(t, members...)
}

func TestAgreedFactor(t *testing.T) {
	for _, c := range []struct {
		announced []int
		want      int
	}{
		{nil, 0},
		{[]int{0, 0}, 0},
		{[]int{3}, 3},
		{[]int{1, 3}, 3},
		{[]int{3, 3, 1}, 3},
		{[]int{3, 1, 1}, 1},
		{[]int{5, 3, 3}, 3},
		{[]int{5, 5, 3}, 5},
		{[]int{3, 3, 0, 15}, 3},
	} {
		var members []Member
		for i, rf := range c.announced {
			m := ingester(fmt.Sprint("i", i), "", Active)
			m.ReplicationFactor = uint32(rf)
			members = append(members, m)
		}
		// Neither who stores nothing nor who owns nothing yet has a say.
		joining := ingester("j", "", Joining)
		joining.ReplicationFactor = 7
		querier := ingester("q", "", Active)
		querier.Roles, querier.ReplicationFactor = Querier, 9
		table := tableOf(t, append(members, joining, querier)...)
		if got := table.ReplicationFactor(); got != c.want {
			t.Errorf("announced %v: %d, want %d", c.announced, got, c.want)
		}
		if f := table.Factors(); f.Has(7) || f.Has(9) {
			t.Errorf("factors %v", f.Slice())
		}
	}
}

// Whoever reads while the replication factor is being changed finds what was acknowledged
// by any factor that is in use, or knows that its answer is not complete.
func TestCompleteWhileTheFactorChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		table := configured(t, c.table, func(*Member) (int, Factors) {
			return rapid.IntRange(0, 5).Draw(t, "announced"), Factors(rapid.Uint16Range(0, 31).Draw(t, "held"))
		})
		read := NewView(table, c.healthy, c.cfg)
		rf := rapid.SampledFrom(read.Factors().Slice()).Draw(t, "written by")
		if rapid.Bool().Draw(t, "by the smallest") { // the others' quorums say least of it
			rf = read.Factors().Slice()[0]
		}
		if !read.Factors().Has(read.Config().ReplicationFactor) {
			t.Fatal("the present factor is none of the factors")
		}

		health := map[string]bool{}
		for m := range table.All() {
			health[m.Name] = rapid.Bool().Draw(t, "healthy")
		}
		cfg := c.cfg
		cfg.ReplicationFactor = rf
		before := configured(t, c.table, func(*Member) (int, Factors) { return rf, 0 })
		replicas := NewView(before, health, cfg).Replicas(rapid.Uint64().Draw(t, "token"))
		if len(replicas) < cfg.Quorum() {
			return
		}
		stored := rapid.Permutation(replicas).Draw(t, "stored")[:cfg.Quorum()]
		answers := map[string]bool{}
		few := rapid.Bool().Draw(t, "only those that stored are missing")
		for m := range table.All() {
			answers[m.Name] = few || rapid.IntRange(0, 3).Draw(t, "answers") > 0
		}
		for _, r := range stored {
			answers[r.Member.Name] = answers[r.Member.Name] && !few
		}
		answered := func(m *Member) bool { return answers[m.Name] }
		found := slices.ContainsFunc(stored, func(r Replica) bool { return answers[r.Member.Name] })
		if complete, _ := read.Complete(answered); complete && !found {
			t.Fatalf("complete by %+v and %v, without %v, where it was written by %d", read.Config(), read.Factors().Slice(), stored, rf)
		}
		if complete, _ := read.CompleteAnywhere(answered); complete && !found {
			t.Fatalf("complete anywhere without %v", stored)
		}
		// A view that follows has the same placements, used again.
		if next := read.Next(table, health); next.layout != read.layout || len(next.others) != len(read.others) {
			t.Fatal("placements were made anew")
		}
	})
}

func TestFactorsOfWhatIsMissing(t *testing.T) {
	m := ingester("a", "", Active)
	m.ReplicationFactor, m.Factors = 3, FactorsOf(1, 3)
	table := tableOf(t, m)
	table, _, _, err := table.NoteGap("a", "a range of its log", 1)
	if err != nil {
		t.Fatal(err)
	}
	m.Factors, m.Version = FactorsOf(3), 2
	if table, _, err = table.Put(m); err != nil {
		t.Fatal(err)
	}
	if got := table.Factors(); got != FactorsOf(1, 3) {
		t.Fatalf("factors %v while a gap may be of entries placed by 1", got.Slice())
	}
	id := GapID(m.Incarnation, "a range of its log")
	if table, _, err = table.Settle("a", id, Forgotten, 2); err != nil {
		t.Fatal(err)
	}
	if got := table.Factors(); got != FactorsOf(3) {
		t.Fatalf("factors %v", got.Slice())
	}
}

func TestMismatched(t *testing.T) {
	a, b, c := ingester("a", "", Active), ingester("b", "", Active), ingester("c", "", Active)
	a.ReplicationFactor, b.ReplicationFactor, c.ReplicationFactor = 3, 3, 5
	v := NewView(tableOf(t, a, b, c), nil, Config{ReplicationFactor: 1})
	if got := names(v.Mismatched()); !slices.Equal(got, []string{"c"}) {
		t.Fatalf("mismatched %v", got)
	}
	if v.Config().ReplicationFactor != 3 || v.Configured().ReplicationFactor != 1 {
		t.Fatalf("config %+v, configured %+v", v.Config(), v.Configured())
	}
}
