package block_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/model"
)

// traced is a stream whose lines hold ids in several ways, which its metadata has as
// well: of rows whose number is in odd another one than the line.
func traced(seed uint64, n int, odd map[int]bool) stream {
	r := rand.New(rand.NewPCG(seed, 2))
	s := stream{labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", seed)}})}
	for i := range n {
		trace, user := fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()), fmt.Sprintf("user-%08d", r.IntN(1e8))
		x := row{time: 1772368215123456789 + int64(i)*1e6, position: uint32(i)}
		has := true
		switch r.IntN(5) {
		case 0:
			x.line = "GET / trace_id=" + trace
		case 1:
			x.line = fmt.Sprintf(`{"n":%d,"msg":"paid","traceID":"%s","user":"%s"}`, i, trace, user)
		case 2: // the id is the second of its column
			x.line = fmt.Sprintf("parent trace_id=%032x of trace_id=%s", r.Uint64(), trace)
		case 3:
			x.line = trace + " began"
		default:
			x.line, has = fmt.Sprintf("nothing %d", i), false
		}
		if odd[i] {
			trace = fmt.Sprintf("%032x", i)
		}
		if has {
			x.sent = model.Labels{{Name: "trace_id", Value: trace}}
		}
		x.sent = append(x.sent, model.Label{Name: "zone", Value: "eu"})
		s.rows = append(s.rows, x)
	}
	return s
}

// Ids that lines hold are not stored again as metadata, and are metadata for all that.
func TestMetadataThatIsInTheLine(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(rt *rapid.T) {
		seed, n := rapid.Uint64Range(0, 1000).Draw(rt, "seed"), rapid.SampledFrom([]int{10, 300, 900}).Draw(rt, "rows")
		odd := map[int]bool{}
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 2).Draw(rt, "odd") {
			odd[i] = true
		}
		ss := sorted([]stream{traced(seed, n, odd), traced(seed+1, n/2, nil)})
		b, _ := write(t, ss, goldenMeta(true), block.Options{RowGroupBytes: rapid.SampledFrom([]int{4000, 30_000, 1 << 20}).Draw(rt, "group")}, 700)
		r := open(t, b)
		if err := r.Verify(ctx); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, s := range ss {
			for _, x := range want(t, s, true) {
				all = append(all, s.labels.String()+x)
			}
		}
		if !slices.Equal(allOf(t, r), all) {
			t.Fatal("other rows")
		}
		var rows []row
		for _, s := range ss {
			rows = append(rows, s.rows...)
		}
		first := 0
		for g := range r.RowGroups() {
			sec, _ := r.Place(g)
			section, err := r.ReadSection(ctx, sec)
			if err != nil {
				t.Fatal(err)
			}
			rg, err := r.ReadRowGroup(ctx, section, g)
			if err != nil {
				t.Fatal(err)
			}
			group := rows[first : first+rg.Body.Info().Rows]
			first += len(group)
			of, values, err := rg.Metadata.Values("trace_id")
			if err != nil {
				t.Fatal(err)
			}
			for i, x := range group {
				got := ""
				if of[i] > 0 {
					got = values[of[i]-1]
				}
				if want := x.sent.Get("trace_id"); got != want {
					t.Fatalf("row %d of row group %d: %q, want %q", i, g, got, want)
				} else if want != "" {
					var marked []int
					if err := rg.Metadata.Mark("trace_id", want, func(row int) { marked = append(marked, row) }); err != nil || !slices.Equal(marked, []int{i}) {
						t.Fatalf("row %d of row group %d: marked %d, %v", i, g, marked, err)
					}
				}
				if i > 8 {
					break
				}
			}
		}
	})
	size := func(change func(*row)) int64 {
		s := traced(7, 4000, nil)
		for i := range s.rows {
			change(&s.rows[i])
		}
		_, info := write(t, []stream{s}, goldenMeta(true), block.Options{NoGrams: true}, 5000)
		return info.Size
	}
	with, without := size(func(*row) {}), size(func(x *row) { x.sent = x.sent[len(x.sent)-1:] })
	if with > without+500 {
		t.Errorf("%d bytes with ids as metadata, %d without", with, without)
	}
}

// Blocks with metadata that is in the lines, of any version that wrote them.
func TestGoldenSlots(t *testing.T) {
	ss := sorted([]stream{traced(1, 200, nil), traced(2, 100, map[int]bool{50: true})})
	path := filepath.Join("testdata", "slots", "block-v1-slots.golden")
	if *update {
		b, _ := write(t, ss, goldenMeta(true), block.Options{RowGroupBytes: 6000, SectionBytes: 15000}, 25)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, b)
	if err := r.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range ss {
		for _, x := range want(t, s, true) {
			all = append(all, s.labels.String()+x)
		}
	}
	if !slices.Equal(allOf(t, r), all) {
		t.Fatal("other rows")
	}
}
