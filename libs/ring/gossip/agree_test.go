package gossip

import (
	"strconv"
	"testing"

	"github.com/weir-logs/weir/libs/ring"
)

// A member is forgotten when most ingesters hold it for dead, and not by who is cut
// off from the rest.
func TestForgettingNeedsAMajority(t *testing.T) {
	a := start(t, config("a"))
	b := start(t, config("b", a.GossipAddr()))
	c := start(t, config("c", a.GossipAddr()))
	for _, n := range []*Node{a, b, c} {
		for _, name := range []string{"a", "b", "c"} {
			await(t, n, name, shows(name, ring.Active, true))
		}
	}
	if votes, needed := a.Agree(t.Context(), "c"); votes != 0 || needed != 2 {
		t.Fatalf("c is alive: %d votes of %d", votes, needed)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	poll(t, "a and b agree", func() bool {
		votes, needed := a.Agree(t.Context(), "c")
		return votes == 2 && needed == 2
	})
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b is away", shows("b", ring.Active, false))
	if votes, needed := a.Agree(t.Context(), "c"); votes != 1 || needed != 2 {
		t.Fatalf("a is alone: %d votes of %d", votes, needed)
	}
	// By force what it held is lost.
	if err := a.GiveUp("c"); err != nil {
		t.Fatal(err)
	}
	v := a.View()
	if m, _ := v.Table().Get("c"); m.State != ring.Forgotten || len(v.Losses()) != 1 || len(v.Gaps()) != 0 {
		t.Fatalf("%s, losses %v, gaps %v", m.State, v.Losses(), v.Gaps())
	}
}

// R 21: who joins counts when most ingesters know of it.
func TestRule21JoinIsConfirmed(t *testing.T) {
	joining := func(name string, join ...string) Config {
		c := config(name, join...)
		c.Self.State = ring.Joining
		return c
	}
	a := start(t, joining("a"))
	await(t, a, "a, who is alone", shows("a", ring.Active, true))
	b := start(t, joining("b", a.GossipAddr()))
	c := start(t, joining("c", a.GossipAddr()))
	for _, n := range []*Node{a, b, c} {
		for _, name := range []string{"a", "b", "c"} {
			await(t, n, name, shows(name, ring.Active, true))
		}
		if err := n.Ready(); err != nil {
			t.Fatal(err)
		}
	}
	// With two of three away the fourth is known to two of four only.
	for _, n := range []*Node{b, c} {
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, a, "b is away", shows("b", ring.Active, false))
	await(t, a, "c is away", shows("c", ring.Active, false))
	d := start(t, joining("d", a.GossipAddr()))
	await(t, a, "d joins", shows("d", ring.Joining, true))
	poll(t, "a knows of d", func() bool { have, all := d.confirmations(); return len(have) == 2 && all == 4 })
	if d.Self().State != ring.Joining || d.Ready() == nil {
		t.Fatalf("d is %s: %v", d.Self().State, d.Ready())
	}
	start(t, joining("b", a.GossipAddr())) // its directory is new, its name is known
	await(t, a, "d", shows("d", ring.Active, true))
}

// unstarted returns an ingester that is joining and hears others by its delegate alone: no
// goroutine makes a view of what it heard.
func unstarted(t *testing.T) (*Node, *delegate) {
	t.Helper()
	c := config("d", "127.0.0.1:1")
	c.Self.State = ring.Joining
	n, err := New(c, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	return n, &delegate{n}
}

// Most of the ingesters are most of those that were just heard of, too.
func TestForgettingCountsTheTable(t *testing.T) {
	d, hears := unstarted(t)
	hears.MergeRemoteState(state{sender: "a", table: tableOf(t, member("a"), member("b"), member("c"))}.encode(), true)
	if votes, needed := d.Agree(t.Context(), "c"); votes != 1 || needed != 3 {
		t.Fatalf("%d votes of %d", votes, needed)
	}
}

// R 21: most of the ingesters are most of those that it has heard of, in its view or not yet.
func TestRule21ConfirmedByMostOfTheTable(t *testing.T) {
	d, hears := unstarted(t)
	table := tableOf(t, member("a"), member("b"), member("c"), d.Self())
	hears.MergeRemoteState(state{sender: "a", table: table}.encode(), true)
	if have, all := d.confirmations(); !d.sure() || len(have) != 2 || all != 4 || d.confirmed(t.Context()) {
		t.Fatalf("%v of %d", have, all)
	}
	hears.MergeRemoteState(state{sender: "b", table: table}.encode(), true)
	if !d.confirmed(t.Context()) {
		t.Fatal("a, b and d are most of four")
	}
}

// R 21: a table that has no room here is not one that was learnt.
func TestRule21RefusedTable(t *testing.T) {
	d, hears := unstarted(t)
	if err := d.Merge(tableOf(t, member("x"))); err != nil {
		t.Fatal(err)
	}
	full, _, err := crowd(t, 0, ring.MaxMembers-1).Put(d.Self())
	if err != nil {
		t.Fatal(err)
	}
	hears.MergeRemoteState(state{sender: "x", table: full}.encode(), true)
	if d.sure() || d.met() || d.Learn(t.Context(), "x", full.Digest()) {
		t.Fatal("it takes itself for one who knows")
	}
	if have, all := d.confirmations(); len(have) != 1 || all != 2 {
		t.Fatalf("%v of %d", have, all)
	}
}

// Who is found at an address that is its own in another guise has nobody to meet there.
func TestMeetingItself(t *testing.T) {
	d, hears := unstarted(t)
	d.yields = true // as one that was started
	hears.MergeRemoteState(hears.LocalState(true), true)
	if have, all := d.confirmations(); !d.sure() || len(have) != 1 || all != 1 {
		t.Fatalf("%v of %d", have, all)
	}
}

// crowd returns a table of the members called from to to-1. (One by one they would take long.)
func crowd(t *testing.T, from, to int) ring.Table {
	if to-from == 1 {
		return tableOf(t, member(strconv.Itoa(from)))
	}
	mid := (from + to) / 2
	both, _, err := crowd(t, from, mid).Merge(crowd(t, mid, to))
	if err != nil {
		t.Fatal(err)
	}
	return both
}

// R 21: who learnt of a table judges by it, though the view of it was not made yet.
func TestRule21LearntIsViewed(t *testing.T) {
	d, hears := unstarted(t)
	other := member("q")
	other.Roles, other.State = ring.Querier, ring.Left // which is not taken over: the tables stay different
	s := state{sender: "a", table: tableOf(t, member("a"), member("b"), other)}
	hears.MergeRemoteState(s.encode(), true)
	if !d.Learn(t.Context(), "a", s.table.Digest()) || len(d.View().Ingesters()) != 3 {
		t.Fatal(d.View().Table())
	}
}
