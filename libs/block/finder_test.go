package block_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// TestMatchMany: streams are found by labels of many values, all different or not, as by
// a look at each.
func TestMatchMany(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(200, 900).Draw(rt, "streams")
		doubled := rapid.SampledFrom([]int{0, 0, 1, 7, 300}).Draw(rt, "doubled")
		lacks := rapid.IntRange(0, 3).Draw(rt, "lacks")
		ss := make([]stream, n)
		for i := range ss {
			pod := i
			if i < doubled {
				pod = i / 2
			}
			ls := []model.Label{{Name: "id", Value: fmt.Sprintf("%05d", i)}, {Name: "app", Value: fmt.Sprint("a", i%3)}}
			if i%7 >= lacks {
				ls = append(ls, model.Label{Name: "pod", Value: fmt.Sprintf("pod-%d-%x", pod, uint32(pod)*2654435761)})
			}
			ss[i].labels = model.NewLabels(ls)
			ss[i].rows = []row{{time: int64(i + 1), batch: 1, line: "line"}}
		}
		made := make([]model.Labels, n) // the first are those that may have equal ones
		for i := range ss {
			made[i] = ss[i].labels
		}
		slices.SortFunc(ss, func(a, b stream) int { return block.Compare(a.labels, b.labels) })
		b, _ := write(t, ss, block.Meta{ID: "b", Tenant: "t", Ordered: rapid.Bool().Draw(rt, "ordered")}, block.Options{}, 1000)
		r, err := block.Open(context.Background(), &memory{b: b}, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		value := func(name string) string {
			i := rapid.IntRange(0, n-1).Draw(rt, "stream")
			if rapid.Bool().Draw(rt, "first") {
				i %= 8
			}
			return made[i].Get(name)
		}
		for range 8 {
			var ms []*syntax.Matcher
			for range rapid.IntRange(1, 3).Draw(rt, "matchers") {
				name := rapid.SampledFrom([]string{"pod", "pod", "id", "app", "none"}).Draw(rt, "name")
				typ := rapid.SampledFrom([]syntax.MatchType{syntax.Eq, syntax.Eq, syntax.Eq, syntax.Neq, syntax.Re, syntax.Nre}).Draw(rt, "type")
				v := value(name)
				if rapid.IntRange(0, 9).Draw(rt, "other") == 0 {
					v += "x"
				}
				ms = append(ms, syntax.MustMatcher(typ, name, v))
			}
			start, end := int64(0), int64(n+2)
			if rapid.Bool().Draw(rt, "part") {
				start, end = int64(n/3), int64(n/2)
			}
			var want, got []string
			for i := range ss {
				at := ss[i].rows[0].time
				if at >= start && at < end && !slices.ContainsFunc(ms, func(m *syntax.Matcher) bool { return !m.Matches(ss[i].labels.Get(m.Name)) }) {
					want = append(want, ss[i].labels.String())
				}
			}
			for _, s := range r.Match(ms, start, end) {
				got = append(got, r.Labels(int(s)).String())
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				rt.Fatalf("%v from %d to %d: %q, want %q", ms, start, end, got, want)
			}
		}
	})
}
