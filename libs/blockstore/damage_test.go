package blockstore_test

import (
	"errors"
	"fmt"
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
