package head

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// entry is the naive twin's row.
type entry struct {
	key  model.OrderKey
	line string
	meta string
}

func block(labels model.Labels, rows []entry, position uint32) Block {
	b := Block{Labels: labels, Text: labels.String()}
	for i, e := range rows {
		b.Rows.Times = append(b.Rows.Times, e.key.Time)
		b.Rows.Lines.AppendString(e.line)
		b.Rows.Positions = append(b.Rows.Positions, position+uint32(i))
		if e.meta != "" {
			if len(b.Rows.Metadata) == 0 {
				b.Rows.Metadata = []model.Column{{Name: "m"}}
			}
			b.Rows.Metadata[0].Append(i, []byte(e.meta))
		}
	}
	if len(b.Rows.Metadata) > 0 {
		b.Rows.Metadata[0].Finish(len(rows))
	}
	for i := range rows {
		b.Rows.Hashes = append(b.Rows.Hashes, b.Rows.Hash(i))
	}
	return b
}

func read(t interface{ Fatal(...any) }, h *Head, matchers []*syntax.Matcher, start, end int64, backward bool) (map[string][]entry, map[string]uint64) {
	sn, err := h.Store("t").Open(context.Background(), matchers, start, end)
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	out, digests := map[string][]entry{}, map[string]uint64{}
	for i, s := range sn.Streams() {
		name := s.Labels.String()
		var run engine.Run
		for k, r := range s.Runs {
			if k > 0 && r.MinTime <= s.Runs[k-1].MaxTime {
				t.Fatal("runs touch")
			}
			run.Rows += r.Rows
			run.Digest += r.Digest
		}
		digests[name] = run.Digest
		r := sn.Rows(i, start, end, backward)
		var got []entry
		for {
			rows, from, to, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var batch []entry
			for k := from; k < to; k++ {
				e := entry{rows.Key(k), string(rows.Lines.At(k)), ""}
				for _, l := range rows.AppendMetadata(nil, k) {
					e.meta = l.Value
				}
				batch = append(batch, e)
			}
			if backward {
				slices.Reverse(batch)
			}
			got = append(got, batch...)
		}
		if backward {
			slices.Reverse(got)
		}
		if uint64(len(got)) != run.Rows {
			t.Fatal("runs say ", run.Rows, " rows, read ", len(got))
		}
		out[name] = got
	}
	return out, digests
}

// readEach is read by way of Each.
func readEach(t interface{ Fatal(...any) }, h *Head, start, end int64) map[string][]entry {
	out := map[string][]entry{}
	var last model.Labels
	err := h.Each(context.Background(), "t", func(model.Labels) string { return "" }, []Span{{start, end}}, func(ls model.Labels, rows *model.Rows, from, to int) error {
		if last.Compare(ls) > 0 {
			t.Fatal("streams do not ascend")
		}
		if err := rows.Check(); err != nil {
			t.Fatal(err)
		}
		last = ls
		for k := from; k < to; k++ {
			e := entry{rows.Key(k), string(rows.Lines.At(k)), ""}
			for _, l := range rows.AppendMetadata(nil, k) {
				e.meta = l.Value
			}
			out[ls.String()] = append(out[ls.String()], e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRule4OnceInASource: whatever arrives, in whatever order and how often, a
// head holds each entry once, in the order of keys, and its digest says so.
func TestRule4OnceInASource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := New()
		h.few = rapid.SampledFrom([]int{0, 5, fewRowsMax}).Draw(t, "few")
		type id struct {
			stream string
			time   int64
			line   string
			meta   string
		}
		twin := map[id]bool{}
		spread := rapid.SampledFrom([]int64{1, 3, 50, 20 * slotWidth}).Draw(t, "spread")
		for seq := uint64(1); seq <= uint64(rapid.IntRange(1, 12).Draw(t, "appends")); seq++ {
			stream := fmt.Sprint(rapid.IntRange(0, 1).Draw(t, "stream"))
			n := rapid.IntRange(1, rapid.SampledFrom([]int{4, 60}).Draw(t, "most")).Draw(t, "n")
			var rows []entry
			fresh := map[id]bool{}
			for range n {
				e := entry{line: fmt.Sprint("line ", rapid.IntRange(0, 40).Draw(t, "line"))}
				e.key.Time = rapid.Int64Range(0, spread).Draw(t, "time")
				if rapid.IntRange(0, 3).Draw(t, "withMeta") == 0 {
					e.meta = "x"
				}
				rows = append(rows, e)
				k := id{stream, e.key.Time, e.line, e.meta}
				if !twin[k] {
					fresh[k] = true
				}
				twin[k] = true
			}
			b := block(model.Labels{{Name: "s", Value: stream}}, rows, 0)
			batch := rapid.Int64Range(1, 5).Draw(t, "batch") // those of several distributors do not ascend
			if added := h.Append("t", []Block{b}, batch, seq); added != len(fresh) {
				t.Fatalf("append says %d rows were new, want %d", added, len(fresh))
			}
		}
		start, end := int64(0), spread+1
		if rapid.Bool().Draw(t, "part") {
			start = rapid.Int64Range(0, spread).Draw(t, "start")
			end = rapid.Int64Range(start, spread+1).Draw(t, "end")
		}
		got, digests := read(t, h, nil, start, end, false)
		back, _ := read(t, h, nil, start, end, true)
		want := map[string]map[id]bool{}
		for k := range twin {
			if k.time >= start && k.time < end {
				name := model.Labels{{Name: "s", Value: k.stream}}.String()
				if want[name] == nil {
					want[name] = map[id]bool{}
				}
				want[name][k] = true
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d streams, want %d", len(got), len(want))
		}
		for name, rows := range got {
			if len(rows) != len(want[name]) {
				t.Fatalf("%s: %d rows, want %d", name, len(rows), len(want[name]))
			}
			var digest uint64
			for i, e := range rows {
				if i > 0 && rows[i-1].key.Compare(e.key) >= 0 {
					t.Fatalf("%s: row %d is not behind the one before", name, i)
				}
				digest += e.key.Hash
			}
			if digest != digests[name] {
				t.Fatalf("%s: digest does not fit the rows", name)
			}
			if !slices.Equal(rows, back[name]) {
				t.Fatalf("%s: backward is not the reverse of forward", name)
			}
		}
		if each := readEach(t, h, start, end); !maps.EqualFunc(each, got, slices.Equal) {
			t.Fatalf("each: %v\nwant: %v", each, got)
		}
		// Tails see each row once, in order of their appends.
		total := 0
		for _, a := range h.Since("t", 0, h.Seq(), func(model.Labels) bool { return true }) {
			total += a.To - a.From
		}
		if total != len(twin) {
			t.Fatalf("tails see %d rows, want %d", total, len(twin))
		}
	})
}

// TestReplicasAgreeOnRuns: two heads that got the same rows in another order, cut
// into other appends, have equal runs, in every range.
func TestReplicasAgreeOnRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		labels := model.Labels{{Name: "a", Value: "b"}}
		n := rapid.IntRange(1, 3*chunkRows).Draw(t, "n")
		step := rapid.SampledFrom([]int64{1, slotWidth / 7, slotWidth}).Draw(t, "step")
		rows := make([]entry, n)
		for i := range rows {
			rows[i] = entry{key: model.OrderKey{Time: int64(i) * step}, line: "x"}
		}
		a, b := New(), New()
		b.few = rapid.SampledFrom([]int{0, fewRowsMax}).Draw(t, "few")
		a.Append("t", []Block{block(labels, rows, 0)}, 1, 1)
		cut := rapid.IntRange(0, n).Draw(t, "cut")
		b.Append("t", []Block{block(labels, rows[cut:], uint32(cut))}, 1, 1)
		b.Append("t", []Block{block(labels, rows[:cut], 0)}, 1, 2)
		start := rapid.Int64Range(0, int64(n)*step).Draw(t, "start")
		end := rapid.Int64Range(start, int64(n)*step+1).Draw(t, "end")
		var runs [2][]engine.Run
		for i, h := range []*Head{a, b} {
			sn, err := h.Store("t").Open(context.Background(), nil, start, end)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range sn.Streams() {
				runs[i] = s.Runs
			}
		}
		if !slices.Equal(runs[0], runs[1]) {
			t.Fatalf("runs differ:\n%v\n%v", runs[0], runs[1])
		}
		if len(runs[0]) > maxSlots+1 {
			t.Fatalf("%d runs", len(runs[0]))
		}
	})
}

// TestManyRowsOfOneTime: the lookup of rows that share a timestamp must not be a
// scan over all of them.
func TestManyRowsOfOneTime(t *testing.T) {
	h := New()
	labels := model.Labels{{Name: "a", Value: "b"}}
	var rows []entry
	for i := range 50_000 {
		rows = append(rows, entry{key: model.OrderKey{Time: 7}, line: fmt.Sprint(i)})
	}
	for seq := uint64(1); seq <= 3; seq++ {
		added := h.Append("t", []Block{block(labels, rows, 0)}, int64(seq), seq)
		if want := map[bool]int{true: 50_000, false: 0}[seq == 1]; added != want {
			t.Fatalf("append %d: %d rows added, want %d", seq, added, want)
		}
	}
}

// TestCopyTakesTheSmallerPlace: of copies with different batch times the smallest
// counts, so that replicas agree on the order.
func TestCopyTakesTheSmallerPlace(t *testing.T) {
	for _, few := range []int{0, fewRowsMax} {
		t.Run(fmt.Sprint(few), func(t *testing.T) { testSmallerPlace(t, few) })
	}
}

func testSmallerPlace(t *testing.T, few int) {
	h := New()
	h.few = few
	labels := model.Labels{{Name: "a", Value: "b"}}
	row := []entry{{key: model.OrderKey{Time: 5}, line: "x"}}
	other := []entry{{key: model.OrderKey{Time: 4}, line: "w"}}
	h.Append("t", []Block{block(labels, other, 0)}, 1, 1)
	h.Append("t", []Block{block(labels, row, 3)}, 9, 2)
	h.Append("t", []Block{block(labels, row, 2)}, 4, 3)
	got, _ := read(t, h, nil, 0, 10, false)
	if k := got[labels.String()][1].key; k.BatchTime != 4 || k.Position != 2 {
		t.Fatalf("place is (%d, %d), want (4, 2)", k.BatchTime, k.Position)
	}
}

func TestMatchUsesAllMatchers(t *testing.T) {
	h := New()
	for i, app := range []string{"a", "a", "b"} {
		ls := model.Labels{{Name: "app", Value: app}, {Name: "pod", Value: fmt.Sprint(i)}}
		h.Append("t", []Block{block(ls, []entry{{key: model.OrderKey{Time: 1}, line: "x"}}, 0)}, 1, uint64(i+1))
	}
	for _, c := range []struct {
		selector string
		want     int
	}{{`{app="a"}`, 2}, {`{app="a", pod="1"}`, 1}, {`{app=~"a|b", pod!="0"}`, 2}, {`{pod=~".+"}`, 3}, {`{app="c"}`, 0}} {
		sel, err := syntax.ParseSelector(c.selector)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := read(t, h, sel, 0, 10, false)
		if len(got) != c.want {
			t.Errorf("%s: %d streams, want %d", c.selector, len(got), c.want)
		}
	}
}

// A range without any rows is told to be empty without a look at the streams.
func TestRangesWithoutRows(t *testing.T) {
	h := New()
	sel, err := syntax.ParseSelector(`{app="a"}`)
	if err != nil {
		t.Fatal(err)
	}
	streams := func(start, end int64) int {
		got, _ := read(t, h, sel, start, end, false)
		return len(got)
	}
	for i, at := range []int64{50, 20, 80} { // of two streams
		ls := model.Labels{{Name: "app", Value: "a"}, {Name: "pod", Value: fmt.Sprint(i / 2)}}
		h.Append("t", []Block{block(ls, []entry{{key: model.OrderKey{Time: at}, line: "x"}}, 0)}, 1, uint64(i+1))
	}
	for _, r := range [][2]int64{{math.MinInt64, 20}, {0, 20}, {81, 100}, {81, math.MaxInt64}} {
		if n := streams(r[0], r[1]); n != 0 || h.tenant("t", false).indexed > 0 {
			t.Errorf("%v: %d streams, %d were looked at", r, n, h.tenant("t", false).indexed)
		}
	}
	for r, want := range map[[2]int64]int{{20, 21}: 1, {0, 21}: 1, {80, 81}: 1, {80, 500}: 1, {51, 79}: 0, {0, 100}: 2, {math.MinInt64, math.MaxInt64}: 2} {
		if n := streams(r[0], r[1]); n != want {
			t.Errorf("%v: %d streams, want %d", r, n, want)
		}
	}
}

func TestSpans(t *testing.T) {
	h := New()
	add := func(app string, at ...int64) {
		var rows []entry
		for _, at := range at {
			rows = append(rows, entry{key: model.OrderKey{Time: at}, line: "x"})
		}
		h.Append("t", []Block{block(model.Labels{{Name: "app", Value: app}}, rows, 0)}, 1, 1)
	}
	add("sparse", 10, 90)
	add("before", 10, 39)
	add("after", 60, 90)
	add("late", 90)
	add("late", 10, 70) // behind what is there
	add("dense", 50)
	names := func(ctx context.Context) (out []string) {
		sn, err := h.Store("t").Open(ctx, nil, 40, 60)
		if err != nil {
			t.Fatal(err)
		}
		defer sn.Close()
		for i, s := range sn.Streams() {
			out = append(out, s.Labels.Get("app"))
			if _, _, _, err := sn.Rows(i, 40, 60, false).Next(); (err == nil) != (len(s.Runs) > 0) {
				t.Errorf("%v has runs %v, and rows: %v", s.Labels, s.Runs, err)
			}
		}
		return out
	}
	if got := names(t.Context()); !slices.Equal(got, []string{"dense"}) {
		t.Error(got)
	}
	if got := names(engine.WithSpans(t.Context())); !slices.Equal(got, []string{"dense", "late", "sparse"}) {
		t.Error(got)
	}
}
