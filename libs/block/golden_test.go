package block_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
)

var update = flag.Bool("update", false, "write the golden files of the current version anew")

// goldenStreams has every way to store a column, lines of every sort, and an order of
// rows that only batch times and positions tell. It never changes: golden files of old
// versions hold it.
func goldenStreams() []stream {
	const start = 1772368215123456789 // 2026-03-01T12:30:15.123456789Z
	var ss []stream
	for k := range 5 {
		pairs := []model.Label{{Name: "pod", Value: fmt.Sprintf("p-%d", k)}, {Name: "env", Value: "prod"}}
		if k > 1 {
			pairs = append(pairs, model.Label{Name: "service_name", Value: fmt.Sprintf("s%d", k/3)})
		}
		if k == 4 {
			pairs = append(pairs, model.Label{Name: "raw", Value: "\xff\x00"})
		}
		s := stream{labels: model.NewLabels(pairs)}
		for i := range 60 {
			at := int64(start) + int64(k)*1e9 + int64(i/3)*40e9
			x := row{time: at, batch: at/60e9*60e9 + int64(i%2), position: uint32(i),
				line: fmt.Sprintf("%s level=%s id=%08x", time.Unix(0, at).UTC().Format(time.RFC3339Nano), []string{"info", "warn"}[i&1], uint32(i+1)*2654435761)}
			x.derived, x.version = map[string]string{"detected_level": []string{"info", "warn"}[i&1]}, uint32(1+k/4)
			switch {
			case i == 7:
				x.line = ""
			case i == 8:
				x.line = strings.Repeat("\x00\xff", 100)
			case i%10 == 5:
				x.copies, x.derived = uint32(i), nil
			}
			x.sent = append(x.sent, model.Label{Name: "all", Value: "same"})
			if i%3 == 0 {
				x.sent = append(x.sent, model.Label{Name: "some", Value: fmt.Sprintf("%x", i*k)})
			}
			if i == 13 {
				x.sent = append(x.sent, model.Label{Name: "trace", Value: "0af7651916cd43dd8448eb211c80319c"})
			}
			s.rows = append(s.rows, x)
		}
		ss = append(ss, s)
	}
	return sorted(ss)
}

func goldenMeta(ordered bool) block.Meta {
	return block.Meta{ID: "0000", Tenant: "acme", Partition: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Level: 1, Ordered: ordered,
		Sources:    []catalog.Source{{ID: "0001", Part: 0, Of: 1}, {ID: "0002", Part: 1, Of: 2, Merge: "m"}},
		Tombstones: []string{"t1"}}
}

func allOf(t testing.TB, r *block.Reader) []string {
	t.Helper()
	var got []string
	if err := r.Each(context.Background(), func(ls model.Labels, rows *model.Rows) error {
		for _, s := range texts(t, rows) {
			got = append(got, ls.String()+s)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// Blocks that any version has written are read for ever.
func TestGoldenBlocks(t *testing.T) {
	if *update {
		for _, ordered := range []bool{false, true} {
			b, _ := write(t, goldenStreams(), goldenMeta(ordered), block.Options{RowGroupBytes: 6000, SectionBytes: 15000}, 25)
			if err := os.WriteFile(filepath.Join("testdata", fmt.Sprintf("block-v1.1-ordered-%v.golden", ordered)), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	paths, _ := filepath.Glob(filepath.Join("testdata", "block-*.golden"))
	if len(paths) == 0 {
		t.Fatal("no golden files")
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := open(t, b)
		if err := r.Verify(context.Background()); err != nil {
			t.Fatal(path, err)
		}
		ordered := strings.Contains(path, "true")
		if got, want := fmt.Sprintf("%+v", r.Info().Meta), fmt.Sprintf("%+v", goldenMeta(ordered)); got != want {
			t.Fatalf("%s: %s, want %s", path, got, want)
		}
		var all []string
		for _, s := range goldenStreams() {
			for _, x := range want(t, s, ordered) {
				all = append(all, s.labels.String()+x)
			}
		}
		if !slices.Equal(allOf(t, r), all) {
			t.Fatal(path, "other rows")
		}
	}
}

// A block of which any byte is another is an error or gives the same answers.
func TestFlippedBytes(t *testing.T) {
	ss := goldenStreams()
	for i := range ss {
		ss[i].rows = ss[i].rows[:16]
	}
	good, _ := write(t, ss, goldenMeta(false), block.Options{RowGroupBytes: 2500, SectionBytes: 5000}, 100)
	r0 := open(t, good)
	want := allOf(t, r0)
	ctx := context.Background()
	refused, verified := 0, 0
	stride := 1
	if os.Getenv("WEIR_FEWER") != "" { // as in the run with the race detector
		stride = 5
	}
	for i := 0; i < len(good); i += stride {
		for _, bit := range []byte{1, 0x80, 0xff} {
			b := slices.Clone(good)
			b[i] ^= bit
			r, err := block.Open(ctx, &memory{b: b}, int64(len(b)))
			if err != nil {
				refused++
				continue
			}
			if err := r.Verify(ctx); err == nil {
				verified++
			} else if !errors.Is(err, column.ErrCorrupt) || !strings.Contains(err.Error(), "block 0000") {
				t.Fatalf("byte %d ^ %x: %v", i, bit, err)
			}
			var got []string
			err = r.Each(ctx, func(ls model.Labels, rows *model.Rows) error {
				for k := range rows.Len() {
					got = append(got, ls.String()+text(rows, k))
				}
				return nil
			})
			if err != nil && !strings.Contains(err.Error(), "section") {
				t.Fatalf("byte %d ^ %x: %v", i, bit, err)
			}
			if err == nil && !slices.Equal(got, want) || !slices.Equal(got, want[:min(len(got), len(want))]) {
				t.Fatalf("byte %d ^ %x: other rows", i, bit)
			}
		}
	}
	// Minor versions of sections of lines say nothing to this reader.
	if verified > 3*2*r0.Sections() {
		t.Fatalf("%d blocks with another byte verified", verified)
	}
	if refused == 0 || refused >= 3*((len(good)+stride-1)/stride) {
		t.Fatal(refused)
	}
	for _, n := range []int{0, 1, 20, len(good) / 2, len(good) - 1} {
		if _, err := block.Open(ctx, &memory{b: good[:n]}, int64(n)); !errors.Is(err, column.ErrCorrupt) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if _, err := block.ReadInfo(ctx, &memory{b: good[:n]}, int64(n)); !errors.Is(err, column.ErrCorrupt) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// What a writer refuses.
func TestWriterRefuses(t *testing.T) {
	a, b := model.Labels{{Name: "a", Value: "1"}}, model.Labels{{Name: "a", Value: "2"}}
	one := func(times ...int64) *model.Rows {
		r := &model.Rows{}
		for _, at := range times {
			r.Times = append(r.Times, at)
			r.Lines.AppendString("x")
		}
		return r
	}
	for name, add := range map[string]func(*block.Writer) error{
		"streams that do not ascend": func(w *block.Writer) error { return errors.Join(w.Add(b, one(1)), w.Add(a, one(1))) },
		"a stream twice":             func(w *block.Writer) error { return errors.Join(w.Add(a, one(1)), w.Add(b, one(1)), w.Add(a, one(2))) },
		"rows that do not ascend":    func(w *block.Writer) error { return w.Add(a, one(2, 1)) },
		"a row twice":                func(w *block.Writer) error { return errors.Join(w.Add(a, one(1)), w.Add(a, one(1))) },
		"labels that are no set":     func(w *block.Writer) error { return w.Add(model.Labels{{Name: "b"}}, one(1)) },
		"rows that do not fit":       func(w *block.Writer) error { return w.Add(a, &model.Rows{Times: []int64{1}}) },
		"a line that is too long": func(w *block.Writer) error {
			r := &model.Rows{Times: []int64{1}}
			r.Lines.Append(make([]byte, block.MaxLine+1))
			return w.Add(a, r)
		},
		"metadata that is too long": func(w *block.Writer) error {
			r := one(1)
			r.Metadata = []model.Column{{Name: "m"}}
			r.Metadata[0].Append(0, make([]byte, block.MaxRowMetadata))
			return w.Add(a, r)
		},
	} {
		w := block.NewWriter(&bytes.Buffer{}, block.Meta{}, block.Options{})
		if err := add(w); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := w.Close(); err == nil {
			t.Errorf("%s: closed", name)
		}
	}
	w := block.NewWriter(failing{}, block.Meta{}, block.Options{})
	if _, err := w.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

// A writer that is used again writes what a new one does, whatever it did before.
func TestWriterReset(t *testing.T) {
	var buf bytes.Buffer
	w := block.NewWriter(&buf, block.Meta{ID: "x", Ordered: true}, block.Options{RowGroupBytes: 6000, SectionBytes: 15000})
	for n := range 3 {
		for i, s := range goldenStreams() {
			if n == 1 && i == 3 {
				break // given up
			}
			if err := w.Add(s.labels, rowsOf(s.rows, n == 0)); err != nil {
				t.Fatal(err)
			}
		}
		if n != 1 {
			if _, err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n < 2 {
			buf.Reset()
			w.Reset(&buf, goldenMeta(false))
		}
	}
	want, _ := write(t, goldenStreams(), goldenMeta(false), block.Options{RowGroupBytes: 6000, SectionBytes: 15000}, 100)
	if !bytes.Equal(buf.Bytes(), want) {
		t.Error("other bytes")
	}
}

// A line longer than a row group has one of its own, and comes back.
func TestLongLines(t *testing.T) {
	s := stream{labels: model.Labels{{Name: "a", Value: "b"}}}
	for i := range 6 {
		line := "short"
		if i&1 == 1 {
			line = strings.Repeat("long 7 ", 150000)
		}
		s.rows = append(s.rows, row{time: int64(i), line: line})
	}
	b, info := write(t, []stream{s}, block.Meta{ID: "b"}, block.Options{RowGroupBytes: 1 << 16}, 100)
	if info.RowGroups != 6 {
		t.Errorf("%d row groups", info.RowGroups)
	}
	r := open(t, b)
	if err := r.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := allOf(t, r); len(got) != 6 || len(got[1]) < 1000000 {
		t.Fatal(len(got))
	}
}

// goldenIDs is a stream of lines with ids, of which gram matrices keep few grams.
func goldenIDs() (ss []stream, ids []string) {
	r := rand.New(rand.NewPCG(4, 8))
	s := stream{labels: model.NewLabels([]model.Label{{Name: "app", Value: "ids"}})}
	for i := range 250 {
		line := fmt.Sprintf("%d", r.Uint64())
		if i%6 == 0 {
			ids = append(ids, fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()))
			line = fmt.Sprintf("request %s done, %d more", ids[len(ids)-1], r.IntN(1000))
		}
		s.rows = append(s.rows, row{time: 1772368215e9 + int64(i)*1e9, line: line})
	}
	return sorted([]stream{s}), ids
}

// Which grams a matrix has depends on the minor version: none is asked for that older
// versions left out.
func TestGoldenIDs(t *testing.T) {
	ss, ids := goldenIDs()
	current, _ := write(t, ss, goldenMeta(true), block.Options{}, 100)
	if *update {
		if err := os.WriteFile(filepath.Join("testdata", "ids-v1.1.golden"), current, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string][]byte{"what is written now": current}
	for _, name := range []string{"ids-v1.0.golden", "ids-v1.1.golden"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	for name, b := range files {
		s, err := open(t, b).ReadSection(context.Background(), 0)
		if err != nil {
			t.Fatal(name, err)
		}
		for _, id := range ids {
			if !s.Grams.Needle([]byte(id), false).Has(0) || !s.Grams.Needle([]byte(id[3:28]), true).Has(0) {
				t.Fatalf("%s: %s is ruled out", name, id)
			}
		}
		ruled, r := 0, rand.New(rand.NewPCG(1, 1))
		for range 100 {
			if !s.Grams.Needle(fmt.Appendf(nil, "%016x%016x", r.Uint64(), r.Uint64()), false).Has(0) {
				ruled++
			}
		}
		if name != "ids-v1.0.golden" && ruled < 75 {
			t.Errorf("%s: of 100 ids that are nowhere %d are ruled out", name, ruled)
		}
	}
}
