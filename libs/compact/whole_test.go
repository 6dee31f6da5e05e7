package compact_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/model"
)

// Lines that blocks keep whole have templates once these are merged.
func TestWholeLinesGetTemplates(t *testing.T) {
	ctx := context.Background()
	var sources []compact.Source
	want := 0
	for k := range 2 {
		var out bytes.Buffer
		w := block.NewWriter(&out, block.Meta{ID: catalog.ID(fmt.Sprintf("b%d", k)), Tenant: "t"}, block.Options{Whole: true})
		for s := range 20 {
			rows := &model.Rows{}
			for i := range 10 {
				rows.Times = append(rows.Times, int64(k*1000+i))
				rows.Lines.AppendString(fmt.Sprintf("part %c of request %d took %dms", 'a'+s%4, i*31+s, i*k))
				want++
			}
			if err := w.Add(model.Labels{{Name: "app", Value: fmt.Sprintf("svc-%02d", s)}}, rows); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := block.Open(ctx, inMemory(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if n := templates(t, r); n != 1 {
			t.Fatalf("%d templates of lines that are kept whole", n)
		}
		s, err := compact.NewBlockSource(r)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	m, err := compact.NewMerge(sources, nil, true, block.Compare)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := block.NewWriter(&out, block.Meta{ID: "m", Tenant: "t", Ordered: true}, block.Options{})
	if err := m.Run(ctx, compact.MinTime, compact.MaxTime, w); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Prove(); err != nil {
		t.Fatal(err)
	}
	r, err := block.Open(ctx, inMemory(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	if n := templates(t, r); n < 4 || r.Info().Rows != int64(want) {
		t.Errorf("%d templates, %d rows of %d", n, r.Info().Rows, want)
	}
}

// templates returns how many templates a block's first section has.
func templates(t *testing.T, r *block.Reader) int {
	t.Helper()
	s, err := r.ReadSection(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return len(s.Table.Templates)
}
