package weir

import (
	"testing"

	"github.com/weir-logs/weir/libs/ring"
)

func TestConditionsOfTheCluster(t *testing.T) {
	for _, c := range []struct {
		what             string
		ingesters, wiped string
		healthy          string
		state            ring.State
		alone, few, gap  bool
	}{
		{what: "all is well", ingesters: "abc", healthy: "abc"},
		{what: "one is away", ingesters: "abc", healthy: "ab"},
		{what: "the others are away", ingesters: "abc", healthy: "a", alone: true, few: true},
		{what: "a minority that is a quorum", ingesters: "abcde", healthy: "ab", few: true},
		{what: "half", ingesters: "abcd", healthy: "ab", few: true},
		{what: "more than half", ingesters: "abcde", healthy: "abc"},
		{what: "its directory was wiped", ingesters: "abc", wiped: "a", healthy: "abc", gap: true},
		{what: "another's directory was wiped", ingesters: "abc", wiped: "b", healthy: "abc"},
	} {
		s := newSick(t, "a", 3, c.ingesters, c.wiped)
		healthy := map[string]bool{}
		for _, n := range c.healthy {
			healthy[string(n)] = true
		}
		v := ring.NewView(s.table, healthy, s.cfg)
		for name, x := range map[string]struct {
			look func(*ring.View, string) string
			want bool
		}{"gossip": {unheard, c.alone}, "ingesters": {fewIngesters, c.few}, "gap": {ownGaps, c.gap}, "loss": {recordedLosses, false}} {
			if got := x.look(v, "a"); (got != "") != x.want {
				t.Errorf("%s: %s says %q", c.what, name, got)
			}
		}
	}
	// A gateway that knows of no ingester yet, and one that is alone in the world.
	empty := ring.NewView(ring.Table{}, nil, ring.Config{ReplicationFactor: 3})
	if unheard(empty, "a") != "" || fewIngesters(empty, "a") == "" {
		t.Error(unheard(empty, "a"), fewIngesters(empty, "a"))
	}
	s := newSick(t, "a", 1, "ab", "b")
	table, _, err := s.table.Settle("b", "first-b", ring.Lost, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := recordedLosses(ring.NewView(table, nil, s.cfg), "a"); got != "entries are lost of b" {
		t.Error(got)
	}
}
