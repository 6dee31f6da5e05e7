package unite

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/model"
)

type row struct {
	time, batch int64
	position    uint32
	line, meta  string
	level       string
	version     uint32
}

type identity struct {
	stream     string
	time       int64
	line, meta string
}

// source draws streams of rows such that an entry occurs once.
func source(t *rapid.T, name string) map[string][]row {
	out := map[string][]row{}
	version := uint32(rapid.IntRange(1, 3).Draw(t, "version")) // a column has one
	for _, s := range []string{"a", "b", "c"} {
		seen := map[identity]bool{}
		n := rapid.IntRange(0, 12).Draw(t, name+s)
		for range n {
			r := row{
				time: int64(rapid.IntRange(-2, 6).Draw(t, "time")), batch: int64(rapid.IntRange(1, 3).Draw(t, "batch")),
				position: uint32(rapid.IntRange(0, 3).Draw(t, "position")), line: rapid.SampledFrom([]string{"", "x", "yy"}).Draw(t, "line"),
				meta: rapid.SampledFrom([]string{"", "m"}).Draw(t, "meta"), version: version,
			}
			r.level = fmt.Sprint("level", r.version)
			id := identity{s, r.time, r.line, r.meta}
			if !seen[id] {
				seen[id] = true
				out[s] = append(out[s], r)
			}
		}
	}
	return out
}

func rowsOf(list []row) *model.Rows {
	all := &model.Rows{}
	for _, r := range list {
		one := &model.Rows{Times: []int64{r.time}}
		one.Lines.AppendString(r.line)
		if r.meta != "" {
			c := model.Column{Name: "k"}
			c.AppendString(0, r.meta)
			one.Metadata = []model.Column{c}
		}
		d := model.Column{Name: "level", Version: r.version}
		d.AppendString(0, r.level)
		one.Derived = []model.Column{d}
		appendRow(all, one, 0, model.OrderKey{Time: r.time, BatchTime: r.batch, Position: r.position, Hash: one.Hash(0)})
	}
	return all
}

func labels(s string) model.Labels { return model.NewLabels([]model.Label{{Name: "s", Value: s}}) }

func each(streams map[string][]row, size int) Each {
	return func(yield func(model.Labels, *model.Rows) error) error {
		for _, s := range []string{"a", "b", "c"} {
			list := slices.Clone(streams[s])
			key := func(r row) model.OrderKey { return rowsOf([]row{r}).Key(0) }
			slices.SortFunc(list, func(a, b row) int { return key(a).Compare(key(b)) })
			for part := range slices.Chunk(list, size) {
				rows := rowsOf(part)
				if err := yield(labels(s), rows); err != nil {
					return err
				}
				// The batch is not theirs any more.
				for i := range rows.Lines.Slab {
					rows.Lines.Slab[i] = '!'
				}
				clear(rows.Times)
				clear(rows.Hashes)
			}
		}
		return nil
	}
}

func TestUnionIsThatOfSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type kept struct {
			key     model.OrderKey
			version uint32
		}
		want := map[identity]kept{}
		var sources []Each
		in := 0
		for i := range rapid.IntRange(0, 4).Draw(t, "sources") {
			src := source(t, fmt.Sprint("source", i))
			sources = append(sources, each(src, rapid.IntRange(1, 5).Draw(t, "batch")))
			for s, list := range src {
				for _, r := range list {
					in++
					id := identity{s, r.time, r.line, r.meta}
					k := rowsOf([]row{r}).Key(0)
					w, ok := want[id]
					if !ok || k.Compare(w.key) < 0 {
						w.key = k
					}
					w.version = max(w.version, r.version)
					want[id] = w
				}
			}
		}
		var last model.OrderKey
		var stream model.Labels
		n := 0
		stats, err := Streams(sources, model.Labels.Compare, func(ls model.Labels, rows *model.Rows) error {
			if stream != nil && ls.Compare(stream) < 0 {
				t.Fatalf("stream %s comes after %s", ls, stream)
			}
			same := stream.Equal(ls) && stream != nil
			stream = ls
			if err := rows.Check(); err != nil {
				t.Fatal(err)
			}
			for i := range rows.Times {
				key := rows.Key(i)
				if same && key.Compare(last) <= 0 {
					t.Fatalf("%v comes after %v", key, last)
				}
				last, same = key, true
				meta := ""
				for _, l := range rows.AppendMetadata(nil, i) {
					meta += l.Value
				}
				w, ok := want[identity{ls.Get("s"), rows.Times[i], string(rows.Lines.At(i)), meta}]
				if !ok || w.key != key {
					t.Fatalf("row %v of %s; want %v, %t", key, ls, w.key, ok)
				}
				if got := rows.AppendDerived(nil, i); len(got) != 1 || got[0].Value != fmt.Sprint("level", w.version) {
					t.Fatalf("derived %v, want of version %d", got, w.version)
				}
				n++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n != len(want) || stats.In != uint64(in) || stats.Out != uint64(n) || stats.Copies != uint64(in-n) {
			t.Fatalf("%d rows, %+v; want %d of %d", n, stats, len(want), in)
		}
	})
}

func TestErrorsEndIt(t *testing.T) {
	bad := errors.New("bad")
	good := each(map[string][]row{"a": {{time: 1, line: "x"}}, "b": {{time: 1, line: "x"}}}, 1)
	fails := func(yield func(model.Labels, *model.Rows) error) error {
		if err := yield(labels("a"), rowsOf([]row{{time: 2}})); err != nil {
			return err
		}
		return bad
	}
	add := func(model.Labels, *model.Rows) error { return nil }
	if _, err := Streams([]Each{good, fails}, model.Labels.Compare, add); !errors.Is(err, bad) {
		t.Errorf("error %v of a source", err)
	}
	if _, err := Streams([]Each{good, good}, model.Labels.Compare, func(model.Labels, *model.Rows) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("error %v of add", err)
	}
}
