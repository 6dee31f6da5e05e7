package block_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/model"
)

// ofServices returns a block of rows of services first … first+n-1, from a time on.
func ofServices(t *testing.T, o block.Options, first, n, rows int, from int64) *block.Reader {
	t.Helper()
	var ss []stream
	for k := range n {
		s := stream{labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("svc-%02d", first+k)}, {Name: "pod", Value: fmt.Sprint(k)}})}
		for i := range rows {
			s.rows = append(s.rows, row{time: from + int64(i), line: fmt.Sprintf("request %d of part %d", i, k)})
		}
		ss = append(ss, s)
	}
	slices.SortFunc(ss, func(a, b stream) int { return block.Compare(a.labels, b.labels) })
	b, _ := write(t, ss, block.Meta{ID: "b", Tenant: "t"}, o, 1000)
	return open(t, b)
}

// Lines stay whole in a merge if all are, of many groups with few rows each.
func TestKeepWhole(t *testing.T) {
	whole := block.Options{Whole: true, NoGrams: true, SectionBytes: 3000, RowGroupBytes: 1000}
	raw := func(first, n, rows int) *block.Reader { return ofServices(t, whole, first, n, rows, 0) }
	cut := func(first, n, rows int) *block.Reader {
		return ofServices(t, block.Options{NoGrams: true}, first, n, rows, 0)
	}
	for _, c := range []struct {
		name   string
		blocks []*block.Reader
		few    int
		want   bool
	}{
		{"few of many", []*block.Reader{raw(0, 32, 5), raw(0, 32, 4)}, 10, true},
		{"as many as that", []*block.Reader{raw(0, 32, 5), raw(0, 32, 5)}, 10, false},
		{"few of few", []*block.Reader{raw(0, 31, 1), raw(0, 31, 1)}, 10, false},
		{"many in all", []*block.Reader{raw(0, 16, 5), raw(16, 16, 4)}, 10, true},
		{"more in all", []*block.Reader{raw(0, 32, 8), raw(16, 32, 8)}, 11, true},
		{"one has templates", []*block.Reader{raw(0, 32, 5), cut(0, 32, 4)}, 10, false},
		{"the first has", []*block.Reader{cut(0, 32, 5), raw(0, 32, 4)}, 10, false},
		{"off", []*block.Reader{raw(0, 32, 1)}, 0, false},
		{"none", nil, 10, false},
	} {
		got, err := block.KeepWhole(context.Background(), c.blocks, c.few)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

// A block of which one section has templates is not whole, wherever that is.
func TestWhole(t *testing.T) {
	ctx := context.Background()
	r := ofServices(t, block.Options{Whole: true, SectionBytes: 3000, RowGroupBytes: 1000}, 0, 40, 9, 0)
	if whole, err := r.Whole(ctx); !whole || err != nil || r.Sections() < 2 {
		t.Errorf("%v, %v, %d sections", whole, err, r.Sections())
	}
	r = ofServices(t, block.Options{SectionBytes: 3000, RowGroupBytes: 1000}, 0, 40, 9, 0)
	if whole, err := r.Whole(ctx); whole || err != nil {
		t.Errorf("%v, %v", whole, err)
	}
}
