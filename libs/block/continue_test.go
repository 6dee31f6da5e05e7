package block_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// manyServices is streams of that many services, of lines with one of so many words.
func manyServices(services, words int) (ss []stream) {
	for i := range services {
		s := stream{labels: model.Labels{{Name: "app", Value: fmt.Sprintf("app-%04d", i)}}}
		for k := range words {
			s.rows = append(s.rows, row{time: int64(i*words + k), line: fmt.Sprintf("job word%s is done after %d ms", letters(k), i*k)})
		}
		ss = append(ss, s)
	}
	return ss
}

// letters is a number without a digit.
func letters(k int) string { return string([]byte{'a' + byte(k/26%26), 'a' + byte(k%26)}) }

// What a section of many services has shown to vary is a value in those behind it. Of few
// services nothing is told of the next ones, which get to know their own lines.
func TestSectionsOfManyServicesContinue(t *testing.T) {
	const words = 90
	for _, c := range []struct{ services, group int }{{64, 20}, {64, 8}} {
		// So that a section has about that many services.
		o := block.Options{RowGroupBytes: 4 << 10, SectionBytes: int64(c.group) * words * 30, Level: column.LevelFastest}
		ss := manyServices(c.services, words)
		b, info := write(t, ss, block.Meta{ID: "b", Tenant: "t"}, o, 1000)
		r := open(t, b)
		if info.Sections < 3 {
			t.Fatalf("%d sections", info.Sections)
		}
		var templates []int
		for k := range info.Sections {
			s, err := r.ReadSection(context.Background(), k)
			if err != nil {
				t.Fatal(err)
			}
			templates = append(templates, len(s.Table.Templates))
		}
		// What is not known to vary is a template for each word.
		if most := slices.Max(templates[1:]); c.group == 20 && most > 2 || c.group == 8 && most < words/2 {
			t.Errorf("%d services in a section: sections have %d templates", c.group, templates)
		}
		if err := r.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, s := range ss {
			for _, row := range s.rows {
				want = append(want, row.line)
			}
		}
		err := r.Each(context.Background(), func(_ model.Labels, rows *model.Rows) error {
			for i := range rows.Len() {
				got = append(got, string(rows.Lines.At(i)))
			}
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d lines of %d, or others, %v", len(got), len(want), err)
		}

		// Another block knows nothing of it.
		var again bytes.Buffer
		w := block.NewWriter(&bytes.Buffer{}, block.Meta{}, o)
		for range 2 {
			again.Reset()
			w.Reset(&again, block.Meta{ID: "b", Tenant: "t"})
			for _, s := range ss {
				if err := w.Add(s.labels, rowsOf(s.rows, false)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.Bytes(), b) {
				t.Fatal("a writer that wrote another block writes other bytes")
			}
		}
	}
}
