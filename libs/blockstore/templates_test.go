package blockstore_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Counts of templates are those of the rows.
func TestTemplates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		meta, odd := rapid.Bool().Draw(t, "levels"), rapid.Bool().Draw(t, "odd")
		var entries []enginetest.Entry
		want := map[string]uint64{}
		start := int64(rapid.IntRange(0, 100).Draw(t, "start")) * sec
		end := start + int64(rapid.IntRange(1, 100).Draw(t, "length"))*sec
		width := rapid.SampledFrom([]int64{sec, 30 * sec, 1000 * sec}).Draw(t, "width")
		pod := rapid.SampledFrom([]string{".+", "p1"}).Draw(t, "pod")
		for i := range rapid.SampledFrom([]int{1, 50, 500}).Draw(t, "rows") {
			e := enginetest.Entry{Labels: model.Labels{{Name: "pod", Value: fmt.Sprintf("p%d", i%3)}}, Time: int64(i%150) * sec, BatchTime: int64(i)}
			pattern, level := "user <_> logged in", ""
			e.Line = fmt.Sprintf("user %d logged in", i)
			if i%4 == 0 {
				e.Line, pattern = fmt.Sprintf("request took %dms", i), "request took <_>"
				if meta {
					level = "info"
					e.Derived = model.Labels{{Name: blockstore.LevelName, Value: level}}
				}
			}
			if odd && i == 37 {
				// Nothing else is like it.
				e.Line = "\x00" + strings.Repeat("\xff\x00 strange \t", 3)
				pattern = "kept: " + e.Line
			}
			entries = append(entries, e)
			if e.Time >= start && e.Time < end && (pod == ".+" || i%3 == 1) {
				want[fmt.Sprint(pattern, "|", level, "|", e.Time/width)]++
			}
		}
		o := &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{RowGroupBytes: rapid.SampledFrom([]int{1000, 0}).Draw(t, "group"), NoGrams: true})}
		s := blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil))
		got := map[string]uint64{}
		snap, err := s.Open(context.Background(), []*syntax.Matcher{syntax.MustMatcher(syntax.Re, "pod", pod)}, 0, 1000*sec)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		streams := make([]int, len(snap.Streams()))
		for i := range streams {
			streams[i] = i
		}
		err = snap.(engine.TemplateCounter).Templates(context.Background(), streams, start, end, width, func(c engine.TemplateCount) error {
			if c.Line != nil {
				c.Pattern = "kept: " + string(c.Line)
			}
			got[fmt.Sprint(c.Pattern, "|", c.Level, "|", c.Bucket)] += c.Rows
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	})
}
