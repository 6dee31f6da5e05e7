package blockstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
)

// Blocks that overlap in time are cut there, and runs with them: each row counts once as read,
// whatever reads it, also if nothing of it is. Where a query begins or ends within a run, it is
// as many rows as there are if they are spread evenly, and never fewer than match.
func TestRowsOfRunsThatAreCutCountOnce(t *testing.T) {
	cache := blockstore.NewCache(1<<20, nil)
	var sources []engine.Source
	var all []enginetest.Entry
	for b, from := range []int64{0, 37, 90} {
		var own []enginetest.Entry
		for k := range 6 {
			for i := range int64(100) {
				own = append(own, enginetest.Entry{Labels: podLabels(6*b + k), Time: (from + i) * sec, Line: fmt.Sprintf("level=info n=%d line %d", i%3, i)})
			}
		}
		all = append(all, own...)
		open := openBlock(t, &object{b: copyOf(t, enginetest.NewStore(own...), block.Options{})})
		sources = append(sources, engine.Local(blockstore.NewStore(open, cache), fmt.Sprint("b", b)))
	}
	source := engine.Union("u", sources...)
	for _, text := range []string{
		`sum(count_over_time({pod=~".+"}[%s]))`,
		`sum by (pod) (count_over_time({pod=~".+"} |= "line 7" [%s]))`,
		`sum(count_over_time({pod=~".+"} |= "absent" [%s]))`,
		`sum(count_over_time({pod=~".+"} |~ "l.ne 7+$" [%s]))`,
		`sum by (n) (count_over_time({pod=~".+"} | logfmt [%s]))`,
		`sum by (n) (count_over_time({pod=~".+"} |= "line 5" | logfmt [%s]))`,
		`sum(bytes_over_time({pod=~".+"} |= "ine" [%s]))`,
		`sum(sum_over_time({pod=~".+"} | logfmt | unwrap n [%s]))`,
	} {
		for _, c := range []struct{ at, back int64 }{{299, 300}, {150, 150}, {150, 60}, {60, 61}, {101, 11}} {
			want := uint64(0)
			for _, e := range all {
				if e.Time > (c.at-c.back)*sec && e.Time <= c.at*sec {
					want++
				}
			}
			q := fmt.Sprintf(text, fmt.Sprint(c.back, "s"))
			res, err := engine.New(engine.Options{}).Instant(context.Background(), engine.Query{Expr: parse(t, q), Sources: []engine.Source{source}}, c.at*sec)
			if err != nil {
				t.Fatal(q, err)
			}
			// A run may end between two rows, and its share be less than a row off.
			got, off := res.Statistics.EntriesRead, uint64(18)
			if c.back == 300 {
				off = 0
			}
			if got+off < want || got > want+off || got < res.Statistics.EntriesPostFilter {
				t.Errorf("%s at %d: %d of %d entries are said to be read, of which %d match", q, c.at, got, want, res.Statistics.EntriesPostFilter)
			}
		}
	}
}

// Rows that are close together in a run are more than its share of the time: those that are
// counted without a filter are told as they are, and never are fewer said to be read than match.
// A search counts the rows of what it looks into.
func TestRowsOfRunsThatAreNotSpread(t *testing.T) {
	var all []enginetest.Entry
	for i := range int64(100) {
		all = append(all, enginetest.Entry{Labels: podLabels(1), Time: sec + i, Line: fmt.Sprintf("level=info n=%d line %d", i%3, i)})
	}
	all = append(all, enginetest.Entry{Labels: podLabels(1), Time: 101 * sec, Line: "level=info n=1 line 100"})
	open := openBlock(t, &object{b: copyOf(t, enginetest.NewStore(all...), block.Options{})})
	source := engine.Local(blockstore.NewStore(open, blockstore.NewCache(1<<20, nil)), "b")
	for _, c := range []struct {
		text        string
		at          int64
		least, most uint64
	}{
		{`sum(count_over_time({pod=~".+"}[2s]))`, 2, 100, 100},
		{`sum by (n) (count_over_time({pod=~".+"} | logfmt [2s]))`, 2, 100, 100},
		{`sum(count_over_time({pod=~".+"} |= "line" [2s]))`, 2, 100, 101},
		{`sum(bytes_over_time({pod=~".+"} |= "line" [2s]))`, 2, 100, 101},
		{`sum by (n) (count_over_time({pod=~".+"} |~ "line" | logfmt [2s]))`, 2, 100, 101},
		{`sum(count_over_time({pod=~".+"}[50s]))`, 100, 0, 0},
		{`sum by (n) (count_over_time({pod=~".+"} | logfmt [50s]))`, 100, 0, 0},
		{`{pod=~".+"} |~ "line 4.$"`, 200, 101, 101},
	} {
		q := engine.Query{Expr: parse(t, c.text), Sources: []engine.Source{source}}
		res, err := engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{Query: q, Start: 0, End: c.at * sec, Limit: 10})
		if !strings.HasPrefix(c.text, "{") {
			res, err = engine.New(engine.Options{}).Instant(context.Background(), q, c.at*sec)
		}
		if err != nil {
			t.Fatal(c.text, err)
		}
		if got := res.Statistics.EntriesRead; got < c.least || got > c.most {
			t.Errorf("%s: %d entries are said to be read, not %d to %d", c.text, got, c.least, c.most)
		}
	}
}
