package block_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
)

// memory is an object in memory that counts how it is read.
type memory struct {
	b     []byte
	reads int
	bytes int
}

func (m *memory) ReadRange(_ context.Context, off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || off+int64(n) > int64(len(m.b)) {
		return nil, fmt.Errorf("no bytes [%d, +%d) of %d", off, n, len(m.b))
	}
	m.reads++
	m.bytes += n
	return m.b[off : off+int64(n) : off+int64(n)], nil
}

// row is an entry of the naive twin.
type row struct {
	time, batch int64
	position    uint32
	copies      uint32
	line        string
	sent        model.Labels
	derived     map[string]string
	version     uint32
}

type stream struct {
	labels model.Labels
	rows   []row
}

func (r *row) append(dst *model.Rows, ordered bool) {
	n := dst.Len()
	dst.Times = append(dst.Times, r.time)
	dst.Lines.AppendString(r.line)
	if !ordered {
		dst.BatchTimes = append(dst.BatchTimes, r.batch)
		dst.Positions = append(dst.Positions, r.position)
	}
	dst.Copies = append(dst.Copies, r.copies)
	put := func(set *[]model.Column, name, value string, version uint32) {
		i := sort.Search(len(*set), func(i int) bool { return (*set)[i].Name >= name })
		if i == len(*set) || (*set)[i].Name != name {
			*set = slices.Insert(*set, i, model.Column{Name: name, Version: version})
		}
		(*set)[i].AppendString(n, value)
		(*set)[i].Version = max((*set)[i].Version, version)
	}
	for _, l := range r.sent {
		put(&dst.Metadata, l.Name, l.Value, 0)
	}
	for k, v := range r.derived {
		put(&dst.Derived, k, v, r.version)
	}
	for _, set := range [][]model.Column{dst.Metadata, dst.Derived} {
		for i := range set {
			set[i].Finish(n + 1)
		}
	}
}

func rowsOf(rs []row, ordered bool) *model.Rows {
	dst := &model.Rows{}
	for i := range rs {
		rs[i].append(dst, ordered)
	}
	return dst
}

// sorted puts streams and rows in the order of a block and numbers rows that are equal
// in all of their key.
func sorted(ss []stream) []stream {
	slices.SortFunc(ss, func(a, b stream) int { return block.Compare(a.labels, b.labels) })
	ss = slices.CompactFunc(ss, func(a, b stream) bool { return a.labels.Equal(b.labels) })
	for i := range ss {
		type keyed struct {
			row
			key model.OrderKey
		}
		var all []keyed
		for _, r := range ss[i].rows {
			one := rowsOf([]row{r}, false)
			k := one.Key(0)
			k.Hash = one.Hash(0)
			all = append(all, keyed{r, k})
		}
		slices.SortStableFunc(all, func(a, b keyed) int { return a.key.Compare(b.key) })
		all = slices.CompactFunc(all, func(a, b keyed) bool { return a.key.Compare(b.key) == 0 })
		ss[i].rows = ss[i].rows[:0]
		for _, r := range all {
			ss[i].rows = append(ss[i].rows, r.row)
		}
	}
	return slices.DeleteFunc(ss, func(s stream) bool { return len(s.rows) == 0 })
}

func write(t testing.TB, ss []stream, meta block.Meta, o block.Options, batch int) ([]byte, block.Info) {
	t.Helper()
	var buf bytes.Buffer
	w := block.NewWriter(&buf, meta, o)
	for _, s := range ss {
		for from := 0; from < len(s.rows); from += batch {
			if err := w.Add(s.labels, rowsOf(s.rows[from:min(from+batch, len(s.rows))], meta.Ordered)); err != nil {
				t.Fatal(err)
			}
		}
	}
	info, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != int64(buf.Len()) {
		t.Fatalf("size %d, %d were written", info.Size, buf.Len())
	}
	return buf.Bytes(), info
}

func open(t testing.TB, b []byte) *block.Reader {
	t.Helper()
	r, err := block.Open(context.Background(), &memory{b: b}, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if i, err := block.ReadInfo(context.Background(), &memory{b: b}, int64(len(b))); err != nil || !reflect.DeepEqual(i, r.Info()) {
		t.Fatalf("%+v %v alone, %+v of the reader", i, err, r.Info())
	}
	return r
}

// text is all there is to know about a row.
func text(rows *model.Rows, i int) string {
	k := rows.Key(i)
	return fmt.Sprintf("%d %d %d copy %d %q %v %v", k.Time, k.BatchTime, k.Position, rows.Copy(i), rows.Lines.At(i),
		rows.AppendMetadata(nil, i), rows.AppendDerived(nil, i))
}

func texts(t testing.TB, rows *model.Rows) []string {
	t.Helper()
	if err := rows.Check(); err != nil {
		t.Fatal(err)
	}
	out := make([]string, rows.Len())
	for i := range out {
		out[i] = text(rows, i)
	}
	return out
}

// want is what comes out of a block.
func want(t testing.TB, s stream, ordered bool) []string {
	rows := rowsOf(s.rows, ordered)
	if ordered {
		for i := range s.rows {
			p := uint32(0)
			if i > 0 && s.rows[i-1].time == s.rows[i].time {
				p = rows.Positions[i-1] + 1
			}
			rows.Positions = append(rows.Positions, p)
		}
	}
	return texts(t, rows)
}

func drawStreams(t *rapid.T) []stream {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	base := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()
	step := []int64{1, 1e6, 1e9, 60e9, 3600e9}[rapid.IntRange(0, 4).Draw(t, "step")]
	nStreams, nRows := rapid.IntRange(0, 12).Draw(t, "streams"), rapid.SampledFrom([]int{1, 5, 60, 600}).Draw(t, "rows")
	var ss []stream
	for range nStreams {
		pairs := []model.Label{{Name: "pod", Value: fmt.Sprintf("p-%d", r.IntN(20))}}
		if r.IntN(3) > 0 {
			pairs = append(pairs, model.Label{Name: "service_name", Value: fmt.Sprintf("s%d", r.IntN(3))})
		}
		if r.IntN(3) == 0 {
			pairs = append(pairs, model.Label{Name: "job", Value: string([]byte{byte(r.IntN(256)), 'x'})})
		}
		s := stream{labels: model.NewLabels(pairs)}
		at := base + r.Int64N(1e12)
		for range 1 + r.IntN(nRows) {
			at += r.Int64N(step + 1)
			x := row{time: at, batch: at/1e10*1e10 + int64(r.IntN(2)), position: uint32(r.IntN(4)), version: uint32(len(s.labels)) + uint32(at>>40&1)}
			switch r.IntN(12) {
			case 0:
				raw := make([]byte, r.IntN(40))
				for i := range raw {
					raw[i] = byte(r.Uint32())
				}
				x.line = string(raw)
			case 1:
				x.line = ""
			case 2:
				x.line = strings.Repeat("long ", r.IntN(900))
			default:
				x.line = fmt.Sprintf("%s level=%s id=%08x", time.Unix(0, at).UTC().Format(time.RFC3339Nano), []string{"info", "error"}[r.IntN(2)], r.Uint32())
			}
			if strings.Contains(x.line, "level=error") {
				x.derived = map[string]string{"detected_level": "error"}
			} else if r.IntN(2) == 0 {
				x.derived = map[string]string{"detected_level": "info"}
			}
			for _, name := range []string{"trace_id", "user", "z"} {
				if r.IntN(3) == 0 {
					x.sent = append(x.sent, model.Label{Name: name, Value: fmt.Sprintf("%x", r.Uint32()>>(r.IntN(4)*8))})
				}
			}
			if r.IntN(10) == 0 {
				x.copies = r.Uint32N(5)
			}
			s.rows = append(s.rows, x)
		}
		ss = append(ss, s)
	}
	return sorted(ss)
}

// What goes in comes out, in the order of the block and stream by stream over any range.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ss := drawStreams(rt)
		meta := block.Meta{ID: "b1", Tenant: "t", Level: 2, Ordered: rapid.Bool().Draw(rt, "ordered"),
			Partition: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Tombstones: []string{"x"},
			Sources: []catalog.Source{{ID: "a", Part: 1, Of: 2, Merge: "m"}, {ID: "c", Of: 1}}}
		o := block.Options{RowGroupBytes: rapid.SampledFrom([]int{1, 500, 20000, 0}).Draw(rt, "group"), SectionBytes: rapid.SampledFrom([]int64{1, 5000, 0}).Draw(rt, "section"),
			NoGrams: rapid.IntRange(0, 9).Draw(rt, "grams") > 0, Whole: rapid.IntRange(0, 3).Draw(rt, "whole") == 0}
		b, info := write(t, ss, meta, o, rapid.SampledFrom([]int{1, 7, 100000}).Draw(rt, "batch"))
		r := open(t, b)
		if got := r.Info(); fmt.Sprint(got) != fmt.Sprint(info) {
			rt.Fatalf("info %+v, written %+v", got, info)
		}
		if err := r.Verify(context.Background()); err != nil {
			rt.Fatal(err)
		}
		var got []string
		err := r.Each(context.Background(), func(ls model.Labels, rows *model.Rows) error {
			for _, s := range texts(t, rows) {
				got = append(got, ls.String()+s)
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		var all []string
		for _, s := range ss {
			for _, x := range want(t, s, meta.Ordered) {
				all = append(all, s.labels.String()+x)
			}
		}
		if !slices.Equal(got, all) {
			for i := range all {
				if i >= len(got) || got[i] != all[i] {
					rt.Fatalf("row %d of %d (%d):\n%s\n%s", i, len(all), len(got), all[i], got[min(i, len(got)-1)])
				}
			}
			rt.Fatalf("%d rows, want %d", len(got), len(all))
		}
	})
}

func TestEmpty(t *testing.T) {
	b, info := write(t, nil, block.Meta{ID: "b", Tenant: "t"}, block.Options{}, 1)
	r := open(t, b)
	if err := r.Verify(context.Background()); err != nil || info.Rows != 0 || r.Streams() != 0 || len(r.Match(nil, 0, 1)) != 0 {
		t.Fatal(err, info)
	}
}
