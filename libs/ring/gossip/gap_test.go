package gossip

import (
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/ring"
)

// R 20: a process that starts without its directory hears of the one before, and all
// keep it as a gap, whoever heard of what first.
func TestRule20WipedDirectoryIsAGap(t *testing.T) {
	old := member("self")
	old.Incarnation, old.Version = "before", 5
	c, _, spread := opened(t)
	fresh, _ := c.table.Get("self")
	if err := c.Merge(tableOf(t, old)); err != nil {
		t.Fatal(err)
	}
	if err := c.refresh(); err != nil {
		t.Fatal(err)
	}
	if g := c.View().Gaps(); len(g) != 1 || g[0].Incarnation != "before" || c.Self().Version != 6 || !slices.Contains(*spread, "self active") {
		t.Fatalf("gaps %v, self %+v, told %v", g, c.Self(), *spread)
	}
	// Another hears of the new directory before its process has heard of the old one.
	other, _, _ := opened(t)
	other.self.Name = "other"
	for _, in := range []ring.Table{tableOf(t, old), tableOf(t, fresh)} {
		if err := other.Merge(in); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Merge(c.View().Table()); err != nil {
		t.Fatal(err)
	}
	if err := other.refresh(); err != nil {
		t.Fatal(err)
	}
	if g := other.View().Gaps(); len(g) != 1 || g[0].Incarnation != "before" {
		t.Fatal(g)
	}
	if m, _ := other.View().Table().Get("self"); m.Incarnation != c.Self().Incarnation {
		t.Fatal(m)
	}
	*spread = nil
	if err := c.Settle("self", "before", ring.Forgotten); err != nil || len(c.View().Gaps()) != 0 || len(*spread) != 1 {
		t.Fatal(err, *spread)
	}
	if err := c.Merge(tableOf(t, old)); err != nil || len(c.View().Gaps()) != 0 {
		t.Fatal("an old record opened the gap again", err)
	}
}

func TestRule20NotedGapSpreads(t *testing.T) {
	c, _, spread := opened(t)
	for range 2 {
		if err := c.NoteGap("records 3 to 5"); err != nil {
			t.Fatal(err)
		}
	}
	if !c.View().HasGap("self") || len(*spread) != 1 || (*spread)[0] != "self gap" {
		t.Fatal(*spread)
	}
	if err := c.Settle("self", c.Self().Incarnation, ring.Lost); err == nil {
		t.Error("the present directory was settled")
	}
}
