package gossip

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/ring"
)

// Who comes under the name of a member that is alive is told so, and who has it stays.
func TestNameIsTaken(t *testing.T) {
	a := start(t, config("a"))
	b := start(t, config("b", a.GossipAddr()))
	await(t, a, "b", shows("b", ring.Active, true))
	await(t, b, "a", shows("a", ring.Active, true))
	c := config("b", a.GossipAddr())
	c.Self.Incarnation, c.Self.State = "another", ring.Joining
	second := start(t, c)
	select {
	case err := <-second.Taken():
		if !strings.Contains(err.Error(), b.GossipAddr()) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it was not told")
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{a, b} { // nor has it taken the name for a moment
		if m, _ := n.View().Table().Get("b"); m.Incarnation != b.Self().Incarnation || m.State != ring.Active {
			t.Error(n.RingStatus())
		}
		if _, ok := n.View().Table().Incarnation("b", "another"); ok {
			t.Errorf("%s takes what the other has not for lost", n.Self().Name)
		}
	}
	// One that comes back under its name at another address is told nothing.
	if err := b.Abandon(); err != nil {
		t.Fatal(err)
	}
	c.Self.Incarnation = b.Self().Incarnation
	third := start(t, c)
	poll(t, "b at its new address", func() bool {
		m, ok := a.View().Table().Get("b")
		p, alive := a.peers()["b"]
		return ok && alive && m.Incarnation == c.Self.Incarnation && p.addr() == third.GossipAddr()
	})
	for _, n := range []*Node{a, b, third} {
		select {
		case err := <-n.Taken():
			t.Error(err)
		default:
		}
	}
}

// A directory that was forgotten while its ingester was away is not put forward again by one
// that joins with it.
func TestForgottenWhileJoining(t *testing.T) {
	c, _, _ := opened(t)
	c.yields = true // as when its table file is gone
	given := c.Self()
	given.State, given.Version = ring.Forgotten, 30
	if err := c.Merge(tableOf(t, given)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Forgotten():
	default:
		t.Error("it was not told")
	}
	if err := c.insist(); !errors.Is(err, ring.ErrForgotten) {
		t.Errorf("error %v", err)
	}
	if m, _ := c.table.Get("self"); m.State != ring.Forgotten {
		t.Errorf("%+v", m)
	}
}
