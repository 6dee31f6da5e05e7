package compact_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/match"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/model"
)

// inMemory is an object.
type inMemory []byte

func (m inMemory) ReadRange(_ context.Context, off int64, n int) ([]byte, error) {
	if off < 0 || off+int64(n) > int64(len(m)) {
		return nil, fmt.Errorf("no bytes [%d, +%d) of %d", off, n, len(m))
	}
	return m[off : off+int64(n)], nil
}

// textOnly hides that a writer can take rows over.
type textOnly struct{ w *block.Writer }

func (t textOnly) Add(ls model.Labels, rows *model.Rows) error { return t.w.Add(ls, rows) }

// watched is a writer that counts the streams of which it takes some rows over, and gets
// others as text.
type watched struct {
	*block.Writer
	added, carried, mixed *model.Labels
	count                 *int
}

func (w watched) note(own, other *model.Labels, ls model.Labels) {
	if *own = ls; other.Equal(ls) && !w.mixed.Equal(ls) {
		*w.mixed = ls
		*w.count++
	}
}

func (w watched) Add(ls model.Labels, rows *model.Rows) error {
	w.note(w.added, w.carried, ls)
	return w.Writer.Add(ls, rows)
}

func (w watched) Carry(ls model.Labels, c *block.Carried, from, to, bytes int) error {
	w.note(w.carried, w.added, ls)
	return w.Writer.Carry(ls, c, from, to, bytes)
}

// writers are used again: each has memory of some MiB.
type writers map[block.Options]*block.Writer

func (ws writers) get(to io.Writer, meta block.Meta, o block.Options) *block.Writer {
	w := ws[o]
	if w == nil {
		w = block.NewWriter(io.Discard, meta, o)
		ws[o] = w
	}
	w.Reset(to, meta)
	return w
}

// line makes a line of one of some kinds, among them what encoders do not expect.
func line(r *rand.Rand, kind int, at int64) string {
	stamp := time.Unix(0, at).UTC()
	word := func() string { return []string{"alpha", "beta", "gamma", "delta", "epsilon"}[r.IntN(5)] }
	switch kind {
	case 0:
		return fmt.Sprintf("%s INFO dfs.%s: block blk_%d of size %d from /10.%d.%d.7", stamp.Format("2006-01-02 15:04:05.000"), word(), r.Uint64N(1<<40), r.IntN(900), r.IntN(256), r.IntN(3))
	case 1:
		return fmt.Sprintf(`{"ts":"%s","level":%q,"id":"%016x","n":%d}`, stamp.Format(time.RFC3339Nano), []string{"info", "error"}[r.IntN(2)], r.Uint64(), r.IntN(3))
	case 2:
		return fmt.Sprintf("%s-%04x ab%02x:%d.%d %s=%03d;%d:%d", word(), r.IntN(1<<16), r.IntN(256), r.IntN(30), r.IntN(30), word(), r.IntN(1000), r.IntN(10), r.IntN(10))
	case 3:
		return strings.Repeat("w"+word()+" ", r.IntN(40)) + fmt.Sprintf("user%c%c %d", 'a'+r.IntN(26), 'a'+r.IntN(26), r.IntN(5))
	case 4:
		b := make([]byte, r.IntN(30))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	case 5:
		return fmt.Sprintf("x %08x-1234-%04x-abcd-%012x 1.2.%d.4:%d %d%d%d", r.Uint32(), r.IntN(1<<16), r.Uint64N(1<<48), r.IntN(300), r.IntN(1<<16), r.IntN(3), r.IntN(3), r.IntN(3))
	case 6:
		return []string{"", "7", "same line", "\x00", "abc12def 00", "ff 0xff", "Ünïcode 12 Kelvin K"}[r.IntN(7)]
	}
	return fmt.Sprintf("%s%d %s", word(), r.IntN(4), strings.Repeat("long ", r.IntN(300)))
}

var ids = regexp.MustCompile("[0-9a-f]{12,}")

// drawBlocks draws blocks of rows of the same streams, whose times follow each other,
// overlap, or are the same.
func drawBlocks(t *rapid.T, ws writers, streams int) (blocks [][]byte, lines []string) {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 7))
	kinds := rapid.SliceOfN(rapid.IntRange(0, 7), 1, 4).Draw(t, "kinds")
	step := []int64{1, 1e6, 1e9, 40e9, 2000e9}[rapid.IntRange(0, 4).Draw(t, "step")]
	apart := rapid.IntRange(0, 5).Draw(t, "apart")
	most := rapid.SampledFrom([]int{3, 40, 200}).Draw(t, "rows")
	if streams > 5 {
		most = max(2, most/8)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano() + r.Int64N(1e9)
	var before []*model.Rows // of the block before, by stream
	number, some := rapid.IntRange(1, 4).Draw(t, "blocks"), apart == 1 || apart == 2
	if some { // of the streams' blocks touch that of the one before
		number += 3
	}
	lasts := make([]int64, streams)
	for k := range number {
		copied := k > 0 && rapid.IntRange(0, 4).Draw(t, "copied") == 0
		var all []*model.Rows
		end := at
		for s := range streams {
			rows := &model.Rows{}
			own, last := at, int64(-1)
			if some && lasts[s] > 0 && r.IntN(4) == 0 {
				own = lasts[s] - r.Int64N(2*step)
			}
			n := r.IntN(most)
			for i := range n {
				rows.Lines.AppendString(line(r, kinds[(s+r.IntN(2)*i)%len(kinds)], own))
				rows.Times = append(rows.Times, own)
				rows.BatchTimes = append(rows.BatchTimes, own/60e9*60e9)
				rows.Positions = append(rows.Positions, uint32(i))
				if r.IntN(50) == 0 || rows.Copies != nil {
					rows.Copies = append(append(rows.Copies, make([]uint32, i-len(rows.Copies))...), uint32(r.IntN(2)))
				}
				if last = own; r.IntN(4) > 0 {
					own += r.Int64N(step) + 1
				}
				for _, set := range []*[]model.Column{&rows.Metadata, &rows.Derived} {
					if r.IntN(3) > 0 {
						if len(*set) == 0 {
							*set = []model.Column{{Name: "m", Version: uint32(1 + k%2)}}
						}
						value := fmt.Sprint("v", r.IntN(5))
						if id := ids.FindString(string(rows.Lines.At(i))); id != "" && s%2 == 0 {
							value = id // so that it is not stored twice
						}
						(*set)[0].AppendString(i, value)
					}
				}
				lines = append(lines, string(rows.Lines.At(i)))
			}
			lasts[s] = max(last, lasts[s])
			for _, set := range [][]model.Column{rows.Metadata, rows.Derived} {
				for i := range set {
					set[i].Finish(n)
				}
			}
			if rows.Metadata != nil {
				rows.Metadata[0].Version = 0
			}
			if copied && r.IntN(2) == 0 {
				rows = before[s]
			}
			end = max(end, last+1)
			all = append(all, rows)
		}
		before = all
		switch {
		case apart > 0:
			at = end
		default:
			at += (end - at) / 2
		}
		var out bytes.Buffer
		w := ws.get(&out, block.Meta{ID: catalog.ID(fmt.Sprintf("b%d", k)), Tenant: "t"}, block.Options{RowGroupBytes: []int{300, 2000, 9000}[r.IntN(3)], SectionBytes: 20000, Whole: r.IntN(4) == 0})
		order := make([]int, streams)
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return block.Compare(labelsOf(a), labelsOf(b)) })
		for _, s := range order {
			if all[s].Len() == 0 {
				continue
			}
			if err := w.Add(labelsOf(s), all[s]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, out.Bytes())
	}
	return blocks, lines
}

func labelsOf(s int) model.Labels {
	return model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", s/2)}, {Name: "pod", Value: fmt.Sprint(s)}})
}

type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

// mixed counts streams of which merges took over some rows, but not all.
var mixed int

// merged is what a merge made of blocks.
func merged(t fataler, ws writers, blocks [][]byte, fix, text bool, cuts []int64, o block.Options) (out []*block.Reader, raw [][]byte, report compact.Report) {
	ctx := context.Background()
	var sources []compact.Source
	for _, b := range blocks {
		r, err := block.Open(ctx, inMemory(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := compact.NewBlockSource(r)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	m, err := compact.NewMerge(sources, nil, fix, block.Compare)
	if err != nil {
		t.Fatal(err)
	}
	var lists [][]compact.Stream
	start := int64(compact.MinTime)
	for _, end := range append(slices.Clone(cuts), compact.MaxTime) {
		var buf bytes.Buffer
		w := ws.get(&buf, block.Meta{ID: "m", Tenant: "t", Ordered: fix}, o)
		var to compact.Writer = watched{w, new(model.Labels), new(model.Labels), new(model.Labels), &mixed}
		if text {
			to = textOnly{w}
		}
		if err := m.Run(ctx, start, end, to); err != nil {
			t.Fatal(err)
		}
		info, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		r, err := block.Open(ctx, inMemory(buf.Bytes()), info.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(ctx); err != nil {
			t.Fatal(err)
		}
		streams, err := compact.Streams(r)
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, streams)
		out, raw = append(out, r), append(raw, buf.Bytes())
		start = end
	}
	if err := m.Prove(); err != nil {
		t.Fatal(err)
	}
	if err := m.ProveResults(lists...); err != nil {
		t.Fatal(err)
	}
	return out, raw, m.Report()
}

// everything is all rows of a block, and how they are counted.
func everything(t fataler, r *block.Reader) (out []string) {
	err := r.Each(context.Background(), func(ls model.Labels, rows *model.Rows) error {
		for i := range rows.Len() {
			k := rows.Key(i)
			out = append(out, fmt.Sprintf("%s %d %d %d copy %d %q %v %v", ls, k.Time, k.BatchTime, k.Position, rows.Copy(i), rows.Lines.At(i), rows.AppendMetadata(nil, i), rows.AppendDerived(nil, i)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Streams() {
		var sum block.Run
		for k, run := range r.Runs(i, compact.MinTime, compact.MaxTime) {
			if k == 0 {
				sum.MinTime = run.MinTime
			} else if run.MinTime <= sum.MaxTime {
				t.Fatalf("runs of %s touch", r.Labels(i))
			}
			sum.MaxTime, sum.Rows, sum.Bytes, sum.Digest = run.MaxTime, sum.Rows+run.Rows, sum.Bytes+run.Bytes, sum.Digest+run.Digest
		}
		out = append(out, fmt.Sprint(r.Labels(i), sum))
	}
	for g := range r.RowGroups() {
		rows, bytes := r.GroupSize(g)
		out = append(out, fmt.Sprint("row group of ", rows, bytes))
	}
	i := r.Info()
	return append(out, fmt.Sprint(i.Rows, i.RawBytes, i.MetadataBytes, i.Streams, i.MinTime, i.MaxTime))
}

// found returns how many lines of a block a filter finds.
func found(t *rapid.T, r *block.Reader, p *match.Program) (n int) {
	ctx := context.Background()
	g := 0
	for k := range r.Sections() {
		s, err := r.ReadSection(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		sp := p.Section(s.Section, s.Grams)
		for i := range s.Blocks {
			body, err := r.ReadBody(ctx, s, g)
			if err != nil {
				t.Fatal(err)
			}
			g++
			if sp.Skip(i) {
				continue
			}
			var rows match.Bitmap
			rows.Reset(s.Blocks[i].Rows)
			if err := sp.Rows(i, body, 0, s.Blocks[i].Rows, &rows); err != nil {
				t.Fatal(err)
			}
			n += rows.Count()
		}
	}
	return n
}

// asAnew compares a merge that takes rows over with one that writes their lines anew:
// rows, counts and what filters find. It returns how many rows were merged.
func asAnew(t *rapid.T, ws writers, blocks [][]byte, lines []string, fix bool, cuts []int64, o block.Options) uint64 {
	got, _, report := merged(t, ws, blocks, fix, false, cuts, o)
	want, _, other := merged(t, ws, blocks, fix, true, cuts, o)
	if report != other {
		t.Fatalf("%+v, not %+v", report, other)
	}
	for i := range got {
		if a, b := everything(t, got[i]), everything(t, want[i]); !slices.Equal(a, b) {
			for k := range b {
				if k >= len(a) || a[k] != b[k] {
					t.Fatalf("block %d, row %d of %d:\n%q\n%q", i, k, len(b), a[min(k, len(a)-1)], b[k])
				}
			}
			t.Fatalf("%d rows too many", len(a)-len(b))
		}
	}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "filters"), 3))
	for range 12 {
		if len(lines) == 0 {
			break
		}
		l := lines[r.IntN(len(lines))]
		from := r.IntN(len(l) + 1)
		needle := l[from : from+r.IntN(min(len(l)-from, 16)+1)]
		if needle == "" {
			continue
		}
		p, err := match.Compile([]match.Filter{{Any: []match.Term{{Literal: needle, Fold: utf8.ValidString(needle) && r.IntN(3) == 0}}}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if a, b := found(t, got[i], p), found(t, want[i], p); a != b {
				t.Fatalf("%q: %d lines, not %d", needle, a, b)
			}
		}
	}
	return report.RowsOut
}

// A merge that takes rows over as they are stored gives the rows, the counts and the
// answers of one that writes their lines anew.
func TestCarriedIsWrittenAnew(t *testing.T) {
	carried, ws := uint64(0), writers{}
	rapid.Check(t, func(t *rapid.T) {
		blocks, lines := drawBlocks(t, ws, rapid.IntRange(1, 5).Draw(t, "streams"))
		fix := rapid.Bool().Draw(t, "fix")
		o := block.Options{RowGroupBytes: rapid.SampledFrom([]int{2000, 20000, 1 << 20}).Draw(t, "group"), SectionBytes: 200000}
		var cuts []int64
		if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
			cuts = []int64{time.Date(2026, 3, 1, 12, 0, 20, 0, time.UTC).UnixNano()}
		}
		carried += asAnew(t, ws, blocks, lines, fix, cuts, o)
	})
	if carried == 0 {
		t.Fatal("no rows were merged")
	}
}

// So it is of streams with more rows than are read at a time, than source row groups hold,
// and than a row group may have.
func TestLongStreamsAreCarried(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 19))
	ws := writers{}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()
	var blocks [][]byte
	for k := range 3 {
		var out bytes.Buffer
		w := ws.get(&out, block.Meta{ID: catalog.ID(fmt.Sprintf("b%d", k)), Tenant: "t"}, block.Options{RowGroupBytes: 60000, NoGrams: true})
		for s, n := range []int{5000, 34000, 300, 5000} {
			n /= 1 + k*k                                 // of the last one the first rows are among those of the one before
			rows, span := &model.Rows{}, int64(40_000e9) // with many runs, or few
			if s != 1 {
				span = 200e9
				rows.Metadata = []model.Column{{Name: "m"}}
			}
			for i := range n {
				l := ""
				if r.IntN(3) > 0 && (i < n/3 || i > n/2) {
					l = fmt.Sprint("n ", r.IntN(100))
				}
				rows.Lines.AppendString(l)
				rows.Times = append(rows.Times, at+int64(i)/2*span/int64(n))
				rows.BatchTimes = append(rows.BatchTimes, at)
				rows.Positions = append(rows.Positions, uint32(i))
				if s != 1 && i%3 > 0 {
					rows.Metadata[0].AppendString(i, fmt.Sprint("v", r.IntN(50)))
				}
			}
			for i := range rows.Metadata {
				rows.Metadata[i].Finish(n)
			}
			if err := w.Add(labelsOf(s), rows); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, out.Bytes())
		at += 50_000e9 - int64(k)*31_000e9
	}
	mixed = 0
	for _, o := range []block.Options{{RowGroupBytes: 30000, NoGrams: true}, {RowGroupBytes: 4 << 20, NoGrams: true}} {
		fix := o.RowGroupBytes > 1<<20
		got, _, report := merged(t, ws, blocks, fix, false, nil, o)
		want, _, other := merged(t, ws, blocks, fix, true, nil, o)
		if a, b := everything(t, got[0]), everything(t, want[0]); report != other || !slices.Equal(a, b) {
			t.Fatalf("%+v: %d rows and counts, not %d, or others; %+v, not %+v", o, len(a), len(b), report, other)
		}
	}
	if mixed == 0 {
		t.Fatal("no stream was taken over in part")
	}
}
