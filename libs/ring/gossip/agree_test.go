package gossip

import (
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
