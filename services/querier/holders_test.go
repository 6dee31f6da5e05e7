package querier

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/ring"
)

func threeMembers(t *testing.T, change func(ring.Table) ring.Table) *ring.View {
	t.Helper()
	var table ring.Table
	healthy := map[string]bool{}
	for _, name := range []string{"a", "b", "c"} {
		var err error
		if table, _, err = table.Put(ring.Member{
			Name: name, Incarnation: "first-" + name, Roles: ring.Ingester, GRPCAddr: "h:1", State: ring.Active, Version: 1,
		}); err != nil {
			t.Fatal(err)
		}
		healthy[name] = true
	}
	if change != nil {
		table = change(table)
	}
	return ring.NewView(table, healthy, ring.Config{ReplicationFactor: 3})
}

type gappySource struct {
	name, incarnation string
	gaps              []string
}

func (g gappySource) Name() string { return g.name }
func (g gappySource) Open(context.Context, []*syntax.Matcher, int64, int64) (engine.Session, error) {
	return gappySession{g: g}, nil
}

type gappySession struct {
	engine.Session
	g gappySource
}

func (s gappySession) Opened() *ingestv1.Opened {
	return &ingestv1.Opened{Incarnation: s.g.incarnation, Gaps: s.g.gaps}
}
func (gappySession) Close() error { return nil }

// R 20: one that tells of a gap counts as missing, also before the members know of it.
func TestRule20GapsCountAsMissing(t *testing.T) {
	view := threeMembers(t, nil)
	a := newAsked(view, false)
	open := func(name string, gaps ...string) error {
		_, err := holder{gappySource{name, "first-" + name, gaps}, "first-" + name, a, func(context.Context, string, uint64) *ring.View { return view }}.Open(t.Context(), nil, 0, 1)
		return err
	}
	if err := open("a", "records 3 to 5"); err != nil {
		t.Fatal("one of three has a gap:", err)
	}
	if err := a.complete(nil); err != nil {
		t.Fatal(err)
	}
	if err := a.complete([]string{"b"}); err == nil {
		t.Fatal("a has a gap and b does not answer, and that is complete")
	}
	if err := open("b", "records 7 to 8"); err == nil {
		t.Fatal("two of three have gaps, and that is complete")
	}
}

// R 20: a recorded loss is a warning in answers that it may touch, whatever the clock said of
// whoever recorded it, and in no others.
func TestRule20LossesAreWarnings(t *testing.T) {
	at := time.Unix(1000, 0)
	view := threeMembers(t, func(table ring.Table) ring.Table {
		table, m, _, err := table.NoteGap("b", "x", 1)
		if err == nil {
			table, _, err = table.Settle("b", m.Incarnation, ring.Lost, at.UnixMilli())
		}
		if err != nil {
			t.Fatal(err)
		}
		return table
	})
	for start, warned := range map[time.Time]bool{at.Add(-time.Hour): true, at.Add(9*time.Minute + behind): true, at.Add(11*time.Minute + behind): false} {
		s, err := losses(view, 10*time.Minute).Open(t.Context(), nil, start.UnixNano(), start.Add(time.Hour).UnixNano())
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(s.Gaps(), func(g string) bool { return strings.Contains(g, "ingester b") }); got != warned {
			t.Errorf("from %s: %q", start.UTC(), s.Gaps())
		}
		if err := s.Close(); err != nil || len(s.Streams()) != 0 {
			t.Error(err, s.Streams())
		}
	}
	if losses(threeMembers(t, nil), 0) != nil {
		t.Error("a loss where there is none")
	}
}

// R 21: what an answer tells of the members is taken into account before it is judged.
func TestRule21NewMembersAreMissed(t *testing.T) {
	old := threeMembers(t, nil)
	with := func(names ...string) *ring.View {
		return threeMembers(t, func(table ring.Table) ring.Table {
			for _, name := range names {
				var err error
				if table, _, err = table.Put(ring.Member{
					Name: name, Incarnation: "first-" + name, Roles: ring.Ingester, GRPCAddr: "h:1", State: ring.Active, Version: 1,
				}); err != nil {
					t.Fatal(err)
				}
			}
			return table
		})
	}
	for _, c := range []struct {
		view *ring.View
		ok   bool
	}{{old, true}, {with("d"), true}, {with("d", "e"), false}} {
		a := newAsked(old, false)
		for _, m := range old.Ingesters() {
			a.names[m.Name] = m.Incarnation
		}
		_, err := holder{gappySource{"a", "first-a", nil}, "first-a", a, func(context.Context, string, uint64) *ring.View { return c.view }}.Open(t.Context(), nil, 0, 1)
		if (err == nil) != c.ok {
			t.Errorf("%d members after the answer, 3 asked: %v", len(c.view.Ingesters()), err)
		}
		if c.ok && len(c.view.Ingesters()) > 3 && a.complete([]string{"b"}) == nil {
			t.Error("one was not asked, one does not answer, and that is complete")
		}
	}
}
