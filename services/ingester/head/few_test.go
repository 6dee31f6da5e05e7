package head

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/model"
)

// TestFewRows: what comes out of rows that lie among those of other streams is what went
// in, all of it: copy numbers, and metadata and its versions.
func TestFewRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, twin := New(), New()
		h.few, twin.few = rapid.SampledFrom([]int{3, fewRowsMax}).Draw(t, "few"), 0
		for seq := uint64(1); seq <= uint64(rapid.IntRange(1, 8).Draw(t, "appends")); seq++ {
			var blocks []Block
			for range rapid.IntRange(1, 5).Draw(t, "blocks") {
				blocks = append(blocks, anyBlock(t))
			}
			batch := rapid.Int64Range(1, 5).Draw(t, "batch")
			if a, b := h.Append("t", blocks, batch, seq), twin.Append("t", blocks, batch, seq); a != b {
				t.Fatalf("append %d: %d rows are new, want %d", seq, a, b)
			}
		}
		got, want := dump(t, h), dump(t, twin)
		if !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
		if !slices.Equal(days(h), days(twin)) {
			t.Fatalf("days %v, want %v", h.Days("t"), twin.Days("t"))
		}
		after := rapid.Uint64Range(0, 8).Draw(t, "after")
		upto := rapid.Uint64Range(after, 8).Draw(t, "upto")
		if got, want := tail(h, after, upto), tail(twin, after, upto); !slices.Equal(got, want) {
			t.Fatalf("tail %q\nwant %q", got, want)
		}
	})
}

// TestFewRowsOfOneTime: their order is not that of their arrival.
func TestFewRowsOfOneTime(t *testing.T) {
	h := New()
	ls := model.Labels{{Name: "s", Value: "x"}}
	for i, batch := range []int64{2, 3, 1} {
		h.Append("t", []Block{block(ls, []entry{{key: model.OrderKey{Time: 7}, line: fmt.Sprint("of batch ", batch)}}, 0)}, batch, uint64(i+1))
	}
	got, _ := read(t, h, nil, 0, 10, false)
	for i, e := range got[ls.String()] {
		if e.key.BatchTime != int64(i+1) || e.line != fmt.Sprint("of batch ", i+1) {
			t.Errorf("row %d: %+v", i, e)
		}
	}
}

// TestFewRowsOnManyPages: rows are whole, wherever they lie.
func TestFewRowsOnManyPages(t *testing.T) {
	h := New()
	const streams, times = 700, 3
	for i := range streams * times {
		ls := model.Labels{{Name: "s", Value: fmt.Sprint(i % streams)}}
		b := Block{Labels: ls, Text: ls.String()}
		b.Rows.Times, b.Rows.Positions = []int64{int64(i)}, []uint32{0}
		b.Rows.Lines.AppendString(strings.Repeat(fmt.Sprint(i, " "), i%1000))
		c := model.Column{Name: "m"}
		c.AppendString(0, fmt.Sprint("value ", i))
		b.Rows.Metadata = []model.Column{c}
		b.Rows.Hashes = []uint64{b.Rows.Hash(0)}
		h.Append("t", []Block{b}, 1, uint64(i+1))
	}
	if a := &h.tenants["t"].arena; len(a.bytes) < 3 || len(a.records) < 3 {
		t.Fatalf("%d and %d pages", len(a.bytes), len(a.records))
	}
	n := 0
	err := h.Each(context.Background(), "t", func(model.Labels) string { return "" }, []Span{{0, day}}, func(ls model.Labels, rows *model.Rows, from, to int) error {
		for i := from; i < to; i++ {
			if s := fmt.Sprint(rows.Times[i] % streams); ls.Get("s") != s || rows.Hash(i) != rows.Hashes[i] {
				t.Errorf("%s: row %d is another", ls, rows.Times[i])
			}
			n++
		}
		return nil
	})
	if err != nil || n != streams*times {
		t.Fatalf("%d rows, %v", n, err)
	}
}

// TestMaxCostOfAStreamThatComesAgain: a request may have many blocks of one stream, with
// names of metadata that are known of others.
func TestMaxCostOfAStreamThatComesAgain(t *testing.T) {
	h := New()
	made := func(stream string, i int) Block {
		ls := model.Labels{{Name: "s", Value: stream}}
		b := Block{Labels: ls, Text: ls.String()}
		b.Rows.Times, b.Rows.Positions = []int64{int64(i)}, []uint32{0}
		b.Rows.Lines.AppendString("x")
		for k := range fewColumns {
			c := model.Column{Name: fmt.Sprintf("n%05d", i*fewColumns+k)}
			c.AppendString(0, "v")
			b.Rows.Metadata = append(b.Rows.Metadata, c)
		}
		b.Rows.Hashes = []uint64{b.Rows.Hash(0)}
		return b
	}
	var again []Block
	for i := range 500 {
		h.Append("t", []Block{made(fmt.Sprint("other ", i), i)}, 1, uint64(i+1))
		again = append(again, made("x", i))
	}
	size, cost := h.Size(), h.MaxCost("t", again)
	h.Append("t", again, 1, 501)
	if grown := h.Size() - size; grown > cost {
		t.Errorf("grown by %d, MaxCost is %d", grown, cost)
	}
}

func anyBlock(t *rapid.T) Block {
	ls := model.Labels{{Name: "s", Value: fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "stream"))}}
	b := Block{Labels: ls, Text: ls.String()}
	r := &b.Rows
	n := rapid.IntRange(1, 6).Draw(t, "n")
	for i := range rapid.IntRange(0, 2).Draw(t, "columns") {
		r.Metadata = append(r.Metadata, model.Column{Name: fmt.Sprint("m", i)})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "derived columns") {
		r.Derived = append(r.Derived, model.Column{Name: fmt.Sprint("m", i), Version: rapid.Uint32Range(1, 2).Draw(t, "version")})
	}
	copies := rapid.Bool().Draw(t, "copies")
	for i := range n {
		r.Times = append(r.Times, rapid.Int64Range(0, 6).Draw(t, "time")*day/3)
		r.Lines.AppendString(rapid.SampledFrom([]string{"", "a", "line"}).Draw(t, "line"))
		r.Positions = append(r.Positions, uint32(i))
		if copies {
			r.Copies = append(r.Copies, rapid.Uint32Range(0, 2).Draw(t, "copy"))
		}
		for c := range r.Metadata {
			if v := rapid.SampledFrom([]string{"", "v", "w"}).Draw(t, "value"); v != "" {
				r.Metadata[c].AppendString(i, v)
			}
		}
	}
	for c := range r.Metadata {
		r.Metadata[c].Finish(n)
	}
	// What is derived is a function of the entry.
	for c := range r.Derived {
		for i := range n {
			r.Derived[c].AppendString(i, fmt.Sprint(r.Times[i], c))
		}
	}
	for i := range n {
		r.Hashes = append(r.Hashes, r.Hash(i))
	}
	return b
}

func text(ls model.Labels, rows *model.Rows, i int) string {
	// Not its place: that of the first row of a chunk is not lowered by a copy.
	return fmt.Sprintf("%s %d %x %q %d %v %v", ls, rows.Times[i], rows.Hashes[i], rows.Lines.At(i), rows.Copy(i), rows.AppendMetadata(nil, i), rows.AppendDerived(nil, i))
}

func dump(t *rapid.T, h *Head) (out []string) {
	err := h.Each(context.Background(), "t", func(model.Labels) string { return "" }, []Span{{0, day}, {day, 4 * day}}, func(ls model.Labels, rows *model.Rows, from, to int) error {
		if err := rows.Check(); err != nil {
			t.Fatal(err)
		}
		for i := from; i < to; i++ {
			out = append(out, text(ls, rows, i))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func days(h *Head) (out []string) {
	for d, n := range h.Days("t") {
		out = append(out, fmt.Sprint(d, n))
	}
	slices.Sort(out)
	return out
}

func tail(h *Head, after, upto uint64) (out []string) {
	for _, a := range h.Since("t", after, upto, func(model.Labels) bool { return true }) {
		for i := a.From; i < a.To; i++ {
			out = append(out, fmt.Sprint(a.Seq, text(a.Labels, a.Rows, i)))
		}
	}
	slices.Sort(out)
	return out
}

// TestFind: a block whose stream was looked up goes to the head that it is appended to,
// whichever head the stream was found in.
func TestFind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heads, twins := []*Head{New()}, []*Head{New()}
		for seq := uint64(1); seq <= uint64(rapid.IntRange(1, 12).Draw(t, "appends")); seq++ {
			found := rapid.IntRange(0, len(heads)-1).Draw(t, "found in")
			var blocks, again []Block
			for range rapid.IntRange(1, 4).Draw(t, "blocks") {
				b := anyBlock(t)
				again = append(again, b)
				b.Labels = nil
				blocks = append(blocks, b)
			}
			left, want := heads[found].Find("t", blocks), 0
			for i := range blocks {
				if blocks[i].Labels == nil {
					want++
					blocks[i].Labels = again[i].Labels
				} else if !slices.Equal(blocks[i].Labels, again[i].Labels) {
					t.Fatalf("labels %s, want %s", blocks[i].Labels, again[i].Labels)
				}
			}
			if left != want {
				t.Fatalf("%d are said to be left, want %d", left, want)
			}
			if rapid.IntRange(0, 3).Draw(t, "next") == 0 { // is frozen in between
				heads, twins = append(heads, heads[len(heads)-1].Next()), append(twins, twins[len(twins)-1].Next())
			}
			h := heads[len(heads)-1]
			size, cost := h.Size(), h.MaxCost("t", blocks)
			a, b := h.Append("t", blocks, 1, seq), twins[len(twins)-1].Append("t", again, 1, seq)
			if a != b {
				t.Fatalf("append %d: %d rows are new, want %d", seq, a, b)
			}
			// A stream of which several blocks come at once may go to chunks for one of them.
			texts := map[string]bool{}
			for i := range again {
				texts[again[i].Text] = true
			}
			if grown := h.Size() - size; grown > cost && len(texts) == len(again) {
				t.Fatalf("append %d took %d bytes, at most %d were to be expected", seq, grown, cost)
			}
			for i := range blocks {
				if blocks[i].Note(seq); blocks[i].Note(seq) {
					t.Fatal("a stream is noted twice")
				}
			}
		}
		for i := range heads {
			if got, want := dump(t, heads[i]), dump(t, twins[i]); !slices.Equal(got, want) {
				t.Fatalf("head %d: %q\nwant %q", i, got, want)
			}
		}
	})
}

// TestNotedGoesOn: a stream that was noted in one head is noted in the next one, if it was
// found in the first; and is to be noted again with another number.
func TestNotedGoesOn(t *testing.T) {
	h := New()
	block := func() []Block {
		rows := model.Rows{Times: []int64{1}, Positions: []uint32{0}}
		rows.Lines.AppendString("line")
		rows.Hashes = []uint64{rows.Hash(0)}
		return []Block{{Text: `{a="b"}`, Rows: rows}}
	}
	first := block()
	first[0].Labels = model.NewLabels([]model.Label{{Name: "a", Value: "b"}})
	h.Append("t", first, 1, 1)
	if !first[0].Note(7) {
		t.Error("a new stream is noted already")
	}
	for i, want := range []bool{false, true} {
		again := block()
		if left := h.Find("t", again); left != 0 {
			t.Fatalf("%d streams are not known", left)
		}
		h = h.Next()
		h.Append("t", again, 2, uint64(2+i))
		if got := again[0].Note(uint64(7 + i)); got != want {
			t.Errorf("head %d: to be noted with %d: %v, want %v", i+2, 7+i, got, want)
		}
	}
}

// TestNamesHaveOneNumber: a name that an arena knows costs nothing any more, whether it is one
// of the first or not.
func TestNamesHaveOneNumber(t *testing.T) {
	var a arena
	seen := map[uint32]bool{}
	for round := range 2 {
		for i := range 3 * firstNames {
			n := arenaName{fmt.Sprint("name ", i/2), i%2 == 1, 0}
			id, cost := a.number(n)
			if (cost == 0) != (round == 1) || seen[id] != (round == 1) || a.names[id-1] != n {
				t.Errorf("round %d: %v has number %d and costs %d", round, n, id, cost)
			}
			if again, cost := a.number(n); again != id || cost != 0 { // however many there are
				t.Errorf("%v has number %d, then %d for %d", n, id, again, cost)
			}
			seen[id] = true
		}
	}
}

// TestStatsOfDuplicates: rows that were there already are counted as such, and others are not.
func TestStatsOfDuplicates(t *testing.T) {
	h := New()
	for i := range 3 {
		rows := model.Rows{Times: []int64{1, int64(2 + i)}, Positions: []uint32{0, 1}}
		rows.Lines.AppendString("line")
		rows.Lines.AppendString("line")
		rows.Hashes = []uint64{rows.Hash(0), rows.Hash(1)}
		b := []Block{{Text: `{a="b"}`, Labels: model.NewLabels([]model.Label{{Name: "a", Value: "b"}}), Rows: rows}}
		h.Append("t", b, int64(i+1), uint64(i+1))
	}
	if s := h.Stats(); s.Duplicates != 2 || s.Rows != 4 || s.Streams != 1 {
		t.Errorf("%+v", s)
	}
}
