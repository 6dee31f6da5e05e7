package blockstore_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// manySections is a block of lines in several sections.
func manySections(t *testing.T) *object {
	var entries []enginetest.Entry
	for i := range 1500 {
		entries = append(entries, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", i%4)}}),
			Time: int64(i) * sec, BatchTime: 1, Position: uint32(i), Line: fmt.Sprintf("request %x of user %d is done", uint64(i+1)*0x9E3779B97F4A7C15, i),
			Metadata: model.NewLabels([]model.Label{{Name: "trace", Value: fmt.Sprint("t", i%300)}})})
	}
	return &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{RowGroupBytes: 8 << 10, SectionBytes: 20 << 10})}
}

func answer(t *testing.T, store *blockstore.Store, query string) (lines []string, err error) {
	t.Helper()
	expr, err := syntax.ParseExpr(query)
	if err != nil {
		t.Fatal(err)
	}
	res, err := engine.New(engine.Options{}).Range(t.Context(), engine.RangeQuery{
		Query: engine.Query{Expr: expr, Sources: []engine.Source{engine.Local(store, "block")}}, Limit: 5000, End: 4000 * sec, Step: 4000e9})
	if err != nil {
		return nil, err
	}
	for _, s := range res.Streams {
		for _, e := range s.Entries {
			lines = append(lines, string(e.Line)+e.Metadata.String())
		}
	}
	for _, s := range res.Matrix {
		lines = append(lines, fmt.Sprint(s))
	}
	return lines, nil
}

// What was read wrong once is read again by the next query, whatever it was and whenever
// it is found out.
func TestWrongReadsAreNotKept(t *testing.T) {
	o := manySections(t)
	healthy := o.b
	r := openBlock(t, o)
	o.reads = nil
	const first, all = `{app="a1"} |= "user 777 is"`, `{app=~".+"} | trace=~"t.*"`
	want, err := answer(t, blockstore.NewStore(r, blockstore.NewCache(1<<20, nil)), all)
	if err != nil || len(want) != 1500 {
		t.Fatalf("%d lines, %v", len(want), err)
	}
	found := 0
	reads := slices.Clone(o.reads)
	for i := range 5 {
		read := reads[len(reads)*i/5]
		for _, at := range []int64{read[0], read[0] + read[1]/3, read[0] + read[1] - 1} {
			store := blockstore.NewStore(r, blockstore.NewCache(64<<20, nil))
			o.b = slices.Clone(healthy)
			o.b[at] ^= 1
			for _, q := range []string{first, all, `count_over_time({app=~".+"} | trace="t7" [1h])`} {
				if _, err := answer(t, store, q); err != nil {
					found++
					if named := (*block.Error)(nil); !errors.As(err, &named) || !errors.Is(err, column.ErrCorrupt) {
						t.Fatalf("byte %d is wrong, %s: %v", at, q, err)
					}
				}
			}
			o.b = healthy
			// What is wrong and was not asked for is still there, until it is.
			if _, err := answer(t, store, all); err != nil && !errors.Is(err, column.ErrCorrupt) {
				t.Fatal(err)
			}
			if got, err := answer(t, store, all); !slices.Equal(got, want) || err != nil {
				t.Fatalf("byte %d was wrong once: %d lines, want %d, %v", at, len(got), len(want), err)
			}
		}
	}
	if found == 0 {
		t.Error("nothing was wrong")
	}
}

// far is an object whose row groups are read whole, or, if it is near, frame by frame.
type far struct {
	*object
	near bool
}

func (f far) Near() bool { return f.near }

// TestEveryFlippedByteInAnswers flips each byte of a small block in turn: every kind of
// question gets an error or the right answer, whichever parts of the block it is answered
// from.
func TestEveryFlippedByteInAnswers(t *testing.T) {
	var entries []enginetest.Entry
	for i := range 48 {
		entries = append(entries, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", i%3)}}),
			Time: int64(i) * sec, BatchTime: 1, Position: uint32(i),
			Line:     fmt.Sprintf(`{"id":"%016x","status":%d,"took":%d,"msg":"user %d"}`, uint64(i+1)*0x9E3779B97F4A7C15, 200+100*(i%4), i*7, i),
			Metadata: model.NewLabels([]model.Label{{Name: "trace", Value: fmt.Sprint("t", i%9)}}),
			Derived:  model.NewLabels([]model.Label{{Name: "detected_level", Value: []string{"info", "error"}[i%2]}})})
	}
	healthy := copyOf(t, enginetest.NewStore(entries...), block.Options{RowGroupBytes: 1500})
	queries := []string{
		`{app=~".+"}`, `{app="a1"} |= "user 7"`, `{app=~".+"} |~ "id.:.[0-9a-f]*7" != "user 1"`, `{app=~".+"} | trace="t3"`,
		`sum by (app, detected_level) (count_over_time({app=~".+"}[2h]))`, `sum by (status) (count_over_time({app=~".+"} | json [2h]))`,
		`sum(sum_over_time({app=~".+"} |= "status" | json | unwrap took [2h]))`,
	}
	ask := func(b []byte, near bool) (answers []string, err error) {
		r, err := block.Open(t.Context(), far{&object{b: b}, near}, int64(len(b)))
		if err != nil {
			return nil, err
		}
		for _, q := range queries {
			// Nothing of a query before is there, or all of it.
			lines, err := answer(t, blockstore.NewStore(r, blockstore.NewCache(1<<20, nil)), q)
			if slices.Sort(lines); err != nil {
				lines = []string{"error"}
				if named := (*block.Error)(nil); !errors.As(err, &named) || !errors.Is(err, column.ErrCorrupt) {
					t.Fatalf("%s: %v", q, err)
				}
			}
			answers = append(answers, fmt.Sprint(lines))
		}
		store := engine.Local(blockstore.NewStore(r, blockstore.NewCache(1<<20, nil)), "block")
		expr, err := syntax.ParseExpr(queries[0])
		if err != nil {
			t.Fatal(err)
		}
		p, err := engine.New(engine.Options{}).Patterns(t.Context(), engine.PatternsQuery{
			Query: engine.Query{Expr: expr, Sources: []engine.Source{store}}, End: 4000 * sec, Width: 4000 * sec})
		if err != nil {
			return append(answers, "error"), nil
		}
		return append(answers, fmt.Sprintf("%+v", p.Patterns)), nil
	}
	want, err := ask(healthy, false)
	if err != nil || slices.Contains(want, "error") || slices.Contains(want, "[]") {
		t.Fatal(want, err)
	}
	refused, failed, right := 0, 0, 0
	stride := 1
	if os.Getenv("WEIR_FEWER") != "" { // as in the run with the race detector
		stride = 5
	}
	for i := 0; i < len(healthy); i += stride {
		b := slices.Clone(healthy)
		b[i] ^= 1 << (i % 8)
		got, err := ask(b, i%2 == 0)
		if err != nil {
			refused++
			continue
		}
		for k, text := range got {
			switch text {
			case want[k]:
				right++
			case "error", "[error]":
				failed++
			default:
				t.Fatalf("byte %d of %d, question %d: %s\nwant %s", i, len(b), k, text, want[k])
			}
		}
	}
	if refused == 0 || failed == 0 || right == 0 {
		t.Errorf("%d refused, %d errors, %d right answers", refused, failed, right)
	}
	t.Logf("%d bytes: %d refused, %d errors, %d right answers", len(healthy), refused, failed, right)
}
