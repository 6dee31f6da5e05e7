package blockstore_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

type streamBucket struct {
	stream string
	bucket int
}

// countOf counts the rows of a store with start <= time < end by stream and bucket of some
// width. Those of bucket 1 do not count.
func countOf(t tb, store *blockstore.Store, need *engine.Need, matchers []*syntax.Matcher, start, end, width int64) map[streamBucket]int {
	t.Helper()
	sn, err := store.Open(context.Background(), matchers, start, end)
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	c := sn.(engine.Selective).Select(context.Background(), need).(engine.Counter)
	out := map[streamBucket]int{}
	bucket := func(at int64) (int, int64) {
		k := at / width
		if k == 1 {
			return -1, (k+1)*width - 1
		}
		return int(k), (k+1)*width - 1
	}
	for part := range c.Parts() {
		_, _, err := c.Count(part, bucket, func(stream, bucket, rows int) error {
			if rows <= 0 || bucket < 0 {
				t.Fatal(rows, "rows in bucket", bucket)
			}
			out[streamBucket{c.Labels(stream).String(), bucket}] += rows
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// checkCounts compares the counts of a store with those of a look at every line, of some
// range, streams and width of buckets.
func checkCounts(t tb, r *rand.Rand, store *blockstore.Store, need *engine.Need, entries []enginetest.Entry, keep func(string) bool) {
	t.Helper()
	start, end := int64(math.MinInt64), int64(math.MaxInt64)
	if r.IntN(3) == 0 {
		start = int64(r.IntN(60)) * sec
	}
	if r.IntN(3) == 0 {
		end = int64(r.IntN(60)) * sec
	}
	app := []string{".+", "a[12]", "a3"}[r.IntN(3)]
	q, err := syntax.ParseLogQuery(fmt.Sprintf(`{app=~%q}`, app))
	if err != nil {
		t.Fatal(err)
	}
	width := []int64{1, 5, 20, 1000}[r.IntN(4)] * sec
	got := countOf(t, store, need, q.Matchers, start, end, width)
	want := map[streamBucket]int{}
	for _, e := range entries {
		if k := e.Time / width; e.Time >= start && e.Time < end && k != 1 && q.Matchers[0].Matches(e.Labels.Get("app")) && keep(e.Line) {
			want[streamBucket{e.Labels.String(), int(k)}]++
		}
	}
	if !maps.Equal(got, want) {
		t.Fatal(need.Filters, app, "from", start, "to", end, "by", width, "got", got, "want", want)
	}
}

// Rows of which the footers tell how many match are counted without the row groups' bodies.
func TestCountsOfFooters(t *testing.T) {
	for _, c := range []struct {
		name, filter string
		streams      int
		group        int
		base         int64 // of the times
		start, end   int64
		width        int64
		bodies       bool
	}{
		{"some templates", `|= "level=warn"`, 1, 4000, 0, 0, 400 * sec, 400 * sec, false},
		{"all others", `!= "level=warn"`, 1, 4000, 0, 0, 400 * sec, 400 * sec, false},
		{"all rows of two streams", `|= "level="`, 2, 0, 0, 0, 400 * sec, 400 * sec, false},
		{"no row", `|= "fatal"`, 1, 0, 0, 0, 400 * sec, 400 * sec, false},
		{"a bucket that does not count", `|= "level=warn"`, 1, 4000, 400 * sec, 0, 800 * sec, 400 * sec, false},
		{"two streams", `|= "level=warn"`, 2, 0, 0, 0, 400 * sec, 400 * sec, true},
		{"two buckets", `|= "level=warn"`, 1, 4000, 0, 0, 400 * sec, 7 * sec, true},
		{"part of the time", `|= "level=warn"`, 1, 4000, 0, 1 * sec, 399 * sec, 400 * sec, true},
		{"values", `|= "17"`, 1, 4000, 0, 0, 400 * sec, 400 * sec, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var entries []enginetest.Entry
			for i := range 3000 {
				level := []string{"info", "warn", "info", "info"}[i%4]
				line := fmt.Sprintf("level=%s took %d ms", level, i)
				if level == "warn" {
					line = fmt.Sprintf("level=warn late by %d", i)
				}
				entries = append(entries, enginetest.Entry{Labels: model.Labels{{Name: "app", Value: fmt.Sprint("a", i/4%c.streams)}}, Time: c.base + int64(i)*sec/10, BatchTime: int64(i), Line: line})
			}
			o := &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{RowGroupBytes: c.group})}
			reader := openBlock(t, o)
			store := blockstore.NewStore(reader, blockstore.NewCache(1<<24, nil))
			q, err := syntax.ParseLogQuery(`{app=~".+"} ` + c.filter)
			if err != nil {
				t.Fatal(err)
			}
			need := &engine.Need{Filters: []*syntax.LineFilter{q.Stages[0].(*syntax.LineFilter)}}
			got := countOf(t, store, need, nil, c.start, c.end, c.width)
			want := map[streamBucket]int{}
			for _, e := range entries {
				holds := strings.Contains(e.Line, need.Filters[0].Alternatives[0].Text)
				if k := e.Time / c.width; e.Time >= c.start && e.Time < c.end && k != 1 && holds != need.Filters[0].Op.Negated() {
					want[streamBucket{e.Labels.String(), int(k)}]++
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			bodies := false
			for group := range reader.RowGroups() {
				bodies = bodies || store.HasBody(group)
			}
			if bodies != c.bodies {
				t.Errorf("bodies were opened: %v, want %v", bodies, c.bodies)
			}
		})
	}
}
