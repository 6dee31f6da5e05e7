package blockstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// object is a block in memory.
type object struct {
	b     []byte
	fail  error
	after int // reads before it fails
	mu    sync.Mutex
	reads [][2]int64
}

// Near implements block.NearReader, by chance.
func (o *object) Near() bool { return len(o.b)%2 == 0 }

func (o *object) ReadRange(_ context.Context, off int64, n int) ([]byte, error) {
	o.mu.Lock()
	failed := o.fail != nil && len(o.reads) >= o.after
	o.mu.Unlock()
	if failed {
		return nil, o.fail
	}
	if off < 0 || n < 0 || off+int64(n) > int64(len(o.b)) {
		return nil, fmt.Errorf("no bytes [%d, +%d) of %d", off, n, len(o.b))
	}
	o.mu.Lock()
	o.reads = append(o.reads, [2]int64{off, int64(n)})
	o.mu.Unlock()
	return o.b[off : off+int64(n) : off+int64(n)], nil
}

// copyOf writes what a store holds to a block.
func copyOf(t tb, s engine.Store, o block.Options) []byte {
	t.Helper()
	sn, err := s.Open(context.Background(), nil, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	streams := sn.Streams()
	order := make([]int, len(streams))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return block.Compare(streams[a].Labels, streams[b].Labels) })
	var buf bytes.Buffer
	w := block.NewWriter(&buf, block.Meta{ID: "b", Tenant: "t"}, o)
	for _, i := range order {
		r := sn.Rows(i, math.MinInt64, math.MaxInt64, false)
		for {
			rows, from, to, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if from != 0 || to != rows.Len() {
				t.Fatal("part of a batch")
			}
			if err := w.Add(streams[i].Labels, rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func openBlock(t tb, o *object) *block.Reader {
	t.Helper()
	r, err := block.Open(context.Background(), o, int64(len(o.b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const sec = int64(time.Second)

func drawEntries(t *rapid.T) []enginetest.Entry {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	n := rapid.SampledFrom([]int{0, 3, 40, 400, 1500}).Draw(t, "entries")
	streams := rapid.SampledFrom([]int{1, 3, 50}).Draw(t, "streams")
	var out []enginetest.Entry
	for i := range n {
		k := r.IntN(streams)
		e := enginetest.Entry{
			Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("a%d", k%3)}, {Name: "pod", Value: fmt.Sprintf("p%02d", (k*7)%50)}}),
			Time:   int64(r.IntN(300)) * sec, BatchTime: int64(i / 10), Position: uint32(i % 10),
		}
		level := []string{"info", "warn", "error"}[r.IntN(3)]
		e.Line = fmt.Sprintf("level=%s code=%d msg=\"request %x took %dms\"", level, 200+r.IntN(3)*100, r.Uint32(), r.IntN(1000))
		e.Derived = model.Labels{{Name: "detected_level", Value: level}}
		if r.IntN(2) == 0 {
			e.Metadata = model.Labels{{Name: "trace", Value: fmt.Sprintf("%08x", r.IntN(5))}}
		}
		out = append(out, e)
	}
	return out
}

var queries = []string{
	`sum by (pod) (bytes_over_time({app=~".+"}[47s]))`, `bytes_rate({app=~".+"} |= "error" [1m])`, `sum by (detected_level) (bytes_over_time({app=~".+"} | detected_level!="warn" [30s]))`,
	`sum(bytes_over_time({app=~".+"} | label_format x="{{ len __line__ }}" | x!="40" [1m]))`, `sum by (app) (bytes_over_time({app=~".+"} | line_format "{{ .app }}" [1m]))`,
	`{app=~".+"}`, `{app="a1"}`, `{app="a1",pod=~"p0.*"} |= "error"`, `{app!="a2",pod=~".+"} | logfmt | code = "300"`,
	`{app=~".+"} | trace="00000002"`, `{app=~".+"} | detected_level="warn" != "took 1"`, `{nope="",pod=~".+"} |~ "took [0-9]+5ms"`,
	`sum by (app) (count_over_time({app=~".+"}[1m]))`, `count_over_time({app="a0"} |= "error" [30s])`,
	`sum by (detected_level) (rate({app=~"a[01]"}[1m]))`, `sum by (code) (sum_over_time({app=~".+"} | logfmt | unwrap code [2m]))`,
	`topk(2, sum by (pod) (bytes_over_time({app=~".+"} !~ "warn|info" [1m])))`, `sum by (trace) (count_over_time({app=~".+"}[1m]))`,
}

// The engine answers from a block as from the store in memory that it was copied from.
func TestEngineEqualsMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := enginetest.NewStore(drawEntries(t)...)
		o := &object{b: copyOf(t, store, block.Options{
			RowGroupBytes: rapid.SampledFrom([]int{300, 3000, 50000, 0}).Draw(t, "group"), SectionBytes: rapid.SampledFrom([]int64{5000, 50000, 0}).Draw(t, "section"),
			Whole: rapid.IntRange(0, 3).Draw(t, "whole") == 0})}
		r := openBlock(t, o)
		if err := r.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
		cache := blockstore.NewCache(rapid.SampledFrom([]int64{0, 10000, 1 << 30}).Draw(t, "cache"), nil)
		blocks := blockstore.NewStore(r, cache)
		for range 4 {
			expr, err := syntax.ParseExpr(rapid.SampledFrom(queries).Draw(t, "query"))
			if err != nil {
				t.Fatal(err)
			}
			start := int64(rapid.IntRange(-10, 290).Draw(t, "start")) * sec
			q := engine.RangeQuery{Start: start, End: start + int64(rapid.IntRange(1, 300).Draw(t, "length"))*sec, Step: 30 * time.Second,
				Limit: rapid.SampledFrom([]int{0, 1, 7, 100}).Draw(t, "limit"), Backward: rapid.Bool().Draw(t, "backward")}
			q.Expr = expr
			run := func(s ...engine.Store) string {
				q := q
				for i, s := range s {
					q.Sources = append(q.Sources, engine.Local(s, fmt.Sprint(i)))
				}
				res, err := engine.New(engine.Options{}).Range(context.Background(), q)
				if err != nil {
					t.Fatal(len(s), expr, err)
				}
				return dump(res)
			}
			want := run(store)
			if got := run(blocks); got != want {
				t.Fatalf("%s %+v\n got %s\nwant %s", expr, q, got, want)
			}
			if got := run(store, blocks); got != want {
				t.Fatalf("united: %s %+v\n got %s\nwant %s", expr, q, got, want)
			}
		}
	})
}

// tb is a testing.TB or a rapid.T.
type tb interface {
	Helper()
	Fatal(...any)
}

func dump(res *engine.Result) string { return fmt.Sprintf("%+v %+v", dumpStreams(res), res.Matrix) }
func dumpStreams(r *engine.Result) (out []string) {
	for _, s := range r.Streams {
		for _, e := range s.Entries {
			out = append(out, fmt.Sprintf("%v %d %s %v %v", s.Labels, e.Time, e.Line, e.Metadata, e.Parsed))
		}
	}
	return out
}

// The rows of a stream over any range, in either direction, are those that it has.
func TestRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := enginetest.NewStore(drawEntries(t)...)
		o := &object{b: copyOf(t, store, block.Options{RowGroupBytes: rapid.SampledFrom([]int{300, 3000, 0}).Draw(t, "group")})}
		blocks := blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil))
		start := int64(rapid.IntRange(-10, 290).Draw(t, "start")) * sec
		end := start + int64(rapid.IntRange(0, 300).Draw(t, "length"))*sec
		m := []*syntax.Matcher{syntax.MustMatcher(syntax.Re, "pod", rapid.SampledFrom([]string{".*", "p0.", "p07", "x|"}).Draw(t, "pods"))}
		first := rapid.SampledFrom([]int{0, 1, 5, 1000}).Draw(t, "rows that may be enough")
		read := func(s engine.Store, backward bool) map[string][]string {
			sn, err := s.Open(context.Background(), m, start, end)
			if err != nil {
				t.Fatal(err)
			}
			defer sn.Close()
			out := map[string][]string{}
			for i, st := range sn.Streams() {
				if i > 0 && sn.Streams()[i-1].Labels.Compare(st.Labels) >= 0 {
					t.Fatal("streams do not ascend")
				}
				r := sn.Rows(i, start, end, backward)
				if sparing, ok := r.(engine.Sparing); ok && first > 0 {
					sparing.First(first)
				}
				var last *model.OrderKey
				for {
					rows, from, to, err := r.Next()
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					var batch []string
					for k := from; k < to; k++ {
						key := rows.Key(k)
						key.Hash = rows.Hash(k)
						batch = append(batch, fmt.Sprint(key, string(rows.Lines.At(k)), rows.AppendMetadata(nil, k), rows.AppendDerived(nil, k)))
						if !backward {
							if last != nil && last.Compare(key) >= 0 {
								t.Fatal("rows do not ascend")
							}
							last = &key
						}
					}
					if backward {
						slices.Reverse(batch)
					}
					out[st.Labels.String()] = append(out[st.Labels.String()], batch...)
				}
			}
			return out
		}
		for _, backward := range []bool{false, true} {
			if got, want := fmt.Sprint(read(blocks, backward)), fmt.Sprint(read(store, backward)); got != want {
				t.Fatalf("backward %v\n got %s\nwant %s", backward, got, want)
			}
		}
	})
}

// A failure to read is the query's, and is not kept.
func TestReadsFail(t *testing.T) {
	store := enginetest.NewStore(enginetest.Entry{Labels: model.Labels{{Name: "a", Value: "b"}}, Time: 5, Line: "x"})
	o := &object{b: copyOf(t, store, block.Options{})}
	blocks := blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil))
	sn, err := blocks.Open(context.Background(), nil, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	o.fail = errors.New("no disk")
	if _, _, _, err := sn.Rows(0, 0, 10, false).Next(); !errors.Is(err, o.fail) {
		t.Fatal(err)
	}
	o.fail = nil
	if _, from, to, err := sn.Rows(0, 0, 10, false).Next(); err != nil || to-from != 1 {
		t.Fatal(err)
	}
}

// Select gives exactly the rows whose lines match, and none is missing that has what
// else is asked for; batches hold what is needed of them.
func TestSelect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := enginetest.NewStore(drawEntries(t)...)
		o := &object{b: copyOf(t, store, block.Options{RowGroupBytes: rapid.SampledFrom([]int{3000, 0}).Draw(t, "group"),
			NoGrams: rapid.Bool().Draw(t, "no grams"), Whole: rapid.IntRange(0, 3).Draw(t, "whole") == 0})}
		cache := blockstore.NewCache(rapid.SampledFrom([]int64{0, 1 << 30}).Draw(t, "cache"), nil)
		blocks := blockstore.NewStore(openBlock(t, o), cache)
		need := &engine.Need{Lines: rapid.Bool().Draw(t, "lines"), Meta: rapid.Bool().Draw(t, "meta"), Hashes: rapid.Bool().Draw(t, "hashes"), Lengths: rapid.Bool().Draw(t, "lengths")}
		type filter struct {
			text string
			keep func(line string) bool
		}
		var keep []func(string) bool
		for _, f := range rapid.SliceOfN(rapid.SampledFrom([]filter{
			{`|= "error"`, func(l string) bool { return strings.Contains(l, "error") }},
			{`!= "took 1"`, func(l string) bool { return !strings.Contains(l, "took 1") }},
			{`|~ "code=[23]00"`, func(l string) bool { return strings.Contains(l, "code=200") || strings.Contains(l, "code=300") }},
			{`!~ "(?i)WARN"`, func(l string) bool { return !strings.Contains(l, "warn") }},
			{`|= "nothing"`, func(string) bool { return false }},
			{`|= "info" or "7ms"`, func(l string) bool { return strings.Contains(l, "info") || strings.Contains(l, "7ms") }},
			{`|= "level="`, func(string) bool { return true }},
		}), 0, 2).Draw(t, "filters") {
			q, err := syntax.ParseLogQuery(`{a="b"} ` + f.text)
			if err != nil {
				t.Fatal(err)
			}
			need.Filters = append(need.Filters, q.Stages[0].(*syntax.LineFilter))
			keep = append(keep, f.keep)
		}
		if rapid.Bool().Draw(t, "any") {
			need.Any = [][]string{{"code=400", "took 9"}}
		}
		if rapid.Bool().Draw(t, "metadata") {
			need.Metadata = []engine.MetaEquals{rapid.SampledFrom([]engine.MetaEquals{{Name: "trace", Value: "00000001"}, {Name: "detected_level", Value: "warn"}, {Name: "x", Value: "y"}}).Draw(t, "pair")}
		}
		need.Values = rapid.SliceOfN(rapid.SampledFrom([]engine.MetaEquals{
			{Name: "trace", Value: "00000001"}, {Name: "detected_level", Value: "warn"}, {Name: "code", Value: "code=400"}, {Name: "x", Value: "nowhere"},
		}), 0, 2).Draw(t, "values")
		start := int64(rapid.IntRange(-10, 290).Draw(t, "start")) * sec
		end := start + int64(rapid.IntRange(0, 300).Draw(t, "length"))*sec
		twin, err := store.Open(context.Background(), nil, start, end)
		if err != nil {
			t.Fatal(err)
		}
		defer twin.Close()
		sn, err := blocks.Open(context.Background(), nil, start, end)
		if err != nil {
			t.Fatal(err)
		}
		defer sn.Close()
		sel := sn.(engine.Selective).Select(context.Background(), need)
		number := map[string]int{}
		for i, st := range sel.Streams() {
			number[st.Labels.String()] = i
		}
		for i, st := range twin.Streams() {
			var may, must []string // rows that match the filters, and of them those with the rest
			each(t, twin.Rows(i, start, end, false), func(rows *model.Rows, k int) {
				line := string(rows.Lines.At(k))
				for _, f := range keep {
					if !f(line) {
						return
					}
				}
				key := rows.Key(k)
				key.Hash = 0
				text := fmt.Sprint(key)
				if need.Lines && need.Lengths && !need.Hashes {
					text += fmt.Sprint(" of ", len(line))
				}
				may = append(may, text)
				for _, any := range need.Any {
					if !slices.ContainsFunc(any, func(s string) bool { return strings.Contains(line, s) }) {
						return
					}
				}
				for _, m := range need.Values {
					if string(value(rows.Metadata, m.Name, k)) != m.Value && string(value(rows.Derived, m.Name, k)) != m.Value &&
						!strings.Contains(line, m.Value) && !strings.Contains(line, `\`) {
						return
					}
				}
				for _, m := range need.Metadata {
					if string(value(rows.Metadata, m.Name, k)) != m.Value && string(value(rows.Derived, m.Name, k)) != m.Value {
						return
					}
				}
				must = append(must, text)
			})
			var got []string
			each(t, sel.Rows(number[st.Labels.String()], start, end, false), func(rows *model.Rows, k int) {
				key := rows.Key(k)
				key.Hash = 0
				text := fmt.Sprint(key)
				if need.Lines && need.Lengths && !need.Hashes {
					text += fmt.Sprint(" of ", len(rows.Lines.At(k)))
				}
				got = append(got, text)
				if need.Lines && rows.Lines.Len() != rows.Len() || !need.Lines && !need.Hashes && rows.Lines.Ends != nil {
					t.Fatalf("%d lines of %d rows", rows.Lines.Len(), rows.Len())
				}
				if need.Hashes && rows.Hashes[k] == 0 {
					t.Fatal("no hash")
				}
			})
			for _, s := range got {
				if !slices.Contains(may, s) {
					t.Fatalf("row %s is not wanted", s)
				}
			}
			k := 0
			for _, s := range got {
				if k < len(must) && must[k] == s {
					k++
				}
			}
			if k < len(must) {
				t.Fatalf("row %s is missing", must[k])
			}
		}
	})
}

func value(set []model.Column, name string, row int) []byte {
	for i := range set {
		if set[i].Name == name {
			return set[i].At(row)
		}
	}
	return nil
}

func each(t tb, r engine.RowReader, f func(rows *model.Rows, row int)) {
	for {
		rows, from, to, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for k := from; k < to; k++ {
			f(rows, k)
		}
	}
}
