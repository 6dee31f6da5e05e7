package ingester

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/block"
)

// templatesOf returns how many templates each section of the tenant's local blocks has.
func (n *node) templatesOf(tenant string) []int {
	n.t.Helper()
	held := n.svc.blocks.all(func(b *localBlock) bool { return b.Tenant == tenant })
	defer held.release()
	var out []int
	for _, b := range held.blocks {
		r, err := b.peek(context.Background())
		if err != nil {
			n.t.Fatal(err)
		}
		for i := range r.Info().Sections {
			s, err := r.ReadSection(context.Background(), i)
			if err != nil {
				n.t.Fatal(err)
			}
			out = append(out, len(s.Table.Templates))
		}
	}
	return out
}

// pushServices sends a few rows of each of some services, from a time on.
func (n *node) pushServices(services, rows int, from int64) (want []string) {
	n.t.Helper()
	req := &ingestv1.IngestRequest{Tenant: "t", BatchTimeUnixNano: from + 1}
	for k := range services {
		b := &ingestv1.StreamBlock{Labels: fmt.Sprintf(`{app="svc-%03d", s="s%d"}`, k, k)}
		for i := range rows {
			at := from + int64(i)
			line := fmt.Sprintf("level=info msg=\"part %c of request %d done\" took=%dms", 'a'+k%5, at*31, i*k%997)
			b.Times, b.Slab = append(b.Times, at), append(b.Slab, line...)
			b.LineEnds = append(b.LineEnds, uint32(len(b.Slab)))
			want = append(want, fmt.Sprintf("%d s%d %s", at, k, line))
		}
		req.Streams = append(req.Streams, b)
	}
	if _, err := n.client.Ingest(ctx(n.t), req); err != nil {
		n.t.Fatal(err)
	}
	return want
}

// TestFewOfManyServicesAreWhole: lines of many services with few entries each are kept whole
// when they are cut, and read all the same; their templates are there after a merge.
func TestFewOfManyServicesAreWhole(t *testing.T) {
	for _, c := range []struct {
		name           string
		services, rows int
		below          int
		whole          bool
	}{
		{"few of many", 2 * wholeGroups, 20, 100, true},
		{"many of many", 2 * wholeGroups, 20, 20, false},
		{"few of few", wholeGroups - 1, 20, 100, false},
		{"off", 2 * wholeGroups, 20, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			change := func(cfg *Config, _ *Deps) { cfg.WholeBelow = c.below }
			n := startWith(t, dir, 1<<30, change, nil)
			var want []string
			for i := range 2 {
				want = append(want, n.pushServices(c.services, c.rows, int64(i)*1000)...)
				if err := n.flush(); err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(want)
			check := func(when string) {
				t.Helper()
				if got := contents(t, n.svc); !slices.Equal(got, want) {
					t.Fatalf("%s: %d entries, want %d", when, len(got), len(want))
				}
			}
			check("cut")
			for _, k := range n.templatesOf("t") {
				if (k == 1) != c.whole {
					t.Errorf("%d templates", k)
				}
			}
			rows := 0
			if c.whole {
				rows = len(want)
			}
			if got := testutil.ToFloat64(n.svc.metrics.cutWhole); got != float64(rows) {
				t.Errorf("%v entries were kept whole, not %d", got, rows)
			}
			n.close()
			n = startWith(t, dir, 1<<30, change, nil)
			check("restarted")
			if err := n.compact(); err != nil {
				t.Fatal(err)
			}
			check("merged")
			if got := n.templatesOf("t"); len(got) != 1 || got[0] < 5 {
				t.Errorf("%v templates after a merge", got)
			}
		})
	}
}

// A block that is written whole learns nothing and needs nothing that was learnt.
func TestWholeBlocksLeaveKnowledge(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	n.pushServices(2*wholeGroups, 20, 0)
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if s := n.svc.knowledge.Stats(); s != (block.KnowledgeStats{}) {
		t.Errorf("%+v", s)
	}
}
