package ring

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// wiped returns a view of n ingesters, of which the first lost data directories, and
// the table.
func wiped(t *testing.T, n, rf, lost int) (*View, Table) {
	t.Helper()
	var table Table
	for i := range n {
		table = put(t, table, ingester(string(rune('a'+i)), "", Active))
	}
	for i := range lost {
		m := ingester(string(rune('a'+i)), "", Active)
		m.Incarnation, m.Version = "new-"+m.Name, 2
		table = put(t, table, m)
	}
	return NewView(table, allHealthy(table), Config{ReplicationFactor: rf}), table
}

func put(t *testing.T, table Table, m Member) Table {
	t.Helper()
	table, took, err := table.Put(m)
	if err != nil || !took {
		t.Fatal(took, err)
	}
	return table
}

// R 20: a name with a new data directory has a gap, and does not answer for what was
// in the old one.
func TestRule20WipedDirectoryIsMissing(t *testing.T) {
	v, table := wiped(t, 3, 3, 1)
	if g := v.Gaps(); len(g) != 1 || g[0].Name != "a" || g[0].Incarnation != "i-a" || !v.HasGap("a") || v.HasGap("b") {
		t.Fatalf("gaps %v", g)
	}
	everyone := func(*Member) bool { return true }
	if ok, _ := v.Complete(everyone); !ok {
		t.Error("one gap of three, and the answer is not complete")
	}
	ok, missing := v.Complete(func(m *Member) bool { return m.Name != "b" })
	if ok || !slices.Equal(names(missing), []string{"a", "b"}) {
		t.Errorf("a has a gap, b does not answer: complete %v, missing %v", ok, names(missing))
	}
	// It heals when the others have flushed.
	for _, c := range []struct {
		flushed          string
		healed, hopeless bool
	}{{"abc", true, false}, {"bc", true, false}, {"b", false, false}, {"", false, false}} {
		healed, hopeless := v.Healed(func(m *Member) bool { return slices.Contains([]rune(c.flushed), rune(m.Name[0])) })
		if healed != c.healed || hopeless != c.hopeless {
			t.Errorf("flushed %q: healed %v, hopeless %v", c.flushed, healed, hopeless)
		}
	}
	table, _, err := table.Settle("a", "i-a", Forgotten, 7)
	if err != nil {
		t.Fatal(err)
	}
	v = v.Next(table, allHealthy(table))
	if len(v.Gaps()) != 0 {
		t.Fatal("still there", v.Gaps())
	}
	if ok, _ := v.Complete(func(m *Member) bool { return m.Name != "b" }); !ok {
		t.Error("healed, and still counted")
	}
	// The old directory does not come back.
	if _, _, err := table.Assert(ingester("a", "", Active)); !errors.Is(err, ErrForgotten) {
		t.Error(err)
	}
	if m, _ := table.Get("a"); m.Incarnation != "new-a" {
		t.Error("settling changed who has the name", m)
	}
}

func TestRule20HopelessGaps(t *testing.T) {
	for _, c := range []struct{ n, rf, lost int }{{3, 3, 2}, {3, 3, 3}, {1, 1, 1}, {4, 1, 1}} {
		v, table := wiped(t, c.n, c.rf, c.lost)
		if healed, hopeless := v.Healed(func(*Member) bool { return true }); healed || !hopeless {
			t.Errorf("%+v: healed %v, hopeless %v", c, healed, hopeless)
		}
		for _, g := range v.Gaps() {
			var err error
			if table, _, err = table.Settle(g.Name, g.Incarnation, Lost, 7); err != nil {
				t.Fatal(err)
			}
		}
		v = v.Next(table, allHealthy(table))
		// A recorded loss is a warning, not a 503 for ever.
		if ok, _ := v.Complete(func(*Member) bool { return true }); !ok || len(v.Losses()) != c.lost || len(v.Gaps()) != 0 {
			t.Errorf("%+v: complete %v, losses %v", c, ok, v.Losses())
		}
		for _, g := range v.Losses() {
			var err error
			if table, _, err = table.Settle(g.Name, g.Incarnation, Forgotten, 8); err != nil {
				t.Fatal(err)
			}
		}
		if v = v.Next(table, allHealthy(table)); len(v.Losses()) != 0 {
			t.Errorf("%+v: acknowledged, and still lost", c)
		}
	}
}

// A returning directory is no gap any more, even after it was called lost.
func TestRule20DirectoryReturns(t *testing.T) {
	_, table := wiped(t, 3, 3, 1)
	table, _, err := table.Settle("a", "i-a", Lost, 7)
	if err != nil {
		t.Fatal(err)
	}
	back, replaced, err := table.Assert(ingester("a", "", Active))
	if err != nil || replaced == nil || replaced.Incarnation != "new-a" {
		t.Fatal(replaced, err)
	}
	v := NewView(put(t, table, back), nil, Config{ReplicationFactor: 3})
	if g := v.Gaps(); len(g) != 1 || g[0].Incarnation != "new-a" || len(v.Losses()) != 0 {
		t.Errorf("gaps %v, losses %v", g, v.Losses())
	}
}

func TestRule20NotedGap(t *testing.T) {
	_, table := wiped(t, 3, 3, 0)
	table, m, took, err := table.NoteGap("b", "records 3 to 5", 7)
	if err != nil || !took || m.Incarnation != GapID("i-b", "records 3 to 5") {
		t.Fatal(m, took, err)
	}
	v := NewView(table, allHealthy(table), Config{ReplicationFactor: 3})
	if cur, _ := table.Get("b"); cur.Incarnation != "i-b" || !v.HasGap("b") || len(v.Gaps()) != 1 {
		t.Fatal(cur, v.Gaps())
	}
	if _, _, took, err := table.NoteGap("b", "records 3 to 5", 9); took || err != nil {
		t.Error("noted twice", err)
	}
	if table, _, err = table.Settle("b", m.Incarnation, Forgotten, 8); err != nil {
		t.Fatal(err)
	}
	if _, _, took, _ := table.NoteGap("b", "records 3 to 5", 9); took {
		t.Error("a healed gap is open again")
	}
	if _, _, err := table.Settle("b", "i-b", Lost, 8); err == nil {
		t.Error("the present directory was settled")
	}
	if _, _, _, err := table.NoteGap("nobody", "x", 9); !errors.Is(err, ErrUnknownMember) {
		t.Error(err)
	}
}

// A name with a gap keeps its place, whatever became of the name.
func TestRule20GapKeepsThePlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		before := NewView(c.table, c.healthy, c.cfg)
		if len(before.members) == 0 {
			return
		}
		m := *rapid.SampledFrom(before.members).Draw(t, "wiped")
		m.Incarnation, m.State, m.Version = "new", State(rapid.IntRange(0, int(Forgotten)).Draw(t, "state")), m.Version+1
		table, _, err := c.table.Put(m)
		if err != nil {
			t.Fatal(err)
		}
		after := before.Next(table, c.healthy)
		token := rapid.Uint64().Draw(t, "token")
		if a, b := names(before.Holders(token)), names(after.Holders(token)); !slices.Equal(a, b) {
			t.Fatalf("holders were %v and are %v", a, b)
		}
		for _, r := range after.Replicas(token) {
			if r.Member.State != Active {
				t.Fatalf("a write goes to %v", r.Member)
			}
		}
	})
}
