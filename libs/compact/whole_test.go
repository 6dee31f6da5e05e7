package compact_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
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

// A writer that keeps lines whole keeps those so, too, that come out of blocks with templates.
func TestTemplatesBecomeWholeLines(t *testing.T) {
	ws := writers{}
	var blocks [][]byte
	var want []string
	for k := range 2 {
		var out bytes.Buffer
		w := ws.get(&out, block.Meta{ID: catalog.ID(fmt.Sprintf("b%d", k)), Tenant: "t"}, block.Options{Whole: k == 1})
		rows := &model.Rows{}
		for i := range 50 {
			rows.Times = append(rows.Times, int64(k*1000+i))
			rows.Lines.AppendString(fmt.Sprintf("request %d took %dms", i*31, i*k))
			want = append(want, string(rows.Lines.At(i)))
		}
		if err := w.Add(model.Labels{{Name: "app", Value: "a"}}, rows); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, out.Bytes())
	}
	out, _ := merged(t, ws, blocks, true, false, nil, block.Options{Whole: true, RowGroupBytes: 300})
	if n := templates(t, out[0]); n != 1 || out[0].RowGroups() < 5 {
		t.Errorf("%d templates", n)
	}
	var got []string
	err := out[0].Each(context.Background(), func(_ model.Labels, rows *model.Rows) error {
		for i := range rows.Len() {
			got = append(got, string(rows.Lines.At(i)))
		}
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
